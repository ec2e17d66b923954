"""The heart of the monitor: traffic entries in, a new state, alerts and joined labels out.

Pure: the state is bytes inside, what is not in the entries comes in the context. Entries are folded one by one in
journal order and detectors cut their own blocks, so any block sizes give the same alerts with the same ids.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from gateway.documents.policy import Policy
from gateway.journal.join import Early, Joined, LabelledRow, Pair, WaitingPrediction, join
from gateway.journal.record import Alert, Entry, Feedback, Prediction, TrafficRecord
from gateway.monitor.state import MonitorState
from gateway.monitor.version import Version, answers
from gateway.monitor.watch import Label, Watch
from gateway.names import ModelName, Role


@dataclass(frozen=True)
class Context:
    """What the shell looked up for a block.

    policies: by model (absent: the defaults). versions: by model and number. waiting, early: what the index knows of
    the block's ids.
    """

    policies: Mapping[str, Policy] = field(default_factory=dict)
    versions: Mapping[str, Mapping[int, Version]] = field(default_factory=dict)
    waiting: Mapping[str, WaitingPrediction] = field(default_factory=dict)
    early: Mapping[str, Sequence[Early]] = field(default_factory=dict)

    def policy(self, model: str) -> Policy:
        """The model's policy."""
        return self.policies.get(model) or Policy(model=model)


@dataclass(frozen=True)
class Folded:
    """What a block came to: the next state, alerts in order, what the index must remember, the models touched."""

    state: MonitorState
    alerts: tuple[Alert, ...]
    joined: Joined
    models: frozenset[ModelName]


def fold(state: MonitorState, entries: Sequence[Entry[TrafficRecord]], context: Context) -> Folded:
    """Fold entries, in journal order, into the state."""
    block = _Block(state, context)
    for entry in entries:
        block.take(entry)
    return block.folded()


