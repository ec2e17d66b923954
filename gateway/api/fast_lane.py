"""`POST /predict` without ASGI: the edge hands over headers and body, the answer comes back by a call.

The same functions as the application's door: `read_predict`, `Serving.submit`, `predict_answer`, `refusal`. What this
lane does not take (tokens, encodings, bodies of unknown length) goes through the application. A test compares both.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

from starlette.responses import Response

from gateway.api.door import Sent, refusal
from gateway.api.predict import predict_answer, read_predict
from gateway.serving.request import Answer, PredictRequest

PATH = "/predict"

Headers = list[tuple[bytes, bytes]]
Reply = Callable[[Sent], None]

_JSON = (b"content-type", b"application/json")


class Submitting(Protocol):
    """What the lane asks of the room behind it (`gateway.serving.predict.Serving`)."""

    def submit(self, request: PredictRequest, done: Callable[[Answer | Exception], None]) -> None: ...


class FastLane:
    """Answers requests of one serving process. Holds nothing of a single one."""

    def __init__(self, serving: Submitting) -> None:
        self._serving = serving

    def take(self, headers: Headers, body: bytes, reply: Reply) -> None:
        """Answer one request: `reply` is called once, at once or later, in this event loop. Never raises."""
        try:
            request = read_predict({"headers": headers}, body)
            self._serving.submit(request, partial(_answer, reply))
        except Exception as error:  # noqa: BLE001 - every error becomes an answer; unknown ones are logged there
            reply(_sent(refusal(error, PATH)))


def _answer(reply: Reply, ended: Answer | Exception) -> None:
    if isinstance(ended, Exception):
        reply(_sent(refusal(ended, PATH)))
        return
    status, body, headers = predict_answer(ended)
    reply((status, body, (_JSON, (b"content-length", b"%d" % len(body)), *headers)))


def _sent(response: Response) -> Sent:
    return response.status_code, bytes(response.body), tuple(response.raw_headers)
