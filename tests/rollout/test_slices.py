"""Slices: which rows are in which, and that no traffic makes more of them than a person can read."""

from __future__ import annotations

from typing import Any

from gateway.journal.record import Prediction
from gateway.names import Outcome, Reason, Role
from gateway.registry.manifest import Feature
from gateway.registry.slice import MOST_VALUES
from gateway.rollout.evidence.slices import LEARNED_ROWS, Slice, Slicer, Slices

FEATURES = {1: (Feature(name="day", kind="categorical"), Feature(name="price")), 2: (Feature(name="price"),)}


def _record(inputs: Any, contract: int = 1) -> Prediction:
    return Prediction(
        "a", "m", 1, Role.CHAMPION, Reason.WEIGHT, 1, Outcome.OK, 100, 1, contract, inputs, {"label": [1]}
    )  # fmt: skip


def test_a_category_is_its_own_slice() -> None:
    """As people write it; a value that is not there is one too, and other features are left out."""
    slicer = Slicer(["day"], FEATURES)
    assert slicer.of(_record([[1, 0.5], ["1", 0.5], [None, 0.5]])) == [("day=1",), ("day=1",), ("day=missing",)]


def test_a_number_is_in_a_quarter_of_the_first_rows() -> None:
    """Learned from rows of any version that has the feature, wherever its column is; they are in no slice."""
    slicer = Slicer(["price"], FEATURES)
    for number in range(LEARNED_ROWS):
        row = [float(number)]
        assert slicer.of(_record([row], 2) if number % 2 else _record([["x", *row]])) == [()]
    found = [slicer.of(_record([[value]], 2))[0][0] for value in (-9, 60, 120, 1e9, None, float("nan"))]
    assert found == ["price<=49.25", "price<=99.5", "price<=149.8", "price>149.8", "price=missing", "price=missing"]


def test_a_feature_has_so_many_slices_and_no_more() -> None:
    """A serial number is no slice."""
    slicer = Slicer(["day"], FEATURES)
    names = {slicer.of(_record([[number, 0.0]]))[0][0] for number in range(100)}
    assert len(names) == MOST_VALUES + 1
    assert "day=other" in names


def test_without_inputs_by_feature_there_are_no_slices() -> None:
    """Too large to be kept, tensors, a version without features, nothing asked for."""
    for record in (_record(None), _record({"x": [[1.0]]}), _record([[1, 2]], 9)):
        assert Slicer(["day"], FEATURES).of(record) == []
    assert Slicer([], FEATURES).of(_record([[1, 2]])) == []


def test_slices_add_up() -> None:
    """A row counts in each of its slices."""
    slices = Slices()
    slices.add(("a", "b"), rows=1, distances=0.5)
    slices.add(("a",), rows=1, disagreements=True)
    assert slices.counted() == (("a", Slice(rows=2, disagreements=1, distances=0.5)), ("b", Slice(1, 0, 0.5)))
