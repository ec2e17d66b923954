"""Which version starts a rollout by itself, and what a person is told after a publish. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.documents.lease import Condition
from gateway.documents.policy import Policy
from gateway.documents.rollout import Phase, Rollout
from gateway.documents.route import Route
from gateway.registry.manifest import Manifest


def eligible(manifest: Manifest, condition: Condition, champion: int) -> str:
    """Why the version may not start a rollout by itself; empty: it may, where the policy says `start: auto`."""
    if manifest.number <= champion:
        return f"it is older than the champion {champion}"
    if condition.quarantined:
        return f"it is quarantined ({condition.reason})"
    if condition.rolled_back:
        return f"it was rolled back ({condition.reason})"
    if manifest.gate.hold and not condition.released:
        return f"a person has to release it ({manifest.gate.hold})"
    if not manifest.lineage.data_digest:
        return "its training data are unknown"
    if manifest.lineage.source != "job":
        return "it was not made by a retraining job"
    if manifest.gate.passed is not True:
        return "it did not pass the gate" if manifest.gate.passed is False else "it never met the gate"
    return ""


def choose(
    policy: Policy,
    route: Route,
    rollout: Rollout | None,
    manifests: Mapping[int, Manifest],
    conditions: Mapping[int, Condition],
) -> Manifest | None:
    """The version whose rollout is to start by itself: the newest eligible one.

    While a rollout is under way only a newer version that answers an error alert comes before it, and not while a
    person has paused it. Where the policy asks for dry runs only, a newer version takes the place of an older one, and
    none is tried twice.
    """
    if policy.rollout.start != "auto":
        return None
    tried = rollout.version if rollout is not None and rollout.dry_run and policy.rollout.dry_run else 0
    for number in sorted(manifests, reverse=True):
        if eligible(manifests[number], conditions.get(number, Condition()), route.champion):
            continue
        manifest = manifests[number]
        if number <= tried:
            return None
        if rollout is None or not rollout.is_live or tried:
            return manifest
        is_newer = number > rollout.version and rollout.phase is not Phase.PAUSED
        return manifest if is_newer and manifest.lineage.alert else None
    return None


def plan_name(manifest: Manifest) -> str:
    """`expedited` for a version that answers a latched error alert, else `steps`."""
    return "expedited" if manifest.lineage.alert else "steps"


def next_step(policy: Policy, route: Route | None, manifest: Manifest, condition: Condition) -> str:
    """What happens after a publish, and the command that would start a rollout; one sentence for a person."""
    version = str(manifest.version)
    command = f"gateway rollout start {manifest.model} {manifest.number}"
    if condition.quarantined:
        lift = f"gateway versions {manifest.model} --release {manifest.number}"
        return f"{version} is quarantined ({condition.reason}); lift it with: {lift}"
    if route is None:
        if policy.first_version == "serve":
            return f"{version} is the first version: it is taken into service"
        return f"{version} waits: the policy says first_version: hold; take it into service with: {command}"
    if manifest.number == route.champion:
        return f"{version} is the champion already"
    if manifest.number in route.challengers:
        return f"{version} is in the route already, at {route.weight_of(manifest.number):g} %"
    if policy.rollout.start != "auto":
        return f"{version} waits: the policy says rollout.start: manual; start it with: {command}"
    obstacle = eligible(manifest, condition, route.champion)
    if obstacle:
        return f"{version} waits: {obstacle}; start it with: {command}"
    return f"{version} starts its rollout by itself, on the plan `{plan_name(manifest)}`"
