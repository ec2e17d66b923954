"""The one table from error to HTTP status, and the two shapes of an error answer.

RFC 9457 problem details everywhere; `{"error": text}` under /v2, as the Open Inference Protocol asks. A text never
holds internals: an error that is not in the tree answers a bare 500 with an id that is logged with its traceback.
"""

from __future__ import annotations

import logging
import math
import secrets
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway import errors
from gateway.api.body import (
    BodyTooSlow,
    ClientGone,
    HeadersTooLarge,
    HeadersTooSlow,
    MalformedRequest,
    UnsupportedEncoding,
)

log = logging.getLogger(__name__)


class Forbidden(errors.RequestError):
    """The token is good, its scopes are not enough."""


class Unauthorized(errors.RequestError):
    """No token, or none that is known and in force."""


class HostRefused(errors.RequestError):
    """The Host or Origin header names another site."""


class PreconditionRequired(errors.RequestError):
    """The call needs If-Match."""


class Kind(NamedTuple):
    """How one class of errors is answered."""

    status: int
    slug: str
    title: str


KINDS: dict[type[BaseException], Kind] = {
    errors.RequestError: Kind(400, "bad-request", "Bad request"),
    errors.InvalidInput: Kind(400, "invalid-input", "Invalid input"),
    errors.ModelNotFound: Kind(404, "model-not-found", "Model not found"),
    errors.VersionNotLoaded: Kind(404, "version-not-loaded", "Version not loaded"),
    errors.PayloadTooLarge: Kind(413, "payload-too-large", "Payload too large"),
    errors.QuotaExceeded: Kind(429, "quota-exceeded", "Quota exceeded"),
    BodyTooSlow: Kind(408, "body-too-slow", "Body too slow"),
    HeadersTooSlow: Kind(408, "headers-too-slow", "Headers too slow"),
    HeadersTooLarge: Kind(431, "headers-too-large", "Headers too large"),
    MalformedRequest: Kind(400, "malformed-request", "Malformed request"),
    UnsupportedEncoding: Kind(415, "unsupported-encoding", "Unsupported content encoding"),
    Unauthorized: Kind(401, "unauthorized", "Unauthorized"),
    Forbidden: Kind(403, "forbidden", "Forbidden"),
    HostRefused: Kind(403, "host-refused", "Host refused"),
    PreconditionRequired: Kind(428, "precondition-required", "Precondition required"),
    errors.Overloaded: Kind(503, "overloaded", "Overloaded"),
    errors.Unavailable: Kind(503, "unavailable", "Unavailable"),
    errors.DeadlineExceeded: Kind(504, "deadline-exceeded", "Deadline exceeded"),
    errors.ExecutionError: Kind(500, "execution-failed", "The model failed"),
    errors.ConfigError: Kind(400, "configuration", "Configuration refused"),
    errors.InvalidConfig: Kind(400, "invalid-configuration", "Invalid configuration"),
    errors.DocumentNotFound: Kind(404, "not-found", "Not found"),
    errors.RevisionConflict: Kind(412, "revision-conflict", "Changed by somebody else"),
    errors.RouteRefused: Kind(409, "route-refused", "A serving process refused the route"),
    errors.NotAllowed: Kind(409, "not-allowed", "Not allowed now"),
    errors.RegistryError: Kind(400, "registry", "Registry refused"),
    errors.VersionNotFound: Kind(404, "version-not-found", "Version not found"),
    errors.VersionExists: Kind(409, "version-exists", "Version exists"),
    errors.CorruptPackage: Kind(422, "corrupt-package", "Corrupt package"),
    errors.AdmissionRefused: Kind(422, "admission-refused", "Refused at admission"),
    errors.JournalUnavailable: Kind(503, "journal-unavailable", "The journal can not be written"),
}

_LAST = (BodyTooSlow, HeadersTooSlow, HeadersTooLarge, MalformedRequest, errors.PayloadTooLarge)
"""After these nothing more is read from the connection."""

_HTTP_TITLES = {
    404: ("no-such-path", "No such path"),
    405: ("method-not-allowed", "Method not allowed"),
}
_PROBLEM = "application/problem+json"


def kind_of(error: BaseException) -> Kind | None:
    """How the error is answered: its own entry, or that of its nearest ancestor."""
    return next((KINDS[base] for base in type(error).__mro__ if base in KINDS), None)


