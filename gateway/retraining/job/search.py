"""Which candidate, with which parameters, on which window: chosen on a validation part, then fitted once.

The validation part is the newest of the training rows; what is scored there was fitted on rows whose labels were known
before it began. The winner is fitted again on its whole window: that is the model that is evaluated and published.
scikit-learn is loaded only when something is fitted.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gateway.registry.reference import loss_scale
from gateway.retraining.job.calibrate import Calibrated, scaled, temperature
from gateway.retraining.job.evaluate import finite, is_better, losses, metric
from gateway.retraining.job.tune import Tuned, tune
from gateway.retraining.recipe import Recipe
from gateway.retraining.rows.dataset import Dataset, FloatArray, IntArray
from gateway.retraining.rows.span import WindowChoice, spans
from gateway.retraining.rows.split import known_before

Float32Array = NDArray[np.float32]
Progress = Callable[[str, int, int], None]
"""What is being done, how much of it is done, and how much there is."""


@dataclass(frozen=True)
class Fitted:
    """The chosen estimator, fitted on `rows`, and what its twin said on the validation part before that.

    validation: places of the validation part; foreseen: predictions there of the same choice fitted without it; both
    empty when there were too few rows to set any aside. tried: each choice with its metric there. parameters: what was
    set on the candidate.
    """

    estimator: Any
    candidate: str
    window: str
    rows: IntArray
    validation: IntArray
    foreseen: NDArray[Any]
    foreseen_scores: FloatArray | None
    tried: tuple[dict[str, Any], ...]
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class _Trial:
    candidate: str
    window: str
    rows: IntArray
    metric: float
    predictions: NDArray[Any]
    scores: FloatArray | None
    classes: tuple[Any, ...]


def _silent(_step: str, _done: int, _total: int) -> None:
    """Nobody looks."""


def search(
    recipe: Recipe,
    dataset: Dataset,
    train: IntArray,
    windows: Sequence[WindowChoice],
    seed: int,
    progress: Progress = _silent,
) -> Fitted:
    """Choose among candidates x windows and fit the winner. Deterministic for the same arguments.

    Near the best the longest window is chosen (`_best`). Raises ValueError when no candidate could be fitted at all.
    """
    chosen = spans(recipe, dataset, train, windows, seed)
    validation = train[-recipe.validation_rows :] if recipe.validation_rows else train[:0]
    before = known_before(dataset, int(validation[0])) if len(validation) else train[:0]
    before = before[np.isin(before, train)]
    if len(before) < recipe.least_rows:
        validation = train[:0]
    tuned = _tuned(recipe, dataset, chosen, before if len(validation) else train, seed, progress)
    trials, failures = (
        _trials(recipe, dataset, chosen, before, validation, seed, tuned, progress) if len(validation) else ([], [])
    )
    best = _best(recipe, trials, dataset.labels[validation])
    candidate = best.candidate if best else next(iter(recipe.candidates))
    window = best.window if best else next(iter(chosen))
    tried = [entry for one in tuned.values() for entry in one.tried] + [
        {"candidate": trial.candidate, "window": trial.window, "rows": len(trial.rows)}
        | finite({recipe.metric: trial.metric})
        for trial in trials
    ]
    if failures and not trials:
        raise ValueError(f"no candidate could be fitted: {failures[0]['error']}")
    rows = chosen[window]
    progress("fit", 0, 1)
    estimator = fit(recipe, candidate, dataset, rows, seed, tuned[candidate].parameters)
    foreseen_scores = best.scores if best else None
    if recipe.calibrate and best is not None and foreseen_scores is not None:
        value = temperature(best.classes, foreseen_scores, dataset.labels[validation])
        estimator, foreseen_scores = Calibrated(estimator, value), scaled(foreseen_scores, value)
    return Fitted(
        estimator=estimator,
        candidate=candidate,
        window=window,
        rows=rows,
        validation=validation if best else train[:0],
        foreseen=best.predictions if best else dataset.labels[:0],
        foreseen_scores=foreseen_scores,
        tried=tuple(tried + failures),
        parameters=tuned[candidate].parameters,
    )


def fit(
    recipe: Recipe,
    candidate: str,
    dataset: Dataset,
    rows: IntArray,
    seed: int,
    parameters: Mapping[str, Any] | None = None,
) -> Any:
    """A new estimator of this candidate, seeded, fitted on these rows in single precision (what is served)."""
    estimator = recipe.candidates[candidate]()
    seeded = {name: seed for name in estimator.get_params() if name.split("__")[-1] == "random_state"}
    if seeded or parameters:
        estimator.set_params(**seeded, **(parameters or {}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # not converged is seen in the metric
        return estimator.fit(single(dataset.features[rows]), dataset.labels[rows])


def single(features: FloatArray) -> Float32Array:
    """Features in single precision, as the served model gets them."""
    return features.astype(np.float32)


def scores_of(estimator: Any, features: Float32Array) -> FloatArray | None:
    """Probability rows, or None when the estimator has none."""
    return estimator.predict_proba(features) if hasattr(estimator, "predict_proba") else None


def _tuned(
    recipe: Recipe, dataset: Dataset, windows: dict[str, IntArray], before: IntArray, seed: int, progress: Progress
) -> dict[str, Tuned]:
    """The parameters of every candidate, found on what the largest window holds of `before`."""
    widest = max(windows.values(), key=len)
    rows = widest[np.isin(widest, before)]
    found = {}
    for number, candidate in enumerate(recipe.candidates):
        if recipe.spaces.get(candidate):
            progress(f"tune {candidate}", number, len(recipe.candidates))

        def measure(parameters: Mapping[str, Any], fitted: IntArray, scored: IntArray, name: str = candidate) -> float:
            estimator = fit(recipe, name, dataset, fitted, seed, parameters)
            return metric(recipe, estimator.predict(single(dataset.features[scored])), dataset.labels[scored])

        found[candidate] = tune(recipe, candidate, dataset, rows, seed, measure)
    return found


def _trials(
    recipe: Recipe,
    dataset: Dataset,
    windows: dict[str, IntArray],
    before: IntArray,
    validation: IntArray,
    seed: int,
    tuned: Mapping[str, Tuned],
    progress: Progress,
) -> tuple[list[_Trial], list[dict[str, Any]]]:
    """Every choice fitted on what its window holds of `before`; those that could not be fitted apart."""
    trials, failures = [], []
    features, labels = single(dataset.features[validation]), dataset.labels[validation]
    choices = [(candidate, window, rows) for candidate in recipe.candidates for window, rows in windows.items()]
    for number, (candidate, window, rows) in enumerate(choices):
        progress(f"try {candidate} on {window}", number, len(choices))
        inside = rows[np.isin(rows, before)]
        inside = inside if len(inside) >= recipe.least_rows else before[-recipe.least_rows :]
        try:
            estimator = fit(recipe, candidate, dataset, inside, seed, tuned[candidate].parameters)
            said = estimator.predict(features)
        except ValueError as error:
            failures.append({"candidate": candidate, "window": window, "error": str(error)[:300]})
            continue
        value = metric(recipe, said, labels)
        classes = tuple(estimator.classes_.tolist()) if recipe.is_class else ()
        trials.append(_Trial(candidate, window, inside, value, said, scores_of(estimator, features), classes))
    return trials, failures


def _best(recipe: Recipe, trials: Sequence[_Trial], labels: NDArray[Any]) -> _Trial | None:
    """The best trial; of those that are worse by a standard error at most, the one that was fitted on the most rows.

    A short window wins a validation part easily by luck, and then answers with less knowledge than a long one. Ties go
    to the better, then to the one named first. labels: of the validation part. Source: the one-standard-error rule,
    Breiman, Friedman, Olshen, Stone, Classification and Regression Trees, 1984.
    """
    best = None
    for trial in trials:
        if best is None or is_better(recipe, trial.metric, best.metric):
            best = trial
    if best is None:
        return None
    scale = loss_scale(labels.tolist())
    least = losses(recipe, best.predictions, labels, scale)
    chosen = best
    for trial in trials:
        more = losses(recipe, trial.predictions, labels, scale) - least
        is_near = more.mean() <= more.std() / math.sqrt(len(more))
        if is_near and len(trial.rows) > len(chosen.rows):
            chosen = trial
    return chosen
