"""Answers kept for a while: the same version, the same policy and the same inputs get the answer of a run before.

One cache for each arm, so a new version, route or policy begins with an empty one. Bounded in number and in the size of
what is looked up; the oldest answer leaves first. Only successful runs are kept. Used from one event loop only.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Final, NamedTuple

import msgspec

from gateway.execution.contract import Prepared
from gateway.execution.executor import Run
from gateway.execution.tensors import Tensors
from gateway.names import Outcome
from gateway.serving.request import PredictRequest

MOST_ANSWERS: Final = 10_000
MOST_KEY_BYTES: Final = 4096
"""Larger inputs are not looked up: writing down what they are costs as much as running them."""

_ENCODER: Final = msgspec.msgpack.Encoder()


class Kept(NamedTuple):
    """An answer with the checked inputs it belongs to."""

    prepared: Prepared
    run: Run
    expires: float


class ResponseCache:
    """The answers of one arm. seconds: how long each may be given again."""

    def __init__(self, seconds: float, most: int = MOST_ANSWERS) -> None:
        self._seconds = seconds
        self._most = most
        self._kept: OrderedDict[bytes, Kept] = OrderedDict()

    def get(self, key: bytes, now: float) -> Kept | None:
        """What was kept for the key, unless it is too old."""
        kept = self._kept.get(key)
        if kept is None or now > kept.expires:
            return None
        return kept

    def put(self, key: bytes, prepared: Prepared, run: Run, now: float) -> None:
        """Keep the answer of a run. Its arrays are copied: they may be part of a large joined run."""
        if run.outputs is None:
            return
        self._kept[key] = Kept(_alone(prepared), _given_again(run), now + self._seconds)
        self._kept.move_to_end(key)
        if len(self._kept) > self._most:
            self._kept.popitem(last=False)


def key_of(request: PredictRequest) -> bytes | None:
    """The inputs as bytes; None when they are too large, or nothing that can be written down."""
    content: Any = request.inputs
    if request.tensors is not None:
        if sum(array.nbytes for array in request.tensors.values()) > MOST_KEY_BYTES:
            return None
        content = {name: _described(array) for name, array in request.tensors.items()}
    try:
        key = _ENCODER.encode((request.tensors is None, content))
    except (TypeError, ValueError, OverflowError, RecursionError):
        return None
    return key if len(key) <= MOST_KEY_BYTES else None


def _described(array: Any) -> tuple[str, Any, Any]:
    return array.dtype.str, array.shape, array.tolist() if array.dtype.kind == "O" else array.tobytes()


def _alone(prepared: Prepared) -> Prepared:
    return msgspec.structs.replace(prepared, tensors=_copied(prepared.tensors))


def _given_again(run: Run) -> Run:
    """The same outputs; the model did not run for them."""
    return Run(_copied(run.outputs or {}), Outcome.OK, 0, listed=run.listed)


def _copied(tensors: Tensors) -> Tensors:
    return {name: array.copy() for name, array in tensors.items()}