def response_for(error: Exception, path: str) -> Response:
    """The answer to a request that ended in this error."""
    if isinstance(error, HTTPException):
        slug, title = _HTTP_TITLES.get(error.status_code, ("http-error", error.detail))
        kind, detail = Kind(error.status_code, slug, title), f"{title}: {path}"
        return _render(kind, detail, path, {}, error.headers)
    found = kind_of(error)
    if found is None:
        return _unexpected(error, path)
    return _render(found, str(error), path, _extras(error), _headers(error))


def _extras(error: Exception) -> dict[str, Any]:
    """The fields of the error that a program may want, as problem extensions."""
    extras: dict[str, Any] = {}
    faults = getattr(error, "faults", ())
    if faults:
        extras["errors"] = [{"pointer": fault.pointer, "detail": fault.detail} for fault in faults]
    if isinstance(error, errors.AdmissionRefused):
        extras["errors"] = [{"pointer": "/model.onnx", "detail": reason} for reason in error.reasons]
    if isinstance(error, errors.RouteRefused):
        extras["refusals"] = error.refusals
    if isinstance(error, errors.RevisionConflict):
        extras |= {"expected": error.expected, "actual": error.actual}
    if isinstance(error, errors.VersionExists):
        extras["existing"] = error.existing
    if isinstance(error, errors.QuotaExceeded):
        extras |= {"client": error.client, "requests_per_second": error.requests_per_second, "burst": error.burst}
    return extras


def _headers(error: Exception) -> dict[str, str]:
    if isinstance(error, (errors.Unavailable, errors.QuotaExceeded)):
        return {"retry-after": str(max(1, math.ceil(error.retry_after_seconds)))}
    if isinstance(error, errors.JournalUnavailable):
        return {"retry-after": "1"}
    if isinstance(error, Unauthorized):
        return {"www-authenticate": "Bearer"}
    if isinstance(error, _LAST):
        return {"connection": "close"}  # the rest of the request is not read
    return {}


def _unexpected(error: Exception, path: str) -> Response:
    number = secrets.token_hex(8)
    log.error("unexpected error %s on %r", number, path, exc_info=error)
    kind = Kind(500, "internal-error", "Internal error")
    return _render(kind, f"an unexpected error; its details are logged under {number}", path, {"id": number}, {})


def _render(
    kind: Kind, detail: str, path: str, extras: Mapping[str, Any], headers: Mapping[str, str] | None
) -> Response:
    if path == "/v2" or path.startswith("/v2/"):
        untold = [e for e in extras.get("errors", ()) if e["pointer"] and e["detail"] not in detail]
        faults = "; ".join(f"{e['pointer']}: {e['detail']}" for e in untold)
        text = f"{detail} ({faults})" if faults else detail
        return json_response({"error": text}, kind.status, headers)
    content = {
        "type": f"urn:gateway:problem:{kind.slug}",
        "title": kind.title,
        "status": kind.status,
        "detail": detail,
        **extras,
    }
    return json_response(content, kind.status, headers, _PROBLEM)


def json_response(
    content: object,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    media_type: str = "application/json",
) -> Response:
    """A JSON answer; non-finite numbers become null."""
    return Response(msgspec.json.encode(content, enc_hook=_plain), status, headers, media_type)


def _plain(value: Any) -> Any:
    dump = getattr(value, "model_dump", None)
    if dump is None:
        raise TypeError(f"{type(value).__name__} has no JSON form")
    return dump(mode="json")


async def handle(request: Request, error: Exception) -> Response:
    """Starlette's handler for the errors of the tree and for 404 and 405."""
    return response_for(error, request.url.path)


HANDLERS: dict[Any, Any] = {errors.GatewayError: handle, HTTPException: handle}
"""For `Starlette(exception_handlers=...)`. What is not in the tree is caught by `Guarded`."""


class Guarded:
    """ASGI middleware: an unexpected error becomes a bare 500 problem, never a traceback."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        started = False

        async def sending(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except ClientGone:
            return None
        except Exception as error:  # noqa: BLE001 - the last door: whatever is unknown is logged and hidden
            response = response_for(error, scope["path"])
            if not started:
                await response(scope, receive, send)
        return None
