"""Which rows and which candidate: windows of the training rows, chosen on a validation part, then fitted once.

The validation part is the newest of the training rows; what is scored there was fitted on rows whose labels were known
before it began. The winner is fitted again on its whole window: that is the model that is evaluated and published.
scikit-learn is loaded only when something is fitted.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gateway.documents.policy import Window
from gateway.retraining.dataset import Dataset, FloatArray, IntArray
from gateway.retraining.evaluate import finite, is_better, known_before, metric
from gateway.retraining.recipe import Recipe

WindowChoice = str | Window
DAY_NS = 86_400_000_000_000
Float32Array = NDArray[np.float32]


@dataclass(frozen=True)
class Fitted:
    """The chosen estimator, fitted on `rows`, and what its twin said on the validation part before that.

    validation: places of the validation part; foreseen: predictions there of the same choice fitted without it; both
    empty when there were too few rows to set any aside. tried: each choice with its metric there.
    """

    estimator: Any
    candidate: str
    window: str
    rows: IntArray
    validation: IntArray
    foreseen: NDArray[Any]
    foreseen_scores: FloatArray | None
    tried: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class _Trial:
    candidate: str
    window: str
    rows: IntArray
    metric: float
    predictions: NDArray[Any]
    scores: FloatArray | None


def search(recipe: Recipe, dataset: Dataset, train: IntArray, windows: Sequence[WindowChoice], seed: int) -> Fitted:
    """Choose among candidates x windows and fit the winner. Deterministic for the same arguments.

    Ties go to the one named first. Raises ValueError when no candidate could be fitted at all.
    """
    chosen = _distinct(recipe, dataset, train, windows, seed)
    validation = train[-recipe.validation_rows :] if recipe.validation_rows else train[:0]
    before = known_before(dataset, int(validation[0])) if len(validation) else train[:0]
    before = before[np.isin(before, train)]
    if len(before) < recipe.least_rows:
        validation = train[:0]
    trials, failures = _trials(recipe, dataset, chosen, before, validation, seed) if len(validation) else ([], [])
    best = _best(recipe, trials)
    candidate = best.candidate if best else next(iter(recipe.candidates))
    window = best.window if best else next(iter(chosen))
    tried = [
        {"candidate": trial.candidate, "window": trial.window, "rows": len(trial.rows)}
        | finite({recipe.metric: trial.metric})
        for trial in trials
    ]
    if failures and not trials:
        raise ValueError(f"no candidate could be fitted: {failures[0]['error']}")
    rows = chosen[window]
    return Fitted(
        estimator=fit(recipe, candidate, dataset, rows, seed),
        candidate=candidate,
        window=window,
        rows=rows,
        validation=validation if best else train[:0],
        foreseen=best.predictions if best else dataset.labels[:0],
        foreseen_scores=best.scores if best else None,
        tried=tuple(tried + failures),
    )


def fit(recipe: Recipe, candidate: str, dataset: Dataset, rows: IntArray, seed: int) -> Any:
    """A new estimator of this candidate, seeded, fitted on these rows in single precision (what is served)."""
    estimator = recipe.candidates[candidate]()
    seeded = {name: seed for name in estimator.get_params() if name.split("__")[-1] == "random_state"}
    if seeded:
        estimator.set_params(**seeded)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # not converged is seen in the metric
        return estimator.fit(single(dataset.features[rows]), dataset.labels[rows])


def single(features: FloatArray) -> Float32Array:
    """Features in single precision, as the served model gets them."""
    return features.astype(np.float32)


def scores_of(estimator: Any, features: Float32Array) -> FloatArray | None:
    """Probability rows, or None when the estimator has none."""
    return estimator.predict_proba(features) if hasattr(estimator, "predict_proba") else None


def window_name(window: WindowChoice) -> str:
    """How a window is written in reports."""
    if isinstance(window, str):
        return window
    kind = next(name for name in ("rows", "days", "sample") if getattr(window, name) is not None)
    return f"{kind}:{getattr(window, kind):g}"


def window_rows(dataset: Dataset, train: IntArray, window: WindowChoice, least: int, seed: int) -> IntArray:
    """The training rows of one window, ascending: at least the newest `least` of them.

    since_change without a known change gives everything.
    """
    times = dataset.predicted_ns[train]
    if isinstance(window, str):
        inside = train[times >= dataset.description.change_ns]
    elif window.rows is not None:
        inside = train[-window.rows :]
    elif window.days is not None:
        inside = train[times >= times[-1] - int(window.days * DAY_NS)]
    else:
        size = min(window.sample or 0, len(train))
        return np.sort(np.random.default_rng(seed).choice(train, size, replace=False))
    return inside if len(inside) >= least else train[-least:]


def _distinct(
    recipe: Recipe, dataset: Dataset, train: IntArray, windows: Sequence[WindowChoice], seed: int
) -> dict[str, IntArray]:
    """Windows by name, those with the same rows once."""
    chosen: dict[str, IntArray] = {}
    for window in windows:
        rows = window_rows(dataset, train, window, recipe.least_rows, seed)
        if not any(np.array_equal(rows, other) for other in chosen.values()):
            chosen[window_name(window)] = rows
    return chosen or {"all": train}


def _trials(
    recipe: Recipe,
    dataset: Dataset,
    windows: dict[str, IntArray],
    before: IntArray,
    validation: IntArray,
    seed: int,
) -> tuple[list[_Trial], list[dict[str, Any]]]:
    """Every choice fitted on what its window holds of `before`; those that could not be fitted apart."""
    trials, failures = [], []
    features, labels = single(dataset.features[validation]), dataset.labels[validation]
    for candidate in recipe.candidates:
        for window, rows in windows.items():
            inside = rows[np.isin(rows, before)]
            inside = inside if len(inside) >= recipe.least_rows else before[-recipe.least_rows :]
            try:
                estimator = fit(recipe, candidate, dataset, inside, seed)
                said = estimator.predict(features)
            except ValueError as error:
                failures.append({"candidate": candidate, "window": window, "error": str(error)[:300]})
                continue
            value = metric(recipe, said, labels)
            trials.append(_Trial(candidate, window, inside, value, said, scores_of(estimator, features)))
    return trials, failures


def _best(recipe: Recipe, trials: Sequence[_Trial]) -> _Trial | None:
    best = None
    for trial in trials:
        if best is None or is_better(recipe, trial.metric, best.metric):
            best = trial
    return best
