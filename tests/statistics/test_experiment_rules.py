"""Experiments, simulated: equal arms are not told apart however often one looks, real differences are found.

Shares of 10 % and 12 %, three arms, one look after every 100 units of an arm, up to 20,000. The verdict itself is asked
(`judge`), on sums that are drawn in blocks of 100 units; seeded, so a run is the same everywhere.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from gateway.documents.experiment import Arm, Experiment, Metric, Phase, Terms
from gateway.interval import Moments
from gateway.rollout.evidence.verdict import Tally
from gateway.rollout.experiment.observe import ArmSeen, Seen
from gateway.rollout.experiment.verdict import judge

LOOK, MOST = 100, 20_000


@dataclass
class Runs:
    """How many runs there were, who won them, and in how many an interval missed at some look."""

    count: int = 0
    winners: Counter[int] = field(default_factory=Counter)
    units: list[int] = field(default_factory=list)
    missed_means: int = 0
    missed_differences: int = 0


def _experiment(arms: int, metric: Metric) -> Experiment:
    return Experiment(
        model="m",
        champion=1,
        arms=tuple(Arm(version=version, weight=10.0) for version in range(2, arms + 1)),
        terms=Terms(metric=metric, better="higher"),
        phase=Phase.RUNNING,
        reason="",
        salt="",
    )


def _shares(random: np.random.Generator, shares: list[float]) -> list[Seen]:
    """What each look sees of arms whose units are 0 or 1."""
    counts = np.cumsum(random.binomial(LOOK, shares, (MOST // LOOK, len(shares))), axis=0)
    looks = []
    for place, row in enumerate(counts):
        units = LOOK * (place + 1)
        arms = [Moments(units, count / units, count * (1 - count / units)) for count in row.tolist()]
        looks.append(Seen(tuple(ArmSeen(n, Tally(), arm) for n, arm in enumerate(arms, 1))))
    return looks


def _amounts(random: np.random.Generator, shares: list[float]) -> list[Seen]:
    """Values with a heavy tail: most callers buy nothing, the others for a log-normal amount (mean: share * 10)."""
    bought = random.random((MOST, len(shares))) < shares
    figures = np.where(bought, random.lognormal(np.log(10.0) - 0.5, 1.0, bought.shape), 0.0)
    sums, squares = np.cumsum(figures, axis=0), np.cumsum(figures**2, axis=0)
    tops = np.maximum.accumulate(figures.max(axis=1))
    looks = []
    for units in range(LOOK, MOST + 1, LOOK):
        means = sums[units - 1] / units
        spread = squares[units - 1] - units * means**2
        arms = [Moments(units, mean, square) for mean, square in zip(means.tolist(), spread.tolist(), strict=True)]
        seen = tuple(ArmSeen(n, Tally(), arm) for n, arm in enumerate(arms, 1))
        looks.append(Seen(seen, 0.0, float(tops[units - 1])))
    return looks


def _returning(random: np.random.Generator, shares: list[float]) -> list[Seen]:
    """1,000 callers of an arm, each with a taste of its own, who come again and again: units stay, their means move."""
    callers = 1000
    tastes = random.beta(2.0, 2.0 / np.array(shares) - 2.0, (callers, len(shares)))
    visits = np.zeros((callers, len(shares)))
    bought = np.zeros((callers, len(shares)))
    looks = []
    for _ in range(MOST // LOOK):
        for _ in range(LOOK):
            caller = int(random.integers(callers))
            visits[caller] += 1
            bought[caller] += random.random(len(shares)) < tastes[caller]
        is_known = visits[:, 0] > 0
        means = bought[is_known] / visits[is_known]
        arms = [Moments(len(means), float(column.mean()), float(column.var() * len(means))) for column in means.T]
        looks.append(Seen(tuple(ArmSeen(n, Tally(), arm) for n, arm in enumerate(arms, 1))))
    return looks


def _simulate(make: Any, shares: list[float], truth: list[float], runs: int, seed: int, metric: Metric) -> Runs:
    random = np.random.default_rng(seed)
    found = Runs(runs)
    experiment = _experiment(len(shares), metric)
    for _ in range(runs):
        winner = means = differences = False
        for seen in make(random, shares):
            judged = judge(experiment, seen)
            arms = judged.report["arms"]
            means = means or any(_misses(arm["interval"], real) for arm, real in zip(arms, truth, strict=True))
            differences = differences or any(
                _misses(arm["difference_interval"], real - truth[0])
                for arm, real in zip(arms[1:], truth[1:], strict=True)
            )
            if judged.winner and not winner:
                winner = True
                found.winners[judged.winner] += 1
                found.units.append(seen.arms[0].moments.units)
        found.missed_means += means
        found.missed_differences += differences
    return found


def _misses(interval: list[float] | None, truth: float) -> bool:
    return interval is not None and not interval[0] <= truth <= interval[1]


def test_equal_arms_have_no_winner() -> None:
    """Looked at 200 times each: a repeated z-test would name one in most runs."""
    found = _simulate(_shares, [0.1, 0.1, 0.1], [0.1] * 3, 50, 1, Metric.LABEL)
    assert sum(found.winners.values()) <= 3
    assert found.missed_means <= 3
    assert found.missed_differences <= 3


def test_the_better_arm_is_found() -> None:
    """12 % against 10 % twice."""
    found = _simulate(_shares, [0.1, 0.1, 0.12], [0.1, 0.1, 0.12], 30, 2, Metric.LABEL)
    assert set(found.winners) == {3}
    assert found.winners[3] >= 29
    assert found.missed_means <= 2
    assert found.missed_differences <= 2
    assert float(np.median(found.units)) < 9000


@pytest.mark.parametrize("share", [0.001, 0.01])
def test_rare_successes_are_no_reason_for_a_narrow_interval(share: float) -> None:
    """The first units hold none at all."""
    found = _simulate(_shares, [share] * 3, [share] * 3, 40, 3, Metric.LABEL)
    assert sum(found.winners.values()) <= 3
    assert found.missed_means <= 4
    assert found.missed_differences <= 3


def test_amounts_with_a_heavy_tail() -> None:
    """One large order must not make a winner."""
    found = _simulate(_amounts, [0.1] * 3, [1.0] * 3, 25, 4, Metric.VALUE)
    assert sum(found.winners.values()) <= 2
    assert found.missed_differences <= 2


def test_callers_who_come_again_are_no_new_evidence() -> None:
    """Callers differ: counted by request, their number of visits would seem to be a number of witnesses."""
    found = _simulate(_returning, [0.3] * 3, [0.3] * 3, 6, 5, Metric.VALUE)
    assert sum(found.winners.values()) <= 1
    assert found.missed_differences <= 1
