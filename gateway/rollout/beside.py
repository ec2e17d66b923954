"""Every challenger of a route beside its champion: shadows and canaries that people put there as well as a rollout's.

A fold of the traffic for each of them, begun when the challenger is first seen beside this champion. Pure; decides
nothing and forgets what leaves the route.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from gateway.documents.comparison import ModelComparison
from gateway.documents.policy import Policy
from gateway.documents.rollout import Phase, Rollout
from gateway.documents.route import Route
from gateway.journal.record import Entry, TrafficRecord
from gateway.names import ModelName, Role
from gateway.registry.manifest import Manifest
from gateway.rollout.evidence.observe import Observer, observer_of
from gateway.rollout.evidence.verdict import Compared, figures


class Followed(NamedTuple):
    """One challenger beside the champion. since: seconds since 1970. role: canary or shadow."""

    observer: Observer
    since: float
    role: Role


class Beside:
    """The challengers of one model's route."""

    def __init__(self, model: ModelName) -> None:
        self._model = model
        self._champion = 0
        self._policy = Policy(model=model)
        self._followed: dict[int, Followed] = {}

    @property
    def is_empty(self) -> bool:
        """True when the route has no challengers."""
        return not self._followed

    def follow(self, route: Route, policy: Policy, manifests: Mapping[int, Manifest], now: float) -> None:
        """Count for these challengers from here on; a new champion begins all of them anew."""
        before = self._followed if route.champion == self._champion else {}
        self._champion, self._policy = route.champion, policy
        canaries = {canary.version for canary in route.canaries}
        self._followed = {
            number: (before[number] if number in before else self._begun(number, manifests, now))._replace(
                role=Role.CANARY if number in canaries else Role.SHADOW
            )
            for number in sorted(route.challengers)
        }

    def fold(self, entries: Sequence[Entry[TrafficRecord]]) -> None:
        """Count these entries, in the journal's order."""
        for followed in self._followed.values():
            followed.observer.fold(entries)

    def compared(self) -> dict[int, Compared]:
        """What is counted so far, by number."""
        return {number: followed.observer.observed().before for number, followed in self._followed.items()}

    def document(self, compared: Mapping[int, Compared]) -> ModelComparison:
        """The same for people."""
        shown: dict[str, dict[str, Any]] = {}
        guards = self._policy.rollout.guards.guards
        for number, one in compared.items():
            followed = self._followed[number]
            counts = figures(one, guards)["counts"]
            shown[str(number)] = {"role": followed.role, "since": followed.since, **counts}
        return ModelComparison(model=self._model, champion=self._champion, challengers=shown)

    def _begun(self, number: int, manifests: Mapping[int, Manifest], now: float) -> Followed:
        asked = Rollout(
            model=self._model,
            version=number,
            champion=self._champion,
            plan="",
            steps=(),
            phase=Phase.SHADOW,
            reason="",
            guards=self._policy.rollout.guards.guards,
            slices=self._policy.monitoring.slices,
        )
        return Followed(observer_of(asked, manifests), now, Role.SHADOW)
