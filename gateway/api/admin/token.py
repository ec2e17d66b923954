"""Access tokens over the admin API: list, make, revoke. Nobody hands out, or takes away, more than they may do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from starlette.responses import Response

from gateway.api.admin.call import Asked, Call
from gateway.api.problems import Forbidden, json_response
from gateway.api.token import create_token, get_token, read_tokens, revoke_token
from gateway.documents.token import Scope, Token


class TokenBody(msgspec.Struct, forbid_unknown_fields=True):
    """A token to make. days: until it expires, None for never. The last two are its quota at the serving API."""

    name: str
    scopes: list[Scope]
    days: float | None = None
    requests_per_second: float | None = None
    burst: float | None = None


async def list_tokens(asked: Asked) -> Response:
    """All tokens by name, revoked ones too; never a secret or its hash."""
    return json_response({"tokens": [token_view(token) for token in await read_tokens(asked.ports.config)]})


async def make_token(asked: Asked) -> Response:
    """Make a token. The answer is the only one that ever holds its secret."""
    body = await asked.json(TokenBody)
    await _check_within(asked, body.scopes)
    secret = await create_token(
        asked.ports.config,
        body.name,
        body.scopes,
        asked.ports.clock,
        days=body.days,
        requests_per_second=body.requests_per_second,
        burst=body.burst,
        actor=asked.actor,
    )
    token, _ = await get_token(asked.ports.config, body.name)
    return json_response({**token_view(token), "token": secret}, 201, {"cache-control": "no-store"})


async def end_token(asked: Asked) -> Response:
    """Put a token out of force, within two seconds; it stays in the list."""
    token, _ = await get_token(asked.ports.config, asked.request.path_params["token"])
    await _check_within(asked, token.scopes)
    await revoke_token(asked.ports.config, token.name, asked.actor)
    return json_response(token_view(msgspec.structs.replace(token, revoked=True)))


async def _check_within(asked: Asked, scopes: Iterable[Scope]) -> None:
    """Refuse scopes that the caller lacks; `predict` is no power over the gateway. Raises Forbidden."""
    own, _ = await get_token(asked.ports.config, asked.actor)
    beyond = [scope for scope in scopes if scope not in own.scopes and scope is not Scope.PREDICT]
    if beyond:
        raise Forbidden(f"token {own.name} lacks the scope {beyond[0]}, so it can not manage tokens that have it")


def token_view(token: Token) -> dict[str, Any]:
    """A token as people see it. expires: 0 for never. requests_per_second, burst: null without a quota."""
    return {
        "name": token.name,
        "scopes": list(token.scopes),
        "created": token.created,
        "expires": token.expires,
        "revoked": token.revoked,
        "requests_per_second": token.requests_per_second or None,
        "burst": token.burst or None,
    }


CALLS = (
    Call("GET", "/admin/tokens", Scope.READ, list_tokens),
    Call("POST", "/admin/tokens", Scope.OPERATE, make_token),
    Call("DELETE", "/admin/tokens/{token}", Scope.OPERATE, end_token),
)
