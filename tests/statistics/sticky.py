"""The sticky split by routing's own functions: exact shares, no flips, and growth that moves newcomers only.

Every visit is decided by `decide` on its own; a flip is a visit that another version answers than the unit's first one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gateway.documents.policy import Policy
from gateway.documents.route import Route, with_weights
from gateway.names import BUCKETS
from gateway.routing.decide import Facts, decide
from gateway.routing.snapshot import Snapshot, compile_route

Versions = NDArray[np.int64]

SHARE_ERROR_POINTS = 0.5
WEIGHTS = (1.0, 5.0, 20.0, 50.0)
_POLICY = Policy(model="m")

HEADER = ["split", "share error, points", "flips", "moved, as expected", "moved, others", "verdict"]


@dataclass(frozen=True)
class Check:
    """What came of one weight. error_points: of the worst canary. newcomers: units that moved to the canary that grew.

    expected: how many its new buckets hold. others: units that moved in any other way.
    """

    split: str
    error_points: float
    allowed_points: float
    flips: int
    newcomers: int
    expected: int
    others: int

    @property
    def holds(self) -> bool:
        """True when the shares are right and nobody moved who should not."""
        moved = self.newcomers == self.expected and self.others == 0
        return self.error_points <= self.allowed_points and self.flips == 0 and moved

    @property
    def cells(self) -> list[str]:
        """As a row of the table."""
        moved = f"{self.newcomers:,} of {self.expected:,}"
        verdict = "holds" if self.holds else "MISSED"
        return [self.split, f"{self.error_points:.2f}", f"{self.flips:,}", moved, f"{self.others:,}", verdict]


def study(seed: int, visits: int, units: int) -> list[Check]:
    """One canary at 1, 5, 20, 50 %; then two, of which the first grows while the second stays."""
    alone = Route(champion=1, salt=f"study-{seed}")
    beside = with_weights(alone, {2: 5.0, 3: 10.0})
    grown = [{2: weight} for weight in WEIGHTS]
    checks = _grow(alone, grown, seed, visits, units)
    return checks + _grow(beside, [{2: 20.0}, {3: 30.0}], seed + 1, visits, units)


def _grow(route: Route, changes: Sequence[Mapping[int, float]], seed: int, visits: int, units: int) -> list[Check]:
    random = np.random.default_rng(seed)
    keys = [f"unit-{number}" for number in range(units)]
    before = _first_visits(compile_route(_POLICY, route, 1), keys)
    checks = []
    for revision, change in enumerate(changes, start=2):
        after = with_weights(route, change)
        snapshot = compile_route(_POLICY, after, revision)
        now = _first_visits(snapshot, keys)
        seen = random.integers(0, units, visits)
        answered = _visit(snapshot, [keys[unit] for unit in seen.tolist()])
        checks.append(_check(route, after, before, now, seen, answered, keys))
        route, before = after, now
    return checks


def _first_visits(snapshot: Snapshot, keys: Sequence[str]) -> Versions:
    return _visit(snapshot, keys)


def _visit(snapshot: Snapshot, keys: Sequence[str]) -> Versions:
    return np.array([decide(snapshot, Facts(request="", draw="", key=key)).version for key in keys])


def _check(
    route: Route, after: Route, before: Versions, now: Versions, seen: Versions, answered: Versions, keys: Sequence[str]
) -> Check:
    grew = next(c.version for c in after.canaries if c.weight > route.weight_of(c.version))
    moved = before != now
    fresh = set(_buckets(after, grew)) - set(_buckets(route, grew))
    snapshot = compile_route(_POLICY, after, 1)
    drawn = np.array([decide(snapshot, Facts(request="", draw="", key=key)).bucket for key in keys])
    arrived = moved & (before == after.champion) & (now == grew)
    return Check(
        split=" + ".join(f"{canary.weight:g} %" for canary in after.canaries),
        error_points=max(abs(100.0 * float((answered == c.version).mean()) - c.weight) for c in after.canaries),
        allowed_points=SHARE_ERROR_POINTS * max(1.0, (100_000 / len(keys)) ** 0.5),
        flips=int((answered != now[seen]).sum()),
        newcomers=int(arrived.sum()),
        expected=int(np.isin(drawn, sorted(fresh)).sum()),
        others=int((moved & ~arrived).sum()),
    )


def _buckets(route: Route, version: int) -> list[int]:
    owned = route.ownership.get(version, ())
    return [bucket for first, behind in owned for bucket in range(first, min(behind, BUCKETS))]
