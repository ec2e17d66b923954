"""Counts what was answered, in metrics whose labelled children are looked up once for each version and role.

A mapped counter costs about a microsecond to raise, a request needs five: so the answers of one turn are added up here
and handed over once, when the turn ends.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Sequence

from prometheus_client import Counter, Histogram

from gateway import metrics
from gateway.journal.record import Prediction
from gateway.names import Role


class _Tally:
    """Observations of one histogram that are not handed over yet."""

    __slots__ = ("_bounds", "_child", "_counts", "_sum")

    def __init__(self, child: Histogram, bounds: Sequence[float]) -> None:
        self._child = child
        self._bounds = tuple(bounds)
        self._counts: dict[int, int] = {}
        self._sum = 0.0

    def observe(self, value: float) -> None:
        place = bisect_left(self._bounds, value)
        self._counts[place] = self._counts.get(place, 0) + 1
        self._sum += value

    def flush(self) -> None:
        if not self._counts:
            return
        counts, self._counts = self._counts, {}
        total, self._sum = self._sum, 0.0
        # The client library can only observe values one by one; these two attributes are what `observe` raises.
        for place, count in counts.items():
            self._child._buckets[place].inc(count)  # noqa: SLF001
        self._child._sum.inc(total)  # noqa: SLF001


class _Children:
    """Everything counted for one version in one role."""

    __slots__ = ("latency", "outcomes", "run_time", "waiting")

    def __init__(self, labels: tuple[str, str, str]) -> None:
        self.outcomes: dict[str, Counter] = {}
        self.waiting: dict[str, int] = {}
        self.latency = _Tally(metrics.latency.labels(*labels), metrics.LATENCY_BOUNDS)
        self.run_time = _Tally(metrics.run_time.labels(*labels), metrics.RUN_TIME_BOUNDS)

    def flush(self, labels: tuple[str, str, str]) -> None:
        for outcome, count in self.waiting.items():
            counter = self.outcomes.get(outcome)
            if counter is None:
                counter = self.outcomes[outcome] = metrics.requests.labels(*labels, outcome)
            counter.inc(count)
        self.waiting.clear()
        self.latency.flush()
        self.run_time.flush()


class Measures:
    """Counters of one process. Only used from one event loop."""

    def __init__(self) -> None:
        self._children: dict[tuple[str, int, Role], _Children] = {}
        self._changed: dict[tuple[str, int, Role], _Children] = {}

    def answered(self, record: Prediction, seconds: float) -> None:
        """Count one live answer that took so many seconds in all."""
        self._count(record).latency.observe(seconds)

    def shadowed(self, record: Prediction) -> None:
        """Count one shadow run."""
        self._count(record)

    def flush(self) -> None:
        """Hand over what was counted."""
        changed, self._changed = self._changed, {}
        for (model, version, role), children in changed.items():
            children.flush((model, str(version), role))

    def _count(self, record: Prediction) -> _Children:
        key = (record.model, record.version, record.role)
        children = self._children.get(key)
        if children is None:
            children = self._children[key] = _Children((record.model, str(record.version), record.role))
        if not self._changed:
            asyncio.get_running_loop().call_soon(self.flush)
        self._changed[key] = children
        waiting = children.waiting
        waiting[record.outcome] = waiting.get(record.outcome, 0) + 1
        children.run_time.observe(record.latency_us / 1e6)
        return children
