"""The business value of answers: does the version on trial earn less than the reference?

Values belong to the answers that callers saw, so only drawn answers of the split count. Each value of the version on
trial is held against the latest value of the reference that was not used yet: were both versions alike, the two could
change places, whatever values look like and however they move over the day.
"""

from __future__ import annotations

import math
from collections import deque

from gateway.rollout.evidence.betting import Mean

KEPT = 100
"""So many values of the reference wait for one of the version on trial; an older one says little of now."""

CLIPPED_AT = 2.0
"""A difference counts up to so many times the mean difference of the past: one huge sale decides nothing."""


class Values:
    """Counts and means of both versions' values, and the evidence that the version on trial's are worse."""

    def __init__(self, alpha: float, better: str) -> None:
        self._alpha = alpha
        self._sign = -1.0 if better == "higher" else 1.0
        self._bet = Mean(0.0, -1.0)
        self._unused: deque[float] = deque(maxlen=KEPT)
        self._counts = [0, 0]
        self._sums = [0.0, 0.0]
        self._differences = 0.0
        self._pairs = 0

    def add(self, is_trial: bool, value: float, is_new: bool) -> None:
        """Count one value. is_new: it tells something new of its caller; else it is in the means only."""
        self._counts[is_trial] += 1
        self._sums[is_trial] += value
        if not is_new:
            return
        if not is_trial:
            self._unused.append(value)
        elif self._unused:
            self._hold_against(value, self._unused.pop())

    def _hold_against(self, own: float, other: float) -> None:
        harm = self._sign * (own - other)
        scale = CLIPPED_AT * self._differences / self._pairs if self._pairs else 0.0
        if scale > 0.0:
            self._bet.add(max(-1.0, min(1.0, harm / scale)))
        self._differences += abs(harm)
        self._pairs += 1

    @property
    def log(self) -> float:
        """Natural logarithm of the evidence; what reached 1/alpha stays."""
        return self._bet.latched(self._alpha)

    def count(self, is_trial: bool) -> int:
        """How many values there are of the version on trial, or of the reference."""
        return self._counts[is_trial]

    def mean(self, is_trial: bool) -> float | None:
        """Their mean; None without values."""
        count = self._counts[is_trial]
        return float(f"{self._sums[is_trial] / count:.6g}") if count and math.isfinite(self._sums[is_trial]) else None
