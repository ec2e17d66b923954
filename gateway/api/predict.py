"""`POST /predict`: JSON in, one prediction, JSON out.

Takes the body apart and puts the answer together; features are checked by the contract of the version that answers.
"""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.types import Scope

from gateway.api.body import NESTED, Scalar, check_keys, decode
from gateway.api.door import Head, Sent, Serving, answer_headers, prediction_request, read_head
from gateway.errors import Fault, InvalidInput
from gateway.journal.record import Prediction
from gateway.names import Reason, Role
from gateway.serving.request import Answer, PredictRequest


def _body(name: str, inputs: Any) -> Any:
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = [
        ("inputs", inputs),
        ("model", str | None, None),
        ("key", str | int | None, None),
        ("id", str | None, None),
    ]
    return msgspec.defstruct(name, fields, forbid_unknown_fields=True)


# Checked while decoding: a record by feature name, a list of records, a list of rows, or tensors by name.
PredictBody = _body("PredictBody", dict[str, NESTED] | list[Scalar | dict[str, NESTED] | list[NESTED]])
_DECODER: msgspec.json.Decoder[Any] = msgspec.json.Decoder(PredictBody)
_NUMBERS: msgspec.json.Decoder[Any] = msgspec.json.Decoder(_body("Numbers", list[list[int | float]]))
_ENCODER = msgspec.json.Encoder()

MAX_KEY_CHARACTERS = 1024


class Predict:
    """The call, for `gateway.api.door.Door`. The fast lane calls the same two functions without it."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving

    async def __call__(self, scope: Scope, body: bytes) -> Sent:
        return predict_answer(await self._serving.predict(read_predict(read_head(scope["headers"]), body)))


def read_predict(head: Head, body: bytes) -> PredictRequest:
    """The request in a body and its headers. Raises InvalidInput."""
    numbers = _rows_of_numbers(body)
    asked = numbers or decode(_DECODER, body)
    check_keys(body, _keys(asked))
    key = asked.key
    if key is not None:
        key = str(key)
        if len(key) > MAX_KEY_CHARACTERS:
            detail = f"must be at most {MAX_KEY_CHARACTERS} characters"
            raise InvalidInput(f"/key {detail}", [Fault("/key", detail)])
    return prediction_request(
        head, model=asked.model, inputs=asked.inputs, key=key, id=asked.id, are_numbers=numbers is not None
    )


def predict_answer(answer: Answer) -> Sent:
    """Status, body and headers of an answer."""
    return 200, predict_body(answer.record), answer_headers(answer)


def predict_body(record: Prediction) -> bytes:
    """The body of an answer that was written down so."""
    return _ENCODER.encode(
        _Content(
            record.id,
            record.model,
            record.version or None,
            record.role,
            record.reason,
            record.outputs,
            record.flags or msgspec.UNSET,
        )
    )


class _Content(msgspec.Struct):
    """The body of an answer."""

    id: str
    model: str
    version: int | None
    role: Role
    reason: Reason
    outputs: dict[str, Any]
    flags: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET


def _rows_of_numbers(body: bytes) -> Any:
    """The body when its inputs are rows of numbers and nothing else: the decoder tells their types for nothing."""
    if b"[[" not in body:
        return None
    try:
        return _NUMBERS.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _keys(asked: Any) -> int:
    """How many keys the body has when none stands twice; with a null in it, it is read again to be sure."""
    inputs = asked.inputs
    count = 1 + (asked.model is not None) + (asked.key is not None) + (asked.id is not None)
    if isinstance(inputs, dict):
        return count + len(inputs)
    for record in inputs:
        if type(record) is dict:
            count += len(record)
    return count
