"""Counts by the value of a feature: where a version that is fine on the whole does harm.

A category is its own slice; a number falls into the quarter of the first rows in which it lies. Memory does not grow
with traffic: at most 20 slices of a feature, everything else is in `other`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import quantiles
from typing import Any, NamedTuple

from gateway.journal.record import Prediction
from gateway.registry.manifest import Feature
from gateway.registry.slice import Limits, category_slice, is_number, limits_of, number_slice

LEARNED_ROWS = 200
"""So many rows of a numeric feature set its quarters; they are in no slice themselves."""


class Slice(NamedTuple):
    """Rows of pairs in one slice: compared, differing (and how far, added up), failed, labelled and won; timed: rows
    that both answered, with the logarithms of (run time on trial / reference's), added up."""

    rows: int = 0
    disagreements: int = 0
    distances: float = 0.0
    trial_errors: int = 0
    reference_errors: int = 0
    labelled: int = 0
    trial_won: int = 0
    reference_won: int = 0
    timed: int = 0
    log_ratios: float = 0.0

    @property
    def distance(self) -> float | None:
        """Mean distance of the compared rows; None without any."""
        return float(f"{self.distances / self.rows:.4g}") if self.rows else None

    @property
    def latency_ratio(self) -> float | None:
        """Geometric mean of the run times' ratios; None without any."""
        return round(math.exp(self.log_ratios / self.timed), 3) if self.timed else None


class Slices:
    """The slices of one comparison, by name."""

    def __init__(self) -> None:
        self._counts: dict[str, Slice] = {}

    def add(self, names: Sequence[str], **counts: float) -> None:
        """Add to these slices."""
        for name in names:
            before = self._counts.get(name, Slice())
            self._counts[name] = before._replace(**{key: getattr(before, key) + more for key, more in counts.items()})

    def counted(self) -> tuple[tuple[str, Slice], ...]:
        """Every slice with its counts, by name."""
        return tuple(sorted(self._counts.items()))


class Slicer:
    """Which slices the rows of a record are in. names: features; features: of each version, in the order of its rows.

    Learns from the records it is asked about, in their order; so it belongs to one fold.
    """

    def __init__(self, names: Sequence[str], features: Mapping[int, Sequence[Feature]]) -> None:
        self._places = {
            number: [(place, own) for place, own in enumerate(columns) if own.name in names]
            for number, columns in features.items()
        }
        self._learning: dict[str, list[float]] = {}
        self._quarters: dict[str, Limits] = {}
        self._values: dict[str, dict[str, str]] = {}

    def of(self, record: Prediction) -> list[tuple[str, ...]]:
        """The names of the slices of each row; empty where the inputs are not known by feature."""
        places = self._places.get(record.contract)
        if not places or not isinstance(record.inputs, list):
            return []
        return [tuple(self._names(row, places)) for row in record.inputs if isinstance(row, list)]

    def _names(self, row: Sequence[Any], places: Sequence[tuple[int, Feature]]) -> list[str]:
        names = []
        for place, feature in places:
            value = row[place] if place < len(row) else None
            name = self._numeric(feature.name, value) if feature.kind == "numeric" else self._category(feature, value)
            if name:
                names.append(name)
        return names

    def _category(self, feature: Feature, value: Any) -> str:
        return category_slice(feature.name, value, self._values.setdefault(feature.name, {}))

    def _numeric(self, name: str, value: Any) -> str:
        """The quarter of a number; empty while the quarters are not known."""
        quarters = self._quarters.get(name)
        if quarters is None and is_number(value):
            self._learn(name, float(value))
            return ""
        return number_slice(name, value, quarters or ())

    def _learn(self, name: str, value: float) -> None:
        learned = self._learning.setdefault(name, [])
        learned.append(value)
        if len(learned) >= LEARNED_ROWS:
            self._quarters[name] = limits_of(name, quantiles(self._learning.pop(name), n=4))
