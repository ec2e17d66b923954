"""A fitted scikit-learn estimator as ONNX, always in the same form, and the proof that both say the same.

One input `features` (float32, rows x columns), where there are texts another one, `texts`; outputs `label` and
`probabilities`, or `value` for a regression. The
operator sets are pinned: newer ones are not known to every runtime that loads today's models. skl2onnx can be
silently wrong (a calibrator around a pipeline passes every check and answers nonsense), so nothing is published
without the parity check.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from gateway.registry.manifest import Feature, PredictionSpec, Tensor
from gateway.retraining.job.calibrate import Calibrated, add_temperature
from gateway.retraining.job.front import INPUT, JOINED, TEXT_INPUT, add_front, places, takes_texts
from gateway.retraining.job.gate import Parity
from gateway.retraining.recipe import Recipe
from gateway.retraining.rows.dataset import FloatArray

OPERATOR_SETS = {"": 21, "ai.onnx.ml": 3}


def convert(estimator: Any, recipe: Recipe) -> bytes:
    """The ONNX file's bytes; the same estimator gives the same bytes. Raises what skl2onnx raises."""
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType

    names = ["label", "probabilities"] if recipe.is_class else ["value"]
    temperature = estimator.temperature if isinstance(estimator, Calibrated) else None
    bare = estimator.estimator if isinstance(estimator, Calibrated) else estimator
    has_texts = takes_texts(recipe)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = to_onnx(
            bare,
            initial_types=[(JOINED if has_texts else INPUT, FloatTensorType([None, len(recipe.features)]))],
            options={id(bare): {"zipmap": False}} if recipe.is_class else None,
            target_opset=OPERATOR_SETS,
            final_types=[(name, None) for name in names],
        )
    if temperature is not None:
        add_temperature(model, "probabilities", temperature)
    if has_texts:
        add_front(model, recipe, OPERATOR_SETS["ai.onnx.ml"])
    # skl2onnx takes them from a set: in one run of five they came in another order, and the digest was another one.
    sets = sorted(model.opset_import, key=lambda one: str(one.domain))
    del model.opset_import[:]
    model.opset_import.extend(sets)
    return bytes(model.SerializeToString(deterministic=True))


def signature(recipe: Recipe, classes: tuple[str | int, ...]) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Inputs and outputs of what `convert` writes."""
    numbers, texts = places(recipe)
    inputs = (
        *([Tensor(name=INPUT, datatype="FP32", shape=(-1, len(numbers)))] if numbers else []),
        *([Tensor(name=TEXT_INPUT, datatype="BYTES", shape=(-1, len(texts)))] if texts else []),
    )
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
    """The features with their place, and the range or categories of these rows where the recipe gives none.

    The only column of an input has no position, as the publish check writes it: the digest covers the contract.
    """
    numbers, texts = places(recipe)
    found = [_contract(feature, features[:, place]) for place, feature in enumerate(recipe.features)]
    for name, columns in ((INPUT, numbers), (TEXT_INPUT, texts)):
        for position, place in enumerate(columns):
            found[place] = replace(found[place], input=name, position=position if len(columns) > 1 else -1)
    return tuple(found)


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


def _contract(feature: Feature, values: FloatArray) -> Feature:
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
    )
