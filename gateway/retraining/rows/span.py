"""Which training rows each window of the policy holds. Pure; places of rows, ascending.

since_change    from the estimated change on; everything when none is known
rows, days      the newest
sample          so many, spread evenly over time within every class: what the whole of them looks like
dynamic         several: the newest `least`, twice as many, four times as many ..., everything
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gateway.documents.policy import RetrainingPolicy, Window
from gateway.retraining.recipe import Recipe
from gateway.retraining.rows.dataset import Dataset, IntArray

WindowChoice = str | Window
DAY_NS = 86_400_000_000_000
MOST_ROWS = 50_000
"""Rows that one job gets at most."""
USUAL_ROWS = 4000
SPARE_ROWS = 2000
"""Rows beside the largest window: holdout, validation part and the label delay."""


def rows_wanted(policy: RetrainingPolicy) -> int:
    """How many of the newest rows the policy's windows can use."""
    # Days and samples reach back as far as there are rows.
    sizes = [window.rows or MOST_ROWS for window in policy.windows if isinstance(window, Window)]
    if "dynamic" in policy.windows:
        sizes.append(MOST_ROWS)
    return min(MOST_ROWS, max([USUAL_ROWS, *sizes]) + SPARE_ROWS)


def spans(
    recipe: Recipe, dataset: Dataset, train: IntArray, windows: Sequence[WindowChoice], seed: int
) -> dict[str, IntArray]:
    """Rows by the window's name, those with the same rows once; never fewer than the recipe's `least_rows`."""
    chosen: dict[str, IntArray] = {}
    for window in _spelled_out(windows, len(train), recipe.least_rows):
        rows = window_rows(dataset, train, window, recipe.least_rows, seed, recipe.is_class)
        if not any(np.array_equal(rows, other) for other in chosen.values()):
            chosen[window_name(window)] = rows
    return chosen or {"all": train}


def window_name(window: WindowChoice) -> str:
    """How a window is written in reports."""
    if isinstance(window, str):
        return window
    kind = next(name for name in ("rows", "days", "sample") if getattr(window, name) is not None)
    return f"{kind}:{getattr(window, kind):g}"


def window_rows(
    dataset: Dataset, train: IntArray, window: WindowChoice, least: int, seed: int, by_class: bool = True
) -> IntArray:
    """The training rows of one window: at least the newest `least` of them. by_class: a sample keeps the shares."""
    times = dataset.predicted_ns[train]
    if isinstance(window, str):
        inside = train[times >= dataset.description.change_ns]
    elif window.rows is not None:
        inside = train[-window.rows :]
    elif window.days is not None:
        inside = train[times >= times[-1] - int(window.days * DAY_NS)]
    else:
        return _sample(dataset, train, min(window.sample or 0, len(train)), seed, by_class)
    return inside if len(inside) >= least else train[-least:]


def _spelled_out(windows: Sequence[WindowChoice], rows: int, least: int) -> list[WindowChoice]:
    spelled: list[WindowChoice] = []
    for window in windows:
        if window != "dynamic":
            spelled.append(window)
            continue
        size = max(least, 50)
        while size < rows:
            spelled.append(Window(rows=size))
            size *= 2
        spelled.append(Window(rows=max(rows, 50)))
    return spelled


def _sample(dataset: Dataset, train: IntArray, size: int, seed: int, by_class: bool) -> IntArray:
    """Rows at even distances within each class, so that times and classes are there in their shares."""
    labels = dataset.labels[train]
    parts = [np.flatnonzero(labels == one) for one in np.unique(labels)] if by_class else [np.arange(len(train))]
    ends = np.cumsum([len(part) for part in parts]) * size / max(1, len(train))
    counts = np.diff(np.round(ends).astype(int), prepend=0)
    start = np.random.default_rng(seed).random()
    picked = [
        part[((np.arange(count) + start) * len(part) / count).astype(int)]
        for part, count in zip(parts, counts.tolist(), strict=True)
        if count
    ]
    return np.sort(train[np.concatenate(picked)]) if picked else train[:0]
