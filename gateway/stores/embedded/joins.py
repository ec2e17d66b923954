"""The join index in one SQLite file: the port `gateway.journal.join.JoinIndex`."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from gateway.journal.join import Early, LabelledRow, WaitingPrediction
from gateway.journal.journal import START, Offset
from gateway.stores.embedded.database import Database, transaction

_SCHEMA: Final = (
    """CREATE TABLE IF NOT EXISTS checkpoint (
        id INTEGER PRIMARY KEY CHECK (id = 1), place BLOB NOT NULL, state BLOB NOT NULL
    )""",
    """CREATE TABLE IF NOT EXISTS waiting (
        id TEXT PRIMARY KEY, time_ns INTEGER NOT NULL, labels INTEGER NOT NULL, body BLOB NOT NULL
    )""",
    "CREATE INDEX IF NOT EXISTS waiting_by_time ON waiting (time_ns)",
    "CREATE TABLE IF NOT EXISTS early (id TEXT PRIMARY KEY, time_ns INTEGER NOT NULL, body BLOB NOT NULL)",
    """CREATE TABLE IF NOT EXISTS labelled (
        model TEXT NOT NULL, ordinal INTEGER NOT NULL, predicted_ns INTEGER NOT NULL, body BLOB NOT NULL,
        PRIMARY KEY (model, ordinal)
    )""",
    "CREATE INDEX IF NOT EXISTS labelled_by_time ON labelled (predicted_ns)",
    "CREATE TABLE IF NOT EXISTS counts (model TEXT PRIMARY KEY, ordinal INTEGER NOT NULL)",
)
_encode = msgspec.msgpack.Encoder().encode
_waiting = msgspec.msgpack.Decoder(WaitingPrediction).decode
_early = msgspec.msgpack.Decoder(tuple[Early, ...]).decode
_labelled = msgspec.msgpack.Decoder(LabelledRow).decode


class SqliteJoinIndex:
    """See `JoinIndex`. One writer; readers may be other processes."""

    def __init__(self, path: Path) -> None:
        self._database = Database(path, _SCHEMA)

    async def checkpoint(self) -> tuple[Offset, bytes]:
        """See `JoinIndex`."""
        row = await self._database.run(lambda db: db.execute("SELECT place, state FROM checkpoint").fetchone())
        return (Offset(row[0]), row[1]) if row is not None else (START, b"")

    async def find(self, ids: Sequence[str]) -> Mapping[str, WaitingPrediction]:
        """See `JoinIndex`."""
        return await self._database.run(lambda db: {id_: _waiting(body) for id_, body in _bodies(db, "waiting", ids)})

    async def find_feedback(self, ids: Sequence[str]) -> Mapping[str, Sequence[Early]]:
        """See `JoinIndex`."""
        return await self._database.run(lambda db: {id_: _early(body) for id_, body in _bodies(db, "early", ids)})

    async def commit(
        self,
        offset: Offset,
        state: bytes,
        waiting: Sequence[WaitingPrediction] = (),
        early: Mapping[str, Sequence[Early]] = {},
        labelled: Sequence[LabelledRow] = (),
    ) -> None:
        """See `JoinIndex`."""

        def work(db: sqlite3.Connection) -> None:
            waits = [(one.id, one.time_ns, len(one.labels), _encode(one)) for one in waiting]
            early_rows = [(id_, max(one[1] for one in items), _encode(items)) for id_, items in early.items() if items]
            forgotten = [(id_,) for id_, items in early.items() if not items]
            rows = [(row.model, row.ordinal, row.predicted_ns, _encode(row)) for row in labelled]
            counts = {row.model: row.ordinal for row in sorted(labelled, key=lambda row: row.ordinal)}
            with transaction(db):
                db.executemany("INSERT OR REPLACE INTO waiting VALUES (?, ?, ?, ?)", waits)
                db.executemany("INSERT OR REPLACE INTO early VALUES (?, ?, ?)", early_rows)
                db.executemany("DELETE FROM early WHERE id = ?", forgotten)
                db.executemany("INSERT OR REPLACE INTO labelled VALUES (?, ?, ?, ?)", rows)
                db.executemany("INSERT OR REPLACE INTO counts VALUES (?, ?)", counts.items())
                db.execute("INSERT OR REPLACE INTO checkpoint VALUES (1, ?, ?)", (offset, state))

        await self._database.run(work)

    async def labelled(self, model: str, limit: int, since_ns: int = 0) -> Sequence[LabelledRow]:
        """See `JoinIndex`."""
        query = "SELECT body FROM labelled WHERE model = ? AND predicted_ns >= ? ORDER BY ordinal DESC LIMIT ?"
        rows = await self._database.run(lambda db: db.execute(query, (model, since_ns, limit)).fetchall())
        return [_labelled(body) for (body,) in reversed(rows)]

    async def count(self, model: str) -> int:
        """See `JoinIndex`."""
        row = await self._database.run(
            lambda db: db.execute("SELECT ordinal FROM counts WHERE model = ?", (model,)).fetchone()
        )
        return int(row[0]) if row is not None else 0

    async def trim(self, waiting_before_ns: int, labelled_before_ns: int, early_before_ns: int = 0) -> int:
        """See `JoinIndex`."""

        def work(db: sqlite3.Connection) -> int:
            with transaction(db):
                query = "SELECT count(*) FROM waiting WHERE time_ns < ? AND labels = 0"
                (in_vain,) = db.execute(query, (waiting_before_ns,)).fetchone()
                db.execute("DELETE FROM waiting WHERE time_ns < ?", (waiting_before_ns,))
                db.execute("DELETE FROM early WHERE time_ns < ?", (max(waiting_before_ns, early_before_ns),))
                db.execute("DELETE FROM labelled WHERE predicted_ns < ?", (labelled_before_ns,))
            return int(in_vain)

        return await self._database.run(work)

    def close(self) -> None:
        """Close the file."""
        self._database.close()


def _bodies(connection: sqlite3.Connection, table: str, ids: Sequence[str]) -> list[tuple[str, bytes]]:
    query = f"SELECT id, body FROM {table} WHERE id IN (SELECT value FROM json_each(?))"
    return connection.execute(query, (msgspec.json.encode(list(ids)).decode(),)).fetchall()
