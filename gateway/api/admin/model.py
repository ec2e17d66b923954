"""Models at a glance, and their versions: everything the stores hold of them, put together for a reader."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from starlette.responses import Response

from gateway.api.admin.call import Asked, Call
from gateway.api.admin.state import ModelState, read_model, read_models, versions_of
from gateway.api.problems import json_response
from gateway.documents.alert import SliceLive
from gateway.documents.experiment import Experiment
from gateway.documents.lease import Condition
from gateway.documents.rollout import Rollout
from gateway.documents.store import condition_name
from gateway.documents.token import Scope
from gateway.errors import VersionNotFound
from gateway.names import VersionId
from gateway.registry.manifest import Manifest

SHOWN_ALERTS = 5
SHOWN_SLICES = 5
LEAST_SLICE_LABELS = 20


async def list_models(asked: Asked) -> Response:
    """Every model at a glance."""
    return json_response({"models": [glance(state) for state in await read_models(asked.ports)]})


async def show_model(asked: Asked) -> Response:
    """One model at a glance."""
    return json_response(glance(await read_model(asked.ports, asked.model)))


async def list_versions(asked: Asked) -> Response:
    """All manifests of a model, oldest first, each with its condition."""
    manifests = await versions_of(asked.ports, asked.model)
    return json_response({"versions": [await _described(asked, manifest) for manifest in manifests]})


async def show_version(asked: Asked) -> Response:
    """One manifest with its condition."""
    return json_response(await _described(asked, await _manifest(asked)))


async def _manifest(asked: Asked) -> Manifest:
    version: VersionId = asked.version
    for manifest in await versions_of(asked.ports, version.model):
        if manifest.number == version.number:
            return manifest
    raise VersionNotFound(f"there is no version {version}")


async def _described(asked: Asked, manifest: Manifest) -> dict[str, Any]:
    stored = await asked.stored(condition_name(manifest.version))
    condition = msgspec.json.decode(stored.body, type=Condition) if stored else Condition()
    return {**msgspec.structs.asdict(manifest), "condition": condition}


def glance(state: ModelState) -> dict[str, Any]:
    """What a person wants to see of a model first. Pure."""
    return {
        "name": state.model,
        "versions": [_version(state, manifest) for manifest in state.manifests],
        "route": None if state.route is None else {**state.route.model_dump(), "revision": state.route_revision},
        "weights": _weights(state),
        "rollout": None if state.rollout is None else rollout_view(state.rollout),
        "experiment": None if state.experiment is None else experiment_glance(state.experiment),
        "frozen": state.freeze is not None and state.freeze.frozen,
        "frozen_reason": state.freeze.reason if state.freeze is not None and state.freeze.frozen else "",
        "health": _health(state),
        "policy": {
            "revision": state.policy_revision,
            "diverged": state.imported is not None and state.imported.diverged,
            "error": state.imported.error if state.imported is not None else "",
        },
        "alerts": _alerts(state),
        "live": state.monitoring.live if state.monitoring is not None else [],
        "slices": weakest(state.monitoring.slices) if state.monitoring is not None else [],
        "online": state.monitoring.online if state.monitoring is not None else {},
        "monitored": state.monitoring is not None and state.monitoring.monitored,
        "note": state.monitoring.note if state.monitoring is not None else "",
        "job": state.job,
        "retraining": _retraining(state),
    }


def _retraining(state: ModelState) -> dict[str, Any]:
    """What the supervisor remembers, as far as a person can use it."""
    known = state.retraining
    return {
        "asks_for_a_person": known.asks_for_a_person,
        "refused": known.refused,
        "rejections": known.rejections,
        "pending_alert": known.pending_alert,
        "follow_ups_of": known.follow_up_alert,
        "last_started": known.last_started,
    }


def weakest(slices: Sequence[SliceLive]) -> list[SliceLive]:
    """The slices in which versions do worst on their newest labels, the worst first; those with few are left out."""
    enough = [one for one in slices if one.rolling_labelled >= LEAST_SLICE_LABELS]
    accuracies = sorted((one for one in enough if "accuracy" in one.rolling), key=lambda one: one.rolling["accuracy"])
    errors = sorted((one for one in enough if "mae" in one.rolling), key=lambda one: -one.rolling["mae"])
    return (accuracies or errors)[:SHOWN_SLICES]


def _version(state: ModelState, manifest: Manifest) -> dict[str, Any]:
    number = manifest.number
    return {
        "number": number,
        "digest": manifest.digest,
        "created": manifest.created,
        "source": manifest.lineage.source,
        "trigger": manifest.lineage.trigger,
        "parent": manifest.lineage.parent,
        "gate": manifest.gate.passed,
        "hold": manifest.gate.hold,
        "data_known": bool(manifest.lineage.data_digest),
        "role": _role(state, number),
        "condition": state.conditions.get(number, Condition()),
    }


def _role(state: ModelState, number: int) -> str:
    route = state.route
    if route is None:
        return ""
    if number == route.champion:
        return "champion"
    if number in {canary.version for canary in route.canaries}:
        return "canary"
    if number in {shadow.version for shadow in route.shadows}:
        return "shadow"
    return "previous" if number == route.previous else ""


def _weights(state: ModelState) -> Mapping[str, float]:
    route = state.route
    if route is None:
        return {}
    numbers = [route.champion, *(canary.version for canary in route.canaries)]
    return {str(number): route.weight_of(number) for number in numbers}


def _health(state: ModelState) -> dict[str, Any]:
    processes = [
        {
            "gateway": lease.id,
            "ready": served.ready,
            "revision": served.revision,
            "refused_revision": served.refused_revision,
            "reason": served.refused_reason or served.reason,
        }
        for lease, served in state.served
    ]
    return {"ready": bool(processes) and all(process["ready"] for process in processes), "processes": processes}


def _alerts(state: ModelState) -> dict[str, Any]:
    alerts = state.monitoring.alerts if state.monitoring is not None else []
    standing = [alert for alert in alerts if alert.get("state") != "cleared"]
    waiting = [alert for alert in standing if not state.is_acknowledged(str(alert.get("id", "")))]
    return {"unacknowledged": len(waiting), "latest": alerts[:SHOWN_ALERTS]}


def experiment_glance(experiment: Experiment) -> dict[str, Any]:
    """An experiment in a line; all of it is at `/admin/models/{model}/experiment`."""
    return {
        "number": experiment.number,
        "phase": experiment.phase,
        "metric": experiment.terms.metric,
        "versions": [arm.version for arm in experiment.taking_part],
        "verdict": experiment.verdict,
        "winner": experiment.winner,
        "reason": experiment.reason,
        "since": experiment.since,
    }


def rollout_view(rollout: Rollout) -> dict[str, Any]:
    """A rollout as the API shows it: what people ask first, then the rest."""
    return {
        "model": rollout.model,
        "version": rollout.version,
        "champion": rollout.champion,
        "number": rollout.number,
        "plan": rollout.plan,
        "phase": rollout.phase,
        "step": rollout.step,
        "steps": rollout.steps,
        "weight": rollout.weight,
        "verdict": rollout.verdict,
        "evidence": rollout.evidence,
        "reason": rollout.reason,
        "since": rollout.since,
        "started": rollout.started,
        "guarding": rollout.guarding,
        "answers": rollout.answers,
        "dry_run": rollout.dry_run,
        "would": rollout.would,
        "waits_for": rollout.waits_for,
        "actor": rollout.actor,
    }


CALLS = (
    Call("GET", "/admin/models", Scope.READ, list_models),
    Call("GET", "/admin/models/{model}", Scope.READ, show_model),
    Call("GET", "/admin/models/{model}/versions", Scope.READ, list_versions),
    Call("GET", "/admin/models/{model}/versions/{number}", Scope.READ, show_version),
)
