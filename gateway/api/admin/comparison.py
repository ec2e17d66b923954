"""The challengers of a route beside its champion."""

from __future__ import annotations

from starlette.responses import Response

from gateway.api.admin.call import Asked, Call
from gateway.api.admin.state import find_as, versions_of
from gateway.api.problems import json_response
from gateway.documents.comparison import ModelComparison, comparison_name
from gateway.documents.token import Scope


async def show_comparison(asked: Asked) -> Response:
    """Agreement, flips, distance, run times and failures of every challenger, since it stands beside this champion."""
    await versions_of(asked.ports, asked.model)
    found = await find_as(asked.ports, comparison_name(asked.model), ModelComparison)
    shown = found or ModelComparison(model=asked.model, champion=0)
    return json_response({"model": shown.model, "champion": shown.champion, "challengers": shown.challengers})


CALLS = (Call("GET", "/admin/models/{model}/comparison", Scope.READ, show_comparison),)
