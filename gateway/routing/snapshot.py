"""One revision of a model's policy and route, compiled for deciding. Immutable and knows nothing of loaded models."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.documents.policy import Policy
from gateway.documents.route import Route
from gateway.names import BUCKETS, ModelName, Role


@dataclass(frozen=True, slots=True)
class Snapshot:
    """owners: the version that answers each of the 10,000 buckets; empty: always the champion.

    split: (version, buckets) of every canary. shadows: (version, buckets of its share). roles: what each named version
    is.
    """

    model: ModelName
    revision: int
    policy: Policy
    route: Route
    owners: tuple[int, ...]
    split: tuple[tuple[int, int], ...]
    shadows: tuple[tuple[int, int], ...]
    roles: dict[int, Role]

    @property
    def champion(self) -> int:
        """The version that is the reference and the fallback."""
        return self.route.champion


def compile_route(policy: Policy, route: Route, revision: int) -> Snapshot:
    """The snapshot of a policy and a route at this revision of the route."""
    owners = [route.champion] * BUCKETS if route.canaries else []
    for version, ranges in route.ownership.items():
        for first, behind in ranges:
            owners[first:behind] = [version] * (behind - first)
    roles = {canary.version: Role.CANARY for canary in route.canaries}
    roles |= {shadow.version: Role.SHADOW for shadow in route.shadows}
    if route.previous is not None:
        roles.setdefault(route.previous, Role.PREVIOUS)
    roles[route.champion] = Role.CHAMPION
    return Snapshot(
        model=ModelName(policy.model),
        revision=revision,
        policy=policy,
        route=route,
        owners=tuple(owners),
        split=tuple((canary.version, canary.buckets) for canary in route.canaries),
        shadows=tuple((shadow.version, shadow.buckets) for shadow in route.shadows),
        roles=roles,
    )
