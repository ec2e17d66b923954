"""Delays of labels and values of answers: small states, figures near the exact ones, intervals that keep their word."""

from __future__ import annotations

import math
import random

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.monitor.figures.delay import PERCENTILES, Delays
from gateway.monitor.figures.value import LEAST_VALUES, Earned


@given(st.lists(st.floats(0.001, 1e8), min_size=1, max_size=300))
@settings(max_examples=40, deadline=None)
def test_percentiles_of_delays_are_within_two_percent(seconds: list[float]) -> None:
    delays = Delays()
    for one in seconds:
        delays.add(one)
    exact = np.quantile(seconds, list(PERCENTILES.values()), method="lower").tolist()
    assert list(delays.percentiles().values()) == pytest.approx(exact, rel=0.021)


def test_delays_of_any_length_need_little_room() -> None:
    """A label a millisecond late, one a year late, one that was there before its prediction."""
    delays, chance = Delays(), random.Random(1)
    for _ in range(5000):
        delays.add(10 ** chance.uniform(-6, 9))
    delays.add(0.0)
    delays.add(-5.0)
    assert len(msgspec.msgpack.encode(delays)) < 4000
    assert Delays().percentiles() == {}


def test_an_interval_of_the_mean_value_holds_at_every_look() -> None:
    """People look all the time: at most one run in twenty may ever show an interval without the true mean."""
    missed = 0
    for seed in range(60):
        chance, earned = random.Random(seed), Earned()
        for place in range(400):
            earned.add(chance.expovariate(0.5))
            found = earned.interval()
            if place >= 50 and (found is None or not found[0] <= 2.0 <= found[1]):
                missed += 1
                break
    assert missed <= 3
    low, high = earned.interval() or (0.0, 0.0)
    assert 0.2 < high - low < 1.2


def test_few_values_have_a_mean_and_no_interval() -> None:
    earned = Earned()
    for _ in range(LEAST_VALUES - 1):
        earned.add(3.0)
    assert (earned.mean, earned.interval()) == (3.0, None)
    earned.add(3.0)
    assert earned.interval() == (3.0, 3.0)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=40))
@settings(max_examples=40, deadline=None)
def test_an_interval_is_made_of_numbers_or_not_there(values: list[float]) -> None:
    """Values near the end of what a number can hold overflow their squares."""
    earned = Earned()
    for value in values:
        earned.add(value)
    found = earned.interval()
    assert found is None or (math.isfinite(found[0]) and math.isfinite(found[1]) and found[0] <= found[1])
