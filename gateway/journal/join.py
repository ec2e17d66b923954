"""Predictions and the labels that come later, brought together.

`join` is the pure half: it folds a block of traffic entries into what is known of their ids. `JoinIndex` is the port
of the durable half, the monitor's memory: predictions that wait, labelled rows, its state and its offset, moved
forward in one commit (exactly once). An implementation promises, each with a contract test:

1. `commit` is atomic and durable: after kill -9 either all of it is there or nothing.
2. What was committed is found again by `find`, `find_feedback`, `labelled`, `count` and `checkpoint`.
3. `labelled` gives rows in the order in which their labels were joined.

What counts as what:
- Only a run that ended well is an answer. An id has one answer (champion, canary, fallback ...) and any number of
  shadows' answers.
- A second answer under an id, or an answer flagged `duplicate_id`, makes the id ambiguous: no label joins it from
  then on.
- The first label of an (id, row) wins. Labels that come before their prediction wait for it: the newest 100,000 of
  all models, 1,000 rows of one id. Others stay unknown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

import msgspec
from msgspec import Struct

from gateway.journal.journal import Offset
from gateway.journal.record import Entry, Feedback, Prediction, TrafficRecord
from gateway.names import Outcome, Reason, Role

Early: TypeAlias = tuple[int, int, Any, float | None]
"""Feedback that came before its prediction: row, time_ns, label, value."""

Answer: TypeAlias = tuple[int, str, str, Any, Any]
"""version, role, reason, prediction of each row, probability row of each row (or None)."""

ReadPrediction: TypeAlias = Callable[[Prediction], tuple[list[Any], list[Any] | None]]
"""The prediction of each row and its probabilities, by the manifest of the version that answered. Never raises."""

_BACKLOG_ITEMS = 100_000
_BACKLOG_STRIDE = 200

MOST_EARLY = 1000
"""So many labels of one id wait for its prediction: all of an id are rewritten with each, so a flood costs squares."""

_NOT_COMPARED = frozenset({Reason.PINNED, Reason.FALLBACK_VALUE, Reason.FALLBACK_VERSION})


class WaitingPrediction(Struct, frozen=True, array_like=True):
    """What one prediction id is known by: the answer (champion or canary) and the shadows' answers, row by row.

    rows, contract, inputs: of the answer; rows is 0 while only shadows' answers are known. labels: row -> label
    already joined.
    """

    id: str
    model: str
    time_ns: int
    rows: int
    contract: int
    inputs: Any
    answers: tuple[Answer, ...] = ()
    labels: dict[int, Any] = {}
    duplicate: bool = False

    @property
    def answer(self) -> Answer | None:
        """The answer that the client got, which is the first one; None while only shadows' answers are known."""
        return self.answers[0] if self.answers and self.answers[0][1] != Role.SHADOW else None


class LabelledRow(Struct, frozen=True, array_like=True):
    """One row with its label: what was served, what was true. ordinal: 1, 2, 3 ... per model, in order of joining.

    inputs: the row's values; None when the record was too large to keep them. value: the business measure that came
    with the label.
    """

    model: str
    ordinal: int
    id: str
    row: int
    predicted_ns: int
    labelled_ns: int
    contract: int
    inputs: Any
    label: Any
    version: int
    prediction: Any
    role: str = ""
    reason: str = ""
    probabilities: Any = None
    value: float | None = None


class Pair(Struct, frozen=True, array_like=True):
    """Two versions on the same labelled row: the champion that answered and a shadow that got a copy."""

    model: str
    id: str
    row: int
    predicted_ns: int
    labelled_ns: int
    label: Any
    champion: int
    champion_prediction: Any
    challenger: int
    challenger_role: str
    challenger_prediction: Any


class Backlog(Struct):
    """When the newest feedback came that waits for its prediction: the time of every 200th item.

    What is older than the newest 100,000 or so waits no more, so a flood of unknown ids fills neither memory nor
    disk. Decided by the journal alone: every fold of it forgets the same.
    """

    items: int = 0
    times: list[int] = []

    def add(self, time_ns: int) -> None:
        """One more item waits."""
        if self.items % _BACKLOG_STRIDE == 0:
            self.times.append(time_ns)
            if len(self.times) > _BACKLOG_ITEMS // _BACKLOG_STRIDE:
                del self.times[0]
        self.items += 1

    @property
    def floor_ns(self) -> int:
        """Items older than this are forgotten."""
        return self.times[0] if self.items > _BACKLOG_ITEMS else 0

    def copy(self) -> Backlog:
        """The same; the copy can be added to alone."""
        return Backlog(self.items, list(self.times))


