"""What the monitor knows of a version, and how it reads that version's answers.

Immutable, made by the shell from the registry. Pure: records in, rows out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from gateway.journal.record import Prediction
from gateway.monitor.detectors.panel import Plan
from gateway.registry.manifest import Manifest, PredictionSpec
from gateway.registry.reference import Reference, score_of


@dataclass(frozen=True)
class Version:
    """What the shell knows of one version: its manifest, its reference and the plan compiled from that."""

    manifest: Manifest
    reference: Reference | None = None
    plan: Plan | None = None

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Its features, in the order of a record's inputs when it is the contract."""
        return tuple(feature.name for feature in self.manifest.features)

    @cached_property
    def watched(self) -> tuple[str, ...]:
        """The features of its reference, in its order."""
        return tuple(column.name for column in self.plan.reference.features) if self.plan is not None else ()

    @property
    def spec(self) -> PredictionSpec | None:
        """How to read its outputs."""
        return self.manifest.prediction

    @cached_property
    def label_plan(self) -> Plan | None:
        """How its labels were shared out when it was trained; None when the reference does not say."""
        labels = self.reference.labels if self.reference is not None else None
        return Plan(Reference(rows=labels.rows, features=(labels,))) if labels is not None else None

    @property
    def proven(self) -> tuple[float, int] | None:
        """The error rate that it proved on unseen rows, and how many; None when it never did."""
        gate, reference = self.manifest.gate, self.reference
        if gate.error_rate is not None and gate.error_rows > 0:
            return gate.error_rate, gate.error_rows
        if reference is not None and reference.error_rate is not None and reference.error_rows > 0:
            return reference.error_rate, reference.error_rows
        return None


def answer_rows(record: Prediction, inputs: Any, version: Version, inputs_of: Sequence[str]) -> list[list[Any]] | None:
    """Rows in the order of the reference's columns: features by name, then what the version answered.

    inputs: the record's, or for a shadow's record those of the answer that it copies. None when there are none.
    """
    plan = version.plan
    if plan is None or not isinstance(inputs, (list, tuple)) or not inputs:
        return None
    names = version.watched
    if tuple(inputs_of) == names:
        rows = [list(row) for row in inputs]
    else:
        places = [inputs_of.index(name) if name in inputs_of else -1 for name in names]
        rows = [[row[place] if 0 <= place < len(row) else None for place in places] for row in inputs]
    if any(len(row) != len(names) for row in rows):
        return None
    if plan.reference.prediction:
        predictions, probabilities = answers(record.outputs, version.spec, len(rows))
        said = {"prediction": predictions, "score": [score_of(row) for row in probabilities]}
        for place, row in enumerate(rows):
            row.extend(said[column.name][place] for column in plan.reference.prediction)
    return rows


def answers(outputs: Mapping[str, Any], spec: PredictionSpec | None, rows: int) -> tuple[list[Any], list[Any]]:
    """Prediction and probabilities of each row, None where the outputs do not hold them."""
    nothing: list[Any] = [None] * rows
    if spec is None:
        return nothing, nothing
    predictions = outputs.get(spec.output)
    probabilities = outputs.get(spec.probabilities) if spec.probabilities else None
    read = [_single(value) for value in predictions] if isinstance(predictions, list) else nothing
    chances = probabilities if isinstance(probabilities, list) else nothing
    return (read if len(read) == rows else nothing), (chances if len(chances) == rows else nothing)


def _single(value: Any) -> Any:
    return value[0] if isinstance(value, list) and len(value) == 1 else value
