"""Which parameters of one candidate: tried forward in time, never on a row that came before what it was fitted on.

The rows are cut into `folds` + 1 blocks by time; each block but the first is foreseen by an estimator fitted on the
earlier rows whose labels were known when the block began. What is compared is the mean of the recipe's metric over
the blocks. All that is random is seeded; Optuna is loaded only when it is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from msgspec import json

from gateway.errors import InvalidConfig
from gateway.retraining.job.evaluate import finite, is_better
from gateway.retraining.recipe import Recipe
from gateway.retraining.rows.dataset import Dataset, IntArray
from gateway.retraining.rows.split import known_before

KEPT = 3
"""Of the drawn parameters one in three goes on to the next round of a halving search, with three times the rows."""

Parameters = Mapping[str, Any]
Fold = tuple[IntArray, IntArray]
Score = Callable[[Parameters, Sequence[Fold]], float]
"""The mean metric of parameters over folds; NaN when they can not be fitted."""


@dataclass(frozen=True)
class Tuned:
    """The best parameters, and each one tried: parameters, rows, the metric or why it could not be fitted."""

    parameters: dict[str, Any]
    tried: tuple[dict[str, Any], ...]


def folds(dataset: Dataset, rows: IntArray, count: int, least: int) -> list[Fold]:
    """Up to `count` pairs of places: to fit on, to score on; none with fewer than `least` rows to fit on."""
    blocks = np.array_split(rows, count + 1)
    made = []
    for block in blocks[1:]:
        if len(block):
            known = known_before(dataset, int(block[0]))
            before = known[np.isin(known, rows)]
            if len(before) >= least:
                made.append((before, block))
    return made


def tune(
    recipe: Recipe, candidate: str, dataset: Dataset, rows: IntArray, seed: int, measure: Callable[..., float]
) -> Tuned:
    """The best parameters in the recipe's space for this candidate; {} when it has none or the rows are too few.

    measure(parameters, to fit on, to score on) gives the metric and raises ValueError for what can not be fitted.
    Raises ValueError when nothing in the space could be fitted, InvalidConfig when Optuna is asked for and missing.
    """
    space = recipe.spaces.get(candidate)
    if not space or not folds(dataset, rows, recipe.folds, recipe.least_rows):
        return Tuned({}, ())
    tried: list[dict[str, Any]] = []

    def score(parameters: Parameters, on: Sequence[Fold]) -> float:
        entry: dict[str, Any] = {"candidate": candidate, "parameters": _plain(parameters), "rows": len(on[-1][0])}
        try:
            value = float(np.mean([measure(parameters, *fold) for fold in on]))
        except ValueError as error:
            tried.append(entry | {"error": str(error)[:300]})
            return math.nan
        tried.append(entry | finite({recipe.metric: value}))
        return value

    best = _SEARCHES[recipe.search](recipe, space, dataset, rows, seed, score)
    if best is None:
        raise ValueError(f"no parameters of {candidate} could be fitted: {tried[0].get('error', 'no metric')}")
    return Tuned(dict(best), tuple(tried))


def _grid(recipe: Recipe, space: Any, dataset: Dataset, rows: IntArray, seed: int, score: Score) -> Parameters | None:
    from sklearn.model_selection import ParameterGrid

    on = folds(dataset, rows, recipe.folds, recipe.least_rows)
    return _best(recipe, [(one, score(one, on)) for one in ParameterGrid(dict(space))])


def _random(recipe: Recipe, space: Any, dataset: Dataset, rows: IntArray, seed: int, score: Score) -> Parameters | None:
    on = folds(dataset, rows, recipe.folds, recipe.least_rows)
    return _best(recipe, [(one, score(one, on)) for one in _drawn(recipe, space, seed)])


def _halving(
    recipe: Recipe, space: Any, dataset: Dataset, rows: IntArray, seed: int, score: Score
) -> Parameters | None:
    """Successive halving over the newest rows (Jamieson and Talwalkar, AISTATS 2016)."""
    going = _drawn(recipe, space, seed)
    rounds = max(1, math.ceil(math.log(max(2, len(going)), KEPT)))
    smallest = 2 * recipe.least_rows * (recipe.folds + 1) // recipe.folds
    for number in range(rounds, -1, -1):
        newest = rows[-max(smallest, len(rows) // KEPT**number) :]
        on = folds(dataset, newest, recipe.folds, recipe.least_rows)
        if not on:
            continue
        scored = [(one, score(one, on)) for one in going]
        known = [(one, value) for one, value in scored if not math.isnan(value)]
        known.sort(key=lambda pair: pair[1] if is_better(recipe, 0.0, 1.0) else -pair[1])
        going = [one for one, _ in known[: max(1, math.ceil(len(known) / KEPT))]]
        if len(going) < 2:
            break
    return going[0] if going else None


def _bayesian(
    recipe: Recipe, space: Any, dataset: Dataset, rows: IntArray, seed: int, score: Score
) -> Parameters | None:
    try:
        import optuna
    except ImportError as error:
        raise InvalidConfig(
            "search: bayesian needs Optuna, which is not installed: pip install 'gateway[bayesian]', or use random"
        ) from error
    on = folds(dataset, rows, recipe.folds, recipe.least_rows)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    direction = "minimize" if is_better(recipe, 0.0, 1.0) else "maximize"
    study = optuna.create_study(direction=direction, sampler=optuna.samplers.TPESampler(seed=seed))
    found: list[tuple[Parameters, float]] = []
    for _ in range(recipe.trials):
        trial = study.ask()
        # The place in the list is proposed: any value may stand there, and neighbours stay neighbours.
        parameters = {name: values[trial.suggest_int(name, 0, len(values) - 1)] for name, values in space.items()}
        value = score(parameters, on)
        found.append((parameters, value))
        if math.isnan(value):
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
        else:
            study.tell(trial, value)
    return _best(recipe, found)


def _drawn(recipe: Recipe, space: Any, seed: int) -> list[Parameters]:
    from sklearn.model_selection import ParameterGrid, ParameterSampler

    count = min(recipe.trials, len(ParameterGrid(dict(space))))
    return list(ParameterSampler(dict(space), count, random_state=seed))


def _best(recipe: Recipe, scored: Sequence[tuple[Parameters, float]]) -> Parameters | None:
    """Ties go to the one tried first."""
    best: tuple[Parameters, float] | None = None
    for one in scored:
        if not math.isnan(one[1]) and (best is None or is_better(recipe, one[1], best[1])):
            best = one
    return best[0] if best else None


def _plain(parameters: Parameters) -> dict[str, Any]:
    """As JSON can hold them."""
    plain: dict[str, Any] = json.decode(json.encode(dict(parameters), enc_hook=str))
    return plain


_SEARCHES = {"grid": _grid, "random": _random, "halving": _halving, "bayesian": _bayesian}
