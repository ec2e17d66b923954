"""How large a change is, once a detector said that there is one: effect sizes and the severity they add up to.

Evidence says whether, effect says how much; the two are never mixed. Compares the window behind the estimated change
with the reference, column by column. Pure functions on arrays.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from gateway.monitor.detectors.detector import FloatArray
from gateway.registry.reference import UNSEEN, ColumnReference, span

_BINS = 10
_LARGEST_WASSERSTEIN = 10.0

LIMITS: dict[str, tuple[float, float]] = {
    "psi": (0.1, 0.25),
    "wasserstein": (0.1, 0.5),
    "missing": (0.01, 0.05),
    "range": (0.01, 0.05),
    "unseen": (0.01, 0.05),
    "error": (0.02, 0.1),
}
"""From which size an effect is medium, and from which high."""


def psi(reference: FloatArray, current: FloatArray) -> float:
    """Population stability index between two histograms over the same bins, less what chance alone would give.

    reference, current: counts per bin, shape (bins,). Empty bins count as half a row. Returns a value >= 0. With n
    rows chance gives about (bins - 1) / n, which is subtracted: short windows would look drifted otherwise.
    Source: Siddiqi, Credit Risk Scorecards, 2006; Yurdakul and Naranjo, 2020, for its distribution.
    """
    rows_before, rows_now = float(reference.sum()), float(current.sum())
    if rows_before <= 0 or rows_now <= 0:
        return 0.0
    before = np.maximum(reference, 0.5) / rows_before
    now = np.maximum(current, 0.5) / rows_now
    value = float(np.sum((now - before) * np.log(now / before)))
    return max(0.0, value - (reference.size - 1) * (1 / rows_now + 1 / rows_before))


def wasserstein(quantiles: FloatArray, deviation: float, values: FloatArray) -> float:
    """Wasserstein-1 distance of values (n,) to the reference's quantiles, in the reference's standard deviations.

    At most 10; a column that was constant and is not any more counts as 10.
    """
    current = np.quantile(values, np.linspace(0, 1, quantiles.size))
    distance = float(np.mean(np.abs(current - quantiles)))
    if distance == 0:
        return 0.0
    return min(_LARGEST_WASSERSTEIN, distance / deviation) if deviation > 0 else _LARGEST_WASSERSTEIN


def effects(column: ColumnReference, values: FloatArray) -> dict[str, float]:
    """Effect sizes of one column on encoded values (n,): psi, wasserstein, and the rise of missing, range, unseen."""
    if not values.size:
        return {}
    missing = np.isnan(values)
    found = {"missing": float(missing.mean()) - column.missing}
    known = values[~missing]
    if column.kind == "categorical":
        found["unseen"] = float((values == UNSEEN).mean())
        found["psi"] = _categorical_psi(column, known)
    elif column.quantiles and known.size:
        low, high = span(column)
        found["range"] = float(((known < low) | (known > high)).mean())
        quantiles = np.array(column.quantiles)
        found["psi"] = _numeric_psi(quantiles, known)
        finite = known[np.isfinite(known)]
        found["wasserstein"] = wasserstein(quantiles, column.deviation, finite) if finite.size else 0.0
    return {name: round(value, 6) for name, value in found.items() if value > 0}


def severity(found: Sequence[tuple[str, float]]) -> str:
    """low | medium | high: the worst of the named effects, by LIMITS."""
    grade = max((sum(value >= limit for limit in LIMITS[name]) for name, value in found), default=0)
    return ("low", "medium", "high")[grade]


def _numeric_psi(quantiles: FloatArray, values: FloatArray) -> float:
    bins = min(_BINS, max(2, values.size // 10))
    edges = np.unique(np.quantile(quantiles, np.linspace(0, 1, bins + 1)[1:-1]))
    before = np.bincount(edges.searchsorted(quantiles, "right"), minlength=edges.size + 1).astype(np.float64)
    now = np.bincount(edges.searchsorted(values, "right"), minlength=edges.size + 1).astype(np.float64)
    return psi(before, now)


def _categorical_psi(column: ColumnReference, values: FloatArray) -> float:
    codes = np.where(values == UNSEEN, len(column.categories), values).astype(np.intp)
    now = np.bincount(codes, minlength=len(column.categories) + 1).astype(np.float64)
    before = np.array([*column.shares, 0.0]) * max(1000.0, math.fsum(now))
    return psi(before, now)
