"""A fitted scikit-learn estimator as ONNX, always in the same form, and the proof that both say the same.

One input `features` (float32, rows x columns); outputs `label` and `probabilities`, or `value` for a regression. The
operator sets are pinned: newer ones are not known to every runtime that loads today's models. skl2onnx can be
silently wrong (a calibrator around a pipeline passes every check and answers nonsense), so nothing is published
without the parity check.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gateway.registry.manifest import Feature, PredictionSpec, Tensor
from gateway.retraining.dataset import FloatArray
from gateway.retraining.gate import Parity
from gateway.retraining.recipe import Recipe

INPUT = "features"
OPERATOR_SETS = {"": 21, "ai.onnx.ml": 3}


def convert(estimator: Any, recipe: Recipe) -> bytes:
    """The ONNX file's bytes; the same estimator gives the same bytes. Raises what skl2onnx raises."""
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType

    names = ["label", "probabilities"] if recipe.is_class else ["value"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = to_onnx(
            estimator,
            initial_types=[(INPUT, FloatTensorType([None, len(recipe.features)]))],
            options={id(estimator): {"zipmap": False}} if recipe.is_class else None,
            target_opset=OPERATOR_SETS,
            final_types=[(name, None) for name in names],
        )
    return bytes(model.SerializeToString(deterministic=True))


def signature(recipe: Recipe, classes: tuple[str | int, ...]) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Inputs and outputs of what `convert` writes."""
    inputs = (Tensor(name=INPUT, datatype="FP32", shape=(-1, len(recipe.features))),)
    if not recipe.is_class:
        return inputs, (Tensor(name="value", datatype="FP32", shape=(-1, 1)),)
    datatype = "BYTES" if isinstance(recipe.classes[0], str) else "INT64"
    label = Tensor(name="label", datatype=datatype, shape=(-1,))
    return inputs, (label, Tensor(name="probabilities", datatype="FP32", shape=(-1, len(classes))))


def prediction_spec(recipe: Recipe, classes: tuple[str | int, ...]) -> PredictionSpec:
    """How the outputs of what `convert` writes are read."""
    if not recipe.is_class:
        return PredictionSpec(output="value", kind="value")
    return PredictionSpec(output="label", kind="class", classes=classes, probabilities="probabilities")


def contract(recipe: Recipe, features: FloatArray) -> tuple[Feature, ...]:
    """The features with their place, and the range or categories of these rows where the recipe gives none."""
    return tuple(_contract(feature, place, features[:, place]) for place, feature in enumerate(recipe.features))


def parity(
    labels: NDArray[Any],
    probabilities: FloatArray | None,
    onnx_labels: NDArray[Any],
    onnx_probabilities: FloatArray | None,
) -> Parity:
    """The estimator's answers against the ONNX model's, on the same rows.

    Without probabilities the answers are numbers: their difference is relative where they are larger than one.
    """
    if probabilities is None or onnx_probabilities is None:
        if labels.dtype.kind == "f":
            theirs = labels.astype(np.float64)
            gap = np.abs(theirs - onnx_labels.astype(np.float64)) / np.maximum(1.0, np.abs(theirs))
            return Parity(1.0, float(gap.max(initial=0.0)))
        return Parity(float((labels == onnx_labels).mean()), 0.0)
    gap = np.abs(np.asarray(probabilities) - np.asarray(onnx_probabilities))
    difference = float(gap.max(initial=0.0))
    equal = float((labels == onnx_labels).mean())
    return Parity(equal, difference if np.isfinite(difference) else float("inf"))


def _contract(feature: Feature, place: int, values: FloatArray) -> Feature:
    known = values[np.isfinite(values)]
    low, high, categories = feature.low, feature.high, feature.categories
    if feature.kind == "categorical" and not categories:
        categories = tuple(int(value) if value == int(value) else float(value) for value in np.unique(known))
    elif feature.kind == "numeric" and len(known):
        low = float(known.min()) if low is None else low
        high = float(known.max()) if high is None else high
    return Feature(
        name=feature.name,
        kind=feature.kind,
        low=low,
        high=high,
        categories=categories,
        may_be_missing=feature.may_be_missing,
        input=INPUT,
        position=place,
    )
