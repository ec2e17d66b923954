"""What traffic says of one rollout: a fold of journal entries into `Observed`.

The same entries give the same value, however they are cut, so nothing needs to be remembered: after a restart the
controller folds again from the rollout's offset. Answers that no draw decided (pinned, cached, by a rule, fallbacks)
are left out. Knows neither stores nor clocks.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gateway.documents.rollout import Guards, Rollout
from gateway.journal.record import Entry, Feedback, Prediction, TrafficRecord
from gateway.names import BUCKETS, Outcome, Reason, Role
from gateway.registry.manifest import Manifest, PredictionSpec
from gateway.registry.reference import category
from gateway.rollout.evidence import CALM, Compared, FailureShare, Paired, Tally

ReadPrediction = Callable[[Prediction], Sequence[Any]]
"""The predicted value of each row of a record."""

PENDING = 100_000
"""Prediction ids that wait for their other half or their label; beyond it the oldest is dropped and counted."""

SLACK_US = 50
"""A challenger's run counts as slow when it is above the champion's p95 by more than this: nobody notices less."""

FIRST_RUN_TIMES = 100
"""No run is slow before so many of the champion's runs have been timed."""

_DRAWN = frozenset({Reason.WEIGHT, Reason.STICKY, Reason.FIRST})


@dataclass(frozen=True, slots=True)
class Steps:
    """Counts of one route revision: answers of the canary, joined pairs, answers after promotion."""

    canary: int = 0
    pairs: int = 0
    promoted: int = 0


_NOTHING = Compared()


@dataclass(frozen=True, slots=True)
class Observed:
    """What traffic has said so far. before: up to the promotion; after: the promoted version beside the last one.

    by_revision: step counts for each route revision. dropped: ids that were given up because too many waited.
    """

    before: Compared = _NOTHING
    after: Compared = _NOTHING
    by_revision: tuple[tuple[int, Steps], ...] = ()
    dropped: int = 0

    def since(self, revision: int) -> Steps:
        """The counts of answers given under this route revision or a later one."""
        counted = [steps for number, steps in self.by_revision if number >= revision]
        return Steps(
            canary=sum(steps.canary for steps in counted),
            pairs=sum(steps.pairs for steps in counted),
            promoted=sum(steps.promoted for steps in counted),
        )


@dataclass(slots=True)
class _Side:
    """One version's answer to one request. weight: the challenger's share of the split; None: no split."""

    comparison: _Comparison
    live: bool
    failed: bool
    latency_us: int
    values: Sequence[Any] | None
    weight: float | None


class _Waiting:
    """What is known of one prediction id."""

    __slots__ = ("is_spoiled", "labels", "reference", "rows", "trial")

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.trial: _Side | None = None
        self.reference: _Side | None = None
        self.labels: dict[int, Any] = {}
        self.is_spoiled = False


