"""Rollouts by hand: start, steer, freeze; and lifting a version's quarantine."""

from __future__ import annotations

import msgspec
from starlette.responses import Response

from gateway.api.admin.call import Asked, Call, Handler
from gateway.api.admin.model import rollout_view
from gateway.api.admin.state import find_as, versions_of
from gateway.api.problems import json_response
from gateway.documents.rollout import Rollout
from gateway.documents.route import read_route
from gateway.documents.store import rollout_name, route_name
from gateway.documents.token import Scope
from gateway.errors import DocumentNotFound


class StartBody(msgspec.Struct, forbid_unknown_fields=True):
    """Which version, on which plan, and why. plan: steps | expedited | blue_green. dry_run: tell only."""

    version: int
    plan: str = "steps"
    reason: str = ""
    dry_run: bool = False


class ReasonBody(msgspec.Struct, forbid_unknown_fields=True):
    """Why, in a person's words."""

    reason: str = ""


async def show_rollout(asked: Asked) -> Response:
    """The rollout under way, or the last one."""
    await versions_of(asked.ports, asked.model)
    rollout = await find_as(asked.ports, rollout_name(asked.model), Rollout)
    if rollout is None:
        raise DocumentNotFound(rollout_name(asked.model), f"{asked.model} had no rollout yet")
    return json_response(rollout_view(rollout))


async def start(asked: Asked) -> Response:
    """Start a rollout."""
    body = await asked.json(StartBody)
    rollout = await asked.operations.start_rollout(
        asked.model, body.version, body.plan, body.reason, asked.actor, dry_run=body.dry_run
    )
    return json_response(rollout_view(rollout), 201)


async def pause(asked: Asked) -> Response:
    """Stop moving; guards go on."""
    body = await asked.json(ReasonBody)
    return json_response(rollout_view(await asked.operations.pause(asked.model, body.reason, asked.actor)))


async def resume(asked: Asked) -> Response:
    """Go on; also after a person moved a weight."""
    body = await asked.json(ReasonBody)
    return json_response(rollout_view(await asked.operations.resume(asked.model, body.reason, asked.actor)))


async def promote(asked: Asked) -> Response:
    """Make the challenger champion now."""
    body = await asked.json(ReasonBody)
    return json_response(rollout_view(await asked.operations.promote(asked.model, body.reason, asked.actor)))


async def roll_back(asked: Asked) -> Response:
    """Take the challenger out; with none under way restore the last champion. Needs no If-Match."""
    body = await asked.json(ReasonBody)
    rollout = await asked.operations.roll_back(asked.model, body.reason, asked.actor)
    stored = await asked.ports.config.get(route_name(asked.model))
    route = read_route(stored.body)
    content = {"rollout": None if rollout is None else rollout_view(rollout), "route": route}
    return json_response(content)


def _freezing(frozen: bool) -> Handler:
    async def act(asked: Asked) -> Response:
        body = await asked.json(ReasonBody)
        await versions_of(asked.ports, asked.model)
        acts = asked.operations
        return json_response(await (acts.freeze if frozen else acts.unfreeze)(asked.model, body.reason, asked.actor))

    return act


async def release(asked: Asked) -> Response:
    """Lift a quarantine, or the mark that a version was rolled back."""
    body = await asked.json(ReasonBody)
    condition = await asked.operations.release(asked.version, body.reason, asked.actor)
    return json_response({"version": str(asked.version), "condition": condition})


CALLS = (
    Call("GET", "/admin/models/{model}/rollout", Scope.READ, show_rollout),
    Call("POST", "/admin/models/{model}/rollout", Scope.OPERATE, start),
    Call("POST", "/admin/models/{model}/rollout/pause", Scope.OPERATE, pause),
    Call("POST", "/admin/models/{model}/rollout/resume", Scope.OPERATE, resume),
    Call("POST", "/admin/models/{model}/rollout/promote", Scope.OPERATE, promote),
    Call("POST", "/admin/models/{model}/rollout/roll-back", Scope.OPERATE, roll_back),
    Call("POST", "/admin/models/{model}/freeze", Scope.OPERATE, _freezing(True)),
    Call("POST", "/admin/models/{model}/unfreeze", Scope.OPERATE, _freezing(False)),
    Call("POST", "/admin/models/{model}/versions/{number}/release", Scope.OPERATE, release),
)
