"""Confidence sequences: the sums are right, the margins shrink and hold."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.interval import Moments, Scale

FIGURES = st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=40)


def _moments(figures: list[float]) -> Moments:
    seen = Moments()
    for figure in figures:
        seen = seen.add(figure)
    return seen


@given(FIGURES, st.data())
def test_moments_are_those_of_the_figures_whatever_was_changed_on_the_way(
    figures: list[float], data: st.DataObject
) -> None:
    """A unit's figure moves with each of its rows; no sum may drift from what the figures say."""
    seen = _moments(figures)
    for _ in range(3):
        place = data.draw(st.integers(0, len(figures) - 1))
        after = data.draw(st.floats(-1e3, 1e3))
        seen = seen.replace(figures[place], after)
        figures[place] = after
    mean = sum(figures) / len(figures)
    assert seen.units == len(figures)
    assert seen.mean == pytest.approx(mean, abs=1e-6)
    assert seen.squares == pytest.approx(sum((figure - mean) ** 2 for figure in figures), rel=1e-6, abs=1e-3)


def test_the_margin_is_that_of_the_paper() -> None:
    """rho for 1,000 planned units at alpha .05; 1,000 units with variance 1/4."""
    scale = Scale(planned=1000)
    seen = Moments(1000, 0.5, 250.0)
    rho = (-2 * math.log(0.05) + math.log(-2 * math.log(0.05)) + 1) / 1000
    time = 1000 * rho
    variance = (250.0 + 8 * 0.25) / 1008
    expected = math.sqrt(variance) * math.sqrt(2 * (time + 1) / (1000**2 * rho) * math.log(math.sqrt(time + 1) / 0.05))
    found = scale.of_mean(seen, 0.05)
    assert found is not None
    assert found.high - 0.5 == pytest.approx(expected)
    assert found.low + found.high == pytest.approx(1.0)


def test_an_arm_in_which_nothing_happened_is_not_known_exactly() -> None:
    """0 of 100 may be 5 of 100 the next time."""
    found = Scale(planned=5000).of_mean(Moments(100, 0.0, 0.0), 0.05)
    assert found is not None
    assert found.high > 0.05


def test_nothing_is_said_while_all_values_are_the_same() -> None:
    """Values that never varied tell nothing of how they vary."""
    scale = Scale(planned=5000, least=3.0, most=3.0)
    same = Moments(500, 3.0, 0.0)
    assert scale.of_mean(same, 0.05) is None
    assert scale.of_difference(same, same, 0.05) is None
    assert scale.of_mean(Moments(), 0.05) is None


@given(st.integers(20, 5000), st.floats(0.01, 0.99), st.floats(0.001, 0.4))
def test_a_difference_is_less_sure_than_a_mean_and_surer_with_more_units(units: int, mean: float, alpha: float) -> None:
    """The same boundary in another time: twice the variance, so never narrower than one mean."""
    scale = Scale(planned=5000)
    one = Moments(units, mean, units * mean * (1 - mean))
    more = Moments(units * 4, mean, 4 * units * mean * (1 - mean))
    single, double = scale.of_mean(one, alpha), scale.of_difference(one, one, alpha)
    later = scale.of_difference(more, more, alpha)
    assert single is not None
    assert double is not None
    assert later is not None
    assert double.high - double.low > single.high - single.low
    assert later.high < double.high
    assert double.low + double.high == pytest.approx(0.0, abs=1e-12)
