"""`make retraining`: what a retraining job must never do, tried on made-up rows. `--seed N`, `--quick`.

python -m tests.statistics.retraining_study --quick

harm      a hundred jobs that went wrong in five ways against the gate, and twenty good ones
night     24 hours of permanent errors that no training mends, on a clock that is set
digest    the same journal and seed, joined in other blocks: is the model the same, byte by byte?
kills     kill -9 of the control process at random moments of a job
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from msgspec import json

from gateway.documents.policy import RetrainingPolicy
from gateway.journal.join import JoinIndex
from gateway.journal.journal import Offset
from gateway.registry.package import read_package
from gateway.retraining.job.run import JobResult, JobSpec, run_job
from gateway.retraining.rows.window import export, trained_until_ns
from gateway.retraining.spec import read_result
from gateway.stores.memory import connect_memory
from tests.statistics.harm import GOOD, HARMS, ROWS, attempts, make_champion, rows
from tests.statistics.killed import kill_again_and_again
from tests.statistics.night import night

SEED = 20240817
Bar = tuple[str, bool]
"""What was found, and whether it is as it must be."""


def harm(seed: int, is_quick: bool) -> Iterator[Bar]:
    """None of the bad ones gets through; the good ones do."""
    each = 3 if is_quick else 20
    found = attempts(each, seed)
    for name in HARMS:
        ended = found[name]
        reasons = ", ".join(f"{reason} {count}" for reason, count in ended.reasons.most_common(3))
        yield f"{name}: {ended.published} of {each} published ({reasons})", ended.published == 0
    good = found[GOOD].published
    yield f"a good one: {good} of {each} published", good >= 0.9 * each


def one_night(seed: int, is_quick: bool) -> Iterator[Bar]:
    """Attempts stay in the budget, lie a cool-down apart, and a person is asked."""
    for budget in (200, 10):
        lived = asyncio.run(night(seed, budget, 6 if is_quick else 24))
        told = f"{len(lived.starts)} jobs of {budget} a day, at least {lived.least_distance} labels apart"
        yield (
            f"{told}; a person is asked at label {lived.asked}",
            (len(lived.starts) <= budget and lived.least_distance >= 250 and 0 < lived.asked < 3600),
        )


def digests(seed: int, times: int, apart: bool = False) -> list[str]:
    """The model made so many times from the same rows, committed in blocks of random sizes.

    apart: each in a process of its own with another hash seed, as after a restart.
    """
    run = _run_apart if apart else run_job
    with TemporaryDirectory(prefix="gateway-digest-") as directory:
        champion = make_champion(Path(directory) / "champion", seed)
        specs = [asyncio.run(_exported(Path(directory), champion, seed, number)) for number in range(times)]
        return [run(spec).model_digest for spec in specs]


def digest(seed: int, is_quick: bool) -> Iterator[Bar]:
    """The same journal gives one digest."""
    times = 5 if is_quick else 20
    found = digests(seed, times, apart=True)
    yield f"{found.count(found[0])} of {times} digests are the first one, {found[0][:12]}", len(set(found)) == 1


async def _exported(place: Path, champion: Path, seed: int, number: int) -> JobSpec:
    joins: JoinIndex = connect_memory().joins
    coming, draws, done = rows(ROWS, seed + 1), random.Random(number), 0
    while done < len(coming):
        block = coming[done : done + draws.randint(1, 400)]
        done += len(block)
        await joins.commit(Offset(str(done).encode()), b"", labelled=block)
    manifest = await asyncio.to_thread(read_package, champion)
    out = place / str(number)
    await export(joins, {1: manifest}, manifest, RetrainingPolicy(), out / "dataset")
    return JobSpec(
        job=f"j{number}",
        model="harm",
        dataset=str(out / "dataset"),
        out=str(out / "out"),
        recipe=str(place / "champion" / "harm.py"),
        champion=str(champion),
        champion_trained_until_ns=trained_until_ns(manifest),
        created=float(number),
    )


def _run_apart(spec: JobSpec) -> JobResult:
    code = (
        "import sys; from msgspec import json; from gateway.retraining.job.run import JobSpec, run_job; "
        "run_job(json.decode(sys.argv[1], type=JobSpec))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": str(int(spec.created))}
    command = [sys.executable, "-W", "ignore", "-c", code, json.encode(spec).decode()]
    subprocess.run(command, check=True, env=environment, stderr=subprocess.DEVNULL)
    result = read_result(Path(spec.out))
    assert result is not None
    return result


def kills(seed: int, is_quick: bool) -> Iterator[Bar]:
    """Every version is whole after every kill, and the last start ends clean."""
    times = 5 if is_quick else 50
    ended = kill_again_and_again(times, seed)
    steps = ", ".join(f"{step or 'after it'} {count}" for step, count in sorted(ended.kills.items()))
    yield f"{times} kills ({steps}): {ended.whole} versions, all whole", ended.whole >= 2
    is_clean = not ended.left and not {"queued", "running"} & set(ended.jobs)
    yield f"jobs as they ended: {dict(ended.jobs)}; left behind: {list(ended.left) or 'nothing'}", is_clean


STUDIES: dict[str, Callable[[int, bool], Iterator[Bar]]] = {
    "harm": harm,
    "night": one_night,
    "digest": digest,
    "kills": kills,
}


def main(arguments: list[str] | None = None) -> int:
    """Run the studies that are named, all when none is; 1 when a bar is missed."""
    parser = argparse.ArgumentParser(prog="retraining_study")
    parser.add_argument("studies", nargs="*", metavar="study", help=", ".join(STUDIES))
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--quick", action="store_true")
    read = parser.parse_args(arguments)
    if unknown := set(read.studies) - set(STUDIES):
        parser.error(f"{min(unknown)!r} is not one of {', '.join(STUDIES)}")
    logging.disable(logging.CRITICAL)
    missed = 0
    for name in read.studies or STUDIES:
        for told, holds in STUDIES[name](read.seed, read.quick):
            missed += not holds
            sys.stdout.write(f"{name:<7} {'holds ' if holds else 'MISSED'} {told}\n")
            sys.stdout.flush()
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
