"""Routes and weights: which versions answer, moved by a person."""

from __future__ import annotations

import msgspec
from starlette.responses import Response

from gateway.api.admin.call import Asked, Call, tagged
from gateway.api.admin.state import versions_of
from gateway.documents.parse import validate
from gateway.documents.route import Route, read_route
from gateway.documents.store import route_name
from gateway.documents.token import Scope
from gateway.errors import Fault, InvalidInput, NotAllowed
from gateway.rollout.change import Changed


class WeightsBody(msgspec.Struct, forbid_unknown_fields=True):
    """Percent of live traffic by version number; the champion gets the rest."""

    weights: dict[str, float]
    reason: str = ""


async def show_route(asked: Asked) -> Response:
    """The whole route and its ETag."""
    stored = await asked.stored(route_name(asked.model))
    if stored is None:
        raise NotAllowed(f"{asked.model} has no route yet: no version of it was taken into service")
    return tagged(read_route(stored.body), stored.revision)


async def put_route(asked: Asked) -> Response:
    """Replace the whole route, in every serving process or in none."""
    expected = asked.if_match()
    route = validate(Route, await asked.document(), "the route")
    done = await asked.operations.put_route(asked.model, route, asked.reason, asked.actor, expected)
    return await _changed(asked, done)


async def set_weights(asked: Asked) -> Response:
    """Change canary weights in one step; 0 takes a canary out, which counts as a roll-back."""
    body = await asked.json(WeightsBody)
    if not body.weights:
        raise _bad("/weights", 'name at least one version, for example {"4": 10}')
    weights = {_number(text): weight for text, weight in body.weights.items()}
    for number, weight in weights.items():
        if not 0 <= weight <= 100:
            raise _bad(f"/weights/{number}", "must be 0 to 100 percent")
    expected = asked.optional_if_match()
    await versions_of(asked.ports, asked.model)
    done = await asked.operations.set_weights(asked.model, weights, body.reason, asked.actor, expected)
    return await _changed(asked, done)


async def _changed(asked: Asked, done: Changed) -> Response:
    stored = await asked.ports.config.get(route_name(asked.model))
    content = {**read_route(stored.body).model_dump(), "revision": done.revision, "accepted": done.accepted}
    return tagged(content, done.revision)


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and int(text) >= 1):
        raise _bad(f"/weights/{text[:50]}", "the key must be a version number such as 4")
    return int(text)


def _bad(pointer: str, detail: str) -> InvalidInput:
    return InvalidInput(f"{pointer} {detail}", [Fault(pointer, detail)])


CALLS = (
    Call("GET", "/admin/models/{model}/route", Scope.READ, show_route),
    Call("PUT", "/admin/models/{model}/route", Scope.OPERATE, put_route),
    Call("POST", "/admin/models/{model}/weights", Scope.OPERATE, set_weights),
)
