"""What serving processes tell the others: the leased document of each, proposals, conditions of versions.

A route change is prepared, then committed. The proposer writes `proposals/<model>`; each serving process loads what
the proposed route names and answers in its own `gateways/<id>` document; when every live one is prepared the
proposer writes the route itself.
"""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

LEASE_SECONDS = 1.0
"""A serving process that did not renew for this long is taken for dead, and itself stops serving challengers."""


class Proposal(Struct, frozen=True, kw_only=True):
    """A route that serving processes are asked to prepare. `route` is the encoded route; empty: withdrawn."""

    id: str
    model: str
    route: str


class Served(Struct, frozen=True, kw_only=True):
    """What one process serves of one model: the route's revision, or the one it refused and why."""

    revision: int = 0
    policy_revision: int = 0
    versions: tuple[int, ...] = ()
    left_out: tuple[int, ...] = ()  # versions of the route that are quarantined: they get nothing
    isolated: tuple[int, ...] = ()  # those of `versions` that run in processes of their own
    ready: bool = False
    refused_revision: int = 0
    refused_reason: str = ""
    prepared: str = ""  # id of the proposal that is loaded and warm
    refused: str = ""  # id of the proposal that could not be prepared
    reason: str = ""


class GatewayLease(Struct, frozen=True, kw_only=True):
    """One serving process: written every 0.3 s; live while `renewed` is younger than LEASE_SECONDS."""

    id: str
    pid: int
    started: float
    renewed: float
    draining: bool = False
    models: dict[str, Served] = {}

    def is_live(self, now: float) -> bool:
        """True while the lease holds at wall time `now`."""
        return now - self.renewed <= LEASE_SECONDS


class Condition(Struct, frozen=True, kw_only=True):
    """What happened to a version outside its immutable package.

    suspect: it has crashed its process once, or was running in a serving process that died; it runs in a process of its
    own, whatever its role. proven: it has been champion, so it runs inside the serving processes. champion_until: when
    another version took its place as champion last; 0: it never was, or is. released: a person let a version go on
    whose gate held it (`GateReport.hold`).
    """

    quarantined: bool = False
    rolled_back: bool = False
    suspect: bool = False
    proven: bool = False
    reason: str = ""
    since: float = 0.0
    champion_until: float = 0.0
    released: bool = False


def after_crash(condition: Condition, detail: str, now: float) -> Condition:
    """The condition of a version that crashed its process: suspect at first, quarantined the second time. Pure."""
    if condition.quarantined:
        return condition
    if condition.suspect:
        reason = f"{detail}; it had crashed before ({condition.reason})"
        return replace(condition, quarantined=True, reason=reason, since=now)
    return replace(condition, suspect=True, reason=detail, since=now)
