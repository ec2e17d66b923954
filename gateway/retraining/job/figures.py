"""What a model reached on the holdout, each figure with a 95 % interval. Pure; the resampling is seeded.

The share of right answers has the exact binomial interval (Clopper and Pearson, Biometrika 1934), everything else the
percentile bootstrap over rows (Efron, Annals of Statistics 1979). A figure that the rows do not define is left out: a
ROC curve with one class, R2 of a constant. Text labels are welcome: only equality is used.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gateway.retraining.rows.dataset import FloatArray, IntArray

RESAMPLES = 200
CONFIDENCE = 0.95
_SMALLEST = 1e-15

Measure = Callable[[IntArray], Mapping[str, float]]
"""Figures of the rows at these places."""


class Figure(NamedTuple):
    """A figure and its interval."""

    value: float
    low: float
    high: float


def class_figures(
    classes: Sequence[str | int],
    said: NDArray[Any],
    probabilities: FloatArray | None,
    truth: NDArray[Any],
    seed: int = 0,
) -> dict[str, Figure]:
    """accuracy, precision, recall, f1 (means over the classes that occur); with probabilities roc_auc, log_loss, brier.

    said, truth: shape (rows,). probabilities: (rows, classes), columns in the order of `classes`. roc_auc of more than
    two classes is the mean of each class against the rest.
    """
    names = np.array(list(classes))
    is_said = np.equal(said[:, None], names[None, :])
    is_true = np.equal(truth[:, None], names[None, :])

    def measure(places: IntArray) -> Mapping[str, float]:
        found = _of_answers(is_said[places], is_true[places])
        if probabilities is not None:
            found |= _of_probabilities(probabilities[places], is_true[places])
        return found

    figures = _with_intervals(measure, len(truth), seed)
    right = int((said == truth).sum())
    return {"accuracy": Figure(right / len(truth), *exact_interval(right, len(truth))), **figures}


def value_figures(said: NDArray[Any], truth: NDArray[Any], seed: int = 0) -> dict[str, Figure]:
    """mae, rmse and r2 of a regression."""
    errors = said.astype(np.float64) - truth.astype(np.float64)
    values = truth.astype(np.float64)

    def measure(places: IntArray) -> Mapping[str, float]:
        squares = np.square(errors[places])
        spread = float(np.square(values[places] - values[places].mean()).sum())
        found = {"mae": float(np.abs(errors[places]).mean()), "rmse": float(np.sqrt(squares.mean()))}
        return found | ({"r2": 1 - float(squares.sum()) / spread} if spread > 0 else {})

    return _with_intervals(measure, len(values), seed)


def exact_interval(successes: int, count: int) -> tuple[float, float]:
    """The Clopper-Pearson interval of a share."""
    from scipy.stats import beta

    tail = (1 - CONFIDENCE) / 2
    low = 0.0 if successes == 0 else float(beta.ppf(tail, successes, count - successes + 1))
    high = 1.0 if successes == count else float(beta.ppf(1 - tail, successes + 1, count - successes))
    return low, high


def roc_auc(scores: FloatArray, positive: NDArray[np.bool_]) -> float:
    """How often a positive row scores above a negative one, ties half; NaN when either is missing.

    Source: Hanley and McNeil, Radiology 1982 (the rank form).
    """
    positives = int(positive.sum())
    negatives = len(positive) - positives
    if not positives or not negatives:
        return math.nan
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return float((ranks[positive].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def _of_answers(is_said: NDArray[np.bool_], is_true: NDArray[np.bool_]) -> dict[str, float]:
    hits, said, true = ((part).sum(axis=0).astype(np.float64) for part in (is_said & is_true, is_said, is_true))
    occurs = true > 0
    precision = np.divide(hits, said, out=np.zeros_like(hits), where=said > 0)
    recall = np.divide(hits, true, out=np.zeros_like(hits), where=true > 0)
    both = precision + recall
    f1 = np.divide(2 * precision * recall, both, out=np.zeros_like(both), where=both > 0)
    return {
        name: float(part[occurs].mean()) if occurs.any() else math.nan
        for name, part in (("precision", precision), ("recall", recall), ("f1", f1))
    }


def _of_probabilities(probabilities: FloatArray, is_true: NDArray[np.bool_]) -> dict[str, float]:
    columns = range(1, 2) if is_true.shape[1] == 2 else range(is_true.shape[1])
    curves = [roc_auc(probabilities[:, column], is_true[:, column]) for column in columns]
    known = [curve for curve in curves if not math.isnan(curve)]
    given = np.clip((probabilities * is_true).sum(axis=1), _SMALLEST, 1.0)
    return {
        "roc_auc": float(np.mean(known)) if known else math.nan,
        "log_loss": float(-np.log(given).mean()),
        "brier": float(np.square(probabilities - is_true).sum(axis=1).mean()),
    }


def _with_intervals(measure: Measure, rows: int, seed: int) -> dict[str, Figure]:
    everything = measure(np.arange(rows))
    random = np.random.default_rng(seed)
    samples = [measure(random.integers(0, rows, rows)) for _ in range(RESAMPLES)]
    figures = {}
    for name, value in everything.items():
        drawn = np.array([sample.get(name, math.nan) for sample in samples])
        drawn = drawn[np.isfinite(drawn)]
        if math.isfinite(value) and drawn.size:
            low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
            figures[name] = Figure(value, float(min(low, value)), float(max(high, value)))
    return figures
