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
from gateway.registry.manifest import MOST_JOINED_ROWS, Manifest, Tensor

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
