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

Metric = Literal["accuracy", "balanced_accuracy", "mae", "rmse"]
_CLASS_METRICS = ("accuracy", "balanced_accuracy")
_VALUE_METRICS = ("mae", "rmse")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How one model is trained. Raises ValueError that names the field when something does not fit.

    features: columns in the order of the model's input, with their contract; a categorical feature holds numbers.
    label: the label's column in files. classes: all labels there are, in order; empty for a regression.
    candidates: name -> function without arguments that gives an unfitted scikit-learn estimator. An estimator with a
        `random_state` parameter gets the job's seed.
    metric: what candidates are compared by, and what the card and `human` are stated in.
    label_delay_rows: how many rows later a label is known, for files without times; traffic has the real times.
    holdout_rows: newest rows that nothing is fitted or chosen on. validation_rows: those before, for choosing.
    least_rows: fewest rows worth fitting on. slices: features whose parts are compared with the champion apart.
    human: the metric that a person or the present process reaches, None when unknown.
    card: texts for the model card (purpose, limits, source ...).
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
    card: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        model_name(self.model)
        _check_features(self.features, self.label, self.slices)
        _check_target(self.classes, self.metric)
        if not self.candidates or not all(callable(make) for make in self.candidates.values()):
            raise ValueError("candidates: give at least one name with a function that returns an estimator")
        for name, least in (("holdout_rows", 100), ("least_rows", 50), ("validation_rows", 0), ("label_delay_rows", 0)):
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
        if any(isinstance(category, str) for category in feature.categories):
            raise ValueError(f"features: {feature.name}: categories must be numbers; write a code for each text")
        if feature.low is not None and feature.high is not None and not feature.low <= feature.high:
            raise ValueError(f"features: {feature.name}: low must not be above high")
        if any(bound is not None and not math.isfinite(bound) for bound in (feature.low, feature.high)):
            raise ValueError(f"features: {feature.name}: low and high must be finite numbers; leave out what is open")
    if missing := set(slices) - set(names):
        raise ValueError(f"slices: {min(missing)!r} is not a feature")


def _check_target(classes: Sequence[str | int], metric: str) -> None:
    if classes and (len(set(classes)) != len(classes) or len(classes) < 2):
        raise ValueError("classes: at least two, each once")
    if len({type(one) for one in classes}) > 1 or any(type(one) not in (int, str) for one in classes):
        raise ValueError("classes: all whole numbers or all texts")
    allowed = _CLASS_METRICS if classes else _VALUE_METRICS
    if metric not in allowed:
        kind = "classification" if classes else "regression (no classes)"
        raise ValueError(f"metric: {metric!r} is not for a {kind}; use one of {', '.join(allowed)}")
