"""Predictions without ASGI: the edge hands over head and body, the answer comes back by a call.

The same functions as the application's doors: `read_predict` and `predict_body`, `infer_request` and `infer_answer`,
`Serving.submit`, `refusal`. What this lane does not take (tokens that are not known well, encodings, bodies of unknown
length, paths with escapes or a query) goes through the application. A test compares both.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple, Protocol

from starlette.responses import Response

from gateway.api.door import Guard, Head, described, refusal, version_number
from gateway.api.inference_answer import infer_answer
from gateway.api.inference_body import Infer
from gateway.api.inference_v2 import VERSION_PLACE, infer_request
from gateway.api.predict import predict_body, read_predict
from gateway.api.problems import Unauthorized
from gateway.errors import QuotaExceeded
from gateway.registry.manifest import Manifest
from gateway.serving.request import Answer, PredictRequest

PREDICT = "/predict"
_INFER = re.compile(rb"/v2/models/([A-Za-z0-9._-]+)(?:/versions/([A-Za-z0-9._-]+))?/infer")

Reply = Callable[[int, bytes, bytes], None]
"""Told status, header lines (each with its line end) and body."""

Told = Callable[[Answer], tuple[bytes, bytes]]
"""Makes header lines and body of an answer with status 200. Raises what the application would refuse it with."""


MOST_HEADS = 512
MOST_HEAD_BYTES = 2048


class LaneCall(Protocol):
    """What is asked of one path."""

    path: str

    def read(self, head: Head, body: bytes) -> tuple[PredictRequest, Told]:
        """The request, and how its answer is told. Raises GatewayError."""


class KnownHead(NamedTuple):
    """A head that was parsed before: the same bytes mean the same. body_bytes: its Content-Length."""

    head: Head
    call: LaneCall
    body_bytes: int


class KnownHeads:
    """Heads of whole requests that took the lane, by their bytes: a caller that stays connected sends the same ones
    over and over. Bounded: when it is full it starts anew."""

    def __init__(self) -> None:
        self._known: dict[bytes, KnownHead] = {}
        self.get = self._known.get

    def put(self, sent: bytes, known: KnownHead) -> None:
        """Remember a head."""
        if len(sent) <= MOST_HEAD_BYTES:
            if len(self._known) >= MOST_HEADS:
                self._known.clear()
            self._known[sent] = known


class Serving(Protocol):
    """What the lane asks of the room behind it (`gateway.serving.predict.Serving`)."""

    def submit(self, request: PredictRequest, done: Callable[[Answer | Exception], None]) -> None: ...

    def manifest(self, model: str, version: int | None) -> Manifest: ...


class FastLane:
    """Answers requests of one serving process. Holds nothing of a single one."""

    def __init__(self, serving: Serving, guard: Guard | None = None) -> None:
        """guard: None lets everybody through."""
        self._serving = serving
        self._guard = guard
        self._predict = _Predict()
        self.heads = KnownHeads()

    def call_of(self, path: bytes) -> LaneCall | None:
        """What a POST to this path asks, when it may be answered here."""
        if path == _PREDICT_PATH:
            return self._predict
        found = _INFER.fullmatch(path)
        return None if found is None else _Infer(self._serving, path, found[1], found[2])

    def admits(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """True when the caller may be answered here; else the application decides, and says what is wrong."""
        if self._guard is None:
            return True
        try:
            return self._guard.check_now(headers)
        except (Unauthorized, QuotaExceeded):
            return False

    def take(self, call: LaneCall, head: Head, body: bytes, reply: Reply) -> None:
        """Answer one request: `reply` is called once, at once or later, in this event loop. Never raises."""
        try:
            request, told = call.read(head, body)
            self._serving.submit(request, partial(_answer, call.path, told, reply))
        except Exception as error:  # noqa: BLE001 - every error becomes an answer; unknown ones are logged there
            reply(*as_lines(refusal(error, call.path)))


_PREDICT_PATH = PREDICT.encode()


class _Predict:
    """`POST /predict`."""

    path = PREDICT

    def read(self, head: Head, body: bytes) -> tuple[PredictRequest, Told]:
        return read_predict(head, body), _predicted


def _predicted(answer: Answer) -> tuple[bytes, bytes]:
    record = answer.record
    body = predict_body(record)
    lines = (
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\nx-request-id: {record.id}\r\n"
        f"x-model-version: {record.version or ''}\r\nx-route-role: {record.role}\r\nx-journal: {answer.journal}\r\n"
    )
    return lines.encode(), body


class _Infer:
    """`POST /v2/models/{model}[/versions/{version}]/infer`."""

    def __init__(self, serving: Serving, path: bytes, model: bytes, version: bytes | None) -> None:
        self.path = path.decode()
        self._serving = serving
        self._model = model.decode()
        self._version = None if version is None else version.decode()

    def read(self, head: Head, body: bytes) -> tuple[PredictRequest, Told]:
        pinned = None if self._version is None else version_number(self._version, VERSION_PLACE)
        manifest = self._serving.manifest(self._model, pinned)
        request, asked = infer_request(manifest, head, pinned, body)
        return request, partial(_inferred, asked)


def _inferred(asked: Infer, answer: Answer) -> tuple[bytes, bytes]:
    _, body, headers = infer_answer(answer, asked)
    return header_lines(described(body, headers)), body


def _answer(path: str, told: Told, reply: Reply, ended: Answer | Exception) -> None:
    try:
        if isinstance(ended, Exception):
            raise ended
        lines, body = told(ended)
    except Exception as error:  # noqa: BLE001 - as in `take`
        reply(*as_lines(refusal(error, path)))
        return
    reply(200, lines, body)


def as_lines(response: Response) -> tuple[int, bytes, bytes]:
    """Status, header lines and body of a response."""
    return response.status_code, header_lines(response.raw_headers), bytes(response.body)


def header_lines(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Headers as they are sent, each with its line end."""
    return b"".join([b"%b: %b\r\n" % header for header in headers])
