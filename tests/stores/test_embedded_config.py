"""SQLite as the configuration store: processes that race, processes that die."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.clock import SystemClock
from gateway.documents.store import ABSENT
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
    assert [entry.after for entry in await store.audit(0, 1000)] == [str(number) for number in range(1, 91)]
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
