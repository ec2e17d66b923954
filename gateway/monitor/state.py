"""What the monitor remembers: plain values and detector states, encodable and restored identically.

Appending fields with defaults keeps old checkpoints readable. Nothing here decides anything.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct, field

from gateway.journal.record import Alert
from gateway.monitor.online import OnlineState
from gateway.monitor.performance import Tally


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
    """The champion's input panel. waiting: (time, place) of the events of a block that is not complete yet."""

    state: bytes = b""
    waiting: list[tuple[int, str]] = []
    events: int = 0
    marks: Marks = field(default_factory=lambda: Marks(16))
    evidence: float = 0.0
    latched: list[str] = []


class ErrorState(Struct):
    """One version's errors in one role. learned: sum and count of losses until the baseline is known.

    before: labels seen by detectors that alarmed and were replaced. quiet_until: no alert before so many labels.
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


class OpinionState(Struct):
    """One of river's detectors on the champion."""

    state: bytes = b""
    events: int = 0
    alarmed: bool = False
    quiet_until: int = 0
    marks: Marks = field(default_factory=lambda: Marks(8))
    refused: str = ""


class Raised(Struct, frozen=True):
    """An alert and when the entry that fired was written, in seconds since 1970."""

    time: float
    alert: Alert


class ModelState(Struct):
    """Everything about one model. Keys of tallies and errors: `version/role`; of opinions: `river class:on`.

    answered_rows: of answers that ended well, shadows' left out; labelled_rows: the ordinal of the newest label.
    """

    champion: int = 0
    revision: int = -1
    predictions: int = 0
    labels: dict[str, int] = {}
    delays: list[float] = []
    tallies: dict[str, Tally] = {}
    panel: PanelState = field(default_factory=PanelState)
    errors: dict[str, ErrorState] = {}
    opinions: dict[str, OpinionState] = {}
    alerts: list[Raised] = []
    changed_ns: int = 0
    answered_rows: int = 0
    labelled_rows: int = 0
    online: OnlineState = field(default_factory=OnlineState)

    @property
    def judged(self) -> set[int]:
        """The versions that have a tally."""
        return {int(key.partition("/")[0]) for key in self.tallies}


class MonitorState(Struct, frozen=True):
    """The whole monitor: the encoded `ModelState` of each model, so that a fold opens only those it touches.

    unknown: feedback whose prediction is not known (yet), and what else can not be told by model.
    """

    models: dict[str, bytes] = {}
    unknown: dict[str, int] = {}

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
