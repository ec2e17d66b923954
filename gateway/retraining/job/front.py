"""The front of a model that takes texts: it puts numbers in their place, as `coding.coded` does for the estimator.

One input `texts` (rows x text columns) beside `features` (rows x number columns). Each text becomes its place among
its feature's categories, UNSEEN or MISSING; then all columns stand in the recipe's
order before the estimator. So an encoder in the pipeline is converted as part of the pipeline, and parity covers both.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gateway.retraining.job.coding import MISSING, UNSEEN, is_text
from gateway.retraining.recipe import Recipe

INPUT = "features"
TEXT_INPUT = "texts"
JOINED = "coded"
"""The estimator's own input, inside the graph."""
_ML = "ai.onnx.ml"


def takes_texts(recipe: Recipe) -> bool:
    """True when any feature is a text."""
    return any(is_text(feature) for feature in recipe.features)


def places(recipe: Recipe) -> tuple[list[int], list[int]]:
    """The features that are numbers and those that are texts, by their place in the recipe."""
    texts = [place for place, feature in enumerate(recipe.features) if is_text(feature)]
    return [place for place in range(len(recipe.features)) if place not in texts], texts


def add_front(model: Any, recipe: Recipe, version: int) -> None:
    """Replace the ONNX model's input JOINED by `features` and `texts`, in place. version: of the domain ai.onnx.ml."""
    from onnx import TensorProto, helper, numpy_helper

    numbers, texts = places(recipe)
    nodes, parts = [], [INPUT] if numbers else []
    constants = {}
    for column, place in enumerate(texts):
        known = [str(category) for category in recipe.features[place].categories]
        constants[f"text_{column}_place"] = np.array([column], dtype=np.int64)
        nodes.append(helper.make_node("Gather", [TEXT_INPUT, f"text_{column}_place"], [f"text_{column}"], axis=1))
        nodes.append(
            helper.make_node(
                "LabelEncoder",
                [f"text_{column}"],
                [f"text_{column}_code"],
                domain=_ML,
                keys_strings=[*known, ""],
                values_floats=[*map(float, range(len(known))), MISSING],
                default_float=UNSEEN,
            )
        )
        parts.append(f"text_{column}_code")
    order = [*numbers, *texts]
    constants["text_order"] = np.array([order.index(place) for place in range(len(order))], dtype=np.int64)
    nodes.append(helper.make_node("Concat", parts, ["text_beside"], axis=1))
    nodes.append(helper.make_node("Gather", ["text_beside", "text_order"], [JOINED], axis=1))
    graph = model.graph
    behind = list(graph.node)
    del graph.node[:], graph.input[:]
    graph.node.extend([*nodes, *behind])
    graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    if numbers:
        graph.input.append(helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [None, len(numbers)]))
    graph.input.append(helper.make_tensor_value_info(TEXT_INPUT, TensorProto.STRING, [None, len(texts)]))
    # Trees alone ask for version 1 of the domain, whose LabelEncoder can not say which number a text becomes.
    for known in model.opset_import:
        if known.domain == _ML:
            known.version = version
            return
    model.opset_import.append(helper.make_opsetid(_ML, version))
