"""What labelled rows come to as counts and sums, and the figures made of them. Plain values, bounded in size.

`Counts` holds what every figure of a version, or of one slice of its rows, needs: a confusion matrix for classes,
sums of losses for values, a histogram of the probability of the positive class for the area under the ROC curve.
Figures go by the names of `river.metrics` in snake case and are what river says of the same rows; its confusion
matrix and the figures on it are river's own, imported at the first use only.

ROC AUC of everything so far is made of bins of equal width in log-odds, as river's is made of thresholds: it needs no
rows, and rare classes keep their resolution. Ties within a bin count half. Source: Hanley and McNeil, The meaning and
use of the area under a receiver operating characteristic curve, 1982.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from msgspec import Struct

from gateway.registry.manifest import PredictionSpec
from gateway.registry.reference import category

MOST_CLASSES = 50
"""So many classes have a row and a column of their own."""

BINS = 64
_WIDTH = 0.35
_SMALLEST = 1e-15


class Counts(Struct):
    """Counts and sums of labelled rows.

    confusion: label -> prediction -> rows, for classes. scored, log_loss: rows with a known log loss, and their sum.
    absolute, squared: sums of errors of values. scores: rows by bin of the positive class's probability, those of the
    negative class first; empty unless there are two classes. label_mean, label_squares: mean of the labels of values
    and the sum of squared deviations from it.
    """

    labelled: int = 0
    confusion: dict[str, dict[str, int]] = {}
    scored: int = 0
    log_loss: float = 0.0
    absolute: float = 0.0
    squared: float = 0.0
    scores: list[int] = []
    label_mean: float = 0.0
    label_squares: float = 0.0

    def add_class(self, truth: str, said: str, surprise: float | None, positive: str | None) -> None:
        """One row of a classification. positive: the positive one of two classes, None for any other number."""
        self.labelled += 1
        is_known = truth in self.confusion or len(self.confusion) < MOST_CLASSES
        name = truth if is_known else "other"
        row = self.confusion.setdefault(name, {})
        # Right stays right and wrong stays wrong, also where names are lost.
        column = name if said == truth else said if said in row or len(row) < MOST_CLASSES else "another"
        row[column] = row.get(column, 0) + 1
        if surprise is None:
            return
        self.scored += 1
        self.log_loss += surprise
        if positive is not None:
            if not self.scores:
                self.scores = [0] * (2 * BINS)
            is_positive = truth == positive
            self.scores[is_positive * BINS + bin_of(score_of_row(is_positive, surprise))] += 1

    def add_value(self, label: float, prediction: float) -> None:
        """One row of a regression."""
        self.labelled += 1
        error = prediction - label
        self.absolute += abs(error)
        self.squared += error * error
        off = label - self.label_mean
        self.label_mean += off / self.labelled
        self.label_squares += off * (label - self.label_mean)

    def pairs(self) -> list[tuple[str, str, int]]:
        """The confusion matrix as (label, prediction, rows)."""
        return [(truth, said, count) for truth, row in self.confusion.items() for said, count in row.items()]


def class_figures(counts: Counts, positive: str | None) -> dict[str, float]:
    """The figures of a classification since its first label; empty without labels."""
    figures = confusion_figures(counts.pairs(), positive)
    if counts.scored:
        figures["log_loss"] = counts.log_loss / counts.scored
    if (area := area_of_bins(counts.scores)) is not None:
        figures["roc_auc"] = area
    return figures


def value_figures(counts: Counts) -> dict[str, float]:
    """The figures of a regression since its first label; empty without labels."""
    if not counts.labelled:
        return {}
    figures = {"mae": counts.absolute / counts.labelled, "rmse": math.sqrt(counts.squared / counts.labelled)}
    if counts.label_squares > 0.0:
        figures["r2"] = 1.0 - counts.squared / counts.label_squares
    return figures


def confusion_figures(pairs: Iterable[tuple[str, str, int]], positive: str | None) -> dict[str, float]:
    """Accuracy, precision, recall and F1 by river; the macro averages unless there is a positive class.

    pairs: label, prediction, rows. Empty without rows.
    """
    river = importlib.import_module("river.metrics")
    matrix = river.ConfusionMatrix()
    for truth, said, count in pairs:
        matrix.update(truth, said, count)
    if not matrix.n_samples:
        return {}
    if positive is None:
        made = {"precision": river.MacroPrecision, "recall": river.MacroRecall, "f1": river.MacroF1}
        figures = {name: one(cm=matrix).get() for name, one in made.items()}
    else:
        made = {"precision": river.Precision, "recall": river.Recall, "f1": river.F1}
        figures = {name: one(cm=matrix, pos_val=positive).get() for name, one in made.items()}
    return {"accuracy": river.Accuracy(cm=matrix).get(), **figures}


def area_of_bins(scores: Sequence[int]) -> float | None:
    """Area under the ROC curve of a histogram as in `Counts.scores`; None unless both classes were seen."""
    negatives, positives = scores[:BINS], scores[BINS:]
    pairs = sum(negatives) * sum(positives)
    if not pairs:
        return None
    below, won = 0, 0.0
    for negative, positive in zip(negatives, positives, strict=True):
        won += positive * (below + negative / 2)
        below += negative
    return won / pairs


def area_of_rows(rows: Iterable[tuple[bool, float]]) -> float | None:
    """The same of rows, exactly: (is it of the positive class, score). None unless both classes are there."""
    by_score: dict[float, list[int]] = {}
    for is_positive, score in rows:
        by_score.setdefault(score, [0, 0])[is_positive] += 1
    below, positives, won = 0, 0, 0.0
    for score in sorted(by_score):
        negative, positive = by_score[score]
        won += positive * (below + negative / 2)
        below += negative
        positives += positive
    return won / (below * positives) if below and positives else None


def bin_of(chance: float) -> int:
    """The bin of a probability, 0 to BINS - 1, by its log-odds; NaN is none and must not come here."""
    inside = min(1.0 - 1e-9, max(1e-9, chance))
    place = math.floor(math.log(inside / (1.0 - inside)) / _WIDTH) + BINS // 2
    return min(BINS - 1, max(0, place))


def log_loss(truth: str, chances: Sequence[float] | None, spec: PredictionSpec) -> float | None:
    """-log p(true class) of one row; None without probabilities or for a class that the version does not know."""
    place = places(spec.classes).get(truth)
    return None if chances is None or place is None else -math.log(min(1.0, max(_SMALLEST, chances[place])))


def score_of_row(is_positive: bool, surprise: float) -> float:
    """The probability of the positive class, from a row's log loss."""
    chance = math.exp(-surprise)
    return chance if is_positive else 1.0 - chance


