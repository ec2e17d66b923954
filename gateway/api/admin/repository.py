"""Model control as the protocol's clients ask for it: index, load, unload, on the admin port and with a token.

What these words mean here: a published version is loaded while a route names it, by every serving process. So the
index reads the registry, the routes and the processes' leases; load takes a model without a route into service, and
else says whether its routed versions are ready; unload never takes a routed version away. Files and configuration are
never taken from a request. Source: Triton's protocol extension "model repository".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec
from starlette.responses import Response

from gateway.api.admin.call import Asked, Call
from gateway.api.admin.state import find, read_conditions, read_leases, versions_of
from gateway.api.control import ControlPorts
from gateway.api.problems import json_response
from gateway.documents.lease import Condition, GatewayLease, Served
from gateway.documents.route import Route, read_route
from gateway.documents.store import route_name
from gateway.documents.token import Scope
from gateway.errors import Fault, InvalidInput, NotAllowed
from gateway.names import ModelName
from gateway.registry.manifest import Manifest

State = Literal["READY", "LOADING", "UNAVAILABLE"]

NOT_ROUTED = "no route names it"


class IndexBody(msgspec.Struct):
    """ready: only versions that are ready."""

    ready: bool = False


class ControlBody(msgspec.Struct):
    """What clients send with load and unload; nothing of it changes what is done here."""

    parameters: dict[str, str | int | float | bool] = {}


class Entry(msgspec.Struct, frozen=True):
    """One version in the index."""

    name: str
    version: str
    state: State
    reason: str = ""


async def index(asked: Asked) -> Response:
    """Every published version: whether every live serving process has it loaded, else why not."""
    body = await asked.json(IndexBody)
    leases = await read_leases(asked.ports)
    entries: list[Entry] = []
    for model in await asked.ports.registry.models():
        entries += await _entries(asked.ports, model, leases)
    return json_response([entry for entry in entries if entry.state == "READY" or not body.ready])


async def load(asked: Asked) -> Response:
    """Take a model's newest good version into service when it has no route; else tell whether the route is loaded."""
    body = await asked.json(ControlBody)
    if body.parameters:
        pointer = "/parameters/" + next(iter(body.parameters))[:100]
        detail = "can not be given: a version is published, with its files, before it is loaded"
        raise InvalidInput(f"{pointer} {detail}", [Fault(pointer, detail)])
    manifests = await versions_of(asked.ports, asked.model)
    if await _route(asked.ports, asked.model) is None:
        version = newest_good(manifests, await read_conditions(asked.ports, asked.model))
        if version is None:
            raise NotAllowed(f"every version of {asked.model} is quarantined; release one, or publish another")
        await asked.operations.introduce(asked.model, version, "load of the model repository", asked.actor)
    route = await _route(asked.ports, asked.model)
    entries = await _entries(asked.ports, asked.model, await read_leases(asked.ports))
    waiting = [e for e in entries if route is not None and int(e.version) in route.versions and e.state != "READY"]
    if waiting:
        why = "; ".join(f"{entry.name}@{entry.version}: {entry.reason}" for entry in waiting)
        raise NotAllowed(f"not every routed version is ready: {why}")
    return json_response({})


async def unload(asked: Asked) -> Response:
    """Nothing to do for a model without a route: it is not loaded. A routed one is never taken away."""
    await asked.json(ControlBody)
    await versions_of(asked.ports, asked.model)
    route = await _route(asked.ports, asked.model)
    if route is not None:
        names = ", ".join(f"{asked.model}@{number}" for number in sorted(route.versions))
        raise NotAllowed(f"the route of {asked.model} names {names}: change the route; what it names stays loaded")
    return json_response({})


async def _route(ports: ControlPorts, model: ModelName) -> Route | None:
    stored = await find(ports, route_name(model))
    return None if stored is None else read_route(stored.body)


async def _entries(ports: ControlPorts, model: ModelName, leases: Sequence[GatewayLease]) -> list[Entry]:
    route, conditions = await _route(ports, model), await read_conditions(ports, model)
    served = [lease.models.get(model, Served()) for lease in leases]
    return [
        entry_of(manifest, route, conditions.get(manifest.number, Condition()), served)
        for manifest in await ports.registry.versions(model)
    ]


def entry_of(manifest: Manifest, route: Route | None, condition: Condition, served: Sequence[Served]) -> Entry:
    """One version's state. served: what each live serving process reports of the model. Pure."""
    number = manifest.number
    holding = sum(number in one.versions for one in served)
    is_routed = route is not None and number in route.versions
    refusals = sorted({one.refused_reason for one in served if one.refused_reason and number not in one.versions})
    state: State = "UNAVAILABLE"
    if not is_routed:
        reason = f"quarantined: {condition.reason}" if condition.quarantined else NOT_ROUTED
    elif not served:
        reason = "no serving process is alive"
    elif holding == len(served):
        state, reason = "READY", ""
    elif refusals:
        reason = "; ".join(refusals)
    else:
        state, reason = "LOADING", f"loaded in {holding} of {len(served)} serving processes"
    return Entry(manifest.model, str(number), state, reason)


def newest_good(manifests: Sequence[Manifest], conditions: dict[int, Condition]) -> int | None:
    """The newest version that is neither quarantined nor rolled back; None when there is none. Pure."""
    good = [
        manifest.number
        for manifest in manifests
        if not (condition := conditions.get(manifest.number, Condition())).quarantined and not condition.rolled_back
    ]
    return max(good, default=None)


CALLS = (
    Call("POST", "/v2/repository/index", Scope.READ, index),
    Call("POST", "/v2/repository/models/{model}/load", Scope.OPERATE, load),
    Call("POST", "/v2/repository/models/{model}/unload", Scope.OPERATE, unload),
)
