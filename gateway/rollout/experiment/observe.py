"""What traffic says of an experiment: a fold of journal entries into figures of each arm.

The same entries give the same figures, however they are cut, so nothing needs to be remembered: after a restart the
loop folds again from the experiment's offset. An answer counts when a draw decided it, under the experiment's route
or a later one, and when its bucket still belongs to the arm that got it first: so all arms are compared over the same
time and on the same callers, also after one of them was taken out and the champion answers its callers too.
A unit is what was drawn: the bucket, where a key decided (rows of one caller are not independent, so they are averaged
first), else the request. Knows neither stores nor clocks.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gateway.documents.experiment import Experiment, Metric
from gateway.interval import Moments
from gateway.journal.record import Entry, Feedback, Prediction, TrafficRecord
from gateway.names import BUCKETS, Outcome, Reason, Role
from gateway.registry.reference import category
from gateway.rollout.evidence.betting import FailureShare
from gateway.rollout.evidence.observe import ReadPrediction
from gateway.rollout.evidence.run_times import RunTimes
from gateway.rollout.evidence.verdict import Tally

PENDING = 100_000
"""Requests whose feedback is waited for; beyond it the oldest is given up and counted."""

_DRAWN = frozenset({Reason.WEIGHT, Reason.STICKY, Reason.FIRST})
_LARGEST_VALUE = 1e100  # the squares of larger ones have no sum; not a number is left out with them
_NO_ANSWERS = Tally()
_NO_UNITS = Moments()


@dataclass(frozen=True, slots=True)
class ArmSeen:
    """Figures of one arm.

    tally: of its runs; one that never began, because its deadline passed while it waited, is none.
    moments: of its units' figures. errors, slow: logarithm of the most evidence that there was against it.
    """

    version: int
    tally: Tally = _NO_ANSWERS
    moments: Moments = _NO_UNITS
    errors: float = 0.0
    slow: float = 0.0


@dataclass(frozen=True, slots=True)
class Seen:
    """Everything counted so far: the champion first, then the challengers in the order of the experiment.

    least, most: of all values so far (of a share: 0 and 1). dropped: requests that were given up, as too many waited.
    """

    arms: tuple[ArmSeen, ...]
    least: float = 0.0
    most: float = 1.0
    dropped: int = 0


class _Unit:
    """The figures of one unit so far."""

    __slots__ = ("count", "total")

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0

    @property
    def mean(self) -> float:
        return self.total / self.count


class _Guard:
    """The evidence of one guard. peak: the most there ever was, so that no verdict hangs on when one looks."""

    def __init__(self) -> None:
        self._share = FailureShare()
        self.peak = 0.0

    def add(self, is_challenger: bool, weight: float) -> None:
        """Count one bad event."""
        self._share.add(is_challenger, weight)
        self.peak = max(self.peak, self._share.log)


class _Arm:
    """One arm while it is counted. weight: its share of what it and the champion answer; 0: it is the champion."""

    def __init__(self, version: int, weight: float) -> None:
        self.version = version
        self.weight = weight
        self.tally = Tally()
        self.moments = Moments()
        self.units: dict[int, _Unit] = {}
        self.failed_units: set[int] = set()
        self.slow_units: set[int] = set()
        self.errors = _Guard()
        self.slow = _Guard()

    def unit(self, record: Prediction) -> _Unit:
        """The unit to which an answer belongs."""
        return self.units.setdefault(record.bucket, _Unit()) if record.keyed and record.bucket >= 0 else _Unit()

    def count(self, unit: _Unit, figure: float) -> None:
        """Add one figure to a unit."""
        before = unit.mean if unit.count else None
        unit.count += 1
        unit.total += figure
        moments = self.moments
        self.moments = moments.add(unit.mean) if before is None else moments.replace(before, unit.mean)

    def seen(self) -> ArmSeen:
        """The arm as a value."""
        return ArmSeen(self.version, self.tally, self.moments, self.errors.peak, self.slow.peak)


@dataclass(slots=True)
class _Waiting:
    """An answer whose feedback may come. values: the predicted one of each row; None: it failed."""

    arm: _Arm
    unit: _Unit
    rows: int
    values: Sequence[Any] | None
    known: set[int]


class ExperimentObserver:
    """The fold for one experiment."""

    def __init__(self, experiment: Experiment, read_prediction: ReadPrediction) -> None:
        self._model = experiment.model
        self._first = experiment.first
        self._metric = experiment.terms.metric
        self._read = read_prediction
        owners = owners_of(experiment)
        held = {version: owners.count(version) for version in {experiment.champion, *owners}}
        self._owners = owners
        self._control = _Arm(experiment.champion, 0.0)
        self._arms = {experiment.champion: self._control}
        for arm in experiment.arms:
            own = held.get(arm.version, 0)
            self._arms[arm.version] = _Arm(arm.version, own / max(own + held[experiment.champion], 1))
        self._times = RunTimes()
        self._waiting: OrderedDict[str, _Waiting] = OrderedDict()
        self._least, self._most = (math.inf, -math.inf) if self._metric is Metric.VALUE else (0.0, 1.0)
        self._dropped = 0

    def fold(self, entries: Sequence[Entry[TrafficRecord]]) -> None:
        """Count these entries, in the journal's order."""
        for entry in entries:
            record = entry.record
            if isinstance(record, Feedback):
                self._feedback(record)
            elif record.model == self._model and record.reason in _DRAWN and record.role is not Role.SHADOW:
                self._answer(record)

    def seen(self) -> Seen:
        """Everything counted so far, as a value."""
        least, most = (self._least, self._most) if self._least <= self._most else (0.0, 0.0)
        return Seen(tuple(arm.seen() for arm in self._arms.values()), least, most, self._dropped)

    def _answer(self, record: Prediction) -> None:
        arm = self._arms.get(record.version)
        if arm is None or record.revision < self._first:
            return
        if record.bucket >= 0 and self._owners[record.bucket] != record.version:
            return
        failed = record.outcome is not Outcome.OK or "non_finite" in record.flags
        self._guard(arm, record, failed)
        unit = arm.unit(record)
        if self._metric is Metric.ERRORS:
            arm.count(unit, float(failed))
        elif "duplicate_id" not in record.flags:
            values = None if failed else self._read(record) if self._metric is Metric.LABEL else ()
            self._wait(record.id, _Waiting(arm, unit, record.rows, values, set()))

    def _guard(self, arm: _Arm, record: Prediction, failed: bool) -> None:
        """Count the answer for the guards; a caller's second failure is the same event, not another one."""
        if record.outcome is Outcome.DEADLINE and record.latency_us == 0:
            return  # its time was over before it ran: that says nothing of the version
        latency = record.latency_us if record.outcome is Outcome.OK else 0
        slow = self._times.over(latency, arm is not self._control)[0]
        arm.tally = arm.tally.add(failed, slow)
        if arm is self._control and latency > 0:
            self._times.add(latency)
        if failed and _is_new(arm.failed_units, record):
            for other in self._blamed(arm):
                other.errors.add(other is arm, other.weight)
        if slow and _is_new(arm.slow_units, record):
            for other in self._blamed(arm):
                other.slow.add(other is arm, other.weight)

    def _blamed(self, arm: _Arm) -> Sequence[_Arm]:
        """Whose evidence a bad event of the arm concerns: the champion's is weighed against every challenger."""
        return [other for other in self._arms.values() if other is not arm] if arm is self._control else (arm,)

    def _wait(self, request: str, waiting: _Waiting) -> None:
        if request in self._waiting:
            return
        self._waiting[request] = waiting
        if len(self._waiting) > PENDING:
            self._waiting.popitem(last=False)
            self._dropped += 1

    def _feedback(self, record: Feedback) -> None:
        waiting = self._waiting.get(record.id)
        if waiting is None or record.row in waiting.known or not 0 <= record.row < waiting.rows:
            return
        figure = self._figure(waiting, record)
        if figure is None:
            return
        waiting.known.add(record.row)
        self._least, self._most = min(self._least, figure), max(self._most, figure)
        waiting.arm.count(waiting.unit, figure)
        if len(waiting.known) >= waiting.rows:
            del self._waiting[record.id]

    def _figure(self, waiting: _Waiting, record: Feedback) -> float | None:
        """What the feedback says of its row; None: nothing. A failed answer is a wrong one."""
        if self._metric is Metric.VALUE:
            return record.value if record.value is not None and abs(record.value) <= _LARGEST_VALUE else None
        if record.label is None:
            return None
        values = waiting.values
        predicted = values[record.row] if values is not None and record.row < len(values) else None
        return float(predicted is not None and category(predicted) == category(record.label))


def owners_of(experiment: Experiment) -> list[int]:
    """The arm that owned each of the 10,000 buckets when the experiment began."""
    owners = [experiment.champion] * BUCKETS
    for arm in experiment.arms:
        for first, behind in arm.ranges:
            owners[first:behind] = [arm.version] * (behind - first)
    return owners


def _is_new(units: set[int], record: Prediction) -> bool:
    if not record.keyed or record.bucket < 0:
        return True
    if record.bucket in units:
        return False
    units.add(record.bucket)
    return True
