"""The join index when its process dies in a commit."""

from __future__ import annotations

from pathlib import Path

from gateway.stores.embedded.joins import SqliteJoinIndex
from tests.stores.running import program

_STATEMENTS = 14
_COMMITS = """
import asyncio, os, signal, sys
from pathlib import Path
from gateway.journal.join import LabelledRow, WaitingPrediction
from gateway.stores.embedded.joins import SqliteJoinIndex

def block(number):
    numbers = range(4 * (number - 1) + 1, 4 * number + 1)
    waiting = [WaitingPrediction(f"id-{n}", "m", n, 1, 1, [[0.5]]) for n in numbers]
    rows = [LabelledRow("m", n, f"id-{n}", 0, n, n, 1, [0.5], 1, 3, 1) for n in numbers]
    early = {f"early-{number - 1}": [], f"early-{number}": [(0, 1, 1, None)]}
    return b"%d" % number, b"%d" % number, waiting, early, rows

async def dies(path, statement):
    index = SqliteJoinIndex(path)
    await index.commit(*block(1))
    left = [statement]
    def count(sql):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
    await index._database.run(lambda db: db.set_trace_callback(count))
    await index.commit(*block(2))
    os.write(1, b"%d\\n" % statement)
    os._exit(0)

for statement in range(1, int(sys.argv[2]) + 1):
    child = os.fork()
    if child == 0:
        asyncio.run(dies(Path(sys.argv[1]) / str(statement), statement))
    os.waitpid(child, 0)
"""


async def test_a_commit_killed_at_any_statement_is_all_there_or_not_at_all(tmp_path: Path) -> None:
    """Invariant 2: offset, state, waiting predictions and labelled rows move together, or the monitor counts twice."""
    # BEGIN, 4 waiting, 1 early, 1 forgotten, 4 labelled, 1 count, checkpoint, COMMIT; then one more that is never run.
    with program(_COMMITS, tmp_path, _STATEMENTS + 1) as process:
        survived = process.communicate()[0].split()
    assert survived == [b"%d" % (_STATEMENTS + 1)]
    for statement in range(1, _STATEMENTS + 2):
        index = SqliteJoinIndex(tmp_path / str(statement))
        block = 2 if statement > _STATEMENTS else 1
        assert await index.checkpoint() == (b"%d" % block, b"%d" % block)
        assert await index.count("m") == 4 * block
        assert [row.ordinal for row in await index.labelled("m", 100)] == list(range(1, 4 * block + 1))
        ids = [f"id-{number}" for number in range(1, 9)]
        assert set(await index.find(ids)) == set(ids[: 4 * block])
        assert set(await index.find_feedback(["early-1", "early-2"])) == {f"early-{block}"}
        index.close()
