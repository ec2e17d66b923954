"""What is wrong with the rows before anything is fitted on them. Pure: rows in, findings out.

Two findings end every job, because no model can come of them: fewer than two classes, and labels that the recipe does
not know. The others warn, are kept in the package's card, and end the job where the policy names them
(`retraining.refuse_data`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from gateway.retraining.job.coding import MISSING, is_text
from gateway.retraining.job.figures import roc_auc
from gateway.retraining.recipe import Feature, Recipe
from gateway.retraining.rows.dataset import Dataset, FloatArray, IntArray

FEW_ROWS = 1000
MISSING_SHARE = 0.0
RARE_SHARE = 0.05
DUPLICATE_SHARE = 0.1
LEAK_AUC = 0.995
LEAK_CORRELATION = 0.9999
FATAL = ("no_rows", "one_class", "unknown_label", "constant_features")


class Finding(Struct, frozen=True, kw_only=True):
    """One thing about the rows. check: its name; value: a share or count; detail: a sentence with the numbers."""

    check: str
    detail: str
    value: float = 0.0
    feature: str = ""


def examine(recipe: Recipe, dataset: Dataset, train: IntArray) -> tuple[Finding, ...]:
    """Every finding about the rows that are to be fitted on, in a fixed order."""
    if not len(train):
        return (Finding(check="no_rows", detail="there are no rows to fit on"),)
    features, labels = dataset.features[train], dataset.labels[train]
    found = [*_few(len(train)), *_labels(recipe, labels), *_duplicates(features, labels)]
    for place, feature in enumerate(recipe.features):
        found += _column(feature, features[:, place])
    constant = [one.feature for one in found if one.check == "constant"]
    if len(constant) == len(recipe.features):
        found.append(Finding(check="constant_features", detail="no feature has two values: nothing can be learned"))
    known = not any(one.check in FATAL for one in found)
    return tuple(found + (_leaks(recipe, features, labels) if known else []))


def fatal(findings: Sequence[Finding], refused: Sequence[str] = ()) -> Finding | None:
    """The first finding that ends the job: one of the fatal four, or of those that the policy refuses."""
    return next((one for one in findings if one.check in FATAL or one.check in refused), None)


def _few(rows: int) -> list[Finding]:
    if rows >= FEW_ROWS:
        return []
    return [
        Finding(
            check="few_rows",
            value=rows,
            detail=f"{rows} rows to fit on; with fewer than {FEW_ROWS} a figure moves by points",
        )
    ]


def _labels(recipe: Recipe, labels: NDArray[Any]) -> list[Finding]:
    if not recipe.is_class:
        if labels.dtype.kind not in "if":
            return [
                Finding(
                    check="unknown_label",
                    detail=f"labels are texts such as {str(labels[0])[:40]!r}, a regression needs numbers",
                )
            ]
        flat = np.all(labels == labels[0])
        return [Finding(check="one_class", value=1, detail=f"every label is {labels[0]}")] if flat else []
    values, counts = np.unique(labels, return_counts=True)
    strange = [value for value in values.tolist() if not _is_known(value, recipe.classes)]
    if strange:
        known = ", ".join(str(one) for one in recipe.classes)
        return [
            Finding(
                check="unknown_label",
                value=len(strange),
                detail=f"label {str(strange[0])[:40]!r} is not one of the recipe's classes ({known})",
            )
        ]
    if len(values) < 2:
        return [
            Finding(check="one_class", value=1, detail=f"every label is {values[0]}: there is nothing to tell apart")
        ]
    rarest = int(counts.argmin())
    share = float(counts[rarest] / counts.sum())
    if share >= RARE_SHARE:
        return []
    return [
        Finding(
            check="imbalance",
            value=share,
            detail=f"class {values[rarest]} is {share:.2%} of the rows ({counts[rarest]}): accuracy says little here",
        )
    ]


def _is_known(value: Any, classes: Sequence[str | int]) -> bool:
    """A label of another type is another label: 1 is not "1"."""
    return any(type(value) is type(one) and value == one for one in classes)


def _duplicates(features: FloatArray, labels: NDArray[Any]) -> list[Finding]:
    _, first, place = np.unique(features, axis=0, return_index=True, return_inverse=True, equal_nan=True)
    place = place.reshape(-1)
    share = 1 - len(first) / len(features)
    if share <= DUPLICATE_SHARE:
        return []
    contradicted = float((labels != labels[first][place]).mean())
    return [
        Finding(
            check="duplicates",
            value=share,
            detail=f"{share:.1%} of the rows repeat another one's features, {contradicted:.1%} with another label",
        )
    ]


def _column(feature: Feature, values: FloatArray) -> list[Finding]:
    known = values[np.isfinite(values) & ~(is_text(feature) & (values == MISSING))]
    found = []
    absent = 1 - len(known) / len(values)
    if absent > MISSING_SHARE and not feature.may_be_missing:
        found.append(
            _of(
                feature,
                "missing",
                absent,
                f"{absent:.1%} of {feature.name} is missing, and the recipe does not say that it may be",
            )
        )
    if len(np.unique(known)) < 2:
        found.append(_of(feature, "constant", 1.0, f"{feature.name} has only one value"))
    low = -np.inf if feature.low is None else feature.low
    high = np.inf if feature.high is None else feature.high
    outside = float(((known < low) | (known > high)).mean()) if len(known) else 0.0
    if outside:
        found.append(_of(feature, "out_of_range", outside, f"{outside:.1%} of {feature.name} lies outside its range"))
    if feature.kind == "categorical" and feature.categories:
        unseen = float((~np.isin(known, _codes(feature))).mean()) if len(known) else 0.0
        if unseen:
            found.append(
                _of(feature, "unseen_category", unseen, f"{unseen:.1%} of {feature.name} is none of its categories")
            )
    return found


def _codes(feature: Feature) -> FloatArray:
    if is_text(feature):
        return np.arange(len(feature.categories), dtype=np.float64)
    return np.array([float(category) for category in feature.categories])


def _of(feature: Feature, check: str, value: float, detail: str) -> Finding:
    return Finding(check=check, feature=feature.name, value=float(value), detail=detail)


def _leaks(recipe: Recipe, features: FloatArray, labels: NDArray[Any]) -> list[Finding]:
    """Features that tell the label almost alone: what is that good was often written down after the label."""
    tell: Callable[[FloatArray, NDArray[Any]], float] = _separation if recipe.is_class else _correlation
    bound = LEAK_AUC if recipe.is_class else LEAK_CORRELATION
    found = []
    for place, feature in enumerate(recipe.features):
        known = np.isfinite(features[:, place])
        strength = tell(features[known, place], labels[known]) if known.sum() > 1 else 0.0
        if strength >= bound:
            detail = f"{feature.name} alone tells the label ({strength:.4f}): was it known before the label was?"
            found.append(_of(feature, "leakage", strength, detail))
    return found


def _separation(column: FloatArray, labels: NDArray[Any]) -> float:
    """The least of the classes' areas under the curve, whichever way round."""
    curves = [roc_auc(column, labels == one) for one in np.unique(labels)]
    known = [max(curve, 1 - curve) for curve in curves if curve == curve]
    return min(known, default=0.0)


def _correlation(column: FloatArray, labels: NDArray[Any]) -> float:
    values = labels.astype(np.float64)
    if column.std() == 0 or values.std() == 0:
        return 0.0
    return float(abs(np.corrcoef(column, values)[0, 1]))
