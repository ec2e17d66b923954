"""One SQLite file and the thread that works on it.

WAL, synchronous=FULL: what was committed survives a power cut. Writers of several processes take turns (BEGIN
IMMEDIATE). Errors of sqlite3 end here as `Unavailable`.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

from gateway.errors import Unavailable

_BUSY_SECONDS: Final = 30.0
_OPEN_ATTEMPTS: Final = 200
_OPEN_PAUSE_SECONDS: Final = 0.01

T = TypeVar("T")


class Database:
    """schema: statements that each may be repeated. The file is opened at the first use.

    upgrade: called on each new connection, brings a file of an earlier release up to the schema.
    """

    def __init__(
        self, path: Path, schema: Sequence[str], upgrade: Callable[[sqlite3.Connection], None] | None = None
    ) -> None:
        self._path = path
        self._schema = schema
        self._upgrade = upgrade
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=path.stem)
        self._connection: sqlite3.Connection | None = None

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """The result of `work(connection)` on the file's thread. Raises Unavailable when SQLite can not do it."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._work, work)

    def connect(self) -> sqlite3.Connection:
        """One more connection to the file, for the thread of the caller. Raises Unavailable."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            return _open(self._path, self._schema, self._upgrade)
        except (sqlite3.Error, OSError) as error:
            raise Unavailable(f"{self._path.name} can not be opened: {error}") from error

    def close(self) -> None:
        """Wait for the work under way and close the file."""
        self._thread.shutdown()
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _work(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self._connection is None:
            self._connection = self.connect()
        try:
            return work(self._connection)
        except sqlite3.Error as error:
            raise Unavailable(f"{self._path.name} can not be used now: {error}") from error


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All or nothing: commits at the end, rolls back on any error."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _open(
    path: Path, schema: Sequence[str], upgrade: Callable[[sqlite3.Connection], None] | None
) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        _switch_to_wal(connection)
        connection.execute("PRAGMA synchronous=FULL")
        if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
            with transaction(connection):
                for statement in schema:
                    connection.execute(statement)
        if upgrade is not None:
            upgrade(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    # The switch needs the file alone and does not wait for others by itself: processes that start together collide.
    for attempt in range(_OPEN_ATTEMPTS):
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError:
            if attempt == _OPEN_ATTEMPTS - 1:
                raise
            time.sleep(_OPEN_PAUSE_SECONDS)
