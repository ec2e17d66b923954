"""What the documents ask of a serving process for one model: values and pure decisions, no stores, no loading."""

from __future__ import annotations

from collections.abc import Mapping, Set
from types import MappingProxyType
from typing import NamedTuple

from gateway.documents.lease import Condition, Proposal
from gateway.documents.policy import Policy
from gateway.documents.route import Route, changed, without
from gateway.names import ModelName
from gateway.serving.generation import Slot, slots_of

Asked = tuple[int, tuple[int, ...], frozenset[int]]


class Wanted(NamedTuple):
    """`proposal` is None when nothing is to be prepared. isolates: this process can start others for versions."""

    policy: Policy
    policy_revision: int
    route: Route
    revision: int
    proposal: Proposal | None
    conditions: Mapping[int, Condition] = MappingProxyType({})
    isolates: bool = True

    @property
    def left_out(self) -> tuple[int, ...]:
        """Versions of the route that are quarantined."""
        return tuple(sorted(n for n in self.route.versions if self.condition(n).quarantined))

    @property
    def isolated(self) -> frozenset[int]:
        """Versions of the route that belong into processes of their own."""
        return self._isolated(self.route)

    @property
    def asked(self) -> Asked:
        """What a refusal is about: the same again is not tried again."""
        return self.revision, self.left_out, self.isolated

    def condition(self, number: int) -> Condition:
        """What happened to the version; nothing special by default."""
        return self.conditions.get(number, Condition())

    def slots(self, model: ModelName, route: Route) -> frozenset[Slot]:
        """The versions of a route, each in its place: suspects and versions on trial alone, proven ones inline."""
        return frozenset(slots_of(model, route, route.versions, self._isolated(route)))

    def quarantined(self, numbers: Set[int]) -> dict[int, str]:
        """Why some of these versions may not be loaded."""
        found = {n: self.condition(n) for n in numbers}
        return {n: f"it is quarantined ({c.reason})" for n, c in found.items() if c.quarantined}

    def _isolated(self, route: Route) -> frozenset[int]:
        if not self.isolates:
            return frozenset()
        return frozenset(
            n
            for n in route.versions
            if self.condition(n).suspect or (n in route.challengers and not self.condition(n).proven)
        )


def allowed_route(route: Route, quarantined: Set[int]) -> Route | None:
    """The route without these versions: `previous` takes a quarantined champion's place. None: nothing may answer."""
    if route.champion in quarantined:
        return _rest(route, quarantined)
    for number in route.challengers & quarantined:
        route = without(route, number)
    return changed(route, previous=None) if route.previous in quarantined else route


def usable_route(route: Route, failed: Set[int], has_good: bool) -> Route | None:
    """The route to install when some versions failed to load; None keeps the last good generation.

    A process that has nothing yet serves what it can: the champion without the challengers that failed, or
    `previous` when the champion itself failed.
    """
    if not failed:
        return route
    return None if has_good else _rest(route, failed)


def _rest(route: Route, gone: Set[int]) -> Route | None:
    champion = route.champion if route.champion not in gone else route.previous
    if champion is None or champion in gone:
        return None
    return Route(
        champion=champion,
        canaries=tuple(c for c in route.canaries if c.version not in gone and c.version != champion),
        shadows=tuple(s for s in route.shadows if s.version not in gone and s.version != champion),
        previous=route.previous if route.previous not in gone and route.previous != champion else None,
        salt=route.salt,
    )
