"""What a data scientist writes in `models/<model>.py`: a module with one name, `recipe`, that holds a `Recipe`.

    from gateway.retraining.recipe import Feature, Recipe

    recipe = Recipe(model="fraud", features=[Feature(name="amount", low=0)], label="fraud", classes=[0, 1],
                    candidates={"forest": forest})

A recipe is code, so it runs only inside a job's own process or in a command that a person started. This module knows
neither journal nor gateway, and loads no training library: candidates are functions that import what they need.
"""

from __future__ import annotations

import hashlib
import math
import runpy
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from gateway.errors import Fault, InvalidConfig
from gateway.names import model_name
from gateway.registry.manifest import Feature

__all__ = ["Feature", "Metric", "Recipe", "load_recipe"]

Metric = Literal["accuracy", "balanced_accuracy", "f1", "mae", "rmse", "r2"]
Search = Literal["grid", "random", "halving", "bayesian"]
_CLASS_METRICS = ("accuracy", "balanced_accuracy", "f1")
_VALUE_METRICS = ("mae", "rmse", "r2")
_SEARCHES = ("grid", "random", "halving", "bayesian")
CARD_KEYS = ("objective", "business_metric", "constraints", "risks", "exit_criteria")
"""What a model card is asked for; what a recipe leaves out is listed there as not stated."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How one model is trained. Raises ValueError that names the field when something does not fit.

    features: columns in the order of the model's input, with their contract. A categorical feature holds numbers or
        texts; estimators see a text as its place among the categories (-1: none of them, -2: missing), so that an
        OneHotEncoder or OrdinalEncoder in a pipeline takes it as it takes numbers.
    label: the label's column in files. classes: all labels there are, in order; empty for a regression.
    candidates: name -> function without arguments that gives an unfitted scikit-learn estimator. An estimator with a
        `random_state` parameter gets the job's seed.
    metric: what candidates are compared by, and what the card and `human` are stated in.
    label_delay_rows: how many rows later a label is known, for files without times; traffic has the real times.
    holdout_rows: newest rows that nothing is fitted or chosen on. validation_rows: those before, for choosing.
    least_rows: fewest rows worth fitting on. slices: features whose parts are compared with the champion apart.
    human: the metric that a person or the present process reaches, None when unknown.
    card: for the model card: objective, business_metric, constraints, risks, exit_criteria, and any other text or list
        of texts (purpose, limits, source ...).
    spaces: candidate -> parameter -> values to try, as for scikit-learn's grid search. search: how: every combination
        (`grid`), `trials` drawn ones (`random`), drawn ones of which the better third goes on with three times the
        rows (`halving`), or Optuna's proposals (`bayesian`, an extra). folds: forward in time, see `tune`.
    calibrate: scale the probabilities by a temperature found on the validation part.
    fairness: features whose groups are compared with each other. golden: CSV file of rows that people trust, beside
        the recipe: a candidate that falls on them waits for a person.
    history: CSV file beside the recipe with rows from before the journal, which jobs fit on as long as the journal's
        rows do not fill their windows; its first `history_rows`, 0: all of them.
    """

    model: str
    features: Sequence[Feature]
    label: str
    candidates: Mapping[str, Callable[[], Any]]
    classes: Sequence[str | int] = ()
    metric: Metric = "accuracy"
    label_delay_rows: int = 0
    holdout_rows: int = 200
    validation_rows: int = 500
    least_rows: int = 200
    seed: int = 0
    slices: Sequence[str] = ()
    human: float | None = None
    card: Mapping[str, str | Sequence[str]] = field(default_factory=dict)
    spaces: Mapping[str, Mapping[str, Sequence[Any]]] = field(default_factory=dict)
    search: Search = "grid"
    trials: int = 20
    folds: int = 3
    calibrate: bool = False
    fairness: Sequence[str] = ()
    golden: str = ""
    history: str = ""
    history_rows: int = 0

    def __post_init__(self) -> None:
        model_name(self.model)
        _check_features(self.features, self.label, (*self.slices, *self.fairness))
        _check_target(self.classes, self.metric)
        _check_search(self.spaces, self.candidates, self.search)
        for name, file in (("golden", Path(self.golden)), ("history", Path(self.history))):
            if file.is_absolute() or ".." in file.parts:
                raise ValueError(f"{name}: name a file beside the recipe or in a folder there")
        if self.calibrate and not self.classes:
            raise ValueError("calibrate: only the probabilities of a classification can be calibrated")
        if not self.candidates or not all(callable(make) for make in self.candidates.values()):
            raise ValueError("candidates: give at least one name with a function that returns an estimator")
        for name, least in (
            ("holdout_rows", 100),
            ("least_rows", 50),
            ("validation_rows", 0),
            ("label_delay_rows", 0),
            ("trials", 1),
            ("folds", 2),
            ("history_rows", 0),
        ):
            if getattr(self, name) < least:
                raise ValueError(f"{name}: must be at least {least}")

    @property
    def is_class(self) -> bool:
        """True for a classification."""
        return bool(self.classes)

    @property
    def names(self) -> tuple[str, ...]:
        """The features' names in order."""
        return tuple(feature.name for feature in self.features)


