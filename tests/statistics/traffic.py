"""Simulated traffic of a champion and a canary, and of labelled shadow pairs. Arrays in the order of the requests.

One draw decides a request's arm and one its fate, so two scenes with the same seed differ only in what they say.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gateway.names import BUCKETS

Random = np.random.Generator
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

BASE = 0.01
"""Share of the champion's requests that fail."""

TYPICAL_US = 2_000.0
"""The champion's median run."""

INCIDENT = slice(20_000, 25_000)
INCIDENT_RATE = 0.10


@dataclass(frozen=True)
class Traffic:
    """canary: who answered. failed: without an answer. slow: above the champion's true 99th percentile.

    weight: the canary's share of traffic at that moment. run_us: run times; empty where only failures are simulated.
    bucket: of each request's sticky unit; empty where every request is drawn for itself.
    """

    canary: Bools
    failed: Bools
    slow: Bools
    weight: Floats
    run_us: Floats
    bucket: Ints = field(default_factory=lambda: np.empty(0, np.int64))

    @property
    def bad(self) -> Bools:
        """What a rule without run times of its own is told: an operator set the limit of "slow" well."""
        return self.failed | self.slow


@dataclass(frozen=True)
class Pairs:
    """lost: the version on trial alone was wrong; won: it alone was right; one entry a labelled shadow pair.

    both: both were wrong.
    """

    lost: Bools
    won: Bools
    both: Bools


def steady(requests: int, weight: float) -> Floats:
    """The same weight for every request."""
    return np.full(requests, weight)


def ramp(requests: int) -> Floats:
    """1, 5, 10, 25, 50 %, as many requests each."""
    return np.repeat([0.01, 0.05, 0.10, 0.25, 0.50], requests // 5)


def _none(like: Floats) -> Bools:
    return np.zeros(like.size, bool)


def failing(random: Random, weight: Floats, canary_rate: float, incident: bool = False) -> Traffic:
    """The champion fails at `BASE`, the canary at `canary_rate`; in an incident both at `INCIDENT_RATE`."""
    canary = random.random(weight.size) < weight
    rate = np.where(canary, canary_rate, BASE)
    if incident:
        rate[INCIDENT] = INCIDENT_RATE
    return Traffic(canary, random.random(weight.size) < rate, _none(weight), weight, np.empty(0))


def running(random: Random, weight: Floats, factor: float, sigma: float) -> Traffic:
    """Lognormal run times; the canary's are `factor` times as long. Nothing fails."""
    canary = random.random(weight.size) < weight
    run_us = TYPICAL_US * np.exp(sigma * random.standard_normal(weight.size)) * np.where(canary, factor, 1.0)
    return Traffic(canary, _none(weight), run_us > TYPICAL_US * np.exp(2.3263 * sigma), weight, run_us)


def waiting(random: Random, weight: Floats, factor: float) -> Traffic:
    """Run times with a far tail: one in ten waits for something that takes 4 to 20 times as long."""
    canary = random.random(weight.size) < weight
    busy = TYPICAL_US * np.exp(0.2 * random.standard_normal(weight.size))
    stretched = np.where(random.random(weight.size) < 0.1, 4.0 + 16.0 * random.random(weight.size), 1.0)
    run_us = busy * stretched * np.where(canary, factor, 1.0)
    return Traffic(canary, _none(weight), run_us > TYPICAL_US * 18.4, weight, run_us)


def failing_runs(random: Random, weight: Floats, canary_rate: float) -> Traffic:
    """Failures and lognormal run times of equal length, as in real records."""
    timed = running(random, weight, 1.0, 0.5)
    rate = np.where(timed.canary, canary_rate, BASE)
    return Traffic(timed.canary, random.random(weight.size) < rate, _none(weight), weight, timed.run_us)


def sticky(random: Random, requests: int, units: int = 2_000) -> Traffic:
    """5 % of the units belong to the canary, some ask far more than others, and one in a hundred always fails."""
    bucket = random.integers(0, BUCKETS, units)
    activity = random.lognormal(sigma=1.0, size=units)
    always = random.random(units) < BASE
    unit = random.choice(units, requests, p=activity / activity.sum())
    weight = steady(requests, 0.05)
    canary = bucket[unit] < round(0.05 * BUCKETS)
    run_us = TYPICAL_US * np.exp(0.5 * random.standard_normal(requests))
    return Traffic(canary, always[unit], _none(weight), weight, run_us, bucket[unit])


def repeating(random: Random, pairs: int, memory: float) -> Pairs:
    """Equal versions, wrong in a tenth of the pairs, in runs; they share seven tenths of what makes them wrong.

    memory: correlation of neighbours in the normal numbers behind the errors; of .8, .5 is left in the errors.
    """
    from scipy.signal import lfilter

    drawn = random.standard_normal((3, pairs))
    drawn[:, 1:] *= np.sqrt(1.0 - memory**2)
    shared, trial, reference = lfilter([1.0], [1.0, -memory], drawn)
    wrong, other = (np.sqrt(0.7) * shared + np.sqrt(0.3) * own > 1.2816 for own in (trial, reference))
    return Pairs(wrong & ~other, other & ~wrong, wrong & other)


def labelled(random: Random, pairs: int, lost: float, won: float) -> Pairs:
    """Pairs where the version on trial alone is wrong in this share, alone right in that one."""
    drawn = random.random(pairs)
    return Pairs(drawn < lost, (drawn >= lost) & (drawn < lost + won), np.zeros(pairs, dtype=bool))
