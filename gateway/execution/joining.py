"""Whether rows of different callers may share a run of a model: tried, never believed from the signature.

Rows are run alone and joined, in many sizes, and every output must have the same shape and the same bits both ways. A
matrix product with one row is a vector product to the runtime and rounds differently (measured: half of all rows of a
logistic regression differ in the last bit); from two rows on the bits no longer depend on how many there are. So a
model that fails alone against joined is tried again with every row alone run twice over. How far it was off is kept
for policies that accept a difference (`joins_under`).

Runs where admission runs; knows nothing of processes and limits.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from gateway.errors import ExecutionError
from gateway.execution.session import run_at_least
from gateway.execution.tensors import BY_NAME, Tensors, columns_of, from_rows
from gateway.registry.manifest import MOST_JOINED_ROWS, Manifest, Tensor

_SIZES = (2, 3, 4, 5, 6, 7, 8, 9, 12, 15, 16, 17, 24, 31, 32, 33, 48, 63, MOST_JOINED_ROWS)
_LEAST_ROWS = (1, 2)
_MOST_SECONDS = 2.0
"""A model that needs longer for all this gains nothing from joining."""

Clock = Callable[[], float]


class Joining(NamedTuple):
    """What was seen of joined runs. least_rows: how many rows each run needs so that no bit differs; 0: none will do.

    difference: the largest |joined - alone| / (1 + |alone|) of all numbers, without repeated rows; None: not even the
    shapes or the texts and whole numbers were the same, or it was not tried to the end.
    """

    least_rows: int = 0
    difference: float | None = None


def joins_under(manifest: Manifest, tolerance: float) -> bool:
    """True when rows of different callers may share a run of this version under a policy with this tolerance. Pure.

    tolerance: accepted |joined - alone| / (1 + |alone|), so absolute for small numbers and relative for large ones;
    0 accepts equal bits only.
    """
    if manifest.joins:
        return True
    seen = manifest.join_difference
    return tolerance > 0 and seen is not None and seen <= tolerance


def try_joining(
    session: Any,
    names: list[str],
    manifest: Manifest,
    rows: Sequence[Sequence[Any]],
    monotonic: Clock = time.monotonic,
) -> Joining:
    """Compare joined rows with rows alone. rows: in feature order, known to run; random numbers are added to them."""
    if not may_be_joined(manifest):
        return Joining()
    difference: float | None = None
    try:
        table = _table(manifest, rows)
        deadline = monotonic() + _MOST_SECONDS
        for least_rows in _LEAST_ROWS:
            seen = _compare(session, names, table, least_rows, deadline, monotonic)
            if seen.is_equal:
                return Joining(least_rows, 0.0)
            if least_rows == 1:
                difference = seen.difference
    except (ExecutionError, ValueError, TypeError, OverflowError, IndexError):
        return Joining(0, difference)
    return Joining(0, difference)


def may_be_joined(manifest: Manifest) -> bool:
    """True when every input is made of features and has a free first dimension, and no other free one."""
    return bool(manifest.features) and all(
        tensor.shape[:1] == (-1,) and all(size > 0 for size in tensor.shape[1:]) for tensor in manifest.inputs
    )


class _Seen(NamedTuple):
    """is_equal: every bit. difference: None where it has no number (shapes, texts, whole numbers, no time left)."""

    is_equal: bool
    difference: float | None


_UNLIKE = _Seen(False, None)


def _compare(
    session: Any, names: list[str], table: Tensors, least_rows: int, deadline: float, monotonic: Clock
) -> _Seen:
    """Runs of all sizes against the same rows alone; ends at the first thing that no tolerance covers."""
    count = len(next(iter(table.values())))
    alone: list[list[Any]] = []
    for row in range(count):
        alone.append(run_at_least(least_rows, session, names, _rows(table, row, row + 1)))
        if monotonic() > deadline:
            return _UNLIKE
    start = 0
    seen = _Seen(True, 0.0)
    for size in _SIZES:
        if start + size > count:
            start = 0
        joined = run_at_least(least_rows, session, names, _rows(table, start, start + size))
        if monotonic() > deadline:
            return _UNLIKE
        seen = _worse(seen, _outputs(joined, alone[start : start + size]))
        if seen.difference is None:
            return _UNLIKE
        start += size
    return seen


def _worse(one: _Seen, other: _Seen) -> _Seen:
    if one.difference is None or other.difference is None:
        return _UNLIKE
    return _Seen(one.is_equal and other.is_equal, max(one.difference, other.difference))


def _rows(table: Tensors, start: int, behind: int) -> Tensors:
    return {name: array[start:behind] for name, array in table.items()}


def _outputs(joined: Sequence[Any], alone: Sequence[Sequence[Any]]) -> _Seen:
    """Each output, joined, against the outputs alone below one another."""
    seen = _Seen(True, 0.0)
    for place, output in enumerate(joined):
        pieces = [answers[place] for answers in alone]
        if isinstance(output, list):  # a ZipMap: one map a row
            seen = _worse(seen, _maps(output, pieces))
        elif any(piece.ndim == 0 or len(piece) != 1 for piece in pieces):
            return _UNLIKE
        else:
            seen = _worse(seen, _arrays(output, np.concatenate(pieces)))
    return seen


def _maps(joined: Sequence[Any], pieces: Sequence[Any]) -> _Seen:
    if len(joined) != len(pieces) or any(len(piece) != 1 for piece in pieces):
        return _UNLIKE
    seen = _Seen(True, 0.0)
    for one, [other] in zip(joined, pieces, strict=True):
        if list(one) != list(other):
            return _UNLIKE
        seen = _worse(seen, _arrays(np.array(list(one.values())), np.array(list(other.values()))))
    return seen


def _arrays(joined: np.ndarray, alone: np.ndarray) -> _Seen:
    if joined.shape != alone.shape or joined.dtype != alone.dtype:
        return _UNLIKE
    if joined.dtype.kind == "O":
        return _Seen(True, 0.0) if joined.tolist() == alone.tolist() else _UNLIKE
    if joined.tobytes() == alone.tobytes():
        return _Seen(True, 0.0)
    if joined.dtype.kind != "f":
        return _UNLIKE
    return _Seen(False, _difference(joined.astype(np.float64), alone.astype(np.float64)))


def _difference(joined: np.ndarray, alone: np.ndarray) -> float | None:
    """The largest difference of the finite numbers; None when what is not finite differs."""
    finite = np.isfinite(joined) & np.isfinite(alone)
    if not np.array_equal(joined[~finite], alone[~finite], equal_nan=True):
        return None
    apart = np.abs(joined[finite] - alone[finite]) / (1 + np.abs(alone[finite]))
    return float(apart.max(initial=0.0))


def _table(manifest: Manifest, rows: Sequence[Sequence[Any]]) -> Tensors:
    """MOST_JOINED_ROWS rows: the known ones over and over, their fractions moved a little; else made-up numbers.

    Raises ValueError for texts that nobody knows.
    """
    random = np.random.default_rng(0)
    if rows and any(isinstance(cell, str) for row in rows for cell in row):
        return from_rows([rows[number % len(rows)] for number in range(MOST_JOINED_ROWS)], manifest)
    known = from_rows([rows[number % len(rows)] for number in range(MOST_JOINED_ROWS)], manifest) if rows else {}
    tensors: Tensors = {}
    for tensor in manifest.inputs:
        datatype = BY_NAME[tensor.datatype]
        shape = (MOST_JOINED_ROWS, *tensor.shape[1:])
        if datatype.is_float:
            middle, width = _middle(manifest, tensor, shape)
            base = known.get(tensor.name, middle)
            tensors[tensor.name] = (base + random.normal(size=shape) * width).astype(datatype.numpy)
        elif tensor.name in known:
            tensors[tensor.name] = known[tensor.name]
        elif datatype.numpy.kind == "O":
            raise ValueError("texts are not made up")
        else:
            tensors[tensor.name] = random.integers(0, 10, size=shape).astype(datatype.numpy)
    return tensors


def _middle(manifest: Manifest, tensor: Tensor, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Around what the numbers of each column lie, and how far they are moved from there.

    A tenth of a feature's range; where there is none, from hardly at all to far, by row: a model that is saturated by
    every number it gets answers the same however it rounds. Categories stay.
    """
    middle = np.zeros(shape)
    width = np.ones(shape) * np.logspace(-2, 1, shape[0]).reshape(-1, *[1] * (len(shape) - 1))
    for column, place in enumerate(columns_of(tensor, manifest)):
        feature = manifest.features[place]
        cells = (slice(None), column) if len(shape) == 2 else (slice(None),)
        if feature.kind == "categorical":
            width[cells] = 0.0
        elif feature.low is not None and feature.high is not None and math.isfinite(feature.high - feature.low):
            middle[cells] = (feature.low + feature.high) / 2
            width[cells] = (feature.high - feature.low) / 10
    return middle, width
