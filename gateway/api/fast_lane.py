"""`POST /predict` without ASGI: the edge hands over head and body, the answer comes back by a call.

The same functions as the application's door: `read_predict`, `Serving.submit`, `predict_body`, `refusal`. What this
lane does not take (tokens that are not known well, encodings, bodies of unknown length) goes through the application.
A test compares both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple, Protocol

from starlette.responses import Response

from gateway.api.door import Guard, Head, refusal
from gateway.api.predict import predict_body, read_predict
from gateway.api.problems import Unauthorized
from gateway.errors import QuotaExceeded
from gateway.serving.request import Answer, PredictRequest

PATH = "/predict"

Reply = Callable[[int, bytes, bytes], None]
"""Told status, header lines (each with its line end) and body."""


MOST_HEADS = 512
MOST_HEAD_BYTES = 2048


class KnownHead(NamedTuple):
    """A head that was parsed before: the same bytes mean the same. body_bytes: its Content-Length."""

    head: Head
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


class Submitting(Protocol):
    """What the lane asks of the room behind it (`gateway.serving.predict.Serving`)."""

    def submit(self, request: PredictRequest, done: Callable[[Answer | Exception], None]) -> None: ...


class FastLane:
    """Answers requests of one serving process. Holds nothing of a single one."""

    def __init__(self, serving: Submitting, guard: Guard | None = None) -> None:
        """guard: None lets everybody through."""
        self._submit = serving.submit
        self._guard = guard
        self.heads = KnownHeads()

    def admits(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """True when the caller may be answered here; else the application decides, and says what is wrong."""
        if self._guard is None:
            return True
        try:
            return self._guard.check_now(headers)
        except (Unauthorized, QuotaExceeded):
            return False

    def take(self, head: Head, body: bytes, reply: Reply) -> None:
        """Answer one request: `reply` is called once, at once or later, in this event loop. Never raises."""
        try:
            self._submit(read_predict(head, body), partial(_answer, reply))
        except Exception as error:  # noqa: BLE001 - every error becomes an answer; unknown ones are logged there
            reply(*as_lines(refusal(error, PATH)))


def _answer(reply: Reply, ended: Answer | Exception) -> None:
    if isinstance(ended, Exception):
        reply(*as_lines(refusal(ended, PATH)))
        return
    record = ended.record
    body = predict_body(record)
    lines = (
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\nx-request-id: {record.id}\r\n"
        f"x-model-version: {record.version or ''}\r\nx-route-role: {record.role}\r\nx-journal: {ended.journal}\r\n"
    )
    reply(200, lines.encode(), body)


def as_lines(response: Response) -> tuple[int, bytes, bytes]:
    """Status, header lines and body of a response."""
    lines = b"".join([b"%b: %b\r\n" % (name, value) for name, value in response.raw_headers])
    return response.status_code, lines, bytes(response.body)
