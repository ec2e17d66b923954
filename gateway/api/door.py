"""What every call of the serving API shares: the limits, the caller's token, the headers of an answer.

`Door` is an ASGI endpoint that reads the body and hands it on; no request or response objects are made on this path.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from msgspec import Struct
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway import metrics
from gateway.api.body import NONE, ClientGone, read_body
from gateway.api.problems import Unauthorized, kind_of, response_for
from gateway.documents import token
from gateway.errors import DeadlineExceeded, ExecutionError, Fault, InvalidInput
from gateway.journal.record import Feedback
from gateway.names import is_request_id
from gateway.registry.manifest import Manifest
from gateway.serving.request import Answer, PredictRequest, ServedModel
from gateway.settings import Settings

_TRACE = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")
_OURS = frozenset({b"x-request-id", b"x-routing-key", b"x-model-version", b"x-request-timeout-ms", b"traceparent"})
_JSON = (b"content-type", b"application/json")

_TOKEN_NEEDED = "send a token with scope predict: Authorization: Bearer TOKEN"

Sent = tuple[int, bytes, tuple[tuple[bytes, bytes], ...]]
"""Status, body and headers of an answer."""

Call = Callable[[Scope, bytes], Awaitable[Sent]]


class Verifying(Protocol):
    """Tokens as the doors need them (`gateway.serving.access.TokenCheck`). Both raise QuotaExceeded."""

    async def __call__(self, secret: str, scope: token.Scope) -> bool: ...

    def now(self, secret: str, scope: token.Scope) -> bool | None: ...


class Serving(Protocol):
    """What the doors ask of the room behind them (`gateway.serving.predict.Serving`)."""

    async def predict(self, request: PredictRequest) -> Answer: ...

    def feedback(self, items: list[Feedback]) -> bool: ...

    def models(self) -> list[ServedModel]: ...

    def manifest(self, model: str, version: int | None) -> Manifest: ...

    def hand_over_counts(self) -> None: ...

    def readiness(self) -> tuple[bool, list[str]]: ...

    @property
    def verify_token(self) -> Verifying: ...


class Guard:
    """Whether callers of the serving API need a token. A request is checked once: each look counts for its quota."""

    def __init__(self, serving: Serving, needed: bool) -> None:
        self._serving = serving
        self._needed = needed

    async def check(self, scope: Scope) -> None:
        """Raises Unauthorized when a token is needed and this request brings none that grants `predict`.

        Raises QuotaExceeded when its client asks too often.
        """
        if not self._needed:
            return
        secret = _secret(scope["headers"])
        if not secret or not await self._serving.verify_token(secret, token.Scope.PREDICT):
            raise Unauthorized(_TOKEN_NEEDED)

    def check_now(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """The same without waiting, for a lane without ASGI. True: let the request through.

        False: what is known is too old to tell and nothing was counted; the application's `check` must decide.
        Raises Unauthorized, QuotaExceeded.
        """
        if not self._needed:
            return True
        secret = _secret(headers)
        granted = self._serving.verify_token.now(secret, token.Scope.PREDICT) if secret else False
        if granted is False:
            raise Unauthorized(_TOKEN_NEEDED)
        return granted is True


def _secret(headers: Iterable[tuple[bytes, bytes]]) -> str:
    return bearer(next((value for name, value in headers if name == b"authorization"), b""))


def bearer(header: bytes) -> str:
    """The secret in an Authorization header; empty when there is none."""
    kind, _, secret = header.decode("latin-1").partition(" ")
    return secret.strip() if kind.lower() == "bearer" else ""


class Door:
    """One call: checks the token, reads the body within its limits, answers what `call` returns or raises.

    encodings: compressions of the body that the call undoes itself; all others are refused here. The answer is JSON
    unless its first header is another Content-Type.
    """

    def __init__(self, call: Call, guard: Guard, settings: Settings, encodings: frozenset[bytes] = NONE) -> None:
        self._call = call
        self._encodings = encodings
        self._guard = guard
        self._limit = settings.max_body_bytes
        self._seconds = settings.body_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._guard.check(scope)
            body = await read_body(scope, receive, self._limit, self._seconds, self._encodings)
            status, content, headers = await self._call(scope, body)
        except ClientGone:
            return
        except Exception as error:  # noqa: BLE001 - every error becomes an answer; unknown ones are logged there
            await refusal(error, scope["path"])(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": status, "headers": described(content, headers)})
        await send({"type": "http.response.body", "body": content})


def described(content: bytes, headers: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The headers of an answer with its length, and its type unless they begin with one."""
    length = (b"content-length", str(len(content)).encode())
    is_json = not headers or headers[0][0] != b"content-type"
    return [_JSON, length, *headers] if is_json else [length, *headers]


