"""The whole present state of one model, read from the stores: what every decision of this room starts from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from gateway.documents.lease import Condition
from gateway.documents.policy import Policy, read_policy
from gateway.documents.rollout import Freeze, Rollout
from gateway.documents.route import Route, read_route
from gateway.documents.store import (
    ABSENT,
    ConfigStore,
    condition_name,
    freeze_name,
    policy_name,
    rollout_name,
    route_name,
)
from gateway.errors import DocumentNotFound
from gateway.names import ModelName, Revision, VersionId
from gateway.registry.manifest import Manifest
from gateway.registry.registry import Registry

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Present:
    """One model as it is now. Revisions are those to write against; 0: the document does not exist."""

    model: ModelName
    policy: Policy
    route: Route | None
    revision: Revision
    rollout: Rollout | None
    rollout_revision: Revision
    freeze: Freeze
    manifests: dict[int, Manifest] = field(default_factory=dict)
    conditions: dict[int, Condition] = field(default_factory=dict)

    def condition(self, number: int) -> Condition:
        """What happened to the version; nothing special by default."""
        return self.conditions.get(number, Condition())


async def read_present(
    config: ConfigStore, registry: Registry, model: ModelName, before: Present | None = None
) -> Present:
    """Read everything. The documents may be of slightly different moments; writing against a revision finds out.

    before: an earlier reading whose manifests and conditions are taken over.
    """
    rollout, rollout_revision = await find(config, rollout_name(model), read_rollout)
    route, revision = await find(config, route_name(model), read_route)
    policy, _ = await find(config, policy_name(model), read_policy)
    freeze, _ = await find(config, freeze_name(model), _freeze)
    if before is not None:
        manifests, conditions = before.manifests, before.conditions
    else:
        manifests = {manifest.number: manifest for manifest in await registry.versions(model)}
        conditions = await read_conditions(config, model)
    return Present(
        model=model,
        policy=policy or Policy(model=model),
        route=route,
        revision=revision,
        rollout=rollout,
        rollout_revision=rollout_revision,
        freeze=freeze or Freeze(frozen=False),
        manifests=manifests,
        conditions=conditions,
    )


async def read_conditions(config: ConfigStore, model: ModelName) -> dict[int, Condition]:
    """What happened to the model's versions, by number."""
    found = {}
    for name in await config.list(condition_name(VersionId(model, 0)).removesuffix("0")):
        condition, _ = await find(config, name, _condition)
        if condition is not None:
            found[int(name.rpartition("@")[2])] = condition
    return found


async def find(config: ConfigStore, name: str, read: Callable[[bytes], T]) -> tuple[T | None, Revision]:
    """The decoded document and its revision; (None, 0) when there is none."""
    try:
        document = await config.get(name)
    except DocumentNotFound:
        return None, ABSENT
    return read(document.body), document.revision


def read_rollout(body: bytes) -> Rollout:
    """The rollout in a document's body."""
    return msgspec.json.decode(body, type=Rollout)


def _freeze(body: bytes) -> Freeze:
    return msgspec.json.decode(body, type=Freeze)


def _condition(body: bytes) -> Condition:
    return msgspec.json.decode(body, type=Condition)
