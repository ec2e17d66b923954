"""Reads what the stores hold of a model now, as one value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from gateway.api.control import ControlPorts
from gateway.documents.alert import AlertHandling, Monitoring
from gateway.documents.experiment import Experiment, experiment_name
from gateway.documents.imported import Imported, imported_name
from gateway.documents.job import JOB_ENDED, Job, Retraining
from gateway.documents.lease import Condition, GatewayLease, Served
from gateway.documents.rollout import Freeze, Rollout
from gateway.documents.route import Route, read_route
from gateway.documents.store import (
    Document,
    alert_name,
    freeze_name,
    monitoring_name,
    policy_name,
    retraining_name,
    rollout_name,
    route_name,
)
from gateway.errors import DocumentNotFound, ModelNotFound
from gateway.names import ModelName
from gateway.registry.manifest import Manifest

T = TypeVar("T")


@dataclass(frozen=True)
class ModelState:
    """One model: versions, route, rollout, experiment, what serving processes report, what the monitor last said."""

    model: ModelName
    manifests: Sequence[Manifest] = ()
    conditions: Mapping[int, Condition] = field(default_factory=dict)
    route: Route | None = None
    route_revision: int = 0
    policy_revision: int = 0
    imported: Imported | None = None
    rollout: Rollout | None = None
    experiment: Experiment | None = None
    freeze: Freeze | None = None
    monitoring: Monitoring | None = None
    handling: Mapping[str, AlertHandling] = field(default_factory=dict)
    served: Sequence[tuple[GatewayLease, Served]] = ()
    job: Job | None = None
    retraining: Retraining = field(default_factory=Retraining)

    def is_acknowledged(self, alert: str) -> bool:
        """True when a person has seen the alert."""
        return alert in self.handling and self.handling[alert].acknowledged


async def find(ports: ControlPorts, name: str) -> Document | None:
    """A document, None when there is none."""
    try:
        return await ports.config.get(name)
    except DocumentNotFound:
        return None


async def find_as(ports: ControlPorts, name: str, kind: type[T]) -> T | None:
    """A document decoded, None when there is none."""
    document = await find(ports, name)
    return msgspec.json.decode(document.body, type=kind) if document is not None else None


async def versions_of(ports: ControlPorts, model: ModelName) -> Sequence[Manifest]:
    """All manifests of a model. Raises ModelNotFound when it has none."""
    manifests = await ports.registry.versions(model)
    if not manifests:
        raise ModelNotFound(f"there is no model {model!r}: publish a first version with `gateway publish {model} FILE`")
    return manifests


async def read_models(ports: ControlPorts) -> list[ModelState]:
    """Every model with a version, by name."""
    return [await read_model(ports, model) for model in await ports.registry.models()]


async def read_model(ports: ControlPorts, model: ModelName) -> ModelState:
    """One model. Raises ModelNotFound."""
    manifests = await versions_of(ports, model)
    route, policy = await find(ports, route_name(model)), await find(ports, policy_name(model))
    monitoring = await find_as(ports, monitoring_name(model), Monitoring)
    leases = [lease for lease in await read_leases(ports) if model in lease.models]
    return ModelState(
        model=model,
        manifests=manifests,
        conditions=await read_conditions(ports, model),
        route=read_route(route.body) if route else None,
        route_revision=route.revision if route else 0,
        policy_revision=policy.revision if policy else 0,
        imported=await find_as(ports, imported_name(model), Imported),
        rollout=await find_as(ports, rollout_name(model), Rollout),
        experiment=await find_as(ports, experiment_name(model), Experiment),
        freeze=await find_as(ports, freeze_name(model), Freeze),
        monitoring=monitoring,
        handling=await read_handling(ports, monitoring),
        served=[(lease, lease.models[model]) for lease in leases],
        job=await _live_job(ports, model),
        retraining=await find_as(ports, retraining_name(model), Retraining) or Retraining(),
    )


async def read_conditions(ports: ControlPorts, model: ModelName) -> dict[int, Condition]:
    """What happened to the versions of a model, by number."""
    found: dict[int, Condition] = {}
    for name in await ports.config.list(f"conditions/{model}@"):
        condition = await find_as(ports, name, Condition)
        if condition is not None:
            found[int(name.rpartition("@")[2])] = condition
    return found


async def read_leases(ports: ControlPorts) -> list[GatewayLease]:
    """The serving processes that are alive now."""
    leases = [await find_as(ports, name, GatewayLease) for name in await ports.config.list("gateways/")]
    now = ports.clock.now()
    return [lease for lease in leases if lease is not None and lease.is_live(now)]


async def read_handling(ports: ControlPorts, monitoring: Monitoring | None) -> dict[str, AlertHandling]:
    """What people did about the alerts that the monitor's summary shows."""
    found: dict[str, AlertHandling] = {}
    for alert in monitoring.alerts if monitoring is not None else []:
        handling = await find_as(ports, alert_name(str(alert.get("id", ""))), AlertHandling)
        if handling is not None:
            found[handling.alert] = handling
    return found


async def read_jobs(ports: ControlPorts) -> list[Job]:
    """All jobs, newest first."""
    jobs = [await find_as(ports, name, Job) for name in await ports.config.list("jobs/")]
    return sorted((job for job in jobs if job is not None), key=lambda job: (job.created, job.id), reverse=True)


async def _live_job(ports: ControlPorts, model: ModelName) -> Job | None:
    return next((j for j in await read_jobs(ports) if j.model == model and j.state not in JOB_ENDED), None)
