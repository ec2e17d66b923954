"""Who answers. One pure function from a snapshot and the facts of a request to a decision with its reason.

Order: pinned version, rules (first match), key or draw. It never names a version that the snapshot does not name,
except a pinned one, which the caller checks against what is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from gateway.documents.policy import Rule
from gateway.names import Reason, Role
from gateway.routing.snapshot import Snapshot
from gateway.routing.split import bucket, sampled


class Facts(Struct, frozen=True):
    """What a request brings. draw: a server-made id that stands for a missing key. fields: the first record.

    request: the prediction id, by which shadow copies are sampled.
    """

    request: str
    draw: str
    key: str | None = None
    pinned: int | None = None
    headers: Mapping[str, str] = {}
    fields: Mapping[str, object] = {}
    challengers_allowed: bool = True


class Decision(Struct, frozen=True):
    """The version that answers, why, and the shadows that get a copy. bucket -1: no bucket was drawn."""

    version: int
    role: Role
    reason: Reason
    bucket: int
    keyed: bool
    shadows: tuple[int, ...]


def decide(snapshot: Snapshot, facts: Facts) -> Decision:
    """The decision for one request. Pure: the same snapshot and facts give the same decision."""
    if facts.pinned is not None:
        role = snapshot.roles.get(facts.pinned, Role.PREVIOUS)
        return Decision(facts.pinned, role, Reason.PINNED, -1, False, ())
    shadows = _shadows(snapshot, facts) if snapshot.shadows else ()
    ruled = _ruled(snapshot, facts) if snapshot.policy.rules else None
    if ruled is not None:
        return Decision(ruled, snapshot.roles[ruled], Reason.RULE, -1, facts.key is not None, shadows)
    keyed = facts.key is not None and snapshot.policy.sticky == "key"
    drawn = bucket(snapshot.route.salt, facts.key if keyed and facts.key is not None else facts.draw)
    version = snapshot.owners[drawn] if snapshot.owners and facts.challengers_allowed else snapshot.champion
    return Decision(version, snapshot.roles[version], _reason(snapshot, keyed), drawn, keyed, shadows)


def _reason(snapshot: Snapshot, keyed: bool) -> Reason:
    if keyed:
        return Reason.STICKY
    is_alone = not snapshot.split and not snapshot.shadows and snapshot.route.previous is None
    return Reason.FIRST if is_alone else Reason.WEIGHT


def _shadows(snapshot: Snapshot, facts: Facts) -> tuple[int, ...]:
    if not facts.challengers_allowed:
        return ()
    salt = snapshot.route.salt
    return tuple(version for version, share in snapshot.shadows if sampled(salt, version, facts.request, share))


def _ruled(snapshot: Snapshot, facts: Facts) -> int | None:
    for rule in snapshot.policy.rules:
        if _matches(rule, facts):
            version = _named(snapshot, rule.version)
            if version is not None and (facts.challengers_allowed or version == snapshot.champion):
                return version
    return None


def _matches(rule: Rule, facts: Facts) -> bool:
    if rule.when.header is not None:
        return facts.headers.get(rule.when.header.lower()) == str(rule.when.equals)
    return facts.fields.get(rule.when.field or "") == rule.when.equals


def _named(snapshot: Snapshot, name: int | str) -> int | None:
    if name == "challenger":
        return snapshot.split[0][0] if snapshot.split else None
    version = snapshot.champion if name == "champion" else int(name)
    return version if version in snapshot.roles else None
