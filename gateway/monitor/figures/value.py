"""What answers earned: the mean of their business values, with an interval that holds however often one looks.

A value is any finite number that came as `value` with feedback. The interval is an asymptotic confidence sequence, see
`gateway.interval`: people look at a dashboard all day, and an interval for one look would miss far too often.
"""

from __future__ import annotations

import math

from msgspec import Struct

from gateway.interval import Moments, Scale

ALPHA = 0.05
PLANNED = 1000
"""After about so many values the interval is narrowest for its confidence."""

LEAST_VALUES = 10
"""No interval below: with so few, the variance is a guess."""


class Earned(Struct, array_like=True):
    """Count, mean and sum of squared deviations of the values so far; the least and the most of them."""

    values: int = 0
    mean: float = 0.0
    squares: float = 0.0
    least: float = 0.0
    most: float = 0.0

    def add(self, value: float) -> None:
        """Count one finite value."""
        after = Moments(self.values, self.mean, self.squares).add(value)
        self.least = min(self.least, value) if self.values else value
        self.most = max(self.most, value) if self.values else value
        self.values, self.mean, self.squares = after

    def shown_mean(self) -> float | None:
        """The mean in six digits; None without values, or where it is not finite."""
        return _short(self.mean) if self.values and math.isfinite(self.mean) else None

    def interval(self) -> tuple[float, float] | None:
        """Where the true mean is, with 95 % at all looks together; None for few values, or where it is not finite."""
        if self.values < LEAST_VALUES:
            return None
        scale = Scale(PLANNED, self.least, self.most)
        found = scale.of_mean(Moments(self.values, self.mean, self.squares), ALPHA)
        low, high = found or (self.mean, self.mean)
        return (_short(low), _short(high)) if math.isfinite(low) and math.isfinite(high) else None


def _short(number: float) -> float:
    return float(f"{number:.6g}")
