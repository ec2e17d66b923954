"""Small revisioned documents and the audit trail in one SQLite file: the port `gateway.documents.store`."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from gateway.clock import Clock
from gateway.documents.chain import linked, seal
from gateway.documents.store import AuditEntry, Document
from gateway.errors import DocumentNotFound, RevisionConflict, Unavailable
from gateway.names import Revision
from gateway.stores.embedded.database import Database, transaction

_POLL_SECONDS: Final = 0.02
_SCHEMA: Final = (
    "CREATE TABLE IF NOT EXISTS documents (name TEXT PRIMARY KEY, body BLOB NOT NULL, revision INTEGER NOT NULL)",
    "CREATE INDEX IF NOT EXISTS documents_by_revision ON documents (revision)",
    "CREATE TABLE IF NOT EXISTS counter (id INTEGER PRIMARY KEY CHECK (id = 1), revision INTEGER NOT NULL)",
    "INSERT OR IGNORE INTO counter VALUES (1, 0)",
    """CREATE TABLE IF NOT EXISTS audit (
        number INTEGER PRIMARY KEY AUTOINCREMENT, time REAL NOT NULL, actor TEXT NOT NULL, action TEXT NOT NULL,
        subject TEXT NOT NULL, reason TEXT NOT NULL, before TEXT NOT NULL, after TEXT NOT NULL,
        hash TEXT NOT NULL DEFAULT ''
    )""",
)
_AUDIT: Final = "number, time, actor, action, subject, reason, before, after, hash"
_UNDER: Final = "name >= :prefix AND name < :prefix || char(1114111)"


class SqliteConfigStore:
    """See `ConfigStore`. Any number of processes may use one file."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._database = Database(path, _SCHEMA, _add_hash)
        self._clock = clock
        self._watching: sqlite3.Connection | None = None

    async def get(self, name: str) -> Document:
        """See `ConfigStore`."""
        row = await self._database.run(
            lambda db: db.execute("SELECT body, revision FROM documents WHERE name = ?", (name,)).fetchone()
        )
        if row is None:
            raise DocumentNotFound(name)
        return Document(row[0], Revision(row[1]))

    async def list(self, prefix: str) -> Sequence[str]:
        """See `ConfigStore`."""
        rows = await self._database.run(
            lambda db: db.execute(
                f"SELECT name FROM documents WHERE {_UNDER} ORDER BY name", {"prefix": prefix}
            ).fetchall()
        )
        return [name for (name,) in rows]

    async def put(self, name: str, body: bytes, expected: Revision, audit: AuditEntry | None = None) -> Revision:
        """See `ConfigStore`."""
        now = self._clock.now()
        return await self._database.run(lambda db: _put(db, name, body, expected, audit, now))

    async def audit(self, after: int, limit: int) -> Sequence[AuditEntry]:
        """See `ConfigStore`."""
        return await self._database.run(
            lambda db: _entries(db, "WHERE number > ? ORDER BY number LIMIT ?", after, limit)
        )

    def watch(self, prefix: str) -> AsyncIterator[str]:
        """See `ConfigStore`."""
        # `data_version` shows only what other connections committed, hence one that never writes.
        if self._watching is None:
            self._watching = self._database.connect()
        return self._watch(self._watching, prefix, _number(self._watching, "SELECT revision FROM counter"))

    def close(self) -> None:
        """Close the file."""
        self._database.close()
        if self._watching is not None:
            self._watching.close()

    async def _watch(self, watching: sqlite3.Connection, prefix: str, seen: int) -> AsyncIterator[str]:
        version = None
        while True:
            now = _number(watching, "PRAGMA data_version")
            if now == version:
                await asyncio.sleep(_POLL_SECONDS)
                continue
            version = now
            for name, revision in await self._database.run(partial(_changed, prefix=prefix, seen=seen)):
                seen = max(seen, revision)
                yield name


def _number(connection: sqlite3.Connection, query: str) -> int:
    try:
        return int(connection.execute(query).fetchone()[0])
    except sqlite3.Error as error:
        raise Unavailable(f"the configuration can not be watched now: {error}") from error


def _changed(connection: sqlite3.Connection, prefix: str, seen: int) -> list[tuple[str, int]]:
    query = f"SELECT name, revision FROM documents WHERE revision > :seen AND {_UNDER} ORDER BY revision"
    return connection.execute(query, {"seen": seen, "prefix": prefix}).fetchall()


def _put(
    connection: sqlite3.Connection, name: str, body: bytes, expected: int, audit: AuditEntry | None, now: float
) -> Revision:
    with transaction(connection):
        row = connection.execute("SELECT revision FROM documents WHERE name = ?", (name,)).fetchone()
        actual = row[0] if row is not None else 0
        if actual != expected:
            raise RevisionConflict(name, expected, actual)
        connection.execute("UPDATE counter SET revision = revision + 1")
        (revision,) = connection.execute("SELECT revision FROM counter").fetchone()
        connection.execute("INSERT OR REPLACE INTO documents VALUES (?, ?, ?)", (name, body, revision))
        if audit is not None:
            _write_entry(connection, audit, now)
    return Revision(revision)


def _write_entry(connection: sqlite3.Connection, entry: AuditEntry, now: float) -> None:
    """Append an entry with its hash; within a transaction, so that nobody else's comes between it and the last."""
    last = connection.execute("SELECT hash FROM audit ORDER BY number DESC LIMIT 1").fetchone()
    previous = last[0] if last is not None and last[0] else seal(_entries(connection, "ORDER BY number"))
    number = connection.execute(
        "INSERT INTO audit (time, actor, action, subject, reason, before, after) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (now, entry.actor, entry.action, entry.subject, entry.reason, entry.before, entry.after),
    ).lastrowid
    # The hash is made from what was stored: SQLite keeps a whole number as a float, and text as UTF-8.
    (written,) = _entries(connection, "WHERE number = ?", number)
    connection.execute("UPDATE audit SET hash = ? WHERE number = ?", (linked(previous, written).hash, number))


def _entries(connection: sqlite3.Connection, where: str, *values: object) -> list[AuditEntry]:
    rows = connection.execute(f"SELECT {_AUDIT} FROM audit {where}", values).fetchall()
    return [AuditEntry(**dict(zip(_AUDIT.split(", "), row, strict=True))) for row in rows]


def _add_hash(connection: sqlite3.Connection) -> None:
    """A file of before the chain gets the column; its entries stay as they are, without a hash."""
    if _has_hash(connection):
        return
    with transaction(connection):
        if not _has_hash(connection):  # another process may have come first
            connection.execute("ALTER TABLE audit ADD COLUMN hash TEXT NOT NULL DEFAULT ''")


def _has_hash(connection: sqlite3.Connection) -> bool:
    return any(column[1] == "hash" for column in connection.execute("PRAGMA table_info(audit)"))
