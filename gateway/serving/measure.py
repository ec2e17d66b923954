"""Counts what was answered, in metrics whose labelled children are looked up once for each version and role."""

from __future__ import annotations

from typing import NamedTuple

from prometheus_client import Counter, Histogram

from gateway import metrics
from gateway.journal.record import Prediction
from gateway.names import Role


class _Children(NamedTuple):
    outcomes: dict[str, Counter]
    latency: Histogram
    run_time: Histogram


class Measures:
    """Counters of one process."""

    def __init__(self) -> None:
        self._children: dict[tuple[str, int, Role], _Children] = {}

    def answered(self, record: Prediction, seconds: float) -> None:
        """Count one live answer that took so many seconds in all."""
        children = self._of(record)
        self._count(children, record)
        children.latency.observe(seconds)

    def shadowed(self, record: Prediction) -> None:
        """Count one shadow run."""
        self._count(self._of(record), record)

    def _count(self, children: _Children, record: Prediction) -> None:
        outcome = children.outcomes.get(record.outcome)
        if outcome is None:
            labels = (record.model, str(record.version), record.role, record.outcome)
            outcome = children.outcomes[record.outcome] = metrics.requests.labels(*labels)
        outcome.inc()
        children.run_time.observe(record.latency_us / 1e6)

    def _of(self, record: Prediction) -> _Children:
        key = (record.model, record.version, record.role)
        children = self._children.get(key)
        if children is None:
            labels = (record.model, str(record.version), record.role)
            children = _Children({}, metrics.latency.labels(*labels), metrics.run_time.labels(*labels))
            self._children[key] = children
        return children
