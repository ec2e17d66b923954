"""Figures with their 95 % intervals, from sums alone: memory does not grow with the rows behind them.

Rows are taken as independent. Labels that follow each other are often alike, and then the true intervals are wider.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from msgspec import Struct

Z = 1.959964
_DRAWS = 400
_EXACT_ROWS = 1000
"""Up to so many rows that differ, the sign test counts exactly."""


class Figure(Struct, frozen=True):
    """A value and its interval."""

    value: float
    low: float
    high: float


class Moments:
    """Count, mean and variance of numbers, added one at a time (Welford, Technometrics 1962)."""

    __slots__ = ("_squares", "count", "mean")

    def __init__(self) -> None:
        self.count = 0
        self.mean = 0.0
        self._squares = 0.0

    def add(self, value: float) -> None:
        """Count one number."""
        self.count += 1
        apart = value - self.mean
        self.mean += apart / self.count
        self._squares += apart * (value - self.mean)

    def figure(self, z: float = Z) -> Figure | None:
        """The mean with its normal interval; None without numbers."""
        if not self.count:
            return None
        half = z * math.sqrt(self._squares / max(1, self.count - 1) / self.count)
        return Figure(self.mean, self.mean - half, self.mean + half)


def share(hits: int, rows: int, z: float = Z) -> Figure | None:
    """A share with Wilson's interval (Journal of the American Statistical Association, 1927); None without rows."""
    if not rows:
        return None
    rate, spread = hits / rows, z * z / rows
    middle = (rate + spread / 2) / (1 + spread)
    half = z * math.sqrt(rate * (1 - rate) / rows + spread / rows / 4) / (1 + spread)
    return Figure(rate, min(rate, max(0.0, middle - half)), max(rate, min(1.0, middle + half)))


def matched(better: int, worse: int, rows: int, z: float = Z) -> Figure:
    """The mean of paired 0/1 differences, (worse - better) / rows, with an interval that holds up on few rows.

    Half a row is added to either side (Agresti and Min, Statistics in Medicine, 2005): with no difference at all in 100
    rows it is still +- 0.02 wide, where the plain interval would be a point.
    """
    count = rows + 2
    middle = (worse - better) / count
    half = z * math.sqrt(max(0.0, (worse + better + 1) / count - middle**2) / count)
    value = (worse - better) / rows
    return Figure(value, min(value, middle - half), max(value, middle + half))


def root(squared: Moments) -> Figure | None:
    """The root of a mean of squares; its interval has the roots of the mean's ends."""
    found = squared.figure()
    if found is None:
        return None
    return Figure(math.sqrt(found.value), math.sqrt(max(0.0, found.low)), math.sqrt(found.high))


def f1(confusion: Mapping[tuple[str, str], int], positive: str | None) -> Figure | None:
    """F1 of the positive class, or the mean over all classes that occur, from (label, prediction) -> rows.

    The interval comes from tables drawn with the same shares (bootstrap, seeded); None without rows.
    """
    if not confusion:
        return None
    classes = sorted({name for pair in confusion for name in pair})
    places = {name: place for place, name in enumerate(classes)}
    table = np.zeros((len(classes), len(classes)))
    for (label, said), rows in confusion.items():
        table[places[label], places[said]] += rows
    place = None if positive is None else places.get(positive, -1)
    if place == -1:  # neither true nor said of any row
        return Figure(0.0, 0.0, 0.0)
    total = int(table.sum())
    drawn = np.random.default_rng(0).multinomial(total, (table / total).ravel(), size=_DRAWS)
    drawn_f1 = _f1_of(drawn.reshape(-1, *table.shape).astype(np.float64), place)
    low, high = np.quantile(drawn_f1, (0.025, 0.975))
    value = float(_f1_of(table[None], place)[0])
    return Figure(value, min(value, float(low)), max(value, float(high)))


def sign_test(rises: int, falls: int) -> float:
    """Two-sided p-value that rises and falls are equally likely; exact for few, normal approximation for many."""
    count = rises + falls
    if not count:
        return 1.0
    if count > _EXACT_ROWS:
        return math.erfc(max(0.0, abs(rises - falls) - 1) / math.sqrt(2 * count))
    tail = sum(math.comb(count, k) for k in range(min(rises, falls) + 1))
    return min(1.0, 2 * tail / (1 << count))


def _f1_of(tables: np.ndarray, place: int | None) -> np.ndarray:
    """F1 of each table of shape (tables, labels, predictions)."""
    hits = np.diagonal(tables, axis1=1, axis2=2)
    both = tables.sum(axis=1) + tables.sum(axis=2)
    each: np.ndarray = np.divide(2 * hits, both, out=np.zeros_like(hits), where=both > 0)
    if place is not None:
        return each[:, place]
    occurring = (both > 0).sum(axis=1)
    mean: np.ndarray = each.sum(axis=1) / np.maximum(1, occurring)
    return mean
