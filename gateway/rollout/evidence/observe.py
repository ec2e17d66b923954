"""What traffic says of one rollout: a fold of journal entries into `Observed`.

The same entries give the same value, however they are cut, so nothing needs to be remembered: after a restart the
controller folds again from the rollout's offset. Answers that no draw decided (pinned, by a rule, fallbacks) and
answers of the response cache, which no version ran for, are left out. Knows neither stores nor clocks.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gateway.documents.rollout import Rollout
from gateway.journal.record import Entry, Feedback, Prediction, TrafficRecord
from gateway.names import BUCKETS, Outcome, Reason, Role
from gateway.registry.manifest import Manifest, PredictionSpec
from gateway.rollout.evidence.agreement import Probabilities
from gateway.rollout.evidence.comparison import Comparison, Side
from gateway.rollout.evidence.run_times import RunTimes
from gateway.rollout.evidence.slices import Slicer
from gateway.rollout.evidence.verdict import Compared

__all__ = [
    "Observed",
    "Observer",
    "ReadPrediction",
    "ReadProbabilities",
    "RunTimes",
    "Steps",
    "prediction_reader",
    "probability_reader",
]

ReadPrediction = Callable[[Prediction], Sequence[Any]]
"""The predicted value of each row of a record."""

ReadProbabilities = Callable[[Prediction], Probabilities | None]
"""The probabilities of each row of a record; None where the version gives none."""

_NOT_FINITE = "its answer holds a number that is not finite"

PENDING = 100_000
"""Prediction ids that wait for their other half or their label; beyond it the oldest is dropped and counted."""

UNVALUED = 20_000
"""So many answers of the split wait for their business value; values that come later are not counted."""

LARGEST_VALUE = 1e100
"""What is larger, or no number, is no business value."""

OPEN_ENTRIES = 10_000
"""So many journal entries a request of several rows waits for the rest of its labels before it counts without them."""

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


class _Waiting:
    """What is known of one prediction id. is_bet: its labels are counted as a unit, later ones only as rows."""

    __slots__ = ("is_bet", "is_spoiled", "labels", "reference", "rows", "trial")

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.trial: Side | None = None
        self.reference: Side | None = None
        self.labels: dict[int, Any] = {}
        self.is_spoiled = False
        self.is_bet = False

    def bet(self) -> None:
        """Bet on the labels that are there, once both answers are; at most once."""
        trial, reference = self.trial, self.reference
        if self.is_bet or self.is_spoiled or trial is None or reference is None or not self.labels:
            return
        self.is_bet = True
        trial.comparison.bet_on_labels(trial, reference, self.labels)


class Observer:
    """The fold for one rollout. numeric: predictions are numbers, and the nearer one is the better one.

    read_probabilities: left out, an output named `probabilities` is read. slicer: of this fold alone; none: no slices.
    """

    def __init__(
        self,
        rollout: Rollout,
        read_prediction: ReadPrediction,
        numeric: bool = False,
        read_probabilities: ReadProbabilities | None = None,
        slicer: Slicer | None = None,
    ) -> None:
        self._model = rollout.model
        self._version = rollout.version
        self._champion = rollout.champion
        self._read = read_prediction
        self._read_probabilities = read_probabilities or probability_reader({})
        self._slicer = slicer
        self._before = Comparison(rollout.guards, numeric)
        self._after = Comparison(rollout.guards, numeric)
        self._steps: dict[int, Steps] = {}
        self._waiting: OrderedDict[str, _Waiting] = OrderedDict()
        self._open: OrderedDict[str, int] = OrderedDict()
        self._entries = 0
        self._unvalued: OrderedDict[str, Side] = OrderedDict()
        self._dropped = 0

    def fold(self, entries: Sequence[Entry[TrafficRecord]]) -> None:
        """Count these entries, in the journal's order."""
        for entry in entries:
            record = entry.record
            self._entries += 1
            self._close_late()
            if isinstance(record, Feedback):
                self._label(record)
                self._value(record)
            elif record.model == self._model and record.reason in _DRAWN:
                self._answer(record)

    def observed(self) -> Observed:
        """Everything counted so far, as a value."""
        return Observed(
            self._before.compared(), self._after.compared(), tuple(sorted(self._steps.items())), self._dropped
        )

    def _answer(self, record: Prediction) -> None:
        comparison = self._comparison(record)
        if comparison is None:
            return
        is_trial, live = record.version == self._version, record.role is not Role.SHADOW
        if record.outcome is Outcome.DEADLINE and record.latency_us == 0:
            comparison.count_waited(is_trial, live)
            return
        is_whole = record.outcome is Outcome.OK
        side = Side(
            comparison=comparison,
            is_trial=is_trial,
            live=live,
            failed=not is_whole or "non_finite" in record.flags,
            latency_us=record.latency_us if is_whole else 0,
            values=self._read(record) if is_whole else None,
            weight=self._weight(record) if live else None,
            bucket=record.bucket if record.keyed and record.bucket >= 0 else None,
            probabilities=self._read_probabilities(record) if is_whole else None,
            slices=self._slicer.of(record) if live and self._slicer is not None else (),
            fault=record.error or (str(record.outcome) if not is_whole else _NOT_FINITE),
        )
        if live:
            comparison.count_live(side)
            if is_trial:
                self._step(record.revision, "canary" if comparison is self._before else "promoted")
        else:
            comparison.count_shadow(side)
        self._remember(record, side)
        if side.weight is not None:
            self._await_value(record, side)

    def _comparison(self, record: Prediction) -> Comparison | None:
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

    def _remember(self, record: Prediction, side: Side) -> None:
        waiting = self._waiting.get(record.id)
        if waiting is None:
            waiting = self._waiting[record.id] = _Waiting(record.rows)
            if len(self._waiting) > PENDING:
                self._waiting.popitem(last=False)[1].bet()
                self._dropped += 1
        mine = waiting.trial if side.is_trial else waiting.reference
        if mine is not None or "duplicate_id" in record.flags:
            waiting.is_spoiled = True
        if waiting.is_spoiled:
            return
        if side.is_trial:
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
        self._labelled(record.id, waiting)

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
                side.comparison.count_labelled_answer(side, record.row, record.label)
        if trial is not None and reference is not None:
            trial.comparison.count_labelled_pair(trial, reference, record.row, record.label)
        self._labelled(record.id, waiting)

    def _await_value(self, record: Prediction, side: Side) -> None:
        if "duplicate_id" in record.flags:
            self._unvalued.pop(record.id, None)
            return
        self._unvalued[record.id] = replace(side, values=None, probabilities=None, slices=())
        if len(self._unvalued) > UNVALUED:
            self._unvalued.popitem(last=False)

    def _value(self, record: Feedback) -> None:
        """Count the first value of an answer; its other rows went to one version by one draw and add nothing."""
        if record.value is None or not abs(record.value) <= LARGEST_VALUE:
            return
        side = self._unvalued.pop(record.id, None)
        if side is not None:
            side.comparison.count_value(side, record.value)

    def _labelled(self, request: str, waiting: _Waiting) -> None:
        """Bet on the pair's labels once every row has one; it stays open a while when some are missing."""
        if len(waiting.labels) >= waiting.rows:
            waiting.bet()
            self._open.pop(request, None)
        elif waiting.labels and not waiting.is_bet:
            self._open.setdefault(request, self._entries)
        self._forget_if_done(request, waiting)

    def _close_late(self) -> None:
        """Bet on pairs whose other labels do not come. By entries, not by time: a replay closes them at the same."""
        while self._open:
            request, since = next(iter(self._open.items()))
            if self._entries - since < OPEN_ENTRIES:
                return
            del self._open[request]
            waiting = self._waiting.get(request)
            if waiting is not None:
                waiting.bet()

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
    is_numeric = spec is not None and spec.kind != "class"
    slicer = Slicer(rollout.slices, {number: manifest.features for number, manifest in manifests.items()})
    return Observer(rollout, prediction_reader(specs), is_numeric, probability_reader(specs), slicer)


def probability_reader(specs: dict[int, PredictionSpec | None]) -> ReadProbabilities:
    """A reader for the probabilities of each row; where a version names no output for them, of one so named."""

    def read(record: Prediction) -> Probabilities | None:
        spec = specs.get(record.version)
        name = (spec.probabilities if spec is not None else "") or "probabilities"
        rows = record.outputs.get(name)
        return (spec.classes if spec is not None else (), rows) if isinstance(rows, list) else None

    return read
