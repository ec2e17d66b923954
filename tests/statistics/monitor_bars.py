"""What one run of a detector came to, what is measured of many of them, and the bars that must hold."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tests.statistics import monitor_streams as streams
from tests.statistics.monitor_rules import Alarm

NEAR = 2_500
"""A fifth of the rows of one concept: an alarm so soon after its beginning is at the right place."""


@dataclass(frozen=True)
class Heard:
    """One run under one rule. at: the event before the change, 0 without one; feature: what moved."""

    alarms: tuple[Alarm, ...]
    events: int
    at: int = 0
    feature: str = ""

    @property
    def found(self) -> Alarm | None:
        """The first alarm after the change."""
        return next((one for one in self.alarms if one.event > self.at), None)

    @property
    def delay(self) -> float:
        """Events from the change to it; infinite without."""
        return math.inf if self.found is None else float(self.found.event - self.at)


# Measures: of all runs of a scene.

Runs = Sequence[Heard]


def per_10k(runs: Runs) -> float:
    """Alarms per 10,000 events."""
    return 1e4 * sum(len(run.alarms) for run in runs) / sum(run.events for run in runs)


def median_delay(runs: Runs) -> float:
    """Over all runs; one that was not found counts as later than all."""
    return float(np.quantile([run.delay for run in runs], 0.5, method="higher"))


def late_delay(runs: Runs) -> float:
    """The 90th percentile."""
    return float(np.quantile([run.delay for run in runs], 0.9, method="higher"))


def found(runs: Runs) -> float:
    """Share of the runs that were found, in percent."""
    return 100 * sum(run.found is not None for run in runs) / len(runs)


def named(runs: Runs) -> float:
    """Of those found, the share that named the right feature first, in percent."""
    told = [(run.found.feature, run.feature) for run in runs if run.found is not None]
    return 100 * sum(said == right for said, right in told) / len(told) if told else 0.0


def early(runs: Runs) -> float:
    """Share of the runs with an alarm before the change, in percent."""
    return 100 * sum(any(one.event <= run.at for one in run.alarms) for run in runs) / len(runs)


def alarmed(runs: Runs) -> float:
    """Share of the runs with any alarm, in percent."""
    return 100 * sum(bool(run.alarms) for run in runs) / len(runs)


def most_alarms(runs: Runs) -> float:
    """In the run with the most."""
    return float(max(len(run.alarms) for run in runs))


def usual_alarms(runs: Runs) -> float:
    """In the median run: ten runs of 43,000 rows are more than the budget of one false alarm in 100,000 allows."""
    return statistics.median(len(run.alarms) for run in runs)


def fewest_alarms(runs: Runs) -> float:
    """In the run with the fewest."""
    return float(min(len(run.alarms) for run in runs))


def changes_found(runs: Runs) -> float:
    """Of SEA's three changes those that an alarm follows within 2,500 rows, in the median run."""
    return statistics.median(sum(_follows(run, at) for at in streams.SEA_CHANGES) for run in runs)


def elsewhere(runs: Runs) -> float:
    """Share of SEA's alarms that no change of the last 2,500 rows explains, in percent."""
    right = sum(any(at < one.event <= at + NEAR for at in streams.SEA_CHANGES) for run in runs for one in run.alarms)
    return 100 * (1 - right / max(1, sum(len(run.alarms) for run in runs)))


def _follows(run: Heard, at: int) -> bool:
    return any(at < one.event <= at + NEAR for one in run.alarms)


@dataclass(frozen=True)
class Bar:
    """One measure, and what must hold of it; neither: it is shown."""

    name: str
    measure: Callable[[Runs], float]
    most: float | None = None
    least: float | None = None

    def __str__(self) -> str:
        if self.most is not None:
            return f"<= {self.most:g}"
        return f">= {self.least:g}" if self.least is not None else ""

    def holds(self, value: float) -> bool:
        """Whether it holds for this value."""
        return (self.most is None or value <= self.most) and (self.least is None or value >= self.least)

    def with_room(self) -> Bar:
        """The same for few runs: only what is wrong misses it. Bars of nothing at all stay."""
        return replace(
            self,
            most=None if self.most is None else 1.5 * self.most,
            least=None if self.least is None else 0.8 * self.least,
        )
