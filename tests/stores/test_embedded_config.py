"""SQLite as the configuration store: processes that race, processes that die."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from gateway.clock import SystemClock
from gateway.documents.chain import Chain, verify
from gateway.documents.store import ABSENT, AuditEntry
from gateway.errors import Unavailable
from gateway.stores.embedded.config import SqliteConfigStore
from tests.stores.running import lines_until_killed, program

_COUNTS = """
import asyncio, sys
from pathlib import Path
from gateway.clock import SystemClock
from gateway.documents.store import AuditEntry
from gateway.errors import DocumentNotFound, RevisionConflict
from gateway.names import Revision
from gateway.stores.embedded.config import SqliteConfigStore
async def main():
    store = SqliteConfigStore(Path(sys.argv[1]), SystemClock())
    sys.stdin.readline()
    won = 0
    while won < int(sys.argv[2]):
        try:
            document = await store.get("counter")
            body, revision = int(document.body), document.revision
        except DocumentNotFound:
            body, revision = 0, Revision(0)
        entry = AuditEntry(actor=sys.argv[3], action="count", subject="counter", before=str(body), after=str(body + 1))
        try:
            revision = await store.put("counter", str(body + 1).encode(), revision, entry)
        except RevisionConflict:
            continue
        won += 1
        print(body + 1, revision, flush=True)
    store.close()
asyncio.run(main())
"""


async def test_of_processes_that_race_exactly_one_wins_each_revision(tmp_path: Path) -> None:
    """Invariant 5: a counter that three processes count up misses no step and takes none twice."""
    path = tmp_path / "config.sqlite"
    with (
        program(_COUNTS, path, 30, "one") as one,
        program(_COUNTS, path, 30, "two") as two,
        program(_COUNTS, path, 30, "three") as three,
    ):
        for process in (one, two, three):
            assert process.stdin is not None
            process.stdin.write(b"go\n")
            process.stdin.flush()
        said = [line.split() for process in (one, two, three) for line in process.communicate()[0].splitlines()]
    assert sorted(int(count) for count, _ in said) == list(range(1, 91))
    assert len({revision for _, revision in said}) == 90
    store = SqliteConfigStore(path, SystemClock())
    assert (await store.get("counter")).body == b"90"
    entries = await store.audit(0, 1000)
    assert [entry.after for entry in entries] == [str(number) for number in range(1, 91)]
    assert {entry.actor for entry in entries} == {"one", "two", "three"}
    assert verify(entries) is None  # one chain, whoever wrote
    store.close()


_BEFORE_THE_CHAIN = """
CREATE TABLE documents (name TEXT PRIMARY KEY, body BLOB NOT NULL, revision INTEGER NOT NULL);
CREATE TABLE counter (id INTEGER PRIMARY KEY CHECK (id = 1), revision INTEGER NOT NULL);
INSERT INTO counter VALUES (1, 0);
CREATE TABLE audit (
    number INTEGER PRIMARY KEY AUTOINCREMENT, time REAL NOT NULL, actor TEXT NOT NULL, action TEXT NOT NULL,
    subject TEXT NOT NULL, reason TEXT NOT NULL, before TEXT NOT NULL, after TEXT NOT NULL
);
INSERT INTO audit VALUES (1, 5.25, 'ada', 'weights', 'm', 'first', '', '');
INSERT INTO audit VALUES (2, 6.0, 'bob', 'weights', 'm', 'second', '', '');
"""


async def test_a_trail_of_before_the_chain_stays_readable_and_is_sealed_by_the_first_new_entry(tmp_path: Path) -> None:
    """An upgrade loses no entry; two processes that open the old file at once both can."""
    path = tmp_path / "config.sqlite"
    with closing(sqlite3.connect(path)) as old:
        old.executescript(_BEFORE_THE_CHAIN)
    one, two = (SqliteConfigStore(path, SystemClock()) for _ in range(2))
    found = await asyncio.gather(one.audit(0, 10), two.audit(0, 10))
    assert [(entry.number, entry.actor, entry.hash) for entry in found[0]] == [(1, "ada", ""), (2, "bob", "")]
    assert found[0] == found[1]
    entry = AuditEntry(actor="cat", action="weights", subject="m")
    await asyncio.gather(one.put("routes/a", b"", ABSENT, entry), two.put("routes/b", b"", ABSENT, entry))
    chain = Chain()
    assert chain.add(await one.audit(0, 10)) is None
    assert (chain.checked, chain.started) == (4, 3)
    with closing(sqlite3.connect(path)) as edited, edited:
        edited.execute("UPDATE audit SET actor = 'eve' WHERE number = 1")
    broken = verify(await two.audit(0, 10))
    assert broken is not None
    assert broken.number == 3
    one.close()
    two.close()


@pytest.mark.parametrize(
    ("statement", "number"),
    [
        ("UPDATE audit SET reason = 'none' WHERE number = 4", 4),
        ("UPDATE audit SET time = time + 1 WHERE number = 4", 4),
        ("DELETE FROM audit WHERE number = 4", 4),
        ("DELETE FROM audit WHERE number = 6", 6),  # the newest, before one more is written
        ("UPDATE audit SET hash = '' WHERE number = 6", 6),
    ],
)
async def test_an_edit_of_the_file_is_found(tmp_path: Path, statement: str, number: int) -> None:
    """Whoever can write the file can not change history unseen while the gateway goes on writing."""
    path = tmp_path / "config.sqlite"
    store = SqliteConfigStore(path, SystemClock())
    entry = AuditEntry(actor="ada", action="put", subject="m", reason="why")
    for written in range(6):
        await store.put(f"routes/{written}", b"", ABSENT, entry)
    with closing(sqlite3.connect(path)) as edited, edited:
        edited.execute(statement)
    await store.put("routes/last", b"", ABSENT, entry)
    broken = verify(await store.audit(0, 10))
    assert broken is not None
    assert broken.number == number
    store.close()


async def test_what_put_returned_survives_sigkill_with_its_audit_entry(tmp_path: Path) -> None:
    """Promises 2 and 4: document and audit entry are never apart."""
    path = tmp_path / "config.sqlite"
    for lines in (1, 60):
        with program(_COUNTS, path, 1_000_000, "one") as process:
            assert process.stdin is not None
            process.stdin.write(b"go\n")
            process.stdin.flush()
            said = lines_until_killed(process, lines)
        told = int([line for line in said if line.endswith(b"\n")][-1].split()[0])
        store = SqliteConfigStore(path, SystemClock())
        count = int((await store.get("counter")).body)
        assert told <= count <= told + 1
        assert [entry.after for entry in await store.audit(count - 1, 10)] == [str(count)]
        store.close()


async def test_a_watcher_hears_of_another_process_store(tmp_path: Path) -> None:
    """Serving processes learn of a route change by it."""
    ours, theirs = (SqliteConfigStore(tmp_path / "config.sqlite", SystemClock()) for _ in range(2))
    watching = ours.watch("routes/")
    await theirs.put("routes/a", b"1", ABSENT)
    assert await asyncio.wait_for(anext(watching), 5) == "routes/a"
    ours.close()
    theirs.close()


async def test_a_file_that_is_no_database_is_unavailable_not_a_crash(tmp_path: Path) -> None:
    """SQLite's own errors stop at the store."""
    (tmp_path / "config.sqlite").write_bytes(b"this is a text, not a database" * 100)
    store = SqliteConfigStore(tmp_path / "config.sqlite", SystemClock())
    with pytest.raises(Unavailable, match=r"config\.sqlite"):
        await store.get("routes/a")
    store.close()
