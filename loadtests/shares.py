"""Which version answered how often, beside the weight it had then; and bodies that a served model takes.

Pure: knows nothing of locust or HTTP. Weights move during a load, so the weight beside a share is the mean of the
weights in force at each answer.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

Version = tuple[str, int]


class Shares:
    """Answers and expected answers by (model, version)."""

    def __init__(self) -> None:
        self.weights: dict[str, dict[int, float]] = {}
        self._answers: dict[Version, int] = {}
        self._expected: dict[Version, float] = {}

    def learn(self, models: list[dict[str, Any]]) -> None:
        """Take the weights in force from an answer of `GET /models`."""
        for model in models:
            self.weights[model["name"]] = {int(v): float(w) for v, w in model["weights"].items()}

    def move(self, model: str, version: int, weight: float, champion: int) -> None:
        """One canary's weight has changed; the champion has what the canaries leave."""
        weights = {**self.weights.get(model, {}), version: weight}
        canaries = {v: w for v, w in weights.items() if v != champion and w > 0}
        self.weights[model] = {champion: 100 - sum(canaries.values()), **canaries}

    def count(self, model: str, version: int) -> None:
        """One answer of this version."""
        _add(self._answers, (model, version), 1)
        for number, weight in self.weights.get(model, {}).items():
            _add(self._expected, (model, number), weight / 100)

    def take(self) -> dict[str, Any]:
        """Everything counted since the last call, as plain values for another process."""
        taken = {"answers": list(self._answers.items()), "expected": list(self._expected.items())}
        self._answers, self._expected = {}, {}
        return taken

    def add(self, taken: Mapping[str, Any]) -> None:
        """Add what another process counted."""
        for (model, version), number in taken["answers"]:
            _add(self._answers, (model, version), number)
        for (model, version), expected in taken["expected"]:
            _add(self._expected, (model, version), expected)

    def lines(self) -> list[str]:
        """The summary: one line a version."""
        lines = [f"{'version':<28}{'answers':>10}{'share %':>10}{'weight %':>10}"]
        totals: dict[str, int] = {}
        for (model, _), answers in self._answers.items():
            totals[model] = totals.get(model, 0) + answers
        for model, version in sorted(self._answers.keys() | self._expected.keys()):
            answers = self._answers.get((model, version), 0)
            total = totals.get(model, 0) or 1
            weight = self._expected.get((model, version), 0.0) / total
            lines.append(f"{f'{model}@{version}':<28}{answers:>10,}{answers / total:>10.2%}{weight:>10.2%}")
        return lines


def _add(counts: dict[Version, Any], version: Version, number: float) -> None:
    counts[version] = counts.get(version, 0) + number


def one_input(model: Mapping[str, Any], draw: random.Random) -> Any:
    """Inputs that the model takes: a record within its contract, or the example it names itself."""
    features = model.get("features")
    if not features:
        return model["example"]["inputs"]
    example = model["example"]["inputs"]
    return {feature["name"]: _value(feature, example[feature["name"]], draw) for feature in features}


def many_inputs(model: Mapping[str, Any], count: int, draw: random.Random) -> Any:
    """The same for `count` rows at once. Tensors grow along their first dimension where it is free."""
    if model.get("features"):
        return [one_input(model, draw) for _ in range(count)]
    free = {tensor["name"] for tensor in model["inputs"] if tensor["shape"] and tensor["shape"][0] == -1}
    example: Mapping[str, Any] = model["example"]["inputs"]
    if len(free) < len(example):
        return example
    return {name: (values * count)[:count] for name, values in example.items()}


def _value(feature: Mapping[str, Any], example: Any, draw: random.Random) -> Any:
    if feature.get("categories"):
        return draw.choice(feature["categories"])
    low, high = feature.get("low"), feature.get("high")
    return example if low is None or high is None else draw.uniform(low, high)


def label_of(model: Mapping[str, Any], outputs: Mapping[str, Any]) -> dict[str, Any]:
    """A feedback item's truth: what was predicted, so that a load test never looks like drift to the monitor."""
    prediction = model.get("prediction")
    values = outputs.get(prediction["output"]) if prediction else None
    value = values[0] if values else None
    while isinstance(value, list):
        value = value[0] if value else None
    return {"value": 1.0} if value is None else {"label": value}