class Joined(Struct, frozen=True):
    """What a block of entries came to.

    waiting, early: what changed, to be committed; an id with an empty list is to be forgotten.
    counts: (model, outcome) -> feedback items; outcome is one of joined, unknown (kept until its prediction comes),
    late, duplicate, reused, no_row, no_label, flood (see MOST_EARLY). The model is "" while no prediction of that id
    is known; an item that waited is counted once more, by what became of it. The monitor adds those of joined rows
    that are in no figure: wrong_type, unknown_class, no_prediction.
    """

    waiting: tuple[WaitingPrediction, ...]
    early: dict[str, tuple[Early, ...]]
    labelled: tuple[LabelledRow, ...]
    pairs: tuple[Pair, ...]
    counts: dict[tuple[str, str], int]


class JoinIndex(Protocol):
    """See the module's promises."""

    async def checkpoint(self) -> tuple[Offset, bytes]:
        """The offset and state of the last commit; (START, b"") at first."""

    async def find(self, ids: Sequence[str]) -> Mapping[str, WaitingPrediction]:
        """The predictions known under these ids."""

    async def find_feedback(self, ids: Sequence[str]) -> Mapping[str, Sequence[Early]]:
        """Feedback that came before its prediction."""

    async def commit(
        self,
        offset: Offset,
        state: bytes,
        waiting: Sequence[WaitingPrediction] = (),
        early: Mapping[str, Sequence[Early]] = {},
        labelled: Sequence[LabelledRow] = (),
    ) -> None:
        """Replace or add these, and move the checkpoint, in one step. `early` with an empty list: forget that id."""

    async def labelled(self, model: str, limit: int, since_ns: int = 0) -> Sequence[LabelledRow]:
        """The newest `limit` labelled rows (predicted at or after `since_ns`), oldest first."""

    async def count(self, model: str) -> int:
        """How many rows of the model were labelled so far (the ordinal of the newest)."""

    async def trim(self, waiting_before_ns: int, labelled_before_ns: int, early_before_ns: int = 0) -> int:
        """Forget predictions (and feedback) that waited too long and old labelled rows; returns how many predictions
        waited in vain. early_before_ns: forget feedback without a prediction that is older than this too."""


def ids_of(entries: Iterable[Entry[TrafficRecord]]) -> list[str]:
    """The ids that a block names, each once: what to look up before `join`."""
    return list(dict.fromkeys([entry.record.id for entry in entries]))


def join(
    entries: Iterable[Entry[TrafficRecord]],
    known: Mapping[str, WaitingPrediction],
    early: Mapping[str, Sequence[Early]],
    read_prediction: ReadPrediction,
    wait_ns: Callable[[str], int],
    ordinals: Mapping[str, int],
    backlog: Backlog | None = None,
) -> Joined:
    """Fold a block of entries, in journal order.

    known, early: what the index holds of the ids in the block. wait_ns: how long a model waits for a label.
    ordinals: how many rows of each model were labelled before the block; a model that is not named has none.
    backlog: the feedback that waits; added to.
    The outcome depends only on the order of the entries, not on how they are cut into blocks.
    """
    joining = Joining(
        known, early, read_prediction, wait_ns, lambda model: ordinals.get(model, 0), backlog or Backlog()
    )
    for entry in entries:
        joining.take(entry)
    return joining.joined()


class Step(NamedTuple):
    """What one entry came to. outcomes: (model, outcome) of each feedback item, see `Joined.counts`."""

    labelled: Sequence[LabelledRow]
    pairs: Sequence[Pair]
    outcomes: Sequence[tuple[str, str]]


_NOTHING = Step((), (), ())


