"""The monitor's detectors on made-up streams: quiet ones stay quiet, changes are found, and a dummy would be found out.

The small version of `make statistics`: seeded, few runs, bars with room for the spread of so few.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any, Self

import numpy as np
import pytest

from gateway.monitor.detectors.detector import FloatArray, Verdict
from tests.statistics import monitor_rules as rules
from tests.statistics.monitor_bars import Bar, Heard, found, late_delay, median_delay
from tests.statistics.monitor_loop import retrained
from tests.statistics.monitor_scenes import ERROR_SCENES, ROW_SCENES, Scene
from tests.statistics.monitor_study import SEED, Line, measure, quick


class Always:
    """Alarms at every value."""

    def __init__(self) -> None:
        self.events = 0

    def update(self, values: FloatArray) -> Verdict:
        self.events += 1
        return Verdict(1.0, 1.0, True, self.events)

    def state(self) -> bytes:
        return b""

    def restored(self, state: bytes) -> Self:
        return self


class Never(Always):
    """Says nothing."""

    def update(self, values: FloatArray) -> Verdict:
        self.events += len(values)
        return Verdict(0.0, 1.0, False, self.events)


DUMMIES: Mapping[str, tuple[rules.RowsRule, rules.ErrorRule]] = {
    "always": (rules.always, lambda rate, rows: Always()),
    "never": (rules.never, lambda rate, rows: Never()),
}


@cache
def lines(scenes: tuple[Scene[Any, Any], ...], place: int) -> list[Line]:
    """The quick study with the dummies beside this gateway's detectors, on the same streams."""
    others = tuple((name, both[place], 1_000) for name, both in DUMMIES.items())
    return [line for scene in quick(scenes) for line in measure(replace(scene, others=others), SEED)]


both = pytest.mark.parametrize(("scenes", "place"), [(ROW_SCENES, 0), (ERROR_SCENES, 1)], ids=["rows", "errors"])


@both
def test_quiet_streams_stay_quiet_and_changes_are_found_soon(scenes: tuple[Scene[Any, Any], ...], place: int) -> None:
    """The reason for all of this."""
    assert [(line.scene, line.bar.name, line.ours) for line in lines(scenes, place) if not line.holds] == []


@both
@pytest.mark.parametrize("dummy", DUMMIES)
def test_the_study_finds_a_dummy_out(dummy: str, scenes: tuple[Scene[Any, Any], ...], place: int) -> None:
    """A study that a dummy passes proves nothing."""
    missed = {line.bar.name for line in lines(scenes, place) if not line.bar.holds(line.others[dummy])}
    quiet = {"alarms per 10,000 events", "runs alarmed, %"}
    assert missed & quiet if dummy == "always" else missed - quiet


def test_the_loop_answers_each_concept_once_with_a_new_version() -> None:
    """SEA in short: the rule turns round at row 5,000; alarms come soon after it, and none later."""
    random = np.random.default_rng(5)
    rows = random.uniform(-1, 1, size=(9_000, 2))
    labels = ((rows[:, 0] > 0) ^ (np.arange(9_000) >= 5_000)).astype(np.intp)
    noisy = labels ^ (random.random(9_000) < 0.1)
    alarms = list(retrained(rows, noisy, rules.error_detector))
    assert alarms
    assert all(5_000 < row < 5_000 + 1_500 for row in alarms)


def test_a_delay_counts_the_runs_that_were_not_found() -> None:
    """Leaving them out would praise a detector that finds few changes, quickly."""
    runs = [Heard((rules.Alarm(110),), 500, 100), Heard((rules.Alarm(50),), 500, 100), Heard((), 500, 100)]
    assert median_delay(runs[:1]) == 10
    assert median_delay(runs) == late_delay(runs) == float("inf")
    assert found(runs) == pytest.approx(100 / 3)


@pytest.mark.parametrize(
    ("bar", "value", "holds"),
    [
        (Bar("x", found, most=5), 5.0, True),
        (Bar("x", found, most=5), 5.1, False),
        (Bar("x", found, least=95), 94.9, False),
        (Bar("x", found, least=95).with_room(), 80.0, True),
        (Bar("x", found), 1e9, True),
    ],
)
def test_a_bar_is_met_up_to_itself(bar: Bar, value: float, holds: bool) -> None:
    """The verdict column rests on it."""
    assert bar.holds(value) is holds
