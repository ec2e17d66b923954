"""E-processes: exact values, directions, and what they never do."""

from __future__ import annotations

import math

import pytest

from gateway.rollout.evidence.betting import (
    CALM,
    DISCORDANT,
    SLOWER,
    WORSE,
    WRONG,
    FailureShare,
    Mean,
    Paired,
    Slowness,
)


def test_one_failure_of_a_small_canary_gives_the_mean_of_its_likelihood_ratios() -> None:
    """The formula itself, worked out by hand for a weight of one half."""
    share = FailureShare()
    share.add(True, 0.5)
    by_hand = sum(part * 2 * ratio / (1 + ratio) for ratio, part in WORSE.items())
    assert math.exp(share.log) == pytest.approx(by_hand)


def test_each_event_counts_with_the_weight_in_force() -> None:
    """A failure at 1 % of the traffic says much more than one at 50 %."""
    small, large = FailureShare(), FailureShare()
    small.add(True, 0.01)
    large.add(True, 0.5)
    assert small.log > large.log > 0


def test_failures_of_the_champion_are_evidence_for_the_canary() -> None:
    """Otherwise an incident that hits both would look like the canary's fault."""
    share = FailureShare()
    for _ in range(9):
        share.add(False, 0.1)
    share.add(True, 0.1)
    assert share.log < 0


@pytest.mark.parametrize("weight", [0.0, 1.0, -1.0])
def test_without_two_sides_nothing_is_compared(weight: float) -> None:
    """Before the first canary and at 100 % there is nobody to compare with."""
    share = FailureShare()
    share.add(True, weight)
    assert share.log == 0.0


def test_a_tolerance_moves_the_null() -> None:
    """With a tolerance of 2, twice the champion's share is nothing remarkable: the evidence shrinks."""
    strict, tolerant = FailureShare(), FailureShare()
    for number in range(300):
        for share, tolerance in ((strict, 1.0), (tolerant, 2.0)):
            share.add(number % 3 != 0, 0.5, tolerance)
    assert strict.log > 5
    assert tolerant.log < 0


def test_promotion_evidence_grows_when_the_canary_fails_less_than_the_ratio_allows() -> None:
    """The mirror: the null is `at least twice the champion's rate`."""
    calm, bad = FailureShare(CALM, 2.0), FailureShare(CALM, 2.0)
    for number in range(300):
        calm.add(number % 20 == 0, 0.05)
        bad.add(number % 8 == 0, 0.05)
    assert calm.log > math.log(20)
    assert bad.log < 0


def test_evidence_never_overflows() -> None:
    """A broken canary in a long pause fails a million times."""
    share, paired = FailureShare(), Paired()
    for _ in range(5000):
        share.add(True, 0.01)
        paired.add(True)
    assert math.isfinite(math.exp(share.log))
    assert math.isfinite(math.exp(paired.log))


def test_pairs_with_one_winner_decide() -> None:
    """The paired rule, worked out by hand for two wins and a loss."""
    paired = Paired()
    for won in (True, True, False):
        paired.add(won)
    by_hand = sum(part * 2 * q * 2 * q * 2 * (1 - q) for q, part in DISCORDANT.items())
    assert math.exp(paired.log) == pytest.approx(by_hand)


def test_pairs_that_are_worth_half_count_half() -> None:
    """All of them: what the newest pair tells of their dependence holds for those before it too."""
    paired = Paired()
    for worth in (1.0, 0.9, 0.5):
        paired.add(True, worth)
    assert math.exp(paired.log) == pytest.approx(sum(part * (2 * q) ** 1.5 for q, part in DISCORDANT.items()))


@pytest.mark.parametrize("weights", [WORSE, SLOWER, WRONG, CALM, DISCORDANT])
def test_the_parts_of_a_bet_are_one_whole(weights: dict[float, float]) -> None:
    """A mean of e-processes is one only when its weights add up to 1."""
    assert sum(weights.values()) == pytest.approx(1.0)


def test_what_reached_its_limit_stays_there() -> None:
    """Whoever looks an hour later must come to the same verdict; below the limit the present value is shown."""
    share, slowness = FailureShare(), Slowness(SLOWER)
    for process in (share, slowness.level):
        for _ in range(6):
            process.add(True, 0.05)
        for _ in range(60):
            process.add(False, 0.05)
    assert share.log < math.log(100) < share.latched(0.01) == share.peak
    assert share.latched(1e-9) == share.log
    assert slowness.log < math.log(100) < slowness.latched(0.01)


def test_a_rare_but_bad_slowness_is_seen_by_the_tail() -> None:
    """One run in twenty five hundred times as slow moves no 90th percentile."""
    slowness = Slowness(SLOWER)
    for number in range(400):
        slowness.level.add(number % 20 == 0, 0.05)
        if number % 10 == 0:
            slowness.tail.add(number % 30 != 0, 0.05)
    assert slowness.level.log < 0
    assert slowness.latched(0.01) > math.log(100)


def test_a_mean_above_its_limit_is_found_and_one_at_it_is_a_fair_bet() -> None:
    """The formula for one number, and what two numbers around the limit give on average."""
    mean = Mean(limit=-0.2, lowest=-1.0)
    mean.add(1.0)
    by_hand = sum(0.2 * (1 + stake / 0.8 * 1.2) for stake in (0.05, 0.1, 0.2, 0.4, 0.8))
    assert math.exp(mean.log) == pytest.approx(by_hand)
    low, high = Mean(0.3, 0.0), Mean(0.3, 0.0)
    low.add(0.0)
    high.add(1.0)
    assert 0.7 * math.exp(low.log) + 0.3 * math.exp(high.log) == pytest.approx(1.0)
