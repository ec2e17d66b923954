"""Two versions on the same rows: who agrees, who is right, and what is left out of which figure."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.comparison.tally import Row, compare, log_loss
from gateway.registry.manifest import PredictionSpec


def test_classes_are_compared_by_their_name() -> None:
    """A label came as text or number: 1, "1" and True are one class."""
    rows = [Row(1, "1", 1.0), Row(0, 1, 0), Row(1, 0, None), Row(1, None, 1), Row(None, 1, 1)]
    found = compare(rows, is_class=True, positive=1)
    assert (found.rows, found.labelled) == (3, 3)
    assert found.agreement is not None
    assert found.agreement.value == pytest.approx(1 / 3)
    assert found.flips == [("0", "1", 1), ("1", "0", 1)]
    assert found.own["accuracy"].value == 1.0
    assert found.other["accuracy"].value == 0.5
    assert found.paired is not None
    assert (found.paired.rows, found.paired.better, found.paired.worse) == (2, 1, 0)
    assert found.paired.difference.value == -0.5


def test_values_have_errors_in_their_own_unit() -> None:
    rows = [Row(10.0, 12.0, 11.0), Row(3, 3, 5.0), Row(1.0, None, 1.5), Row("x", 1.0, 1.0), Row(math.nan, 1.0, 1.0)]
    found = compare(rows, is_class=False)
    assert found.agreement is not None
    assert found.agreement.value == 1.0  # mean distance of both
    assert found.own["mae"].value == pytest.approx((1 + 2 + 0.5) / 3)
    assert found.own["rmse"].value == pytest.approx(math.sqrt((1 + 4 + 0.25) / 3))
    assert found.paired is not None
    assert (found.paired.own, found.paired.other, found.paired.difference.value) == (1.5, 1.5, 0.0)
    assert found.flips == []


def test_log_loss_is_of_the_true_class() -> None:
    spec = PredictionSpec(output="label", kind="class", classes=(0, 1), probabilities="p")
    assert log_loss("1", [0.25, 0.75], spec) == pytest.approx(-math.log(0.75))
    assert log_loss(1, [1.0, 0.0], spec) == pytest.approx(-math.log(1e-15))
    assert [log_loss(2, [0.5, 0.5], spec), log_loss(1, None, spec), log_loss(1, [0.5, None], spec)] == [None] * 3
    found = compare([Row(1, 0, 1, 0.5, 1.5), Row(1, 0, 1, 0.7, None)], is_class=True)
    assert found.own["log_loss"].value == pytest.approx(0.6)
    assert found.other["log_loss"].value == 1.5


def test_harm_in_a_part_is_seen_where_the_whole_is_fine() -> None:
    """A part with few rows says nothing."""
    rows = [Row(1, 0, 1, parts=("city=ulm",)) for _ in range(400)]
    rows += [Row(0, 1, 1, parts=("city=bonn",)) for _ in range(60)] + [Row(0, 1, 1, parts=("city=kiel",))] * 10
    found = compare(rows, is_class=True)
    assert found.paired is not None
    assert found.paired.difference.high < 0
    assert list(found.parts) == ["city=bonn", "city=ulm"]
    assert found.parts["city=bonn"].difference.low > 0
    assert found.parts["city=bonn"].own == 1.0


known = st.sampled_from([None, 0, 1, 2])


@given(st.lists(st.tuples(known, known, known), max_size=60), st.integers())
def test_the_order_of_the_rows_does_not_matter(
    values: list[tuple[int | None, int | None, int | None]], seed: int
) -> None:
    rows = [Row(own, other, label) for own, other, label in values]
    other = rows[:]
    random.Random(seed).shuffle(other)
    first, second = compare(rows, is_class=True), compare(other, is_class=True)
    assert (first.flips, first.own, first.other) == (second.flips, second.own, second.other)
    assert first.labelled == sum(1 for row in rows if row.own is not None and row.label is not None)


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=80))
def test_a_version_beside_itself_differs_nowhere(values: list[tuple[int, int]]) -> None:
    found = compare([Row(said, said, label) for said, label in values], is_class=True)
    assert found.paired is not None
    assert (found.paired.difference.value, found.paired.p, found.flips) == (0.0, 1.0, [])
    assert found.own == found.other


def test_many_classes_stay_a_small_table() -> None:
    found = compare([Row(place, place + 1) for place in range(100)], is_class=True)
    assert len({name for flip in found.flips for name in flip[:2]}) <= 17
    assert sum(count for *_, count in found.flips) == 100
