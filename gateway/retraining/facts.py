"""Everything a trigger looks at, read from the stores: one model as it is now. Decides nothing, changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from msgspec import json

from gateway.documents.alert import AlertHandling, Monitoring
from gateway.documents.job import Retraining
from gateway.documents.lease import Condition
from gateway.documents.policy import Policy, RetrainingPolicy, read_policy
from gateway.documents.rollout import ENDED, Freeze, Rollout
from gateway.documents.route import Route, read_route
from gateway.documents.store import (
    ConfigStore,
    alert_name,
    condition_name,
    freeze_name,
    monitoring_name,
    policy_name,
    rollout_name,
    route_name,
)
from gateway.errors import DocumentNotFound
from gateway.journal.join import JoinIndex
from gateway.names import ModelName
from gateway.registry.manifest import Manifest
from gateway.registry.registry import Registry
from gateway.retraining.triggers import TriggerFacts

T = TypeVar("T")

LEAST_PERFORMANCE_LABELS = 100
"""A live metric on fewer labels sets nothing off."""


@dataclass(frozen=True)
class Present:
    """The policy, the champion's number (0: none) and what `due` needs to know."""

    policy: RetrainingPolicy
    facts: TriggerFacts


async def champion_of(config: ConfigStore, model: ModelName) -> int:
    """The version that answers now; 0 when the model has no route."""
    route = await find(config, route_name(model), read_route)
    return route.champion if route is not None else 0


async def retraining_policy(config: ConfigStore, model: ModelName) -> Policy:
    """The stored policy, or the defaults."""
    return await find(config, policy_name(model), read_policy) or Policy(model=model)


def not_possible(champion: Manifest | None, policy: RetrainingPolicy) -> str:
    """Why no job can run at all; "" when one can."""
    if champion is None:
        return "no version answers yet: publish a first one, for example with `gateway train`"
    if not champion.features:
        return f"{champion.version} names no features, so its rows can not be read by name"
    if policy.recipe is None:
        return "the policy names no recipe"
    return ""


async def read_present(
    config: ConfigStore,
    registry: Registry,
    joins: JoinIndex,
    model: ModelName,
    state: Retraining,
    queued: str,
    now: float,
) -> Present:
    """The model now, seen with what the supervisor remembers of it."""
    policy = await retraining_policy(config, model)
    route = await find(config, route_name(model), read_route)
    champion = route.champion if route is not None else 0
    freeze = await find(config, freeze_name(model), _freeze)
    rollout, answers = await _on_its_way(config, registry, model, route, state)
    monitoring = await find(config, monitoring_name(model), _monitoring) if _looks_at_figures(policy, state) else None
    handling = await find(config, alert_name(state.pending_alert), _handling) if state.pending_alert else None
    facts = TriggerFacts(
        labels=await joins.count(model),
        champion=champion,
        has_recipe=policy.retraining.recipe is not None,
        frozen=freeze is not None and freeze.frozen,
        silenced=handling is not None and handling.silenced_until > now,
        latched=_is_latched(monitoring, state.pending_alert),
        queued=queued,
        rollout=rollout,
        rollout_answers=answers,
        performance=_performance(monitoring, champion, policy.retraining),
        is_release=await _is_release(registry, model, route, state),
    )
    return Present(policy.retraining, facts)


async def find(config: ConfigStore, name: str, read: Callable[[bytes], T]) -> T | None:
    """A document's value, None when there is none."""
    try:
        return read((await config.get(name)).body)
    except DocumentNotFound:
        return None


def published_answer(
    manifests: Mapping[int, Manifest], conditions: Mapping[int, Condition], champion: int
) -> tuple[int, str]:
    """The newest version that answers an alert about this champion and may still take its place, with that alert."""
    for number in sorted(manifests, reverse=True):
        lineage = manifests[number].lineage
        condition = conditions.get(number, Condition())
        if (
            number > champion == lineage.parent
            and lineage.alert
            and not (condition.rolled_back or condition.quarantined)
        ):
            return number, lineage.alert
    return 0, ""


async def _on_its_way(
    config: ConfigStore,
    registry: Registry,
    model: ModelName,
    route: Route | None,
    state: Retraining,
) -> tuple[int, str]:
    """The version that may soon be champion and the alert it answers; (0, "") when there is none.

    One that was published and answers an alert counts too, whether a person has to start its rollout or the controller
    is about to: otherwise a repeat of the alert would add one more version and put an end to this one.
    """
    rollout = await find(config, rollout_name(model), _rollout)
    if rollout is not None and rollout.phase not in ENDED:
        return rollout.version, rollout.answers
    if not state.pending_alert or route is None:
        return 0, ""
    manifests = {one.number: one for one in await registry.versions(model)}
    conditions = {}
    for number in manifests:
        if number > route.champion:
            condition = await find(config, condition_name(manifests[number].version), _condition)
            conditions[number] = condition or Condition()
    return published_answer(manifests, conditions, route.champion)


async def _is_release(registry: Registry, model: ModelName, route: Route | None, state: Retraining) -> bool:
    """True when the champion answered no alert and took another version's place. Looked up only for an alert."""
    if not state.pending_alert or route is None or route.previous is None:
        return False
    manifests = await registry.versions(model)
    return any(one.number == route.champion and not one.lineage.alert for one in manifests)


def _looks_at_figures(policy: Policy, state: Retraining) -> bool:
    return bool(state.pending_alert) or policy.retraining.triggers.performance is not None


def _is_latched(monitoring: Monitoring | None, alert: str) -> bool:
    """False only when the monitor says that the alert was cleared."""
    shown = () if monitoring is None else monitoring.alerts
    return not any(one.get("id") == alert and one.get("state") == "cleared" for one in shown)


def _performance(monitoring: Monitoring | None, champion: int, policy: RetrainingPolicy) -> float | None:
    wanted = policy.triggers.performance
    if monitoring is None or wanted is None:
        return None
    for live in monitoring.live:
        if live.version == champion and live.role == "champion" and live.labelled >= LEAST_PERFORMANCE_LABELS:
            return live.rolling.get(wanted.metric)
    return None


def _rollout(body: bytes) -> Rollout:
    return json.decode(body, type=Rollout)


def _freeze(body: bytes) -> Freeze:
    return json.decode(body, type=Freeze)


def _handling(body: bytes) -> AlertHandling:
    return json.decode(body, type=AlertHandling)


def _monitoring(body: bytes) -> Monitoring:
    return json.decode(body, type=Monitoring)


def _condition(body: bytes) -> Condition:
    return json.decode(body, type=Condition)
