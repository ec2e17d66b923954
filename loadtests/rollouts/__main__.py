"""`python -m loadtests.rollouts`, `make rollouts`: roll out, roll back, and print what came of it."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from gateway.client import ClientError
from gateway.errors import GatewayError
from loadtests.bench.table import aligned
from loadtests.rollouts import broken, cycles, edits, healthy
from loadtests.rollouts.stage import RolloutFailed
from loadtests.scenarios.finding import Finding

NAMES = ("broken", "healthy", "cycles", "edits")
SEED = 1
_FAILURES = (RolloutFailed, ClientError, GatewayError, OSError, ValueError)


def main(words: Sequence[str]) -> int:
    """The exit code: 0 every bar holds, 1 one was missed or could not be measured, 130 interrupted."""
    parser = _parser()
    asked = parser.parse_args(words)
    if unknown := [name for name in asked.names if name not in NAMES]:
        parser.error(f"nothing is called {unknown[0]}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was started is ended then too
    folder = Path(tempfile.mkdtemp(prefix="gateway-rollouts-"))
    try:
        return asyncio.run(_run(asked, folder))
    except KeyboardInterrupt:
        return 130
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _run(asked: argparse.Namespace, folder: Path) -> int:
    runs = _runs(asked, folder)
    table = [["rollouts", "what", "figure", "bar", "verdict", "note"]]
    right = True
    for name in asked.names or NAMES:
        try:
            found = await runs[name]()
        except _FAILURES as error:
            found = [Finding("not measured", "-", "-", False, " ".join(f"{type(error).__name__}: {error}".split()))]
        for one in found:
            print(f"{name:<8} {one.what}: {one.figure} (bar {one.bar}) {one.note}", flush=True)
            table.append([name, one.what, one.figure, one.bar, "holds" if one.holds else "MISSED", one.note])
        right = right and all(one.holds for one in found)
    print("\n" + "\n".join(aligned(table, left=(0, 1, 2, 3, 4, 5))))
    return 0 if right else 1


def _runs(asked: argparse.Namespace, folder: Path) -> Mapping[str, Callable[[], Awaitable[list[Finding]]]]:
    seed, quick = asked.seed, asked.quick
    versions = asked.healthy or (3 if quick else 50)
    cycled = asked.cycles or (20 if quick else 1_000)
    return {
        "broken": lambda: broken.run(folder / "broken", seed, quick),
        "healthy": lambda: healthy.run(folder / "healthy", 100 * seed, versions),
        "cycles": lambda: cycles.run(folder / "cycles", seed, cycled),
        "edits": lambda: edits.run(folder / "edits", seed, 50 if quick else 1_000),
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make rollouts ARGS=...", description="Roll versions out on a real gateway.")
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME", help=f"only these of {', '.join(NAMES)}")
    add("--quick", action="store_true", help="few of everything, to see that it works")
    add("--healthy", type=int, metavar="N", help="so many healthy versions [50; 3 when quick]")
    add("--cycles", type=int, metavar="N", help="so many cycles [1,000; 20 when quick]")
    add("--seed", type=int, default=SEED, help=f"of rows and training samples [{SEED}]")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
