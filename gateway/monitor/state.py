"""What the monitor remembers: plain values and detector states, encodable and restored identically.

Appending fields with defaults keeps old checkpoints readable. Nothing here decides anything.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct, field

from gateway.journal.join import Backlog
from gateway.journal.record import Alert
from gateway.monitor.figures.online import OnlineState
from gateway.monitor.figures.performance import Tally
from gateway.monitor.terms import Term
from gateway.names import Role


def key_of(version: int, role: str) -> str:
    """How a version in a role is named in the state."""
    return f"{version}/{role!s}"


class Marks(Struct):
    """When the newest events happened: the time of every `stride`-th, at most 512 of them. Events count from 1."""

    stride: int
    first: int = 0
    times: list[int] = []

    def add(self, event: int, time_ns: int) -> None:
        """Remember an event's time."""
        if (event - 1) % self.stride == 0:
            self.times.append(time_ns)
            if len(self.times) > 512:
                del self.times[0]
                self.first += 1

    def time_of(self, event: int) -> int:
        """The time of the marked event at or before this one (the oldest kept when it is older); 0 without any."""
        if not self.times:
            return 0
        place = (event - 1) // self.stride - self.first
        return self.times[min(max(place, 0), len(self.times) - 1)]


class PanelState(Struct):
    """One panel and what is remembered beside it, see `gateway.monitor.signals.panel_watch`.

    waiting: (time, place, row) of the events of a block that is not complete yet. before: events of panels that were
    replaced. latched: kinds that were told and are not clear yet. check: the panel that looks whether they are;
    pause: events until it begins. used: how many predictions the model had made when this was last fed.
    """

    state: bytes = b""
    waiting: list[tuple[int, str, list[Any]]] = []
    before: int = 0
    events: int = 0
    marks: Marks = field(default_factory=lambda: Marks(16))
    evidence: float = 0.0
    latched: list[str] = []
    check: bytes = b""
    pause: int = 0
    used: int = 0


class ShareState(Struct):
    """The shares (or level) of the champion's labels. learned: the first labels as text, until they are a reference."""

    panel: PanelState = field(default_factory=PanelState)
    learned: list[str] = []
    reference: bytes = b""
    labels: int = 0


class ErrorState(Struct):
    """One version's errors in one role. learned: sum and count of losses until the baseline is known.

    before: labels seen by detectors that alarmed and were replaced. quiet_until: no alert before so many labels.
    calm: labels and their losses in the present look at whether an alert is over. fresh: labels of rows that were
    predicted since the model's champion changed; recent: their mean loss, of about the newest 50: to compare versions.
    last, sum, squares, products: of all losses, to tell how far one repeats the one before it.
    """

    state: bytes = b""
    labels: int = 0
    before: int = 0
    quiet_until: int = 0
    alarms: int = 0
    evidence: float = 0.0
    rate: float | None = None
    rate_rows: int = 0
    learned_sum: float = 0.0
    learned: int = 0
    marks: Marks = field(default_factory=lambda: Marks(8))
    calm: int = 0
    calm_sum: float = 0.0
    fresh: int = 0
    recent: float = 0.0
    last: float = 0.0
    sum: float = 0.0
    squares: float = 0.0
    products: float = 0.0


class LimitState(Struct):
    """One version's live metric in one role against the policy's limit. labels: since the version has this role."""

    labels: int = 0
    is_beyond: bool = False
    quiet_until: int = 0
    value: float | None = None


class OpinionState(Struct):
    """One of river's detectors on the champion."""

    state: bytes = b""
    events: int = 0
    alarmed: bool = False
    quiet_until: int = 0
    marks: Marks = field(default_factory=lambda: Marks(8))
    refused: str = ""


class Raised(Struct, frozen=True):
    """An alert and when the entry that fired was written, in seconds since 1970. cleared: when it was over; 0: not."""

    time: float
    alert: Alert
    cleared: float = 0.0
    reason: str = ""


class Latch(Struct):
    """What stands against one version in one role: raised and not cleared, see `gateway.monitor.alerts.latch`.

    alerts: ids, oldest first; a cause that goes on may be told again. labels: of rows predicted since the change.
    missing: values are missing in earnest. advisory: no evidence for a verdict.
    """

    version: int
    role: str
    kind: str
    detector: str
    alerts: list[str]
    since_ns: int = 0
    labels: int = 0
    missing: bool = False
    advisory: bool = False


class ModelState(Struct):
    """Everything about one model. Keys of tallies, errors, panels and limits: `version/role`; of opinions: `class:on`.

    answered_rows: of answers that ended well, shadows' left out; labelled_rows: the ordinal of the newest label.
    previous: the champion before this one.
    """

    champion: int = 0
    revision: int = -1
    predictions: int = 0
    labels: dict[str, int] = {}
    delays: list[float] = []
    tallies: dict[str, Tally] = {}
    panels: dict[str, PanelState] = {}
    errors: dict[str, ErrorState] = {}
    opinions: dict[str, OpinionState] = {}
    alerts: list[Raised] = []
    changed_ns: int = 0
    answered_rows: int = 0
    labelled_rows: int = 0
    online: OnlineState = field(default_factory=OnlineState)
    previous: int = 0
    limits: dict[str, LimitState] = {}
    share: ShareState = field(default_factory=ShareState)
    latches: list[Latch] = []

    @property
    def panel(self) -> PanelState:
        """The champion's panel."""
        return self.panels.get(key_of(self.champion, Role.CHAMPION), PanelState())

    @property
    def judged(self) -> set[int]:
        """The versions that have a tally."""
        return {int(key.partition("/")[0]) for key in self.tallies}


class MonitorState(Struct, frozen=True):
    """The whole monitor: the encoded `ModelState` of each model, so that a fold opens only those it touches.

    unknown: feedback whose prediction is not known (yet), and what else can not be told by model. terms: what the
    folds rested on, from which offset on. early: how much feedback waits for its prediction.
    """

    models: dict[str, bytes] = {}
    unknown: dict[str, int] = {}
    terms: tuple[Term, ...] = ()
    early: Backlog = field(default_factory=Backlog)

    def encode(self) -> bytes:
        """The checkpoint's bytes."""
        return msgspec.msgpack.encode(self)

    def of(self, model: str) -> ModelState:
        """What is remembered of one model; a fresh state for a new one."""
        body = self.models.get(model)
        return msgspec.msgpack.decode(body, type=ModelState) if body is not None else ModelState()


def read_state(body: bytes) -> MonitorState:
    """The state in a checkpoint; a fresh one for an empty body."""
    return msgspec.msgpack.decode(body, type=MonitorState) if body else MonitorState()
