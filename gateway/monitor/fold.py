"""The heart of the monitor: traffic entries in, a new state, alerts and joined labels out.

Pure: the state is bytes inside, what is not in the entries comes in the context. Entries are folded one by one in
journal order and detectors cut their own blocks, so any block sizes give the same alerts with the same ids.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from gateway.documents.policy import Policy
from gateway.journal.join import Early, Joined, Joining, LabelledRow, Pair, Step, WaitingPrediction
from gateway.journal.record import Alert, Entry, Feedback, Prediction, TrafficRecord
from gateway.monitor.label import Label
from gateway.monitor.sampling import EVERYTHING, is_sampled
from gateway.monitor.signals.finding import Told
from gateway.monitor.state import MonitorState
from gateway.monitor.version import Version, answers
from gateway.monitor.watch import Watch
from gateway.names import ModelName, Role


@dataclass(frozen=True)
class Context:
    """What the shell looked up for a block.

    policies: by model (absent: the defaults). versions: by model and number. waiting, early: what the index knows of
    the block's ids. rate: the share of predictions that the detectors see (`sampling`).
    """

    policies: Mapping[str, Policy] = field(default_factory=dict)
    versions: Mapping[str, Mapping[int, Version]] = field(default_factory=dict)
    waiting: Mapping[str, WaitingPrediction] = field(default_factory=dict)
    early: Mapping[str, Sequence[Early]] = field(default_factory=dict)
    rate: float = EVERYTHING

    def policy(self, model: str) -> Policy:
        """The model's policy."""
        return self.policies.get(model) or Policy(model=model)


@dataclass(frozen=True)
class Folded:
    """What a block came to: the next state, alerts and clearings in order, what the index must remember, the models
    touched."""

    state: MonitorState
    told: tuple[Told, ...]
    joined: Joined
    models: frozenset[ModelName]

    @property
    def alerts(self) -> tuple[Alert, ...]:
        """The alerts of what was told."""
        return tuple(one.record for one in self.told if isinstance(one.record, Alert))


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
        self._backlog = state.early.copy()
        self._joining = Joining(context.waiting, context.early, self._read, self._wait_ns, self._ordinal, self._backlog)
        self._told: list[Told] = []

    def take(self, entry: Entry[TrafficRecord]) -> None:
        """One entry: an answer is bet on first, then whatever labels it completed."""
        record = entry.record
        watch = self._watch(self._model_of(record))
        if watch is not None:
            watch.begin(entry)
        if isinstance(record, Prediction) and watch is not None:
            is_in = is_sampled(record.id, self._context.rate)
            watch.answer(record, *self._inputs(record), is_sampled=is_in)
        joined = self._joining.take(entry)
        if watch is not None:
            self._labels(watch, joined, entry)
            if isinstance(record, Feedback) and record.value is not None and not joined.labelled:
                self._value(watch, record)
            self._told += watch.told()

    def folded(self) -> Folded:
        """The block's outcome."""
        models = dict(self._state.models)
        for model, watch in self._watches.items():
            models[model] = msgspec.msgpack.encode(watch.state())
        joined, unknown = self._joining.joined(), Counter(self._state.unknown)
        for (model, outcome), count in joined.counts.items():
            if not model:
                unknown[outcome] += count
        return Folded(
            msgspec.structs.replace(self._state, models=models, unknown=dict(unknown), early=self._backlog),
            tuple(self._told),
            joined,
            frozenset(ModelName(model) for model in self._watches),
        )

    def _model_of(self, record: TrafficRecord) -> str:
        if isinstance(record, Prediction):
            return record.model
        known = self._joining.find(record.id)
        return known.model if known is not None else ""

    def _watch(self, model: str) -> Watch | None:
        if not model:
            return None
        if model not in self._watches:
            policy, versions = self._policy(model), self._context.versions.get(model, {})
            self._watches[model] = Watch(model, self._state.of(model), policy, versions)
        return self._watches[model]

    def _ordinal(self, model: str) -> int:
        watch = self._watch(model)
        return watch.labelled_rows if watch is not None else 0

    def _inputs(self, record: Prediction) -> tuple[Any, Sequence[str]]:
        """A record's inputs and the names of their features. A shadow's are those of the answer with the same id, when
        that came first."""
        inputs, number = record.inputs, record.contract
        if record.role is Role.SHADOW and inputs is None:
            known = self._joining.find(record.id)
            if known is not None and known.answer is not None and not known.duplicate:
                inputs, number = known.inputs, known.contract
        contract = self._context.versions.get(record.model, {}).get(number)
        return inputs, contract.names if contract is not None else ()

    def _labels(self, watch: Watch, joined: Step, entry: Entry[TrafficRecord]) -> None:
        answer = self._answer_of(watch.model, entry.record.id) if joined.outcomes else None
        for model, outcome in joined.outcomes:
            if model:
                watch.count(outcome, answer)
        for row in joined.labelled:
            watch.joined(row)
            if is_sampled(row.id, self._context.rate) and (fault := watch.label(_answer_label(row, entry))):
                watch.count(fault)
                self._joining.count(watch.model, fault)
            if row.value is not None:
                watch.value(row.version, row.role, row.value)
        for pair in joined.pairs:
            if pair.challenger_role == Role.SHADOW:
                watch.joined_shadow(pair)
                if is_sampled(pair.id, self._context.rate):
                    watch.label(_shadow_label(pair, self._joining.find(pair.id), entry))

    def _answer_of(self, model: str, id_: str) -> tuple[int, str] | None:
        """Version and role of the answer that feedback to this id is about; None without one that a version gave."""
        known = self._joining.find(id_)
        answer = known.answer if known is not None and known.model == model else None
        return (answer[0], answer[1]) if answer is not None and answer[0] else None

    def _value(self, watch: Watch, record: Feedback) -> None:
        """A business value without a label, or with one that came again: it counts for whoever answered."""
        known = self._joining.find(record.id)
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


def _shadow_label(pair: Pair, waiting: WaitingPrediction | None, entry: Entry[TrafficRecord]) -> Label:
    assert waiting is not None  # a pair is made of what is known
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
