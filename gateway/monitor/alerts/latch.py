"""The life of an alert: latched when it is raised, let go when its cause is gone. Pure, on `Latch` and `Raised`.

    raised -> (acknowledged, silenced: by people, elsewhere) -> cleared

What lets go: the part that raised it saw its cause end (`Calm`), another version became champion, or the version has
not answered for so long that its figures are forgotten. A cause that is told again is the same latch, with one more id.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from gateway.journal.record import Alert, Cleared
from gateway.monitor.signals.finding import Calm, Told
from gateway.monitor.signals.quality import LIMITS
from gateway.monitor.state import Latch, Raised
from gateway.names import Role

MOST_IDS = 50
"""Of one latch: a cause that goes on for longer keeps the newest."""


def latched(latches: Sequence[Latch], alert: Alert, time_ns: int) -> list[Latch]:
    """The latches with this alert among them."""
    whose = (alert.version, str(alert.role), alert.kind, alert.detector)
    if any(_whose(one) == whose for one in latches):
        return [
            replace(one, alerts=[*one.alerts, alert.id][-MOST_IDS:]) if _whose(one) == whose else one for one in latches
        ]
    missing = any(name.endswith(".missing") and size >= LIMITS["missing"][0] for name, size in alert.effects.items())
    since = alert.since_ns or time_ns
    fresh = Latch(*whose, [alert.id], since_ns=since, missing=missing, advisory=alert.advisory)
    return [*latches, fresh]


def ends(one: Latch, calm: Calm, version: int, role: str) -> bool:
    """True when this calm ends that latch."""
    is_detector = one.detector == calm.detector or one.detector.endswith(f":{calm.detector}")
    return (one.version, one.role) == (version, role) and one.kind in calm.kinds and is_detector


def let_go(
    model: str, latches: Sequence[Latch], over: Callable[[Latch], bool], reason: str, time_ns: int, place: str
) -> tuple[list[Latch], list[Told]]:
    """The latches that stay, and a clearing for every alert of those that are over, oldest first."""
    kept = [one for one in latches if not over(one)]
    told = [
        Told(time_ns, _clearing(model, one, alert, reason, place))
        for one in latches
        if over(one)
        for alert in one.alerts
    ]
    return kept, told


def shown(raised: Sequence[Raised], told: Sequence[Told]) -> list[Raised]:
    """The alerts of the summary, with those marked that these clearings end."""
    cleared = {
        one.record.alert: (one.time_ns / 1e9, one.record.reason) for one in told if isinstance(one.record, Cleared)
    }
    return [Raised(one.time, one.alert, *cleared.get(one.alert.id, (one.cleared, one.reason))) for one in raised]


def _whose(one: Latch) -> tuple[int, str, str, str]:
    return (one.version, one.role, one.kind, one.detector)


def _clearing(model: str, one: Latch, alert: str, reason: str, place: str) -> Cleared:
    mark = hashlib.blake2b(f"{alert} {place}".encode(), digest_size=8).hexdigest()
    return Cleared(f"cleared-{mark}", alert, model, one.version, Role(one.role), one.kind, reason)
