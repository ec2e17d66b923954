"""An online model learning beside the champion: would learning from each label at once do better than retraining?

It answers nobody and no route can name it. Each labelled row, in journal order, is predicted first and learned then
(prequential evaluation), and the champion's answer to the same row stands beside. Two figures, since labels are late:

- when labelled: predicted when the label came. The usual figure, and flattering: meanwhile the model has learned from
  labels that were not there when the champion had to answer.
- when answered: predicted at the moment the champion answered, kept until the label comes. This one is fair. What is
  kept is bounded: of many waiting rows only a share is, chosen by the hash of their id, and the share is told.

It stays through promotions: the question is about the way of learning, not about one version. Pure but for river, see
`gateway.monitor.online_model`. What goes wrong with it is told in `refused` or `stopped` and stops nothing else.
Sources: Gama, Sebastiao, Rodrigues, On evaluating stream learning algorithms, 2013; Grzenda, Gomes, Bifet, Delayed
labelling evaluation for data streams, 2020.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from msgspec import Struct, field

from gateway.documents.policy import OnlineModel
from gateway.errors import InvalidConfig
from gateway.monitor.online_model import FAILURES, Learner
from gateway.registry.manifest import Feature, PredictionSpec
from gateway.registry.reference import category

ROLLING = 500
MOST_PENDING = 1000
"""So many rows wait for their label with what the model said when they were answered."""

CHECKED_EVERY = 200
"""After so many labels each the size of its state is looked at."""


class Beside(Struct, array_like=True):
    """Losses on the same rows, added up: 0 or 1 for a class, the absolute error for a value. newest: of each row."""

    rows: int = 0
    own: float = 0.0
    champion: float = 0.0
    newest: list[tuple[float, float]] = []

    def add(self, own: float, champion: float) -> None:
        """Count one row."""
        self.rows += 1
        self.own += own
        self.champion += champion
        self.newest.append((own, champion))
        if len(self.newest) > ROLLING + 50:
            del self.newest[:-ROLLING]


class OnlineState(Struct):
    """What is remembered of the online model. key: the policy's words and the answers it learned for.

    pending: hash of id and row -> what the model said, and when (seconds). mask: rows whose hash has one of these bits
    are not among them. unreadable: labelled rows whose inputs were not kept, or are not known by feature.
    """

    key: str = ""
    river: bytes = b""
    learned: int = 0
    labelled: Beside = field(default_factory=Beside)
    answered: Beside = field(default_factory=Beside)
    pending: dict[int, tuple[Any, int]] = {}
    mask: int = 0
    refused: str = ""
    stopped: str = ""
    unreadable: int = 0


@dataclass(frozen=True)
class Answered:
    """One row that a version answered. inputs: in the order of features."""

    id: str
    row: int
    inputs: Any
    features: Sequence[Feature]
    spec: PredictionSpec

    @property
    def mark(self) -> int:
        """64 bits that stand for id and row."""
        return int.from_bytes(hashlib.blake2b(f"{self.id}/{self.row}".encode(), digest_size=8).digest())


class Online:
    """The online model of one model during one fold."""

    def __init__(self, state: OnlineState, wanted: OnlineModel | None) -> None:
        self._state = state if wanted is not None else OnlineState()
        self._wanted = wanted
        self._learner: Learner | None = None

    @property
    def is_wanted(self) -> bool:
        """False without a policy for it."""
        return self._wanted is not None

    def answer(self, one: Answered, time_ns: int, delays: Sequence[float]) -> None:
        """Predict a row that the champion answers now. delays: of the newest labels, in seconds."""
        state = self._state
        learner = self._of(one.spec, may_start=False)
        if learner is None or not state.learned or one.mark & state.mask:
            return
        try:
            row = learner.row(one.inputs, one.features)
            said = learner.predict(row) if row else None
        except FAILURES as error:
            self._stop(f"river raised {type(error).__name__}: {error}")
            return
        if said is not None:
            state.pending[one.mark] = (said, time_ns // 10**9)
            if len(state.pending) > MOST_PENDING:
                _make_room(state, time_ns // 10**9, delays)

    def label(self, one: Answered, label: Any, champion: Any | None, *, may_start: bool) -> None:
        """Predict, then learn one labelled row. champion: its answer, None when another role gave it.

        may_start: the champion in service gave it, so a model may begin anew for such answers.
        """
        learner = self._of(one.spec, may_start=may_start)
        if learner is None:
            return
        state, is_class, row = self._state, one.spec.kind == "class", learner.row(one.inputs, one.features)
        if not row:
            state.unreadable += 1
            return
        said_then = state.pending.pop(one.mark, None)
        try:
            if champion is not None:
                theirs = _loss(champion, label, is_class)
                if said_then is not None:
                    state.answered.add(_loss(said_then[0], label, is_class), theirs)
                if (said := learner.predict(row)) is not None:
                    state.labelled.add(_loss(said, label, is_class), theirs)
            learner.learn(row, label)
            state.learned += 1
            if state.learned % CHECKED_EVERY == 0:
                self._check_size(learner)
        except FAILURES as error:
            self._stop(f"river raised {type(error).__name__}: {error}")

    def state(self) -> OnlineState:
        """What to remember."""
        if self._learner is not None:
            try:
                self._state.river = self._learner.state()
            except FAILURES as error:
                self._stop(f"its state cannot be written: {type(error).__name__}")
        return self._state

    def _of(self, spec: PredictionSpec, *, may_start: bool) -> Learner | None:
        """The learner for such answers; None when it is off, or learns for other ones."""
        if self._wanted is None:
            return None
        key = _key(self._wanted, spec)
        if self._state.key != key:
            if not may_start:
                return None
            self._state, self._learner = OnlineState(key=key), None
        if self._state.refused or self._state.stopped:
            return None
        if self._learner is None:
            try:
                self._learner = Learner(self._wanted, spec, self._state.river)
            except InvalidConfig as error:
                self._state.refused = str(error)
        return self._learner

    def _check_size(self, learner: Learner) -> None:
        size, most = len(learner.state()), self._wanted.most_kilobytes if self._wanted is not None else 0
        if size > most * 1024:
            self._stop(f"its state grew to {size // 1024} KiB, the policy allows {most}")

    def _stop(self, why: str) -> None:
        """For good, until the policy says something else. The figures so far stay."""
        state = self._state
        state.stopped = f"stopped after {state.learned} labels: {why}"
        state.river, state.pending, self._learner = b"", {}, None


def shown(state: OnlineState, wanted: OnlineModel | None) -> dict[str, Any]:
    """The state as people see it; empty without a policy for it."""
    if wanted is None:
        return {}
    is_class = " class " in state.key
    return {
        "river": wanted.river,
        "metric": "accuracy" if is_class else "mae",
        "learned": state.learned,
        "unreadable": state.unreadable,
        "state_bytes": len(state.river),
        "note": state.refused or state.stopped,
        "when_labelled": _figures(state.labelled, is_class),
        "when_answered": {**_figures(state.answered, is_class), "one_in": state.mask + 1},
    }


def _figures(beside: Beside, is_class: bool) -> dict[str, Any]:
    newest = beside.newest[-ROLLING:]
    if not newest:
        return {"rows": beside.rows}

    def figure(losses: float, rows: int) -> float:
        return round(1.0 - losses / rows if is_class else losses / rows, 6)

    return {
        "rows": beside.rows,
        "online": figure(beside.own, beside.rows),
        "champion": figure(beside.champion, beside.rows),
        "rolling_online": figure(sum(own for own, _ in newest), len(newest)),
        "rolling_champion": figure(sum(theirs for _, theirs in newest), len(newest)),
        "rolling_rows": len(newest),
    }


def _key(wanted: OnlineModel, spec: PredictionSpec) -> str:
    return f"{wanted.model_dump_json()} {spec.kind} {[category(one) for one in spec.classes]}"


def _loss(said: Any, label: Any, is_class: bool) -> float:
    return float(category(said) != category(label)) if is_class else abs(float(said) - float(label))


def _make_room(state: OnlineState, now: int, delays: Sequence[float]) -> None:
    """Drop what waits longer than labels take; when that leaves too many, keep half of the rows from now on."""
    if len(delays) >= 50:
        oldest = now - 2 * max(delays) - 1
        state.pending = {mark: one for mark, one in state.pending.items() if one[1] >= oldest}
    if len(state.pending) < MOST_PENDING // 8:
        state.mask >>= 1
    elif len(state.pending) > MOST_PENDING // 2:
        state.mask = state.mask * 2 + 1
        state.pending = {mark: one for mark, one in state.pending.items() if not mark & state.mask}
