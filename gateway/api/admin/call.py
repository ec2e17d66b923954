"""One admin call: who asks, with which scope, and what every handler needs to read and to answer.

A call is a row of a table (`Call`): method, path, scope, handler. The wrapper checks Host and Origin, the token and its
scope before the handler runs; there is no other way in.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.api.body import check_keys, decode, read_body, strict
from gateway.api.control import ControlPorts
from gateway.api.door import bearer
from gateway.api.problems import Forbidden, HostRefused, PreconditionRequired, Unauthorized, json_response
from gateway.api.token import find
from gateway.documents.store import Document
from gateway.documents.token import Scope
from gateway.errors import DocumentNotFound, Fault, InvalidInput
from gateway.names import ModelName, Revision, VersionId, model_name
from gateway.rollout.operation import Operations
from gateway.settings import Settings

T = TypeVar("T", bound=msgspec.Struct)


@dataclass(frozen=True)
class Asked:
    """One authorized request. actor: the name of its token."""

    request: Request
    ports: ControlPorts
    settings: Settings
    actor: str
    operations: Operations

    @property
    def model(self) -> ModelName:
        """The model in the path. Raises InvalidInput."""
        try:
            return model_name(self.request.path_params["model"])
        except ValueError as error:
            raise InvalidInput(str(error), [Fault("the model in the path", str(error))]) from None

    @property
    def version(self) -> VersionId:
        """Model and number in the path. Raises InvalidInput."""
        return VersionId(self.model, positive(self.request.path_params["number"], "the version in the path"))

    @property
    def reason(self) -> str:
        """The query parameter `reason`, for calls whose body is a whole document."""
        return self.request.query_params.get("reason", "")[:1000]

    def number(self, name: str, default: int, most: int) -> int:
        """A whole number among the query parameters. Raises InvalidInput."""
        text = self.request.query_params.get(name)
        return default if text is None else min(positive(text, f"the query parameter {name}", least=0), most)

    async def read(self) -> bytes:
        """The body, within its limits."""
        request = self.request
        return await read_body(request.scope, request.receive, self.settings.max_body_bytes, self.settings.body_seconds)

    async def json(self, kind: type[T]) -> T:
        """The body as a struct; an empty body is an empty object. Raises InvalidInput."""
        body = await self.read() or b"{}"
        value = decode(msgspec.json.Decoder(kind), body)
        check_keys(body, -1)
        return value

    async def document(self) -> Any:
        """The decoded body of any shape, duplicate keys refused."""
        return strict(await self.read())

    def if_match(self) -> Revision:
        """The revision in If-Match. Raises PreconditionRequired when there is none."""
        found = self.optional_if_match()
        if found is None:
            raise PreconditionRequired("send the ETag that you read as If-Match, so that no other change is lost")
        return found

    def optional_if_match(self) -> Revision | None:
        """The revision in If-Match, None without the header. An ETag that is none of ours matches nothing."""
        text = self.request.headers.get("if-match")
        if text is None:
            return None
        digits = text.strip().removeprefix("W/").strip('"')
        return Revision(int(digits)) if digits.isascii() and digits.isdigit() and len(digits) < 19 else Revision(-1)

    async def stored(self, name: str) -> Document | None:
        """A document, None when there is none."""
        try:
            return await self.ports.config.get(name)
        except DocumentNotFound:
            return None

    async def required(self, name: str, what: str) -> Document:
        """A document. what: how people call it (`job 'x'`). Raises DocumentNotFound in these words."""
        found = await self.stored(name)
        if found is None:
            raise DocumentNotFound(name, f"there is no {what}")
        return found


Handler = Callable[[Asked], Awaitable[Response]]


class Call(NamedTuple):
    """One row of the table of admin calls. scope None: open to everybody."""

    method: str
    path: str
    scope: Scope | None
    handler: Handler


def positive(text: str, place: str, least: int = 1) -> int:
    """A whole number in a path or query. Raises InvalidInput naming the place."""
    if text.isascii() and text.isdigit() and len(text) <= 18 and int(text) >= least:
        return int(text)
    detail = f"must be a whole number, {least} or more"
    raise InvalidInput(f"{place} {detail}", [Fault(place, detail)])


def tagged(content: object, revision: int, status: int = 200) -> Response:
    """A document with its ETag."""
    return json_response(content, status, {"etag": f'"{revision}"'})


def routes_of(calls: Sequence[Call], ports: ControlPorts, settings: Settings, operations: Operations) -> list[Route]:
    """One route for each path; a method that is not in the table is answered 405."""
    by_path: dict[str, list[Call]] = {}
    for call in calls:
        by_path.setdefault(call.path, []).append(call)
    return [
        Route(path, _endpoint(there, ports, settings, operations), methods=[call.method for call in there])
        for path, there in by_path.items()
    ]


def _endpoint(
    calls: Sequence[Call], ports: ControlPorts, settings: Settings, operations: Operations
) -> Callable[[Request], Awaitable[Response]]:
    by_method = {call.method: call for call in calls}

    async def endpoint(request: Request) -> Response:
        check_origin(request, settings)
        call = by_method["GET" if request.method == "HEAD" else request.method]
        actor = await authorized(request, ports, call.scope) if call.scope is not None else ""
        return await call.handler(Asked(request, ports, settings, actor, operations))

    return endpoint


async def authorized(request: Request, ports: ControlPorts, scope: Scope) -> str:
    """The name of the caller's token. Raises Unauthorized or Forbidden."""
    secret = bearer(request.headers.get("authorization", "").encode("latin-1"))
    if not secret:
        raise Unauthorized("send a token: Authorization: Bearer TOKEN (the first one is in DIR/admin-token)")
    token = await find(ports.config, secret, ports.clock.now())
    if token is None:
        raise Unauthorized("this token is not known, has expired or was revoked")
    if scope not in token.scopes:
        raise Forbidden(f"token {token.name} does not grant the scope {scope}")
    return token.name


def check_origin(request: Request, settings: Settings) -> None:
    """Refuse a browser that was led here by another site's name (DNS rebinding). Raises HostRefused.

    Loopback only: there the machine's user is the only caller, by a loopback name or an address. Beyond it a gateway
    is reached by names that it does not know. A page of another origin is refused everywhere.
    """
    host = request.headers.get("host", "")
    name = urlsplit(f"//{host}").hostname or ""
    if settings.admin_listen.is_loopback and not _is_own(name, settings.admin_listen.host):
        raise HostRefused(f"this gateway is not {name[:100]!r}; use the address it listens on")
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != host:
        raise HostRefused("pages of another origin may not call the admin API")


def _is_own(name: str, configured: str) -> bool:
    if name in {"localhost", configured} or name.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True  # rebinding needs a name; an address is what the user typed
