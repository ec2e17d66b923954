"""E-processes: how strong the evidence is, and how it grows with each event. Bets on the events of two versions.

An e-process starts at 1 and under its null hypothesis its mean never grows, so the chance that it *ever* reaches
1/alpha is at most alpha (Ville's inequality): looking after every request costs nothing. A weighted mean of
e-processes is one for any weights that are fixed beforehand. All sums are logarithms. Knows neither records nor
routes nor time, and never looks ahead: a bet is made of the past alone.
Source: Grünwald, de Heide, Koolen, Safe Testing, 2024; Waudby-Smith and Ramdas, Estimating means of bounded random
variables by betting, 2024.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

WORSE: Mapping[float, float] = {1.5: 0.03, 2.2: 0.12, 4.8: 0.82, 12.0: 0.03}
"""Ratios of failures, challenger to champion, on which the roll-back guard bets, and how much on each.

Most on one ratio between 3 and 5: beside equal bets on 1.5, 2, 3, 5 and 10 it finds 1 -> 3 % with 10 % and 1 -> 5 %
with 13 % fewer requests (median, 5 % canary), for 16 % more at 1 -> 2 %.
"""

SLOWER: Mapping[float, float] = {1.5: 0.1, 2.0: 0.3, 3.5: 0.5, 8.0: 0.1}
"""The same for slow runs: above the champion's 90th percentile no version can be more often than 10 times as often."""

WRONG: Mapping[float, float] = {1.2: 0.4, 1.5: 0.4, 2.5: 0.2}
"""The same for labelled wrong answers of the split, which are many: 90 -> 85 % is a ratio of 1.5."""

CALM: Mapping[float, float] = {0.5: 1 / 3, 0.8: 1 / 3, 1.0: 1 / 3}
"""Ratios on which the promotion evidence bets, against the null that the ratio is at least the guard's."""

DISCORDANT: Mapping[float, float] = {0.55: 0.1, 0.6: 0.2, 0.67: 0.4, 0.75: 0.2, 0.9: 0.1}
"""Shares of the pairs with one winner that the better version wins, on which the paired rule bets."""

CEILING = 690.0
"""No logarithm grows beyond this: its exponential still is a number."""


class _Mixture:
    """Weighted mean of e-processes, as logarithms. `peak`: the largest value so far."""

    def __init__(self, weights: Mapping[float, float]) -> None:
        self._parts = tuple(weights)
        self._weights = [math.log(weight / sum(weights.values())) for weight in weights.values()]
        self._logs = [0.0] * len(self._weights)
        self.log = self.peak = 0.0

    def _multiply(self, factors: list[float], worth: float = 1.0) -> None:
        """worth: the part of all evidence so far that counts, less than 1 where events repeat one another."""
        self._logs = [min(log + math.log(factor), CEILING) for log, factor in zip(self._logs, factors, strict=True)]
        parts = [weight + worth * log for weight, log in zip(self._weights, self._logs, strict=True)]
        top = max(parts)
        self.log = top + math.log(sum([math.exp(part - top) for part in parts]))
        self.peak = max(self.peak, self.log)

    def latched(self, alpha: float) -> float:
        """The logarithm; once 1/alpha was reached the largest so far, so that no verdict hangs on when one looks."""
        return self.peak if self.peak >= -math.log(alpha) else self.log


STAKES: Mapping[float, float] = {0.05: 0.2, 0.1: 0.2, 0.2: 0.2, 0.4: 0.2, 0.8: 0.2}
"""Parts of the stake that is never lost whole, on which bets on a mean are made."""


class Mean(_Mixture):
    """Is the mean of bounded numbers above a limit? Evidence against "at most `limit`", numbers no lower than `lowest`.

    The null speaks of each number's mean given all before it, so they may change and depend on one another.
    """

    def __init__(self, limit: float, lowest: float) -> None:
        super().__init__({stake / (limit - lowest): part for stake, part in STAKES.items()})
        self._limit = limit

    def add(self, value: float, worth: float = 1.0) -> None:
        """Count one number. worth: as for `Paired`."""
        self._multiply([1.0 + stake * (value - self._limit) for stake in self._parts], worth)


class FailureShare(_Mixture):
    """Whose bad events are they? Each bad event falls to the challenger with the share of traffic it has just then.

    Evidence against "the challenger has at most `null` times the champion's rate"; with alternatives below `null`,
    evidence against "at least". Only bad events count, each with the weight in force at that moment, so a change of
    weights, a busy hour or an incident that hits both sides adds nothing.
    """

    def __init__(self, alternatives: Mapping[float, float] = WORSE, null: float = 1.0) -> None:
        super().__init__(alternatives)
        self._null = null

    def add(self, is_challenger: bool, weight: float, tolerance: float = 1.0) -> None:
        """Count one bad event. weight: the challenger's share of the traffic of both, in (0, 1); else nothing is added.

        tolerance: how many times as often as the null says the challenger may have this event.
        """
        if not 0.0 < weight < 1.0:
            return
        odds = weight / (1.0 - weight) * tolerance
        expected = _share(odds * self._null)
        bets = [_share(odds * ratio) for ratio in self._parts]
        if is_challenger:
            self._multiply([bet / expected for bet in bets])
        else:
            self._multiply([(1.0 - bet) / (1.0 - expected) for bet in bets])


def _share(odds: float) -> float:
    return odds / (1.0 + odds)


class Paired(_Mixture):
    """Which of two versions is better, where both answered the same and exactly one of them is.

    Evidence against "the loser-to-be wins at least half of these".
    """

    def __init__(self, shares: Mapping[float, float] = DISCORDANT) -> None:
        super().__init__(shares)

    def add(self, won: bool, worth: float = 1.0) -> None:
        """Count one pair with one winner; `won`: it was the version that is claimed to be better.

        worth: the part of the evidence of all pairs so far that counts, see `PairDependence`.
        """
        self._multiply([2.0 * (share if won else 1.0 - share) for share in self._parts], worth)


class Slowness:
    """Two bets on slow runs: on `level`, where a tenth of the reference's runs lie, and on `tail`, its slowest 1 %.

    Mean of both e-processes, three parts to one: a level finds a shifted version 20 to 30 % sooner than the 95th
    percentile alone, and the tail a version that is slow seldom but badly.
    """

    def __init__(self, alternatives: Mapping[float, float]) -> None:
        self.level = FailureShare(alternatives)
        self.tail = FailureShare(WORSE)

    @property
    def log(self) -> float:
        """Natural logarithm of the evidence now."""
        return self._mean(self.level.log, self.tail.log)

    def latched(self, alpha: float) -> float:
        """The logarithm; once a part alone has made the mean reach 1/alpha, at least what it was then."""
        level = self.level.latched(alpha * _LEVEL_PART)
        return self._mean(level, self.tail.latched(alpha * (1.0 - _LEVEL_PART)))

    def _mean(self, level: float, tail: float) -> float:
        top = max(level, tail)
        return top + math.log(_LEVEL_PART * math.exp(level - top) + (1.0 - _LEVEL_PART) * math.exp(tail - top))


_LEVEL_PART = 0.75
