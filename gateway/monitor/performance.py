"""Live performance of one version in one role, since its first answer and over the newest labels.

A `Tally` is what the monitor keeps: counts, sums and a short tail, all plain values. `live` turns it into figures by
`river.metrics` (accuracy, F1, log loss; MAE, RMSE), which is imported at the first use only.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import Struct

from gateway.documents.alert import Live
from gateway.registry.manifest import PredictionSpec
from gateway.registry.reference import category

ROLLING = 500
"""How many of the newest labels the rolling figures cover."""

_SMALLEST = 1e-15

Labelled = tuple[Any, Any, float | None]
"""Label, prediction (text for a class, a number for a value), log loss of the row where probabilities are known."""


class Tally(Struct):
    """confusion: label -> prediction -> rows, for classes. losses: sums of log loss, absolute and squared errors."""

    predictions: int = 0
    errors: int = 0
    labelled: int = 0
    confusion: dict[str, dict[str, int]] = {}
    scored: int = 0
    log_loss: float = 0.0
    absolute: float = 0.0
    squared: float = 0.0
    values: int = 0
    value_sum: float = 0.0
    tail: list[Labelled] = []

    def copy(self) -> Tally:
        """The same figures; the copy can be added to alone."""
        confusion = {label: dict(row) for label, row in self.confusion.items()}
        return Tally(
            self.predictions, self.errors, self.labelled, confusion, self.scored, self.log_loss,
            self.absolute, self.squared, self.values, self.value_sum, list(self.tail),
        )  # fmt: skip

    def add_label(self, label: Any, prediction: Any, probabilities: Any, spec: PredictionSpec) -> None:
        """Count one labelled row."""
        self.labelled += 1
        if spec.kind == "class":
            truth, said = category(label), category(prediction)
            row = self.confusion.setdefault(truth, {})
            row[said] = row.get(said, 0) + 1
            surprise = log_loss(truth, probabilities, spec)
            if surprise is not None:
                self.scored += 1
                self.log_loss += surprise
            self._keep((truth, said, surprise))
        else:
            error = float(prediction) - float(label)
            self.absolute += abs(error)
            self.squared += error * error
            self._keep((float(label), float(prediction), None))

    def add_value(self, value: float) -> None:
        """Count one business value."""
        self.values += 1
        self.value_sum += value

    def _keep(self, row: Labelled) -> None:
        self.tail.append(row)
        if len(self.tail) > 2 * ROLLING:  # cut in bulk: one row at a time would move the list for every label
            del self.tail[:-ROLLING]


def log_loss(truth: str, probabilities: Any, spec: PredictionSpec) -> float | None:
    """-log p(true class) of one row; None without probabilities or for a class that the version does not know."""
    classes = [category(one) for one in spec.classes]
    if not isinstance(probabilities, (list, tuple)) or len(probabilities) != len(classes) or truth not in classes:
        return None
    chance = probabilities[classes.index(truth)]
    return None if chance is None else -math.log(min(1.0, max(_SMALLEST, float(chance))))


def live(version: int, role: str, tally: Tally, spec: PredictionSpec | None) -> Live:
    """The figures of one version in one role. spec: how its answers are read; None when the registry has lost it."""
    newest = tally.tail[-ROLLING:]
    if tally.confusion or (spec is not None and spec.kind == "class"):  # the rows say it also without a manifest
        classes = spec.classes if spec is not None else ()
        metrics = _class_metrics(((t, p, n) for t, row in tally.confusion.items() for p, n in row.items()), classes)
        rolling = _class_metrics(((truth, said, 1) for truth, said, _ in newest), classes)
        if tally.scored:
            metrics["log_loss"] = tally.log_loss / tally.scored
        surprises = [one for _, _, one in newest if one is not None]
        if surprises:
            rolling["log_loss"] = math.fsum(surprises) / len(surprises)
    else:
        count = max(1, tally.labelled)
        metrics = {"mae": tally.absolute / count, "rmse": math.sqrt(tally.squared / count)} if tally.labelled else {}
        rolling = _value_metrics(newest)
    return Live(
        version=version,
        role=role,
        predictions=tally.predictions,
        errors=tally.errors,
        labelled=tally.labelled,
        metrics={name: round(value, 6) for name, value in metrics.items()},
        rolling={name: round(value, 6) for name, value in rolling.items()},
        value_mean=tally.value_sum / tally.values if tally.values else None,
    )


def _class_metrics(rows: Iterable[tuple[str, str, int]], classes: Sequence[Any]) -> dict[str, float]:
    river = importlib.import_module("river.metrics")
    positive = category(classes[-1]) if len(classes) == 2 else None
    accuracy, f1 = river.Accuracy(), river.MacroF1() if positive is None else river.F1()
    counted = False
    for truth, said, count in rows:
        accuracy.update(truth, said, count)
        pair = (truth, said) if positive is None else (truth == positive, said == positive)
        f1.update(*pair, count)
        counted = True
    return {"accuracy": accuracy.get(), "f1": f1.get()} if counted else {}


def _value_metrics(rows: list[Labelled]) -> dict[str, float]:
    river = importlib.import_module("river.metrics")
    mae, rmse = river.MAE(), river.RMSE()
    for truth, said, _ in rows:
        mae.update(truth, said)
        rmse.update(truth, said)
    return {"mae": mae.get(), "rmse": rmse.get()} if rows else {}
