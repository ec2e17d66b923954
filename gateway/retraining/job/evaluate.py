"""Scores of predictions against labels: losses row by row, metrics, paired evidence.

Pure functions over arrays. Nothing here is random, and nothing knows how predictions were made.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gateway.retraining.recipe import Feature, Recipe
from gateway.retraining.rows.dataset import FloatArray

BoolArray = NDArray[np.bool_]
SLICE_ROWS = 50
"""A part of the holdout with fewer rows is not compared."""


class Interval(NamedTuple):
    """A mean difference and its interval."""

    mean: float
    low: float
    high: float


def losses(recipe: Recipe, predictions: NDArray[Any], labels: NDArray[Any], scale: float = 1.0) -> FloatArray:
    """How wrong each row is, in [0, 1]: 0 or 1 for classes, the absolute error over `scale`, clipped, for values."""
    if recipe.is_class:
        wrong: FloatArray = (predictions != labels).astype(np.float64)
        return wrong
    errors = np.abs(predictions.astype(np.float64) - labels.astype(np.float64))
    return np.minimum(errors / scale, 1.0)


def metric(recipe: Recipe, predictions: NDArray[Any], labels: NDArray[Any]) -> float:
    """The recipe's metric. balanced_accuracy, f1: the mean over the classes that occur."""
    if recipe.is_class:
        right = predictions == labels
        if recipe.metric == "f1":
            return float(np.mean([_f1(predictions == one, labels == one) for one in np.unique(labels)]))
        if recipe.metric == "balanced_accuracy":
            return float(np.mean([right[labels == one].mean() for one in np.unique(labels)]))
        return float(right.mean())
    errors = predictions.astype(np.float64) - labels.astype(np.float64)
    if recipe.metric == "r2":
        spread = float(np.square(labels.astype(np.float64) - labels.astype(np.float64).mean()).mean())
        return 1 - float(np.square(errors).mean()) / spread if spread else math.nan
    return float(np.abs(errors).mean()) if recipe.metric == "mae" else float(np.sqrt((errors**2).mean()))


def is_better(recipe: Recipe, left: float, right: float) -> bool:
    """True when metric `left` is strictly better than `right`."""
    return left < right if recipe.metric in ("mae", "rmse") else left > right


def _f1(said: BoolArray, true: BoolArray) -> float:
    hits = int((said & true).sum())
    return 2 * hits / max(1, int(said.sum()) + int(true.sum()))


def paired(difference: FloatArray, z: float = 1.96) -> Interval:
    """The mean of paired differences in [-1, 1] with an interval that holds up on a hundred rows.

    Half a row is added to either side, as Agresti and Min do for matched pairs (Statistics in Medicine, 2005): with no
    difference at all in 100 rows it is still +- 0.02 wide, where the plain interval would be a point.
    """
    count = len(difference) + 2
    mean = float(difference.sum()) / count
    variance = max(0.0, (float((difference**2).sum()) + 1) / count - mean**2)
    half = z * math.sqrt(variance / count)
    return Interval(mean, mean - half, mean + half)


def sign_test(difference: FloatArray) -> float:
    """Two-sided exact p-value that losses fall and rise equally often (McNemar's exact test for classes)."""
    rises, falls = int((difference > 0).sum()), int((difference < 0).sum())
    count = rises + falls
    if not count:
        return 1.0
    tail = sum(math.comb(count, k) for k in range(min(rises, falls) + 1))
    return min(1.0, 2 * tail / (1 << count))


def slices(recipe: Recipe, features: FloatArray, names: Sequence[str] | None = None) -> Mapping[str, BoolArray]:
    """Parts of the holdout with at least 50 rows, by name: categories, or thirds of a numeric feature.

    names: features to cut by; left out, the recipe's `slices`. Categories that are texts stand there as their places.
    """
    parts: dict[str, BoolArray] = {}
    for name in recipe.slices if names is None else names:
        place = recipe.names.index(name)
        column = features[:, place]
        if recipe.features[place].kind == "categorical":
            values = np.unique(column[~np.isnan(column)]).tolist()
            parts |= {f"{name}={_spelled(recipe.features[place], value)}": column == value for value in values}
        elif np.isfinite(column).any():
            parts |= _thirds(name, column)
    return {name: part for name, part in parts.items() if part.sum() >= SLICE_ROWS}


def _spelled(feature: Feature, value: float) -> str:
    """A category as people wrote it."""
    if any(isinstance(category, str) for category in feature.categories):
        return str(feature.categories[int(value)]) if value >= 0 else "missing" if value < -1 else "unseen"
    return f"{value:g}"


def _thirds(name: str, column: FloatArray) -> dict[str, BoolArray]:
    low, high = np.nanquantile(column, [1 / 3, 2 / 3])
    return {
        f"{name}<={low:g}": column <= low,
        f"{low:g}<{name}<={high:g}": (column > low) & (column <= high),
        f"{name}>{high:g}": column > high,
    }


def finite(values: Mapping[str, float | None]) -> dict[str, float]:
    """Only the numbers that JSON can hold."""
    return {name: float(value) for name, value in values.items() if value is not None and math.isfinite(value)}