class Joining:
    """`join` one entry at a time: the block's working state; starts from values, ends as a value.

    ordinal_of: how many rows of a model were labelled before the block; asked once for each model.
    """

    def __init__(
        self,
        known: Mapping[str, WaitingPrediction],
        early: Mapping[str, Sequence[Early]],
        read_prediction: ReadPrediction,
        wait_ns: Callable[[str], int],
        ordinal_of: Callable[[str], int],
        backlog: Backlog,
    ) -> None:
        self._known = known
        self._early_before = early
        self._read_prediction = read_prediction
        self._wait_ns = wait_ns
        self._ordinal_of = ordinal_of
        self._backlog = backlog
        self._ordinals: dict[str, int] = {}
        self._waiting: dict[str, WaitingPrediction] = {}
        self._early: dict[str, tuple[Early, ...]] = {}
        self._labelled: list[LabelledRow] = []
        self._pairs: list[Pair] = []
        self._outcomes: list[tuple[str, str]] = []

    def take(self, entry: Entry[TrafficRecord]) -> Step:
        """Fold the next entry."""
        labelled, pairs, outcomes = len(self._labelled), len(self._pairs), len(self._outcomes)
        if isinstance(entry.record, Feedback):
            self._feedback(entry.record, entry.time_ns)
        else:
            self._prediction(entry.record, entry.time_ns)
        if len(self._outcomes) == outcomes and len(self._pairs) == pairs:
            return _NOTHING
        return Step(self._labelled[labelled:], self._pairs[pairs:], self._outcomes[outcomes:])

    def count(self, model: str, outcome: str) -> None:
        """Count what became of a label behind its joining."""
        self._outcomes.append((model, outcome))

    def find(self, id_: str) -> WaitingPrediction | None:
        """What is known of an id now."""
        return self._waiting.get(id_) or self._known.get(id_)

    def _prediction(self, record: Prediction, time_ns: int) -> None:
        """Add an answer to what is known of its id, and apply labels that were there first."""
        if record.outcome != Outcome.OK:
            return
        before = self.find(record.id)
        if record.role != Role.SHADOW and (
            "duplicate_id" in record.flags or (before is not None and before.answer is not None)
        ):
            known = before or _first_seen(record, time_ns, ())
            self._change(msgspec.structs.replace(known, duplicate=True))
            self._apply_early(record.id)
            return
        answer = self._answer(record)
        if record.role == Role.SHADOW:
            self._add_shadow(before, record, time_ns, answer)
            return
        shadows = before.answers if before is not None else ()
        after = _first_seen(record, time_ns, (answer, *shadows))
        self._change(after if before is None else msgspec.structs.replace(after, duplicate=before.duplicate))
        self._apply_early(record.id)

    def _feedback(self, record: Feedback, time_ns: int) -> None:
        """Join a label to its row, or keep it for later."""
        item: Early = (record.row, time_ns, record.label, record.value)
        waiting = self.find(record.id)
        if waiting is not None and (waiting.duplicate or waiting.answer is not None):
            self._apply(waiting, item)
        elif record.label is None:
            self._outcomes.append(("", "no_label"))
        else:
            self._keep_early(record.id, item)

    def joined(self) -> Joined:
        """The block's outcome."""
        return Joined(
            tuple(self._waiting.values()),
            self._early,
            tuple(self._labelled),
            tuple(self._pairs),
            dict(Counter(self._outcomes)),
        )

    def _change(self, waiting: WaitingPrediction) -> None:
        if waiting.id not in self._waiting:  # its labels are ours to change from now on
            waiting = msgspec.structs.replace(waiting, labels=dict(waiting.labels))
        self._waiting[waiting.id] = waiting

    def _answer(self, record: Prediction) -> Answer:
        predictions, probabilities = self._read_prediction(record)
        return (record.version, str(record.role), str(record.reason), predictions, probabilities)

    def _add_shadow(self, before: WaitingPrediction | None, record: Prediction, time_ns: int, answer: Answer) -> None:
        if before is None:
            before = msgspec.structs.replace(_first_seen(record, time_ns, ()), rows=0)
        if any(known[0] == answer[0] and known[1] == answer[1] for known in before.answers):
            return  # an ambiguous id brings a shadow's answer twice
        self._change(msgspec.structs.replace(before, answers=(*before.answers, answer)))
        champion = _champion(before)
        if champion is not None and not before.duplicate:
            for row, label in before.labels.items():
                self._pair(before, champion, answer, row, label, time_ns)

    def _apply_early(self, id_: str) -> None:
        items = self._kept_early(id_)
        if items:
            self._early[id_] = ()
        for item in items:
            self._apply(self._waiting[id_], item)

    def _keep_early(self, id_: str, item: Early) -> None:
        items = self._kept_early(id_)
        if any(kept[0] == item[0] for kept in items):
            self._outcomes.append(("", "duplicate"))
            return
        if len(items) >= MOST_EARLY:
            self._outcomes.append(("", "flood"))
            return
        self._outcomes.append(("", "unknown"))
        self._backlog.add(item[1])
        self._early[id_] = (*items, item)

    def _kept_early(self, id_: str) -> tuple[Early, ...]:
        """What waits under an id, less what was forgotten: the index forgets it later than this."""
        items = self._early[id_] if id_ in self._early else self._early_before.get(id_, ())
        floor_ns = self._backlog.floor_ns
        return tuple(item for item in items if item[1] >= floor_ns)

    def _apply(self, waiting: WaitingPrediction, item: Early) -> None:
        outcome = self._outcome(waiting, item)
        self._outcomes.append((waiting.model, outcome))
        if outcome == "joined":
            self._change(waiting)
            self._label(self._waiting[waiting.id], item)

    def _outcome(self, waiting: WaitingPrediction, item: Early) -> str:
        row, time_ns, label, _ = item
        if waiting.duplicate:
            return "reused"
        if not 0 <= row < waiting.rows:
            return "no_row"
        if label is None:
            return "no_label"
        if row in waiting.labels:
            return "duplicate"
        # Early ones wait no longer than late ones: the index forgets both by age, at times that no replay can know.
        return "late" if abs(time_ns - waiting.time_ns) > self._wait_ns(waiting.model) else "joined"

    def _label(self, waiting: WaitingPrediction, item: Early) -> None:
        row, time_ns, label, value = item
        labelled_ns = max(time_ns, waiting.time_ns)
        waiting.labels[row] = label
        answer = waiting.answer
        assert answer is not None  # a label is applied only where an answer is known
        ordinal = self._next_ordinal(waiting.model)
        version, role, reason, predictions, probabilities = answer
        self._labelled.append(
            LabelledRow(
                model=waiting.model,
                ordinal=ordinal,
                id=waiting.id,
                row=row,
                predicted_ns=waiting.time_ns,
                labelled_ns=labelled_ns,
                contract=waiting.contract,
                inputs=_row_of(waiting.inputs, row),
                label=label,
                version=version,
                prediction=_row_of(predictions, row),
                role=role,
                reason=reason,
                probabilities=_row_of(probabilities, row),
                value=value,
            )
        )
        champion = _champion(waiting)
        if champion is not None:
            for challenger in waiting.answers:
                if challenger is not champion:
                    self._pair(waiting, champion, challenger, row, label, labelled_ns)

    def _next_ordinal(self, model: str) -> int:
        before = self._ordinals[model] if model in self._ordinals else self._ordinal_of(model)
        self._ordinals[model] = before + 1
        return before + 1

    def _pair(
        self, waiting: WaitingPrediction, champion: Answer, challenger: Answer, row: int, label: Any, labelled_ns: int
    ) -> None:
        self._pairs.append(
            Pair(
                model=waiting.model,
                id=waiting.id,
                row=row,
                predicted_ns=waiting.time_ns,
                labelled_ns=labelled_ns,
                label=label,
                champion=champion[0],
                champion_prediction=_row_of(champion[3], row),
                challenger=challenger[0],
                challenger_role=challenger[1],
                challenger_prediction=_row_of(challenger[3], row),
            )
        )


def _first_seen(record: Prediction, time_ns: int, answers: tuple[Answer, ...]) -> WaitingPrediction:
    return WaitingPrediction(record.id, record.model, time_ns, record.rows, record.contract, record.inputs, answers)


def _champion(waiting: WaitingPrediction) -> Answer | None:
    """The champion's answer, when it may be compared: it was chosen by the route and computed."""
    answer = waiting.answer
    return answer if answer is not None and answer[1] == Role.CHAMPION and answer[2] not in _NOT_COMPARED else None


def _row_of(values: Any, row: int) -> Any:
    """The row of a list of rows, or of {name: rows}; None where there is none."""
    if isinstance(values, dict):
        return {name: _row_of(column, row) for name, column in values.items()}
    return values[row] if isinstance(values, list | tuple) and row < len(values) else None
