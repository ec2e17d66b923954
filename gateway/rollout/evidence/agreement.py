"""How far two versions' answers to the same rows lie apart, without labels.

A difference is a question, not a failure: a good new version must differ somewhere. Memory does not grow with traffic.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from gateway.registry.reference import category

Probabilities = tuple[Sequence[Any], Sequence[Any]]
"""Names of the classes (empty: by position), and a row of probabilities for each row of a record."""

MOST_CLASSES = 16
OTHER = "other"
"""The flip table holds so many classes, the first that came; all others are this one."""

LONGEST_NAME = 60

FIRST_VALUES = 20
"""Numbers are not compared before so many of the reference's rows have shown how far they lie apart by themselves."""


class Row(NamedTuple):
    """One compared row. distance: in [0, 1]."""

    differs: bool
    distance: float


class Agreement:
    """Rows compared so far: how many differ, how far, and from which class to which.

    Classes differ when they are not the same text; their distance is half the sum of the probabilities' differences
    (total variation), without probabilities 0 or 1. Numbers have their difference as distance, in mean absolute
    deviations of the reference's own values and 1 at most; they differ where it is 1.
    """

    def __init__(self, numeric: bool) -> None:
        self._numeric = numeric
        self.rows = self.differing = 0
        self._distances = 0.0
        self._classes: dict[str, str] = {}
        self._flips: dict[tuple[str, str], int] = {}
        self._seen = 0
        self._mean = self._deviation = 0.0

    def add(
        self,
        trial: Sequence[Any],
        reference: Sequence[Any],
        trial_probabilities: Probabilities | None = None,
        reference_probabilities: Probabilities | None = None,
    ) -> list[Row | None]:
        """Compare the rows of two answers; None for a row that can not be compared."""
        found: list[Row | None] = []
        for place, (own, other) in enumerate(zip(trial, reference, strict=False)):
            if own is None or other is None:
                row = None
            elif self._numeric:
                row = self._numbers(own, other)
            else:
                row = self._labels(own, other)
                between = _total_variation(trial_probabilities, reference_probabilities, place)
                row = row if between is None else row._replace(distance=between)
            found.append(row)
            if row is not None:
                self.rows += 1
                self.differing += row.differs
                self._distances += row.distance
        return found

    @property
    def distance(self) -> float | None:
        """Mean distance of the rows; None without rows."""
        return float(f"{self._distances / self.rows:.4g}") if self.rows else None

    @property
    def flips(self) -> tuple[tuple[str, str, int], ...]:
        """(class of the reference, class of the version on trial, rows), by name; agreement is in it too."""
        return tuple((*classes, count) for classes, count in sorted(self._flips.items()))

    def _labels(self, own: Any, other: Any) -> Row:
        if isinstance(own, list) or isinstance(other, list):  # a vector for a row: no class to name
            return Row(own != other, float(own != other))
        mine, theirs = category(own), category(other)
        flip = (self._known(theirs), self._known(mine))
        self._flips[flip] = self._flips.get(flip, 0) + 1
        return Row(mine != theirs, float(mine != theirs))

    def _known(self, name: str) -> str:
        name = name[:LONGEST_NAME]
        if name not in self._classes:
            if len(self._classes) >= MOST_CLASSES:
                return OTHER
            self._classes[name] = name
        return self._classes[name]

    def _numbers(self, own: Any, other: Any) -> Row | None:
        """Compared in units of the past: this row's own value is added to them behind the comparison."""
        if not isinstance(own, int | float) or not isinstance(other, int | float):
            return None
        unit = self._deviation / self._seen if self._seen >= FIRST_VALUES else None
        self._seen += 1
        self._mean += (other - self._mean) / self._seen
        self._deviation += abs(other - self._mean)
        if unit is None:
            return None
        apart = abs(own - other)
        distance = min(1.0, apart / unit) if unit > 0.0 else float(apart > 0.0)
        return Row(distance >= 1.0, distance)


def _total_variation(own: Probabilities | None, other: Probabilities | None, place: int) -> float | None:
    """Half the sum of the differences over all classes, at most 1; None where a row has no probabilities."""
    mine, theirs = _shares(own, place), _shares(other, place)
    if mine is None or theirs is None:
        return None
    apart = sum(abs(mine.get(name, 0.0) - theirs.get(name, 0.0)) for name in mine.keys() | theirs.keys())
    return min(1.0, 0.5 * apart)


def _shares(probabilities: Probabilities | None, place: int) -> dict[str, float] | None:
    names, rows = probabilities or ((), ())
    row = rows[place] if place < len(rows) else None
    if not isinstance(row, list) or not all(isinstance(share, int | float) for share in row):
        return None
    if len(names) != len(row):
        names = range(len(row))
    return {category(name): float(share) for name, share in zip(names, row, strict=True)}