class Observer:
    """The fold for one rollout. numeric: predictions are numbers, and the nearer one is the better one."""

    def __init__(self, rollout: Rollout, read_prediction: ReadPrediction, numeric: bool = False) -> None:
        self._model = rollout.model
        self._version = rollout.version
        self._champion = rollout.champion
        self._read = read_prediction
        self._numeric = numeric
        self._before = _Comparison(rollout.guards, numeric)
        self._after = _Comparison(rollout.guards, numeric)
        self._steps: dict[int, Steps] = {}
        self._waiting: OrderedDict[str, _Waiting] = OrderedDict()
        self._dropped = 0

    def fold(self, entries: Sequence[Entry[TrafficRecord]]) -> None:
        """Count these entries, in the journal's order."""
        for entry in entries:
            record = entry.record
            if isinstance(record, Feedback):
                self._label(record)
            elif record.model == self._model and record.reason in _DRAWN:
                self._answer(record)

    def observed(self) -> Observed:
        """Everything counted so far, as a value."""
        return Observed(
            self._before.compared(), self._after.compared(), tuple(sorted(self._steps.items())), self._dropped
        )

    def _answer(self, record: Prediction) -> None:
        is_trial = record.version == self._version
        comparison = self._comparison(record)
        if comparison is None:
            return
        live = record.role is not Role.SHADOW
        side = _Side(
            comparison=comparison,
            live=live,
            failed=record.outcome is not Outcome.OK or "non_finite" in record.flags,
            latency_us=record.latency_us if record.outcome is not Outcome.ERROR else 0,
            values=self._read(record) if record.outcome is Outcome.OK else None,
            weight=self._weight(record) if live else None,
        )
        if live:
            comparison.count_live(is_trial, side)
            if is_trial:
                self._step(record.revision, "canary" if comparison is self._before else "promoted")
        else:
            comparison.count_shadow(is_trial, side)
        self._remember(record, is_trial, side)

    def _comparison(self, record: Prediction) -> _Comparison | None:
        """Which comparison the record belongs to; None: neither, it is of another version or another role."""
        is_champion = record.role is Role.CHAMPION
        if record.version == self._version:
            if record.role is Role.PREVIOUS:
                return None
            return self._after if is_champion else self._before
        if record.version == self._champion:
            if is_champion:
                return self._before
            return self._after if record.role is Role.SHADOW else None
        return None

    def _weight(self, record: Prediction) -> float | None:
        """The version on trial's share of what it and the champion answer together, as the draw had it."""
        split = dict(record.split)
        own = split.get(self._version, 0)
        both = own + BUCKETS - sum(split.values())
        return own / both if 0 < own < both else None

    def _remember(self, record: Prediction, is_trial: bool, side: _Side) -> None:
        waiting = self._waiting.get(record.id)
        if waiting is None:
            waiting = self._waiting[record.id] = _Waiting(record.rows)
            if len(self._waiting) > PENDING:
                self._waiting.popitem(last=False)
                self._dropped += 1
        mine = waiting.trial if is_trial else waiting.reference
        if mine is not None or "duplicate_id" in record.flags:
            waiting.is_spoiled = True
        if waiting.is_spoiled:
            return
        if is_trial:
            waiting.trial = side
        else:
            waiting.reference = side
        self._pair(record, waiting)

    def _pair(self, record: Prediction, waiting: _Waiting) -> None:
        trial, reference = waiting.trial, waiting.reference
        if trial is None or reference is None:
            return
        if trial.comparison is not reference.comparison or trial.live == reference.live:
            waiting.is_spoiled = True
            return
        trial.comparison.count_pair(trial, reference)
        if trial.comparison is self._before:
            self._step(record.revision, "pairs")
        for row, label in waiting.labels.items():
            trial.comparison.count_labelled_pair(trial, reference, row, label)
        self._forget_if_done(record.id, waiting)

    def _label(self, record: Feedback) -> None:
        waiting = self._waiting.get(record.id)
        if waiting is None or waiting.is_spoiled or record.label is None:
            return
        if record.row in waiting.labels or not 0 <= record.row < waiting.rows:
            return
        waiting.labels[record.row] = record.label
        trial, reference = waiting.trial, waiting.reference
        for side in (trial, reference):
            if side is not None and side.weight is not None:
                side.comparison.count_labelled_answer(side is trial, side, record.row, record.label)
        if trial is not None and reference is not None:
            trial.comparison.count_labelled_pair(trial, reference, record.row, record.label)
        self._forget_if_done(record.id, waiting)

    def _forget_if_done(self, request: str, waiting: _Waiting) -> None:
        """Give the memory back once every row has its label and no other half is expected."""
        side = waiting.trial or waiting.reference
        is_whole = waiting.trial is not None and waiting.reference is not None
        is_expected = side is None or not (is_whole or side.weight is not None)
        if not is_expected and len(waiting.labels) >= waiting.rows:
            del self._waiting[request]

    def _step(self, revision: int, name: str) -> None:
        steps = self._steps.get(revision, Steps())
        self._steps[revision] = replace(steps, **{name: getattr(steps, name) + 1})


