"""Figures hold what they are of, and their intervals hold the truth about as often as they say."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.comparison.figure import Figure, Moments, f1, matched, root, share, sign_test


def holds(figure: Figure | None) -> bool:
    return figure is not None and figure.low <= figure.value <= figure.high


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=50))
def test_the_mean_of_numbers_added_one_at_a_time(numbers: list[float]) -> None:
    moments = Moments()
    for number in numbers:
        moments.add(number)
    figure = moments.figure()
    assert figure is not None
    assert figure.value == pytest.approx(statistics.fmean(numbers), abs=1e-6)
    half = 1.959964 * statistics.stdev(numbers) / math.sqrt(len(numbers))
    assert figure.high - figure.value == pytest.approx(half, rel=1e-6, abs=1e-4)


@settings(max_examples=40)
@given(st.integers(1, 3000), st.data())
def test_every_interval_holds_its_value(rows: int, data: st.DataObject) -> None:
    better = data.draw(st.integers(0, rows))
    worse = data.draw(st.integers(0, rows - better))
    assert holds(share(better, rows))
    assert holds(matched(better, worse, rows))
    assert holds(f1({("1", "1"): better, ("0", "1"): worse, ("1", "0"): rows - better - worse}, "1"))
    assert 0.0 <= sign_test(better, worse) <= 1.0


def test_a_share_by_wilson() -> None:
    """Ten of ten is not certain."""
    assert share(0, 0) is None
    figure = share(10, 10)
    assert figure is not None
    assert (figure.value, figure.high) == (1.0, 1.0)
    assert figure.low == pytest.approx(0.7225, abs=1e-4)


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    random = np.random.default_rng(5)
    found = {"share": 0, "f1": 0, "rmse": 0}
    runs, rows = 300, 300
    truth_f1 = 2 * 0.3 / (2 * 0.3 + 0.1 + 0.2)
    for _ in range(runs):
        hits, raised, missed, rest = random.multinomial(rows, [0.3, 0.1, 0.2, 0.4]).tolist()
        accuracy = share(hits + rest, rows)
        table = {("1", "1"): hits, ("0", "1"): raised, ("1", "0"): missed, ("0", "0"): rest}
        quality = f1(table, "1")
        squares = Moments()
        for error in random.normal(0, 2, rows).tolist():
            squares.add(error * error)
        width = root(squares)
        assert accuracy
        assert quality
        assert width
        found["share"] += accuracy.low <= 0.7 <= accuracy.high
        found["f1"] += quality.low <= truth_f1 <= quality.high
        found["rmse"] += width.low <= 2.0 <= width.high
    assert all(0.90 <= count / runs <= 0.99 for count in found.values()), found


def test_f1_of_one_class_and_of_all() -> None:
    table = {("1", "1"): 6, ("0", "1"): 2, ("1", "0"): 4, ("0", "0"): 8}
    one, every = f1(table, "1"), f1(table, None)
    assert one
    assert every
    assert one.value == pytest.approx(12 / 18)
    assert every.value == pytest.approx((12 / 18 + 16 / 22) / 2)
    assert f1(table, "2") == Figure(0.0, 0.0, 0.0)
    assert f1({}, "1") is None


def test_a_sign_test_of_few_and_of_many() -> None:
    assert sign_test(0, 0) == 1.0
    assert sign_test(0, 5) == pytest.approx(2 / 32)
    assert sign_test(500, 500) == 1.0
    assert sign_test(480, 520) == pytest.approx(sign_test(481, 521), abs=0.02)  # exact beside its approximation
    assert sign_test(2000, 1000) < 1e-50
