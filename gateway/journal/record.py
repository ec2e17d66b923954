"""What is written down: the records of the two streams.

`traffic` holds predictions and feedback, written by serving processes; `control` holds alerts, their clearings and
decisions, written by the control process; who reads a stream skips what it does not look for. A record is immutable
and says nothing of where it lies; its place is in `Entry`.
Structs are encoded as msgpack arrays: append new fields at the end, with a default, and old records stay readable.
"""

from __future__ import annotations

from typing import Any, Generic, NamedTuple, TypeVar

from msgspec import Struct

from gateway.names import Outcome, Reason, Role


class Prediction(Struct, frozen=True, array_like=True, tag="prediction"):
    """One answer of one version to one request; shadows write their own, with the same id.

    inputs: rows in the feature order of version `contract` (list of lists of number, string, bool or None), or
        {tensor name: nested list} for models without features; None when larger than max_record_bytes, then
        `inputs_digest` is set and the record can not be replayed.
    outputs: {output name: list, rows first}; non-finite numbers are None.
    split: (version, buckets) of every canary in force when the route decided; the champion had the rest.
    latency_us: run time of the model alone, in microseconds.
    """

    id: str
    model: str
    version: int  # 0: a fallback value answered
    role: Role
    reason: Reason
    revision: int
    outcome: Outcome
    latency_us: int
    rows: int
    contract: int
    inputs: Any
    outputs: dict[str, Any]
    split: tuple[tuple[int, int], ...] = ()
    bucket: int = -1
    keyed: bool = False
    flags: tuple[str, ...] = ()  # "duplicate_id", "missing", "out_of_range", "unseen_category", "non_finite"
    inputs_digest: str = ""
    trace: str = ""
    error: str = ""
    draw: str = ""  # what the bucket was drawn from when the request had no key


class Feedback(Struct, frozen=True, array_like=True, tag="feedback"):
    """The later truth for one row of one prediction. `label` is the truth, `value` a business measure."""

    id: str
    row: int
    label: str | int | float | bool | None = None
    value: float | None = None


class Alert(Struct, frozen=True, array_like=True, tag="alert"):
    """A detector's claim that something changed. `id` is made from detector and offset: a repeat is the same alert.

    kind: data_quality | data_drift | prediction_drift | label_shift | concept_drift | performance
    severity: effect size in words: low | medium | high (evidence and severity are never mixed).
    features: (name, evidence) of what moved, largest first.
    since_ns: estimated time of the change; labels_since: labelled rows from the estimated change to the alert.
    advisory: shown, decides nothing.
    verdict: what all that was known of the version at that moment amounts to, and response: what it calls for; the
        words are `gateway.monitor.alerts.verdict`'s. Both are empty in records of before there were verdicts.
    """

    id: str
    model: str
    version: int
    role: Role
    kind: str
    detector: str
    evidence: float
    threshold: float
    severity: str
    message: str
    features: tuple[tuple[str, float], ...] = ()
    since_ns: int = 0
    labels_since: int = 0
    advisory: bool = False
    effects: dict[str, float] = {}
    verdict: str = ""
    response: str = ""


class Cleared(Struct, frozen=True, array_like=True, tag="cleared"):
    """An alert's cause is gone. `id` is made of the alert's id and the place where it showed: a repeat is the same."""

    id: str
    alert: str
    model: str
    version: int
    role: Role
    kind: str
    reason: str


class Decision(Struct, frozen=True, array_like=True, tag="decision"):
    """What a controller decided and why, with everything needed to recompute it.

    Those of experiments (actor `experiment`): start take_out end.

    actor: rollout | retraining.
    action: rollout: start shadow canary approve promote roll_back hold pause restore finish end stop, and of a dry run
        would_shadow would_canary would_approve would_promote would_roll_back would_hold;
        retraining: start refuse publish reject hold ask.
    """

    id: str
    model: str
    actor: str
    action: str
    reason: str
    version: int = 0
    revision: int = 0
    rule: str = ""
    evidence: dict[str, Any] = {}


TrafficRecord = Prediction | Feedback
ControlRecord = Alert | Cleared | Decision
Record = Prediction | Feedback | Alert | Cleared | Decision


R = TypeVar("R", covariant=True)


class Place(NamedTuple):
    """Where a record lies: unique for ever, ordered within (gateway, epoch)."""

    gateway: str
    epoch: int
    sequence: int

    def __str__(self) -> str:
        return f"{self.gateway}/{self.epoch}/{self.sequence}"


class Entry(NamedTuple, Generic[R]):
    """A record, when it was written (nanoseconds since 1970), and its place."""

    record: R
    time_ns: int
    place: Place