def chances_of(probabilities: Any, spec: PredictionSpec) -> list[float] | None:
    """The probabilities of one row by class; None when they are not one number in [0, 1] for each class."""
    if not isinstance(probabilities, list | tuple):
        return None
    for chance in probabilities:
        if type(chance) not in _NUMBERS or not -_SLACK <= chance <= 1.0 + _SLACK:  # NaN is not in between
            return None
    if len(probabilities) == 1 and len(spec.classes) == 2:  # a single column is the last class's
        return [1.0 - probabilities[0], probabilities[0]]
    return list(probabilities) if probabilities and len(probabilities) == len(spec.classes) else None


_NUMBERS = (float, int)
_SLACK = 1e-3
"""So far above 1 or below 0 is rounding."""


def positive_class(spec: PredictionSpec | None) -> str | None:
    """The last of two classes; None for any other number."""
    return category(spec.classes[-1]) if spec is not None and len(spec.classes) == 2 else None


def places(classes: Sequence[str | int]) -> Mapping[str, int]:
    """Text of a class -> its column among the probabilities."""
    return _places(tuple(classes))


@lru_cache(maxsize=1000)
def _places(classes: tuple[str | int, ...]) -> Mapping[str, int]:
    return {category(one): place for place, one in enumerate(classes)}
