"""A rollout's decisions recomputed from the journal."""

from __future__ import annotations

from starlette.responses import Response

from gateway.api.admin.call import Asked, Call
from gateway.api.admin.state import versions_of
from gateway.api.problems import json_response
from gateway.documents.token import Scope
from gateway.rollout.refold import replay


async def show_replay(asked: Asked) -> Response:
    """Every decision of the newest rollout, or of rollout number `rollout`, recorded and recomputed."""
    await versions_of(asked.ports, asked.model)
    number = asked.number("rollout", 0, 10**9) if "rollout" in asked.request.query_params else None
    ports = asked.ports
    done = await replay(ports.control, ports.traffic, ports.registry, asked.model, number)
    return json_response(done.content())


CALLS = (Call("GET", "/admin/models/{model}/rollout/replay", Scope.READ, show_replay),)
