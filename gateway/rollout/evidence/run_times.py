"""How long runs take: a histogram, not a sample, so the same runs give the same limits in any process."""

from __future__ import annotations

import math
from typing import NamedTuple

FIRST_RUN_TIMES = 100
"""No run is slow before so many of the reference's runs have been timed."""

SLACK_US = 50
SLACK_SHARE = 0.05
"""A challenger's run is over a limit when it is so much above it, the larger of the two: nobody notices less."""

_LOG_STEP = math.log(1.02)
_RENEWED_EVERY = 32


class Limits(NamedTuple):
    """Microseconds that so many of the reference's runs stayed below: 90, 95 and 99 percent."""

    p90: float
    p95: float
    p99: float

    @property
    def with_slack(self) -> Limits:
        """What the version on trial is held to."""
        return Limits(*(limit + max(SLACK_US, SLACK_SHARE * limit) for limit in self))


class RunTimes:
    """Run times in 2 percent steps; quantiles of everything added so far, `limits` renewed every 32 runs."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self._total = 0
        self.limits: Limits | None = None
        self._for_trial: Limits | None = None

    def add(self, microseconds: int) -> None:
        """Add one run."""
        step = math.ceil(math.log(microseconds) / _LOG_STEP)
        self._counts[step] = self._counts.get(step, 0) + 1
        self._total += 1
        if self._total >= FIRST_RUN_TIMES and self._total % _RENEWED_EVERY == FIRST_RUN_TIMES % _RENEWED_EVERY:
            self.limits = Limits(*self._quantiles(0.9, 0.95, 0.99))
            self._for_trial = self.limits.with_slack

    def over(self, microseconds: int, is_trial: bool) -> tuple[bool, bool, bool]:
        """Which of the three limits a run is over."""
        limits = self._for_trial if is_trial else self.limits
        if limits is None or microseconds <= limits.p90:
            return False, False, False
        return True, microseconds > limits.p95, microseconds > limits.p99

    def quantile(self, share: float) -> float | None:
        """The upper edge of the step in which the quantile lies; None without runs."""
        return self._quantiles(share)[0] if self._total else None

    def _quantiles(self, *shares: float) -> list[float]:
        """Ascending shares only."""
        found: list[float] = []
        below = 0
        for step in sorted(self._counts):
            below += self._counts[step]
            while len(found) < len(shares) and below >= shares[len(found)] * self._total:
                found.append(math.exp(step * _LOG_STEP))
        return found
