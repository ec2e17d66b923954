"""A version beside what was answered by others, row by row: agreement, scores, and the paired difference.

`compare(rows, is_class)` is the whole of it; a `Tally` is the same for rows that come one after the other. Loss of a
row: 0 or 1 for a class, the absolute error for a value, so smaller is better and differences are in the label's unit.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import NormalDist
from typing import Any, NamedTuple

from msgspec import Struct

from gateway.comparison.figure import Figure, Moments, Z, f1, matched, root, share, sign_test
from gateway.registry.manifest import PredictionSpec
from gateway.registry.reference import category

LEAST_PART_ROWS = 50
"""A part with fewer labelled rows is not compared."""

_SMALLEST = 1e-15
_MOST_CLASSES = 16
_OTHER = "other"


class Row(NamedTuple):
    """One row. own: what the version says; other: what was answered by whom it is compared with; None: not known.

    label: None while it is not known. own_log_loss, other_log_loss: of the row, see `log_loss`. parts: names of the
    parts of the traffic that the row belongs to. is_paired: False leaves the other's answer in the agreement alone.
    """

    own: Any
    other: Any = None
    label: Any = None
    own_log_loss: float | None = None
    other_log_loss: float | None = None
    parts: Sequence[str] = ()
    is_paired: bool = True


class Paired(Struct, frozen=True):
    """The same labelled rows by both. difference: mean loss of the version minus that of the other; below 0 is better.

    better, worse: rows on which the version's loss is smaller, larger. p: two-sided, that both are equally likely.
    """

    rows: int
    own: float
    other: float
    difference: Figure
    better: int
    worse: int
    p: float


class Comparison(Struct, frozen=True, kw_only=True):
    """rows: compared in agreement; labelled: of those that were replayed. flips: (then, now, rows), largest first.

    agreement: share of equal classes, for values the mean distance of the answers. own, other: figures by name, each on
    the rows that it answered and that have a label. parts: the paired difference in each part, at 5 % over all parts.
    """

    rows: int
    labelled: int
    agreement: Figure | None
    flips: list[tuple[str, str, int]]
    own: dict[str, Figure]
    other: dict[str, Figure]
    paired: Paired | None
    parts: dict[str, Paired]


def compare(rows: Iterable[Row], is_class: bool, positive: Any = None) -> Comparison:
    """Compare all rows. positive: the class that F1 is of; None takes the mean over all classes."""
    tally = Tally(is_class, positive)
    for row in rows:
        tally.add(row)
    return tally.comparison()


def log_loss(label: Any, chances: Any, spec: PredictionSpec) -> float | None:
    """-log p(true class) of one row; None without probabilities or for a class that the version does not know."""
    classes = [category(one) for one in spec.classes]
    truth = category(label)
    if not isinstance(chances, (list, tuple)) or len(chances) != len(classes) or truth not in classes:
        return None
    chance = chances[classes.index(truth)]
    return None if chance is None else -math.log(min(1.0, max(_SMALLEST, float(chance))))


class Tally:
    """Rows compared so far. Memory does not grow with them."""

    def __init__(self, is_class: bool, positive: Any = None) -> None:
        self._is_class = is_class
        positive_name = None if positive is None else category(positive)
        self._own, self._other = _Scores(is_class, positive_name), _Scores(is_class, positive_name)
        self._all = _Pairs(is_class)
        self._parts: dict[str, _Pairs] = {}
        self._agreeing = 0
        self._distance = Moments()
        self._flips: Counter[tuple[str, str]] = Counter()
        self._classes: set[str] = set()
        self._labelled = 0

    def add(self, row: Row) -> None:
        """Count one row. An answer or a label of another kind (a text for a value) counts as not known."""
        own, other, label = self._read(row.own), self._read(row.other), self._read(row.label)
        if own is not None and other is not None:
            self._agree(own, other)
        if label is None or own is None:
            return
        self._labelled += 1
        loss = self._own.add(label, own, row.own_log_loss)
        if other is None or not row.is_paired:
            return
        other_loss = self._other.add(label, other, row.other_log_loss)
        self._all.add(loss, other_loss)
        for part in row.parts:
            self._parts.setdefault(part, _Pairs(self._is_class)).add(loss, other_loss)

    def comparison(self) -> Comparison:
        """The figures so far."""
        large = {name: pairs for name, pairs in sorted(self._parts.items()) if pairs.rows >= LEAST_PART_ROWS}
        z = NormalDist().inv_cdf(1 - 0.025 / max(1, len(large)))
        rows = self._distance.count
        flips = sorted(self._flips.items(), key=lambda item: (-item[1], item[0]))
        return Comparison(
            rows=rows,
            labelled=self._labelled,
            agreement=share(self._agreeing, rows) if self._is_class else self._distance.figure(),
            flips=[(then, now, count) for (then, now), count in flips],
            own=self._own.figures(),
            other=self._other.figures(),
            paired=self._all.paired(),
            parts={name: paired for name, pairs in large.items() if (paired := pairs.paired(z)) is not None},
        )

    def _read(self, value: Any) -> Any:
        if value is None or isinstance(value, (list, tuple, dict)):
            return None
        if self._is_class:
            return category(value)
        is_number = isinstance(value, (int, float)) and math.isfinite(value)
        return float(value) if is_number else None

    def _agree(self, own: Any, other: Any) -> None:
        self._distance.add(float(own != other) if self._is_class else abs(own - other))
        self._agreeing += own == other
        if self._is_class and own != other:
            self._flips[self._known(other), self._known(own)] += 1

    def _known(self, name: str) -> str:
        """The class, or `other` once there are many."""
        if name not in self._classes and len(self._classes) >= _MOST_CLASSES:
            return _OTHER
        self._classes.add(name)
        return name


class _Scores:
    """How right one side is."""

    def __init__(self, is_class: bool, positive: str | None) -> None:
        self._is_class = is_class
        self._positive = positive
        self._confusion: Counter[tuple[str, str]] = Counter()
        self._log_loss = Moments()
        self._absolute, self._squared = Moments(), Moments()

    def add(self, label: Any, said: Any, surprise: float | None) -> float:
        """Count one labelled row; its loss."""
        if surprise is not None:
            self._log_loss.add(surprise)
        if self._is_class:
            self._confusion[label, said] += 1
            return float(label != said)
        error = abs(label - said)
        self._absolute.add(error)
        self._squared.add(error * error)
        return float(error)

    def figures(self) -> dict[str, Figure]:
        """accuracy, f1 and log_loss, or mae and rmse; those that are known."""
        if self._is_class:
            hits = sum(rows for (label, said), rows in self._confusion.items() if label == said)
            found: Mapping[str, Figure | None] = {
                "accuracy": share(hits, self._confusion.total()),
                "f1": f1(self._confusion, self._positive),
                "log_loss": self._log_loss.figure(),
            }
        else:
            found = {"mae": self._absolute.figure(), "rmse": root(self._squared)}
        return {name: figure for name, figure in found.items() if figure is not None}


class _Pairs:
    """Losses of both sides on the same rows."""

    def __init__(self, is_class: bool) -> None:
        self._is_class = is_class
        self._own, self._other, self._difference = Moments(), Moments(), Moments()
        self._better = self._worse = 0

    @property
    def rows(self) -> int:
        """How many rows were added."""
        return self._difference.count

    def add(self, own: float, other: float) -> None:
        """Count one row."""
        self._own.add(own)
        self._other.add(other)
        self._difference.add(own - other)
        self._better += own < other
        self._worse += own > other

    def paired(self, z: float = Z) -> Paired | None:
        """The paired figures; None without rows."""
        if not self.rows:
            return None
        moments = self._difference
        difference = matched(self._better, self._worse, self.rows, z) if self._is_class else moments.figure(z)
        assert difference is not None, "there are rows"
        p = sign_test(self._worse, self._better)
        return Paired(self.rows, self._own.mean, self._other.mean, difference, self._better, self._worse, p)
