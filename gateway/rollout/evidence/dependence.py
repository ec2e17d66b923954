"""How much neighbouring labelled pairs repeat one another, and what evidence made of them is therefore worth.

Where a stream drifts, versions are right and wrong in runs: on Electricity the winner of a pair is also that of the
next with a correlation of one half. Bets that take such pairs for independent roll back four in ten versions that are
as good. The variance of a mean over n numbers of such a series is `inflation` times that of independent ones, so n of
them say as much as n / inflation (Bayley and Hammersley 1946); the sum over lags is that of Newey and West
(Econometrica 1987). Knows numbers only.
"""

from __future__ import annotations

from collections import deque

_LAGS = 24
_CAUTION, _CAUTIOUS_WINNERS = 0.4, 10.0
"""Before there is much to measure it from, the inflation is taken for 1.4; with each winner this counts less."""

_CALM = 0.5
"""Added to the sum of squares, so that the first few numbers give no estimate out of all bounds."""


class Series:
    """A stationary series of numbers in [-1, 1], in the order in which they came."""

    def __init__(self) -> None:
        self._count = 0
        self._sum = self._squares = 0.0
        self._last: deque[float] = deque([0.0] * _LAGS, _LAGS)  # newest first
        self._products = [0.0] * _LAGS

    def add(self, value: float) -> None:
        """Count the next number."""
        self._count += 1
        if value:
            self._sum += value
            self._squares += value * value
            self._products = [sum_ + value * before for sum_, before in zip(self._products, self._last, strict=True)]
        self._last.appendleft(value)

    @property
    def inflation(self) -> float:
        """Variance of the mean, in units of what it were if the numbers were independent; at least 1."""
        if not self._count:
            return 1.0
        square = (self._sum / self._count) ** 2
        spread = max(0.0, self._squares - self._count * square) + _CALM
        together = 0.0
        for lag, products in enumerate(self._products, start=1):
            weight = 1.0 - lag / (_LAGS + 1.0)
            together += weight * (products - max(0, self._count - lag) * square)
        return max(1.0, 1.0 + 2.0 * together / spread)


class PairDependence:
    """Of labelled pairs: who won, and where the reference was wrong; the larger inflation of both counts."""

    def __init__(self) -> None:
        self._won = Series()
        self._wrong = Series()
        self._winners = 0

    def add(self, won: float, wrong: float) -> None:
        """Count one pair. won: 1 for one side, -1 for the other, 0 for none. wrong: of the reference; 0 to 1."""
        self._won.add(won)
        self._wrong.add(wrong)
        self._winners += won != 0

    @property
    def worth(self) -> float:
        """The part of the evidence from these pairs that counts, in (0, 1]."""
        caution = 1.0 + _CAUTION * _CAUTIOUS_WINNERS / (self._winners + _CAUTIOUS_WINNERS)
        return 1.0 / max(caution, self._won.inflation, self._wrong.inflation)