class _Block:
    """The working state of one block: models opened, join entries applied one at a time."""

    def __init__(self, state: MonitorState, context: Context) -> None:
        self._state = state
        self._context = context
        self._watches: dict[str, Watch] = {}
        self._policies: dict[str, Policy] = {}
        self._known = dict(context.waiting)
        self._early: dict[str, Sequence[Early]] = dict(context.early)
        self._changed: dict[str, WaitingPrediction] = {}
        self._changed_early: dict[str, tuple[Early, ...]] = {}
        self._labelled: list[LabelledRow] = []
        self._pairs: list[Pair] = []
        self._counts: Counter[tuple[str, str]] = Counter()
        self._alerts: list[Alert] = []

    def take(self, entry: Entry[TrafficRecord]) -> None:
        """One entry: an answer is bet on first, then whatever labels it completed."""
        record = entry.record
        watch = self._watch(self._model_of(record))
        if isinstance(record, Prediction) and watch is not None:
            contract = self._context.versions.get(record.model, {}).get(record.contract)
            names = [feature.name for feature in contract.manifest.features] if contract is not None else []
            watch.answer(Entry(record, entry.time_ns, entry.place), names)
        joined = self._join(entry, watch)
        if watch is not None:
            self._labels(watch, joined, entry)
            if isinstance(record, Feedback) and record.value is not None and not joined.labelled:
                self._value(watch, record)
            self._alerts += watch.alerts
            watch.alerts.clear()

    def folded(self) -> Folded:
        """The block's outcome."""
        models = dict(self._state.models)
        for model, watch in self._watches.items():
            models[model] = msgspec.msgpack.encode(watch.state())
        unknown = Counter(self._state.unknown)
        for (model, outcome), count in self._counts.items():
            if not model:
                unknown[outcome] += count
        return Folded(
            MonitorState(models, dict(unknown)),
            tuple(self._alerts),
            Joined(
                tuple(self._changed.values()),
                self._changed_early,
                tuple(self._labelled),
                tuple(self._pairs),
                dict(self._counts),
            ),
            frozenset(ModelName(model) for model in self._watches),
        )

    def _model_of(self, record: TrafficRecord) -> str:
        if isinstance(record, Prediction):
            return record.model
        known = self._known.get(record.id)
        return known.model if known is not None else ""

    def _watch(self, model: str) -> Watch | None:
        if not model:
            return None
        if model not in self._watches:
            policy, versions = self._policy(model), self._context.versions.get(model, {})
            self._watches[model] = Watch(model, self._state.of(model), policy.monitoring, versions)
        return self._watches[model]

    def _join(self, entry: Entry[TrafficRecord], watch: Watch | None) -> Joined:
        ordinals = {watch.model: watch.labelled_rows} if watch is not None else {}
        joined = join([entry], self._known, self._early, self._read, self._wait_ns, ordinals)
        for waiting in joined.waiting:
            self._known[waiting.id] = self._changed[waiting.id] = waiting
        self._early.update(joined.early)
        self._changed_early.update(joined.early)
        self._labelled += joined.labelled
        self._pairs += joined.pairs
        self._counts.update(joined.counts)
        return joined

    def _labels(self, watch: Watch, joined: Joined, entry: Entry[TrafficRecord]) -> None:
        answer = self._answer_of(watch.model, entry.record.id)
        for (model, outcome), count in joined.counts.items():
            if model:
                watch.count(outcome, count, answer)
        for row in joined.labelled:
            watch.joined(row)
            if fault := watch.label(_answer_label(row, entry)):
                watch.count(fault)
                self._counts[watch.model, fault] += 1
            if row.value is not None:
                watch.value(row.version, row.role, row.value)
        for pair in joined.pairs:
            if pair.challenger_role == Role.SHADOW:
                watch.joined_shadow(pair)
                watch.label(_shadow_label(pair, self._known[pair.id], entry))

    def _answer_of(self, model: str, id_: str) -> tuple[int, str] | None:
        """Version and role of the answer that feedback to this id is about; None without one that a version gave."""
        known = self._known.get(id_)
        answer = known.answer if known is not None and known.model == model else None
        return (answer[0], answer[1]) if answer is not None and answer[0] else None

    def _value(self, watch: Watch, record: Feedback) -> None:
        """A business value without a label, or with one that came again: it counts for whoever answered."""
        known = self._known.get(record.id)
        answer = known.answer if known is not None and not known.duplicate else None
        if answer is not None and record.label is None and record.value is not None:
            watch.value(answer[0], answer[1], record.value)

    def _read(self, record: Prediction) -> tuple[list[object], list[object] | None]:
        version = self._context.versions.get(record.model, {}).get(record.version)
        return answers(record.outputs, version.spec if version is not None else None, record.rows)

    def _wait_ns(self, model: str) -> int:
        return int(self._policy(model).labels.wait * 1e9)

    def _policy(self, model: str) -> Policy:
        if model not in self._policies:  # making a default policy costs as much as folding an entry
            self._policies[model] = self._context.policy(model)
        return self._policies[model]


def _answer_label(row: LabelledRow, entry: Entry[TrafficRecord]) -> Label:
    return Label(
        version=row.version,
        role=row.role,
        reason=row.reason,
        predicted_ns=row.predicted_ns,
        prediction=row.prediction,
        probabilities=row.probabilities,
        label=row.label,
        time_ns=entry.time_ns,
        place=str(entry.place),
        inputs=row.inputs,
        contract=row.contract,
        id=row.id,
        row=row.row,
    )


def _shadow_label(pair: Pair, waiting: WaitingPrediction, entry: Entry[TrafficRecord]) -> Label:
    theirs = next(one for one in waiting.answers if one[:2] == (pair.challenger, pair.challenger_role))
    rows = theirs[4]
    return Label(
        version=pair.challenger,
        role=pair.challenger_role,
        reason=theirs[2],
        predicted_ns=pair.predicted_ns,
        prediction=pair.challenger_prediction,
        probabilities=rows[pair.row] if isinstance(rows, (list, tuple)) and pair.row < len(rows) else None,
        label=pair.label,
        time_ns=entry.time_ns,
        place=str(entry.place),
        inputs=waiting.inputs[pair.row] if isinstance(waiting.inputs, list | tuple) else None,
        contract=waiting.contract,
    )
