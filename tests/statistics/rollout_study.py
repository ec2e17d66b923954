"""`make statistics`: the roll-back rules on the same simulated traffic, in one table. `--seed N`, `--quick`.

    python -m tests.statistics.rollout_study --quick

The bars are checked for this gateway's rules; the columns beside them show what others do to the same requests.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np

from tests.statistics import rules, sticky
from tests.statistics.rules import Rule
from tests.statistics.scenes import HEALTHY, INCIDENT, PROMOTIONS, SCENES, Scene

SEED = 20240817


@dataclass(frozen=True)
class Ends:
    """When each run of a scene ended under one rule; None: it did not."""

    runs: tuple[int | None, ...]

    @property
    def share(self) -> float:
        """Share of the runs that ended."""
        return sum(run is not None for run in self.runs) / len(self.runs)

    @property
    def median(self) -> float:
        """Median requests until then over all runs; infinite when fewer than half ended."""
        return median(math.inf if run is None else run for run in self.runs)

    def __str__(self) -> str:
        middle = f" ({self.median:,.0f})" if math.isfinite(self.median) else ""
        return f"{self.share:.3f}{middle}"


@dataclass(frozen=True)
class Row:
    """One scene under every rule. ours comes first."""

    scene: Scene
    ours: Ends
    others: dict[str, Ends]

    @property
    def holds(self) -> bool:
        """Whether this gateway's rule does what it must."""
        return self.scene.bar.holds(self.ours.share, self.ours.median)


def measure(scene: Scene, seed: int, runs: int, asked: Mapping[str, Rule]) -> Row:
    """The scene so many times. asked: rules by name, `ours` among them."""
    ends: dict[str, list[int | None]] = {name: [] for name in asked}
    for run in range(runs):
        seen = scene.make(np.random.default_rng((seed, scene.seed, run)))
        for name, rule in asked.items():
            ends[name].append(rule(seen))
    found = {name: Ends(tuple(listed)) for name, listed in ends.items()}
    return Row(scene, found.pop("ours"), found)


def study(scenes: Iterable[Scene], seed: int, quick: bool) -> list[Row]:
    """Every scene that has runs, under this gateway's rule and those of elsewhere. quick: few runs, bars with room."""
    rows = []
    for scene in _small(scenes) if quick else scenes:
        beside = {name: rules.ELSEWHERE[name] for name in scene.against}
        rows.append(measure(scene, seed, scene.runs, {"ours": scene.ours, **beside}))
        print(f"{scene.name}: {rows[-1].ours}", file=sys.stderr, flush=True)  # noqa: T201
    return rows


def judge(scenes: Iterable[Scene], seed: int, rule: Rule | None = None) -> list[Row]:
    """The quick study of one rule alone; None: this gateway's."""
    return [measure(scene, seed, scene.runs, {"ours": rule or scene.ours}) for scene in _small(scenes)]


def _small(scenes: Iterable[Scene]) -> list[Scene]:
    asked = [(scene, scene.quick_runs) for scene in scenes if scene.quick_runs]
    return [replace(scene, runs=runs, bar=scene.bar.with_room(runs)) for scene, runs in asked]


def added_by_incident(rows: Sequence[Row]) -> int:
    """Runs rolled back with the incident, less those rolled back without it: the rest of the requests are the same."""
    by_name = {row.scene.name: row.ours for row in rows}
    with_it, without = by_name[INCIDENT].runs, by_name[HEALTHY].runs
    return sum(run is not None for run in with_it) - sum(run is not None for run in without)


def is_right(rows: Sequence[Row]) -> bool:
    """True when every bar holds and an incident adds no roll-back."""
    return all(row.holds for row in rows) and added_by_incident(rows) <= 0


# The table.


def _cells(row: Row) -> list[str]:
    verdict = "" if str(row.scene.bar) == "shown" else "holds" if row.holds else "MISSED"
    others = [str(row.others[name]) if name in row.others else "-" for name in rules.ELSEWHERE]
    return [row.scene.name, str(len(row.ours.runs)), str(row.ours), str(row.scene.bar), verdict, *others]


HEADER = ["scene", "runs", "this gateway", "bar", "verdict", *rules.ELSEWHERE]


def table(rows: Sequence[Sequence[str]]) -> str:
    """Markdown whose columns line up."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    cells = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows]
    lines = [f"| {' | '.join(row)} |" for row in cells]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def main(words: Sequence[str]) -> int:
    """The exit code: 0 every bar holds, 1 one was missed."""
    parser = argparse.ArgumentParser(
        prog="make statistics ARGS=...", description="Put the rollout's rules to the test."
    )
    parser.add_argument("--seed", type=int, default=SEED, help=f"of everything that is drawn [{SEED}]")
    parser.add_argument("--quick", action="store_true", help="few runs: seconds instead of minutes")
    asked = parser.parse_args(words)
    began = time.monotonic()
    rows = study(SCENES, asked.seed, asked.quick)
    promotions = study(PROMOTIONS, asked.seed, asked.quick)
    added = added_by_incident(rows)
    print(f"Share of runs rolled back (median requests until then). Seed {asked.seed}.\n")  # noqa: T201
    print(table([HEADER, *map(_cells, rows)]))  # noqa: T201
    print(f"\nRoll-backs that the incident added: {added} (bar 0: {'holds' if added <= 0 else 'MISSED'})")  # noqa: T201
    print("\nShare of runs promoted (median requests until then).\n")  # noqa: T201
    print(table([HEADER[:5], *(_cells(row)[:5] for row in promotions)]))  # noqa: T201
    visits = 100_000 if asked.quick else 1_000_000
    checks = sticky.study(asked.seed, visits, visits // 10)
    print(f"\nSticky split: {visits:,} visits of {visits // 10:,} units at each weight.\n")  # noqa: T201
    print(table([sticky.HEADER, *(check.cells for check in checks)]))  # noqa: T201
    print(f"\n{time.monotonic() - began:.0f} s")  # noqa: T201
    right = is_right(rows) and all(row.holds for row in promotions) and all(check.holds for check in checks)
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
