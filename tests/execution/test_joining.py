"""Rows may share a run only where admission has seen the same bits joined and alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gateway.execution.joining import Joining, joins_under, may_be_joined, try_joining
from gateway.execution.session import run_at_least
from gateway.registry.manifest import Feature, Manifest, Tensor


def manifest(*shape: int) -> Manifest:
    width = shape[-1] if len(shape) == 2 and shape[-1] > 0 else 1
    return Manifest(
        model="m",
        inputs=(Tensor(name="X", datatype="FP32", shape=shape),),
        features=tuple(Feature(name=f"f{place}", input="X", position=place) for place in range(width)),
    )


class Session:
    """Answers what a function makes of the table."""

    def __init__(self, function: Any) -> None:
        self.function = function
        self.heights: list[int] = []

    def run(self, names: list[str], tensors: dict[str, np.ndarray], options: object = None) -> list[Any]:
        self.heights.append(len(tensors["X"]))
        return [self.function(tensors["X"])]


def row_sums(table: np.ndarray) -> Any:
    return table.sum(axis=1)


def vector_product(table: np.ndarray) -> Any:
    """As the runtime does it: a single row takes another way, which rounds differently."""
    return table.sum(axis=1) + (np.float32(1e-3) if len(table) == 1 else np.float32(0))


@pytest.mark.parametrize(
    ("function", "least_rows"),
    [
        (row_sums, 1),
        (vector_product, 2),
        (lambda table: table - table.mean(axis=0), 0),  # looks at the others
        (lambda table: table.sum(axis=0), 0),  # no row for each row
        (lambda table: np.float32(table.sum()), 0),
        (lambda table: table[:, 0] + np.arange(len(table), dtype=np.float32), 0),  # looks at the place
        (lambda table: table.sum(axis=1) + np.float32(len(table) > 40), 0),  # only large runs differ
        (lambda table: [{0: float(row[0]), 1: float(row[1])} for row in table], 1),  # a ZipMap
        (lambda table: [{0: float(row[0]), 1: float(len(table))} for row in table], 0),
        (lambda table: np.array([str(row[0]) for row in table], dtype=np.object_), 1),
        (lambda table: np.array([str(len(table)) for row in table], dtype=np.object_), 0),
    ],
    ids=[
        "each row alone",
        "one row rounds differently",
        "looks at the other rows",
        "adds rows up",
        "one number for all",
        "looks at the place",
        "large runs differ",
        "maps",
        "maps that look at the others",
        "texts",
        "texts that look at the others",
    ],
)
def test_joined_and_alone_are_compared_bit_for_bit(function: Any, least_rows: int) -> None:
    assert try_joining(Session(function), ["y"], manifest(-1, 2), []).least_rows == least_rows


@pytest.mark.parametrize("shape", [(1, 2), (-1, -1), (), (2,)])
def test_only_a_free_first_dimension_may_be_joined(shape: tuple[int, ...]) -> None:
    assert not may_be_joined(manifest(*shape))


def test_a_model_without_features_is_not_joined() -> None:
    """Its inputs may differ in height."""
    assert not may_be_joined(Manifest(model="m", inputs=(Tensor(name="X", datatype="FP32", shape=(-1, 2)),)))


def test_known_rows_are_tried_too() -> None:
    """A model that differs only far from zero is not joined when its rows lie there."""

    def far(table: np.ndarray) -> Any:
        return table.sum(axis=1) * np.float32(1 + (table.max() > 500) * (len(table) > 2))

    assert try_joining(Session(far), ["y"], manifest(-1, 2), []).least_rows == 1
    assert try_joining(Session(far), ["y"], manifest(-1, 2), [[1000.0, 1.0]]).least_rows == 0


def test_a_slow_model_is_not_tried_to_the_end() -> None:
    now = iter(range(1000))
    session = Session(row_sums)
    assert try_joining(session, ["y"], manifest(-1, 2), [], lambda: float(next(now))).least_rows == 0
    assert len(session.heights) < 10


def test_a_row_alone_is_run_twice_over_where_that_is_needed() -> None:
    session = Session(row_sums)
    table = {"X": np.ones((1, 2), np.float32)}
    [answer] = run_at_least(2, session, ["y"], table)
    assert (session.heights, answer.tolist()) == ([2], [2.0])
    run_at_least(2, session, ["y"], {"X": np.ones((3, 2), np.float32)})
    assert session.heights == [2, 3]


def test_how_far_joined_rows_are_off_is_told() -> None:
    """Relative for large numbers, absolute for small ones; a policy may accept it."""

    def off(table: np.ndarray) -> Any:
        return (table.sum(axis=1) * 0 + 99) + np.float32(0.5 * (len(table) > 40))

    found = try_joining(Session(off), ["y"], manifest(-1, 2), [])
    assert found.least_rows == 0
    assert found.difference == pytest.approx(0.005)


@pytest.mark.parametrize(
    "function",
    [
        lambda table: table.sum(axis=0),
        lambda table: np.full(len(table), len(table), np.int64),
        lambda table: np.array([str(len(table)) for row in table], dtype=np.object_),
        lambda table: np.full(len(table), np.nan if len(table) > 40 else 1.0, np.float32),
    ],
    ids=["shapes", "whole numbers", "texts", "not a number"],
)
def test_no_tolerance_covers_what_is_no_fraction(function: Any) -> None:
    """A label that flips is another answer, however near the scores are."""
    assert try_joining(Session(function), ["y"], manifest(-1, 2), []) == Joining(0, None)


def test_equal_bits_differ_by_nothing() -> None:
    """Also where a row alone must be run twice over for it, and where an answer is no number."""
    assert try_joining(Session(vector_product), ["y"], manifest(-1, 2), []) == Joining(2, 0.0)
    nothing = Session(lambda table: np.full(len(table), np.nan, np.float32))
    assert try_joining(nothing, ["y"], manifest(-1, 2), []) == Joining(1, 0.0)


@pytest.mark.parametrize(
    ("joins", "difference", "tolerance", "expected"),
    [
        (True, 0.0, 0.0, True),
        (True, None, 0.0, True),  # published before the difference was recorded
        (False, None, 0.5, False),
        (False, 1e-6, 0.0, False),
        (False, 0.0, 0.0, False),
        (False, 1e-6, 1e-7, False),
        (False, 1e-6, 1e-6, True),
    ],
)
def test_a_policy_may_accept_a_difference(
    joins: bool, difference: float | None, tolerance: float, expected: bool
) -> None:
    found = Manifest(model="m", joins=joins, join_difference=difference)
    assert joins_under(found, tolerance) is expected
