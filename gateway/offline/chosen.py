"""Which version an offline run is of, under the rules that hold for serving: known, not quarantined, its policy."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.documents.policy import Policy
from gateway.documents.route import Route
from gateway.documents.store import ConfigStore
from gateway.errors import ModelNotFound, NotAllowed, VersionNotFound
from gateway.names import ModelName
from gateway.registry.manifest import Manifest
from gateway.registry.registry import Registry
from gateway.rollout.present import Present, read_present


@dataclass(frozen=True)
class Chosen:
    """A version and what else is known of its model. manifests: of all versions, by number."""

    manifest: Manifest
    policy: Policy
    route: Route | None
    manifests: dict[int, Manifest]


async def choose(config: ConfigStore, registry: Registry, model: ModelName, number: int | None) -> Chosen:
    """The version of this number, or the champion of the route.

    Raises ModelNotFound, VersionNotFound, or NotAllowed when there is no champion or the version is quarantined.
    """
    present = await read_present(config, registry, model)
    if not present.manifests:
        known = ", ".join(await registry.models()) or "none"
        raise ModelNotFound(f"there is no model {model!r} here; there are: {known}")
    chosen = number if number is not None else _champion(present)
    if chosen not in present.manifests:
        there = ", ".join(map(str, present.manifests))
        raise VersionNotFound(f"there is no version {model}@{chosen}; there are {there}")
    condition = present.condition(chosen)
    if condition.quarantined:
        raise NotAllowed(
            f"{model}@{chosen} is quarantined ({condition.reason}); "
            f"lift it with: gateway versions {model} --release {chosen}"
        )
    return Chosen(present.manifests[chosen], present.policy, present.route, present.manifests)


def _champion(present: Present) -> int:
    if present.route is None or not present.route.champion:
        numbers = ", ".join(map(str, present.manifests))
        raise NotAllowed(f"{present.model} has no champion yet; name a version with --version ({numbers})")
    return present.route.champion
