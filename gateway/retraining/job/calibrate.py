"""Probabilities that mean what they say: a temperature, found on rows the estimator was not fitted on.

Every probability row p becomes p ** (1 / T), made to sum to one again. The order within a row stays, so the answer
stays; one number is fitted, so a hundred rows are enough. It is done here, as three ONNX nodes behind the model,
because scikit-learn's calibrator around a pipeline is converted to nonsense without a word. Source: Guo et al., On
Calibration of Modern Neural Networks, ICML 2017.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gateway.retraining.rows.dataset import FloatArray

SMALLEST = 1e-3
"""Smaller probabilities are raised to it: rows enough to tell one in a thousand from one in a million are not there."""
_TEMPERATURES = np.exp(np.linspace(np.log(0.25), np.log(8.0), 141))


class Calibrated:
    """An estimator whose probabilities are scaled; everything else is the estimator's own."""

    def __init__(self, estimator: Any, temperature: float) -> None:
        self.estimator = estimator
        self.temperature = temperature

    def __repr__(self) -> str:
        return f"Calibrated({self.estimator!r}, temperature={self.temperature:.4g})"

    def __getattr__(self, name: str) -> Any:
        return getattr(self.estimator, name)

    def predict(self, features: Any) -> NDArray[Any]:
        """The estimator's answers."""
        said: NDArray[Any] = self.estimator.predict(features)
        return said

    def predict_proba(self, features: Any) -> FloatArray:
        """The estimator's probabilities, scaled."""
        return scaled(self.estimator.predict_proba(features), self.temperature)


def scaled(probabilities: FloatArray, temperature: float) -> FloatArray:
    """Probability rows (rows, classes) at this temperature; above 1 they are less sure of themselves."""
    logs = np.log(np.maximum(probabilities, SMALLEST)) / temperature
    powers = np.exp(logs - logs.max(axis=1, keepdims=True))
    rows: FloatArray = powers / powers.sum(axis=1, keepdims=True)
    return rows


def temperature(classes: Sequence[Any], probabilities: FloatArray, truth: NDArray[Any]) -> float:
    """The temperature of the smallest log loss on these rows; 1 when no other one is better."""
    column = {one: place for place, one in enumerate(classes)}
    places = np.array([column.get(one, -1) for one in truth.tolist()])
    rows = np.flatnonzero(places >= 0)
    if not len(rows):
        return 1.0

    def log_loss(value: float) -> float:
        return float(-np.log(scaled(probabilities[rows], value)[np.arange(len(rows)), places[rows]]).mean())

    best = min((float(value) for value in _TEMPERATURES), key=log_loss)
    return best if log_loss(best) < log_loss(1.0) else 1.0


def add_temperature(model: Any, output: str, value: float) -> None:
    """Put the scaling behind the ONNX model's probability output, in place; the output keeps its name."""
    from onnx import helper, numpy_helper

    inner = f"{output}_before_temperature"
    for node in model.graph.node:
        node.output[:] = [inner if name == output else name for name in node.output]
        node.input[:] = [inner if name == output else name for name in node.input]
    constants = {"temperature_least": SMALLEST, "temperature_inverse": 1 / value}
    model.graph.initializer.extend(
        numpy_helper.from_array(np.array(number, dtype=np.float32), name) for name, number in constants.items()
    )
    model.graph.node.extend(
        [
            helper.make_node("Max", [inner, "temperature_least"], ["temperature_raised"]),
            helper.make_node("Log", ["temperature_raised"], ["temperature_logs"]),
            helper.make_node("Mul", ["temperature_logs", "temperature_inverse"], ["temperature_scaled"]),
            helper.make_node("Softmax", ["temperature_scaled"], [output], axis=1),
        ]
    )