def refusal(error: Exception, path: str) -> Response:
    """The answer to a request that ended in this error; counted, unless a version has run: that is counted there."""
    if not isinstance(error, (ExecutionError, DeadlineExceeded)):
        kind = kind_of(error)
        metrics.refused.labels(kind.slug if kind else "internal-error").inc()
    return response_for(error, path)


def answer_headers(answer: Answer) -> tuple[tuple[bytes, bytes], ...]:
    """The X- headers of an answer: id, version, role, how it was written down."""
    return (
        (b"x-request-id", answer.id.encode()),
        (b"x-model-version", str(answer.version or "").encode()),
        (b"x-route-role", answer.role.encode()),
        (b"x-journal", answer.journal.encode()),
    )


class Head(Struct, frozen=True):
    """The headers of a request, looked at once. sent: the last of each name. is_plain: none of them says how to
    predict."""

    raw: Sequence[tuple[bytes, bytes]]
    sent: Mapping[bytes, bytes]
    headers: Mapping[str, str]
    is_plain: bool


def read_head(raw: Sequence[tuple[bytes, bytes]]) -> Head:
    """The head of these headers, names in lower case."""
    sent = dict(raw)
    return Head(raw, sent, Headers(raw=list(raw)), _OURS.isdisjoint(sent))


def prediction_request(
    head: Head,
    *,
    model: str | None,
    inputs: object = None,
    tensors: Any = None,
    key: str | None = None,
    id: str | None = None,
    pinned: int | None = None,
    are_numbers: bool = False,
) -> PredictRequest:
    """The request with what its headers say. The body's id and key win over the headers'. Raises InvalidInput."""
    if id is None and head.is_plain:
        return PredictRequest(model, inputs, tensors, key, None, pinned, head.headers, are_numbers=are_numbers)
    sent = head.sent
    place = "/id"
    if id is None and b"x-request-id" in sent:
        id, place = sent[b"x-request-id"].decode("latin-1"), "header X-Request-Id"
    if id is not None and not is_request_id(id):
        raise _bad(place, "must be 1 to 128 visible ASCII characters")
    if key is None and b"x-routing-key" in sent:
        key = _text(sent[b"x-routing-key"])
    if pinned is None and b"x-model-version" in sent:
        pinned = version_number(sent[b"x-model-version"].decode("latin-1"), "header X-Model-Version")
    trace = sent.get(b"traceparent", b"").decode("latin-1")
    return PredictRequest(
        model=model,
        inputs=inputs,
        tensors=tensors,
        key=key,
        id=id,
        pinned=pinned,
        headers=head.headers,
        trace=trace if trace and _TRACE.fullmatch(trace) else "",
        deadline_ms=_deadline_ms(sent),
        are_numbers=are_numbers,
    )


def version_number(text: str, place: str) -> int:
    """A version number. Raises InvalidInput naming the place."""
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and int(text) >= 1):
        raise _bad(place, "must be a version number such as 4")
    return int(text)


def _deadline_ms(sent: Mapping[bytes, bytes]) -> float | None:
    if b"x-request-timeout-ms" not in sent:
        return None
    text = sent[b"x-request-timeout-ms"].decode("latin-1")
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and int(text) >= 1):
        raise _bad("header X-Request-Timeout-Ms", "must be a whole number of milliseconds, at least 1")
    return float(text)


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _bad(place: str, detail: str) -> InvalidInput:
    return InvalidInput(f"{place} {detail}", [Fault(place, detail)])
