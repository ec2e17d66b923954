"""Whether rows of different callers may share a run of a model: tried, never believed from the signature.

Rows are run alone and joined, in many sizes, and every output must have the same shape and the same bits both ways. A
matrix product with one row is a vector product to the runtime and rounds differently (measured: half of all rows of a
logistic regression differ in the last bit); from two rows on the bits no longer depend on how many there are. So a
model that fails alone against joined is tried again with every row alone run twice over.

Runs where admission runs; knows nothing of processes and limits.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gateway.errors import ExecutionError
from gateway.execution.session import run_at_least
from gateway.execution.tensors import BY_NAME, Tensors, columns_of, from_rows
from gateway.registry.manifest import MOST_JOINED_ROWS, Manifest

_SIZES = (2, 3, 4, 5, 6, 7, 8, 9, 12, 15, 16, 17, 24, 31, 32, 33, 48, 63, MOST_JOINED_ROWS)
_LEAST_ROWS = (1, 2)
_MOST_SECONDS = 2.0
"""A model that needs longer for all this gains nothing from joining."""

Clock = Callable[[], float]


def rows_to_join(
    session: Any,
    names: list[str],
    manifest: Manifest,
    rows: Sequence[Sequence[Any]],
    monotonic: Clock = time.monotonic,
) -> int:
    """How many rows each run needs at least so that joined rows answer as they do alone; 0: they must not be joined.

    rows: in feature order, known to run; random numbers are added to them.
    """
    if not may_be_joined(manifest):
        return 0
    try:
        table = _table(manifest, rows)
        deadline = monotonic() + _MOST_SECONDS
        for least_rows in _LEAST_ROWS:
            if _is_equal(session, names, table, least_rows, deadline, monotonic):
                return least_rows
    except (ExecutionError, ValueError, TypeError, OverflowError, IndexError):
        return 0
    return 0


def may_be_joined(manifest: Manifest) -> bool:
    """True when every input is made of features and has a free first dimension, and no other free one."""
    return bool(manifest.features) and all(
        tensor.shape[:1] == (-1,) and all(size > 0 for size in tensor.shape[1:]) for tensor in manifest.inputs
    )


def _is_equal(
    session: Any, names: list[str], table: Tensors, least_rows: int, deadline: float, monotonic: Clock
) -> bool:
    count = len(next(iter(table.values())))
    alone: list[list[Any]] = []
    for row in range(count):
        alone.append(run_at_least(least_rows, session, names, _rows(table, row, row + 1)))
        if monotonic() > deadline:
            return False
    start = 0
    for size in _SIZES:
        if start + size > count:
            start = 0
        joined = run_at_least(least_rows, session, names, _rows(table, start, start + size))
        if monotonic() > deadline or not _same(joined, alone[start : start + size]):
            return False
        start += size
    return True


def _rows(table: Tensors, start: int, behind: int) -> Tensors:
    return {name: array[start:behind] for name, array in table.items()}


def _same(joined: Sequence[Any], alone: Sequence[Sequence[Any]]) -> bool:
    """True when each output, joined, is the outputs alone below one another, bit for bit."""
    for place, output in enumerate(joined):
        pieces = [answers[place] for answers in alone]
        if isinstance(output, list):  # a ZipMap: one map a row
            if any(len(piece) != 1 for piece in pieces) or not _same_maps(output, [piece[0] for piece in pieces]):
                return False
            continue
        if any(piece.ndim == 0 or len(piece) != 1 for piece in pieces):
            return False
        expected = np.concatenate(pieces)
        if output.shape != expected.shape or output.dtype != expected.dtype:
            return False
        if output.dtype.kind == "O":
            if output.tolist() != expected.tolist():
                return False
        elif output.tobytes() != expected.tobytes():
            return False
    return True


def _same_maps(joined: Sequence[Any], alone: Sequence[Any]) -> bool:
    return len(joined) == len(alone) and all(
        list(one) == list(other) and np.array(list(one.values())).tobytes() == np.array(list(other.values())).tobytes()
        for one, other in zip(joined, alone, strict=True)
    )


def _table(manifest: Manifest, rows: Sequence[Sequence[Any]]) -> Tensors:
    """MOST_JOINED_ROWS rows: the known ones over and over, their fractions moved a little; else made-up numbers."""
    random = np.random.default_rng(0)
    known = [rows[number % len(rows)] for number in range(MOST_JOINED_ROWS)] if rows else []
    if known and any(isinstance(cell, str) for row in rows for cell in row):
        return from_rows(known, manifest)
    tensors = from_rows(known, manifest) if known else {}
    for tensor in manifest.inputs:
        datatype = BY_NAME[tensor.datatype]
        if datatype.numpy.kind == "O":
            raise ValueError("texts are not made up")
        if datatype.is_float:
            shape = (MOST_JOINED_ROWS, *tensor.shape[1:])
            base = tensors.get(tensor.name, np.zeros(shape, datatype.numpy))
            spread = _spread(manifest, tensor.name, shape)
            tensors[tensor.name] = (base + random.normal(size=shape) * spread).astype(datatype.numpy)
        elif tensor.name not in tensors:
            made = random.integers(0, 10, size=(MOST_JOINED_ROWS, *tensor.shape[1:]))
            tensors[tensor.name] = made.astype(datatype.numpy)
    return tensors


def _spread(manifest: Manifest, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """How far each column's numbers are moved: a tenth of its range, 1 where there is none; categories stay."""
    tensor = next(tensor for tensor in manifest.inputs if tensor.name == name)
    spread = np.ones(shape[1:])
    for column, place in enumerate(columns_of(tensor, manifest)):
        feature = manifest.features[place]
        width = 1.0
        if feature.kind == "categorical":
            width = 0.0
        elif feature.low is not None and feature.high is not None and math.isfinite(feature.high - feature.low):
            width = (feature.high - feature.low) / 10
        if spread.ndim:
            spread[column] = width
        else:
            spread = np.array(width)
    return spread
