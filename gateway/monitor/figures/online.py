"""An online model learning beside the champion: would learning from each label at once do better than retraining?

It answers nobody and no route can name it. Each labelled row, in journal order, is predicted first and learned then
(prequential evaluation), and the champion's answer to the same row stands beside. Two figures, since labels are late:

- when labelled: predicted when the label came. The usual figure, and flattering: meanwhile the model has learned from
  labels that were not there when the champion had to answer.
- when answered: predicted at the moment the champion answered, kept until the label comes. This one is fair. What is
  kept is bounded: of many waiting rows only a share is, chosen by the hash of their id, and the share is told.

It stays through promotions: the question is about the way of learning, not about one version. Pure but for river, see
`online_model`. What goes wrong with it is told in `refused` or `stopped` and stops nothing else.
Sources: Gama, Sebastiao, Rodrigues, On evaluating stream learning algorithms, 2013; Grzenda, Gomes, Bifet, Delayed
labelling evaluation for data streams, 2020.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from msgspec import Struct, field

from gateway.documents.policy import OnlineModel
from gateway.errors import InvalidConfig
from gateway.journal.record import Prediction
from gateway.monitor.figures.online_model import FAILURES, Learner, Row
from gateway.monitor.version import Version
from gateway.names import Role
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


class Labelled(Protocol):
    """A labelled row as the fold tells it. inputs: in the order of the features of version `contract`."""

    @property
    def id(self) -> str: ...
    @property
    def row(self) -> int: ...
    @property
    def version(self) -> int: ...
    @property
    def role(self) -> str: ...
    @property
    def inputs(self) -> Any: ...
    @property
    def contract(self) -> int: ...
    @property
    def label(self) -> Any: ...
    @property
    def prediction(self) -> Any: ...


class Online:
    """The online model of one model during one fold. versions: of the model, by number."""

    def __init__(self, state: OnlineState, wanted: OnlineModel | None, versions: Mapping[int, Version]) -> None:
        self._state = state if wanted is not None else OnlineState()
        self._wanted = wanted
        self._versions = versions
        self._learner: Learner | None = None

    def answer(self, record: Prediction, time_ns: int, delays: Sequence[float]) -> None:
        """Predict the rows that the champion answers now. delays: of the newest labels, in seconds."""
        spec, features = self._known(record.version, record.contract)
        if spec is None or not self._state.learned or not isinstance(record.inputs, list | tuple):
            return
        for place, inputs in enumerate(record.inputs):
            mark = mark_of(record.id, place)
            learner = None if mark & self._state.mask else self._of(spec, may_start=False)
            if learner is not None:
                self._foretell(learner, mark, learner.row(inputs, features), time_ns // 10**9, delays)

    def label(self, one: Labelled, *, serves: bool) -> None:
        """Predict, then learn one labelled row without a fault; of each row once, whoever else answered it.

        serves: the champion in service gave the answer, so a model may begin anew for such answers.
        """
        spec, features = self._known(one.version, one.contract)
        if spec is None or one.role == Role.SHADOW:
            return
        learner = self._of(spec, may_start=serves)
        if learner is None:
            return
        row = learner.row(one.inputs, features)
        if not row:
            self._state.unreadable += 1
            return
        said_then, _ = self._state.pending.pop(mark_of(one.id, one.row), (None, 0))
        try:
            if one.role == Role.CHAMPION:
                self._compare(one, spec.kind == "class", said_then, learner.predict(row))
            learner.learn(row, one.label)
            self._state.learned += 1
            if self._state.learned % CHECKED_EVERY == 0:
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

    def _known(self, version: int, contract: int) -> tuple[PredictionSpec | None, Sequence[Feature]]:
        """What kind of answers a version gives, and the features of a row; nothing while there is nothing to do."""
        answered, written = self._versions.get(version), self._versions.get(contract)
        if self._wanted is None or answered is None:
            return None, ()
        return answered.spec, written.manifest.features if written is not None else ()

    def _foretell(self, learner: Learner, mark: int, row: Row, now: int, delays: Sequence[float]) -> None:
        try:
            said = learner.predict(row) if row else None
        except FAILURES as error:
            self._stop(f"river raised {type(error).__name__}: {error}")
            return
        if said is not None:
            self._state.pending[mark] = (said, now)
            if len(self._state.pending) > MOST_PENDING:
                _make_room(self._state, now, delays)

    def _compare(self, one: Labelled, is_class: bool, said_then: Any | None, said: Any | None) -> None:
        """Hold both predictions against the champion's; either may not be there."""
        theirs = _loss(one.prediction, one.label, is_class)
        if said_then is not None:
            self._state.answered.add(_loss(said_then, one.label, is_class), theirs)
        if said is not None:
            self._state.labelled.add(_loss(said, one.label, is_class), theirs)

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


def mark_of(id_: str, row: int) -> int:
    """64 bits that stand for one row."""
    return int.from_bytes(hashlib.blake2b(f"{id_}/{row}".encode(), digest_size=8).digest())


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
