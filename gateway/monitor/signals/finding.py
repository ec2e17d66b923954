"""What the parts of the watch come to: something moved, or what had moved is over.

A finding has everything of an alert but whom it is about and what it amounts to; `watch` adds both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from gateway.journal.record import Alert, Cleared


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something moved. The fields are those of `Alert`; time_ns, place: of the entry that fired."""

    kind: str
    detector: str
    time_ns: int
    place: str
    evidence: float
    threshold: float
    severity: str
    message: str
    features: tuple[tuple[str, float], ...] = ()
    since_ns: int = 0
    labels_since: int = 0
    advisory: bool = False
    effects: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Calm:
    """What had moved is over, for these kinds of this detector. detector `errors`: river's opinions on them too."""

    kinds: tuple[str, ...]
    detector: str
    reason: str
    time_ns: int
    place: str


Found = Finding | Calm


class Told(NamedTuple):
    """A record for the control stream, and when the entry behind it was written (nanoseconds since 1970)."""

    time_ns: int
    record: Alert | Cleared
