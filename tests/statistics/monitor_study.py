"""`make statistics`: the monitor's detectors and river's on the same streams, in one table. `--seed N`, `--quick`.

    python -m tests.statistics.monitor_study --quick

The bars are checked for this gateway's detectors; the columns beside them show what others make of the same rows.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gateway.monitor.detectors.detector import Detector, FloatArray
from gateway.monitor.detectors.panel import Panel
from gateway.monitor.detectors.second_opinion import SecondOpinion
from tests.statistics import monitor_rules as rules
from tests.statistics import monitor_streams as streams
from tests.statistics.monitor_bars import Bar, Heard
from tests.statistics.monitor_scenes import ERROR_SCENES, ROW_SCENES, Scene
from tests.statistics.rollout_study import table

SEED = 20240817


@dataclass(frozen=True)
class Line:
    """One measure of one scene. others: by the rule's name, as far as it was asked."""

    scene: str
    runs: int
    bar: Bar
    ours: float
    others: Mapping[str, float]

    @property
    def holds(self) -> bool:
        """Whether this gateway's detector does what it must."""
        return self.bar.holds(self.ours)

    def cells(self, names: Sequence[str]) -> list[str]:
        """For the table."""
        verdict = "" if not str(self.bar) else "holds" if self.holds else "MISSED"
        theirs = [_figure(self.others[name]) if name in self.others else "-" for name in names]
        return [self.scene, str(self.runs), self.bar.name, _figure(self.ours), str(self.bar), verdict, *theirs]


def _figure(value: float) -> str:
    return "never" if value == float("inf") else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def measure(scene: Scene[Any, Any], seed: int) -> list[Line]:
    """The scene, every rule on the same streams."""
    asked = [("", scene.ours, scene.runs), *scene.others]
    heard: dict[str, list[Heard]] = {name: [] for name, _, _ in asked}
    for run in range(scene.runs):
        drawn = scene.draw(np.random.default_rng((seed, scene.draws, run)))
        for name, rule, runs in asked:
            if run < runs:
                heard[name].append(scene.play(drawn, rule))
    ours = heard.pop("")
    return [
        Line(scene.name, len(ours), bar, bar.measure(ours), {name: bar.measure(runs) for name, runs in heard.items()})
        for bar in scene.bars
    ]


def quick(scenes: Iterable[Scene[Any, Any]]) -> list[Scene[Any, Any]]:
    """Those with quick runs, so many of them, bars with room."""
    return [
        replace(
            scene,
            runs=scene.quick_runs,
            bars=tuple(bar.with_room() for bar in scene.bars),
            others=tuple((name, rule, min(2, runs)) for name, rule, runs in scene.others),
        )
        for scene in scenes
        if scene.quick_runs
    ]


# What it costs.


def cost(seed: int) -> list[Line]:
    """Processor time for each event in blocks, beside river's ADWIN on the same rows, and the size of all state."""
    lines = [line for name, make in _PRICED.items() for line in _cost_of_rows(name, make, seed)]
    errors = (np.random.default_rng((seed, 98)).random(20_000) < 0.1).astype(np.float64)
    spent = _microseconds(rules.error_detector(0.1, 2_000), errors, 16)
    return [*lines, Line("errors", 5, _shown("microseconds a label"), spent, {})]


_PRICED: Mapping[str, streams.Make] = {"independent": streams.independent, "AR(0.5)": streams.chain(0.5)}
"""Autocorrelated scores cost more: their factors are raised to a power."""


def _cost_of_rows(name: str, make: streams.Make, seed: int) -> list[Line]:
    rows = make(np.random.default_rng((seed, 99)), streams.REFERENCE_ROWS + 8_192)
    seen, stream = streams.known(rows[: streams.REFERENCE_ROWS]), rows[streams.REFERENCE_ROWS :]
    values = seen.encoded(stream)
    panel, error, adwin = Panel(seen.plan, rules.BUDGET), rules.error_detector(0.1, 2_000), SecondOpinion("ADWIN")
    in_blocks, together = _microseconds(panel, values, 16), _microseconds(panel, values, 1_024)
    began = time.process_time()
    list(rules.ROWS_ELSEWHERE["ADWIN"](seen, stream[:2_048]))
    theirs = {"ADWIN": 1e6 * (time.process_time() - began) / 2_048}
    for one in (error, adwin):
        one.update(np.clip(values[:, 0], 0, 1))
    kilobytes = sum(len(one.state()) for one in (panel, error, adwin)) / 1e3
    return [
        Line(f"cost: {name}", 5, _shown("microseconds an event, blocks of 16", 25), in_blocks, theirs),
        Line(f"cost: {name}", 5, _shown("microseconds an event, 1,024 at once", 25), together, theirs),
        Line(f"cost: {name}", 1, _shown("kilobytes of state: panel, errors, ADWIN", 200), kilobytes, {}),
    ]


def _shown(name: str, most: float | None = None) -> Bar:
    return Bar(name, lambda runs: 0.0, most=most)


def _microseconds(detector: Detector, values: FloatArray, piece: int) -> float:
    """For each event, the median of five passes."""
    passes = []
    for _ in range(5):
        began = time.process_time()
        for start in range(0, len(values), piece):
            detector.update(values[start : start + piece])
        passes.append(1e6 * (time.process_time() - began) / len(values))
    return statistics.median(passes)


# The table.

_HEADER = ("scene", "runs", "measure", "this gateway", "bar", "verdict")


def _print(lines: Sequence[Line], names: Sequence[str]) -> None:
    print(table([[*_HEADER, *names], *(line.cells(names) for line in lines)]), flush=True)  # noqa: T201


def _study(scenes: Iterable[Scene[Any, Any]], seed: int) -> list[Line]:
    lines = []
    for scene in scenes:
        began = time.monotonic()
        found = measure(scene, seed)
        said = ", ".join(f"{line.bar.name} {_figure(line.ours)}" for line in found)
        print(f"{scene.name}: {said} ({time.monotonic() - began:.0f} s)", file=sys.stderr, flush=True)  # noqa: T201
        lines += found
    return lines


def main(words: Sequence[str]) -> int:
    """The exit code: 0 every bar holds, 1 one was missed."""
    parser = argparse.ArgumentParser(prog="make statistics ARGS=...", description="Put the detectors to the test.")
    parser.add_argument("--seed", type=int, default=SEED, help=f"of everything that is drawn [{SEED}]")
    parser.add_argument("--quick", action="store_true", help="few runs: seconds instead of minutes")
    asked = parser.parse_args(words)
    pick: Callable[[Iterable[Scene[Any, Any]]], Iterable[Scene[Any, Any]]] = quick if asked.quick else iter
    began = time.monotonic()
    rows = _study(pick(ROW_SCENES), asked.seed)
    errors = _study(pick(ERROR_SCENES), asked.seed)
    spent = cost(asked.seed)
    print(f"Inputs: 30 numeric features and 1 categorical, budget {rules.BUDGET:,.0f} events. Seed {asked.seed}.\n")  # noqa: T201
    _print([*rows, *spent], list(rules.ROWS_ELSEWHERE))
    print("\nErrors: the proven rate is measured on 2,000 labels.\n")  # noqa: T201
    _print(errors, list(rules.ERRORS_ELSEWHERE))
    print(f"\n{time.monotonic() - began:.0f} s")  # noqa: T201
    return 0 if all(line.holds for line in [*rows, *errors, *spent]) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
