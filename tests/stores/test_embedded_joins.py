"""The join index when its process dies in a commit."""

from __future__ import annotations

from pathlib import Path

from gateway.stores.embedded.joins import SqliteJoinIndex
from tests.stores.running import lines_until_killed, program

_COMMITS = """
import asyncio, sys
from pathlib import Path
from gateway.journal.join import LabelledRow, WaitingPrediction
from gateway.stores.embedded.joins import SqliteJoinIndex
async def main():
    index = SqliteJoinIndex(Path(sys.argv[1]))
    _, state = await index.checkpoint()
    block = int(state or b"0")
    while True:
        block += 1
        numbers = range(50 * (block - 1) + 1, 50 * block + 1)
        waiting = [WaitingPrediction(f"id-{n}", "m", n, 1, 1, [[0.5]]) for n in numbers]
        rows = [LabelledRow("m", n, f"id-{n}", 0, n, n, 1, [0.5], 1, 3, 1) for n in numbers]
        early = {f"early-{block - 1}": [], f"early-{block}": [(0, 1, 1, None)]}
        await index.commit(b"%d" % block, b"%d" % block, waiting, early, rows)
        print(block, flush=True)
asyncio.run(main())
"""


async def test_a_commit_that_was_killed_is_all_there_or_not_at_all(tmp_path: Path) -> None:
    """Invariant 2: offset, state, waiting predictions and labelled rows move together, or the monitor counts twice."""
    for lines in (1, 25, 80):
        with program(_COMMITS, tmp_path / "joins.sqlite") as process:
            said = lines_until_killed(process, lines)
        told = int([line for line in said if line.endswith(b"\n")][-1])
        index = SqliteJoinIndex(tmp_path / "joins.sqlite")
        offset, state = await index.checkpoint()
        block = int(state)
        assert offset == state
        assert told <= block <= told + 1
        assert await index.count("m") == 50 * block
        assert [row.ordinal for row in await index.labelled("m", 10**6)] == list(range(1, 50 * block + 1))
        ids = [f"id-{number}" for number in range(1, 50 * (block + 1) + 1)]
        assert set(await index.find(ids)) == set(ids[: 50 * block])
        early = [f"early-{number}" for number in range(block + 2)]
        assert set(await index.find_feedback(early)) == {f"early-{block}"}
        index.close()