class _Comparison:
    """The counts and e-processes of one version on trial beside its reference."""

    def __init__(self, guards: Guards, numeric: bool) -> None:
        self._numeric = numeric
        self._shadow_tolerance = guards.slow_ratio
        self._trial = Tally()
        self._shadow = Tally()
        self._reference = Tally()
        self._trial_times = RunTimes()
        self._reference_times = RunTimes()
        self._errors = FailureShare()
        self._slow = FailureShare()
        self._calm = FailureShare(CALM, guards.errors_ratio)
        self._calm_shadow = FailureShare(CALM, guards.errors_ratio)
        self._worse_share = FailureShare()
        self._worse_pairs = Paired()
        self._better = Paired()
        self._pairs = self._rows = self._disagreements = 0
        self._labelled = self._trial_won = self._reference_won = 0

    def count_live(self, is_trial: bool, side: _Side) -> None:
        """Count an answer that a caller got."""
        slow = self._is_slow(is_trial, side)
        self._tally(is_trial, side, slow)
        if side.weight is None:
            return
        if side.failed:
            self._errors.add(is_trial, side.weight)
        if slow:
            self._slow.add(is_trial, side.weight)
        if side.failed or slow:
            self._calm.add(is_trial, side.weight)

    def count_shadow(self, is_trial: bool, side: _Side) -> None:
        """Count a run that nobody waited for."""
        self._tally(is_trial, side, self._is_slow(is_trial, side))

    def count_pair(self, trial: _Side, reference: _Side) -> None:
        """Compare two answers to the same request."""
        self._pairs += 1
        if trial.failed != reference.failed:
            self._errors.add(trial.failed, 0.5)
        for is_trial, side in ((True, trial), (False, reference)):
            slow = self._is_slow(is_trial, side)
            if slow and reference.live:
                # A shadow runs after the reply, with cold caches: it may be slow as often as the guard's ratio says.
                self._slow.add(is_trial, 0.5, self._shadow_tolerance)
            if slow or side.failed:
                self._calm_shadow.add(is_trial, 0.5)
        if trial.values is not None and reference.values is not None and not self._numeric:
            same = [a == b for a, b in zip(trial.values, reference.values, strict=False)]
            self._rows += len(same)
            self._disagreements += len(same) - sum(same)

    def count_labelled_answer(self, is_trial: bool, side: _Side, row: int, label: Any) -> None:
        """Count one row of the split whose truth is known; numbers have no right and wrong of their own."""
        if not self._numeric and side.weight is not None and _loss(side, row, label, False) > 0.0:
            self._worse_share.add(is_trial, side.weight)

    def count_labelled_pair(self, trial: _Side, reference: _Side, row: int, label: Any) -> None:
        """Count one row that both answered and whose truth is known."""
        own = _loss(trial, row, label, self._numeric)
        other = _loss(reference, row, label, self._numeric)
        self._labelled += 1
        if own == other:
            return
        self._trial_won += own < other
        self._reference_won += own > other
        self._worse_pairs.add(own > other)
        self._better.add(own < other)

    def compared(self) -> Compared:
        """The comparison as a value."""
        own, other = self._trial_times.quantile(0.5), self._reference_times.quantile(0.5)
        return Compared(
            trial=self._trial,
            shadow=self._shadow,
            reference=self._reference,
            pairs=self._pairs,
            compared=self._rows,
            disagreements=self._disagreements,
            labelled=self._labelled,
            trial_won=self._trial_won,
            reference_won=self._reference_won,
            latency_ratio=round(own / other, 3) if own and other else None,
            slow_above_us=self._reference_times.p95,
            errors=self._errors.log,
            slow=self._slow.log,
            worse_pairs=self._worse_pairs.log,
            worse_share=self._worse_share.log,
            better=self._better.log,
            calm=self._calm.log,
            calm_shadow=self._calm_shadow.log,
        )

    def _is_slow(self, is_trial: bool, side: _Side) -> bool:
        limit = self._reference_times.p95
        return limit is not None and side.latency_us > limit + (SLACK_US if is_trial else 0)

    def _tally(self, is_trial: bool, side: _Side, slow: bool) -> None:
        """Count one run. Its time is added behind the question whether it was slow: the limit is the past's."""
        if not is_trial:
            self._reference = self._reference.add(side.failed, slow)
        elif side.live:
            self._trial = self._trial.add(side.failed, slow)
        else:
            self._shadow = self._shadow.add(side.failed, slow)
        if side.latency_us > 0:
            (self._trial_times if is_trial else self._reference_times).add(side.latency_us)


def _loss(side: _Side, row: int, label: Any, numeric: bool) -> float:
    """How wrong one row is: 0 or 1 for classes, the distance for numbers, infinite where there is no answer."""
    value = side.values[row] if side.values is not None and 0 <= row < len(side.values) else None
    if value is None:
        return math.inf
    if numeric:
        return abs(float(value) - float(label)) if isinstance(label, int | float) else math.inf
    return float(category(value) != category(label))


class RunTimes:
    """Run times in 2 percent steps; quantiles of everything added so far, the p95 renewed every 32 runs."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self._total = 0
        self.p95: float | None = None

    def add(self, microseconds: int) -> None:
        """Add one run."""
        step = math.ceil(math.log(microseconds) / _LOG_STEP)
        self._counts[step] = self._counts.get(step, 0) + 1
        self._total += 1
        if self._total >= FIRST_RUN_TIMES and self._total % 32 == 4:
            self.p95 = self.quantile(0.95)

    def quantile(self, share: float) -> float | None:
        """The upper edge of the step in which the quantile lies; None without runs."""
        left = share * self._total
        for step in sorted(self._counts):
            left -= self._counts[step]
            if left <= 0:
                return math.exp(step * _LOG_STEP)
        return None


_LOG_STEP = math.log(1.02)


def prediction_reader(specs: dict[int, PredictionSpec | None]) -> ReadPrediction:
    """A reader for records of the versions whose `prediction` is given; no value where a version names none."""

    def read(record: Prediction) -> Sequence[Any]:
        spec = specs.get(record.version)
        column = record.outputs.get(spec.output) if spec is not None else None
        if not isinstance(column, list):
            return [None] * record.rows
        return [row[0] if isinstance(row, list) and len(row) == 1 else row for row in column]

    return read


def observer_of(rollout: Rollout, manifests: Mapping[int, Manifest]) -> Observer:
    """The fold for a rollout between versions with these manifests, from its offset on."""
    specs = {number: manifest.prediction for number, manifest in manifests.items()}
    spec = specs.get(rollout.version)
    return Observer(rollout, prediction_reader(specs), numeric=spec is not None and spec.kind != "class")
