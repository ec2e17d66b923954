"""Counts what was answered. A mapped counter costs about a microsecond to raise and a request needs five, so answers
are added up here and handed over a few times a second."""

from __future__ import annotations

import asyncio
import math
from bisect import bisect_left
from collections import Counter as Counts
from collections.abc import Sequence
from typing import Final

from prometheus_client import Counter, Histogram

from gateway import metrics
from gateway.names import Lookup, Outcome, Role

HAND_OVER_SECONDS: Final = 0.05
"""`/metrics` is behind by so much at most; that is also what a killed process may fail to count."""


class Tally:
    """Everything counted for one version in one role and not handed over yet."""

    __slots__ = (
        "_changed",
        "_children",
        "_counts",
        "_labels",
        "_latencies",
        "_latency",
        "_lookups",
        "_run_time",
        "_run_times",
    )

    def __init__(self, labels: tuple[str, str, str], changed: dict[Tally, None]) -> None:
        self._labels = labels
        self._changed = changed
        self._children: dict[str, Counter] = {}
        self._counts: dict[str, int] = {}
        self._latencies: list[float] = []  # seconds
        self._lookups: dict[str, int] = {}
        self._run_times: list[int] = []  # microseconds
        self._latency = metrics.latency.labels(*labels)
        self._run_time = metrics.run_time.labels(*labels)

    def answered(self, outcome: str, run_us: int, seconds: float, lookup: Lookup = Lookup.BYPASS) -> None:
        """Count one live answer that took so many seconds in all."""
        self._latencies.append(seconds)
        if lookup is not Lookup.BYPASS:
            self._lookups[lookup] = self._lookups.get(lookup, 0) + 1
            if lookup is Lookup.HIT:  # nothing ran
                self._changed[self] = None
                return
        self.ran(outcome, run_us)

    def ran(self, outcome: str, run_us: int) -> None:
        """Count one run, a shadow's for example."""
        if not self._run_times:
            self._changed[self] = None
        self._run_times.append(run_us)
        if outcome is not Outcome.OK:
            self._counts[outcome] = self._counts.get(outcome, 0) + 1

    def hand_over(self) -> None:
        """Raise the mapped counters."""
        counts, self._counts = self._counts, {}
        latencies, self._latencies = self._latencies, []
        run_times, self._run_times = self._run_times, []
        lookups, self._lookups = self._lookups, {}
        lookups[Lookup.BYPASS] = len(latencies) - sum(lookups.values())
        for lookup, count in lookups.items():
            if count:
                metrics.cache_lookups.labels(*self._labels, lookup).inc(count)
        counts[Outcome.OK] = len(run_times) - sum(counts.values()) + lookups.get(Lookup.HIT, 0)
        for outcome, count in counts.items():
            if count:
                self._child(outcome).inc(count)
        _observe(self._latency, metrics.LATENCY_BOUNDS, latencies)
        _observe(self._run_time, metrics.RUN_TIME_BOUNDS, [run_us / 1e6 for run_us in run_times])

    def _child(self, outcome: str) -> Counter:
        child = self._children.get(outcome)
        if child is None:
            child = self._children[outcome] = metrics.requests.labels(*self._labels, outcome)
        return child


def _observe(histogram: Histogram, bounds: Sequence[float], values: Sequence[float]) -> None:
    """Observe all values. The client library takes them one by one only; what `observe` raises are these attributes."""
    if not values:
        return
    for place, count in Counts(bisect_left(bounds, value) for value in values).items():
        histogram._buckets[place].inc(count)  # noqa: SLF001
    histogram._sum.inc(math.fsum(values))  # noqa: SLF001


class Measures:
    """Counters of one process. Only used from one event loop."""

    def __init__(self) -> None:
        self._tallies: dict[tuple[str, int, Role], Tally] = {}
        self._changed: dict[Tally, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def of(self, model: str, version: int, role: Role) -> Tally:
        """Where answers of this version in this role are counted."""
        key = (model, version, role)
        tally = self._tallies.get(key)
        if tally is None:
            tally = self._tallies[key] = Tally((model, str(version), role), self._changed)
        return tally

    def turn_over(self) -> None:
        """Answers may have been counted: see to it that they are handed over."""
        if self._changed and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(HAND_OVER_SECONDS, self.hand_over)

    def hand_over(self) -> None:
        """Hand over what was counted; also called at the end of the process."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        changed = list(self._changed)
        self._changed.clear()
        for tally in changed:
            tally.hand_over()