def load_recipe(path: Path) -> Recipe:
    """Execute the file and give its `recipe`. Raises InvalidConfig that names the file and the line."""
    try:
        found = runpy.run_path(str(path)).get("recipe")
    except OSError as error:
        raise InvalidConfig(f"{path}: {error.strerror}", [Fault(str(path), str(error.strerror))]) from error
    except Exception as error:
        place = f"{path}:{_line(path, error)}"
        detail = str(error) or type(error).__name__
        raise InvalidConfig(f"{place}: {detail}", [Fault(place, detail)]) from error
    if not isinstance(found, Recipe):
        detail = "must define `recipe = Recipe(...)`"
        raise InvalidConfig(f"{path}:1: {detail}", [Fault(f"{path}:1: recipe", detail)])
    return found


def code_digest(path: Path) -> str:
    """SHA-256 of the recipe's text."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _line(path: Path, error: Exception) -> int:
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return error.lineno or 1
    frames = traceback.extract_tb(error.__traceback__)
    return next((frame.lineno or 1 for frame in reversed(frames) if frame.filename == str(path)), 1)


def _check_features(features: Sequence[Feature], label: str, slices: Sequence[str]) -> None:
    names = [feature.name for feature in features]
    if not names:
        raise ValueError("features: give at least one")
    if len(set(names)) != len(names) or label in names:
        raise ValueError("features: every name once, and the label is not among them")
    for feature in features:
        if feature.kind not in ("numeric", "categorical"):
            raise ValueError(f"features: {feature.name}: kind must be numeric or categorical, not {feature.kind!r}")
        if len({isinstance(category, str) for category in feature.categories}) > 1:
            raise ValueError(f"features: {feature.name}: categories must be all numbers or all texts")
        if feature.low is not None and feature.high is not None and not feature.low <= feature.high:
            raise ValueError(f"features: {feature.name}: low must not be above high")
        if any(bound is not None and not math.isfinite(bound) for bound in (feature.low, feature.high)):
            raise ValueError(f"features: {feature.name}: low and high must be finite numbers; leave out what is open")
    if missing := set(slices) - set(names):
        raise ValueError(f"slices, fairness: {min(missing)!r} is not a feature")


def _check_search(
    spaces: Mapping[str, Mapping[str, Sequence[Any]]], candidates: Mapping[str, Any], search: str
) -> None:
    if search not in _SEARCHES:
        raise ValueError(f"search: {search!r} is not one of {', '.join(_SEARCHES)}")
    if strange := set(spaces) - set(candidates):
        raise ValueError(f"spaces: {min(strange)!r} is not a candidate")
    for name, space in spaces.items():
        for parameter, values in space.items():
            if isinstance(values, str) or not len(values):
                raise ValueError(f"spaces: {name}: {parameter}: give a list of values to try")


def _check_target(classes: Sequence[str | int], metric: str) -> None:
    if classes and (len(set(classes)) != len(classes) or len(classes) < 2):
        raise ValueError("classes: at least two, each once")
    if len({type(one) for one in classes}) > 1 or any(type(one) not in (int, str) for one in classes):
        raise ValueError("classes: all whole numbers or all texts")
    allowed = _CLASS_METRICS if classes else _VALUE_METRICS
    if metric not in allowed:
        kind = "classification" if classes else "regression (no classes)"
        raise ValueError(f"metric: {metric!r} is not for a {kind}; use one of {', '.join(allowed)}")
