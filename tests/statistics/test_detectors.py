"""Small seeded scenarios with bars that both an always-alarm and a never-alarm detector fail.

The full study (hundreds of runs) is not for a test run; these few catch a detector that lost its power or its calm.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import numpy as np
import pytest

from gateway.monitor.detector import Detector, FloatArray, Verdict
from gateway.monitor.error import ErrorDetector, baseline
from gateway.monitor.panel import Panel, Plan
from gateway.monitor.second_opinion import SecondOpinion
from gateway.registry.manifest import Feature
from gateway.registry.reference import build_reference

FEATURES = 10
QUIET, CHANGE, RUNS = 10_000, 1000, 10


class Always:
    """Alarms at once."""

    events = 0

    def update(self, values: FloatArray) -> Verdict:
        return Verdict(1.0, 1.0, True, 1)

    def state(self) -> bytes:
        return b""

    def restored(self, state: bytes) -> Self:
        return self


class Never(Always):
    """Says nothing."""

    def update(self, values: FloatArray) -> Verdict:
        return Verdict(0.0, 1.0, False, len(values))


def plan() -> Plan:
    rows = np.random.default_rng(100).normal(size=(2000, FEATURES))
    return Plan(build_reference([Feature(name=f"f{place}") for place in range(FEATURES)], rows.tolist()))


def errors_scenario(make: Callable[[], Detector]) -> bool:
    """Quiet at the proven rate; 0.10 -> 0.20 found within 700 labels in nearly every run, never before it."""
    quiet = sum(
        make().update((np.random.default_rng(s).random(QUIET) < 0.1).astype(float)).alarmed for s in range(RUNS)
    )
    delays = []
    for seed in range(RUNS):
        random = np.random.default_rng(1000 + seed)
        rates = np.where(np.arange(CHANGE + 700) < CHANGE, 0.1, 0.2)
        verdict = make().update((random.random(rates.size) < rates).astype(float))
        if verdict.alarmed and verdict.event > CHANGE:
            delays.append(verdict.event - CHANGE)
    return quiet <= 1 and len(delays) >= RUNS - 2 and float(np.median(delays)) < 350


def panel_scenario(make: Callable[[], Detector]) -> bool:
    """Quiet on rows like the reference; half a deviation in one of ten features found within 500 events."""
    quiet = sum(
        make().update(np.random.default_rng(s).normal(size=(QUIET, FEATURES))).alarmed for s in range(RUNS // 2)
    )
    delays = []
    for seed in range(RUNS):
        rows = np.random.default_rng(1000 + seed).normal(size=(CHANGE + 500, FEATURES))
        rows[CHANGE:, 4] += 0.5
        verdict = make().update(rows)
        if verdict.alarmed and verdict.event > CHANGE and verdict.features[0][0] == "f4":
            delays.append(verdict.event - CHANGE)
    return quiet == 0 and len(delays) >= RUNS - 2 and float(np.median(delays)) < 300


@pytest.mark.parametrize(
    ("make", "passes"),
    [
        (lambda: ErrorDetector(baseline(0.1, 2000, 0.01), 1e5), True),
        (lambda: SecondOpinion("ADWIN", rising=True), True),
        (Always, False),
        (Never, False),
    ],
    ids=["errors", "ADWIN", "always", "never"],
)
def test_more_errors_are_found_soon_and_quiet_streams_stay_quiet(make: Callable[[], Detector], passes: bool) -> None:
    assert errors_scenario(make) is passes


def test_moved_inputs_are_found_soon_and_quiet_streams_stay_quiet() -> None:
    compiled = plan()
    assert panel_scenario(lambda: Panel(compiled, 1e5))


@pytest.mark.parametrize("make", [Always, Never])
def test_the_panel_scenario_fails_dummies(make: Callable[[], Detector]) -> None:
    """A bar that they passed would prove nothing."""
    assert not panel_scenario(make)


def test_an_autocorrelated_stream_stays_quiet() -> None:
    """The commonest false alarm of drift tests: dependent rows taken for independent ones."""

    def chain(count: int, seed: int) -> list[list[float]]:
        noise = np.random.default_rng(seed).normal(size=(count, 3))
        values = noise.copy()
        for step in range(1, count):
            values[step] += 0.5 * values[step - 1]
        return [[float(value) for value in row] for row in values]

    names = [Feature(name=name) for name in "abc"]
    compiled = Plan(build_reference(names, chain(3000, 1)))
    assert not any(Panel(compiled, 1e5).update(np.array(chain(8000, seed))).alarmed for seed in (2, 3, 4))
