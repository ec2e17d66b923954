"""How much labelled pairs repeat one another: measured on series of which it is known."""

from __future__ import annotations

import numpy as np
import pytest

from gateway.rollout.evidence.dependence import PairDependence, Series


def chain(correlation: float, count: int = 20_000) -> list[float]:
    """Signs of which each is that of the one before with chance (1 + correlation) / 2."""
    random = np.random.default_rng(1)
    turns = np.cumsum(random.random(count) < (1 - correlation) / 2)
    return [1.0 if turn % 2 else -1.0 for turn in turns.tolist()]


def inflation(values: list[float]) -> float:
    series = Series()
    for value in values:
        series.add(value)
    return series.inflation


@pytest.mark.parametrize(("correlation", "by_formula"), [(0.0, 1.0), (0.5, 3.0), (0.8, 9.0)])
def test_the_inflation_of_a_chain_is_that_of_the_formula(correlation: float, by_formula: float) -> None:
    """(1 + r) / (1 - r) for a chain whose correlation falls by r a step; 32 lags see most of it."""
    assert inflation(chain(correlation)) == pytest.approx(by_formula, rel=0.2)


@pytest.mark.parametrize("values", [[], [1.0], [1.0] * 50, [0.0] * 50, [1.0, -1.0] * 50])
def test_series_without_repetition_inflate_nothing(values: list[float]) -> None:
    """Constants vary by nothing, and what alternates tells more than independent numbers: both are taken for 1."""
    assert inflation(values) == 1.0


def test_few_winners_are_trusted_less_than_many() -> None:
    """Nobody knows yet how they hang together."""
    dependence, seen = PairDependence(), []
    for value in chain(0.0, 500):
        dependence.add(value, 0.0)
        seen.append(dependence.worth)
    assert seen[0] < 0.75
    assert seen[-1] > 0.8


def test_errors_of_the_reference_tell_before_there_are_winners() -> None:
    """Where it is wrong in runs, winners come in runs."""
    runs, spread = PairDependence(), PairDependence()
    for number in range(1_000):
        runs.add(0.0, float(number % 100 < 10))
        spread.add(0.0, float(number % 10 == 0))
    assert runs.worth < 0.2
    assert spread.worth > 0.5
