"""What is asked and what is answered, as values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from msgspec import Struct

from gateway.documents.route import Route
from gateway.execution.executor import Run
from gateway.execution.tensors import Tensors
from gateway.journal.record import Prediction
from gateway.names import ModelName, Reason, Role
from gateway.registry.manifest import Manifest

_NOTHING: Mapping[str, Any] = MappingProxyType({})


class PredictRequest(Struct, frozen=True):
    """One request. inputs: decoded JSON of /predict; tensors: given instead by the v2 protocol.

    are_numbers: inputs are known to be rows of numbers and nothing else.
    """

    model: str | None = None
    inputs: object = None
    tensors: dict[str, np.ndarray] | None = None
    key: str | None = None
    id: str | None = None
    pinned: int | None = None
    headers: Mapping[str, str] = _NOTHING
    trace: str = ""
    deadline_ms: float | None = None
    are_numbers: bool = False


class Answer(Struct, frozen=True):
    """One answer. record: as it was written down. journal: process | strict | dropped."""

    record: Prediction
    run: Run
    journal: str

    @property
    def id(self) -> str:
        """The prediction id."""
        return self.record.id

    @property
    def model(self) -> str:
        """The model that was asked."""
        return self.record.model

    @property
    def version(self) -> int | None:
        """The version that answered; None when a fallback value did."""
        return self.record.version or None

    @property
    def role(self) -> Role:
        """What the version was."""
        return self.record.role

    @property
    def reason(self) -> Reason:
        """Why it answered."""
        return self.record.reason

    @property
    def flags(self) -> tuple[str, ...]:
        """What the contract let through."""
        return self.record.flags

    @property
    def listed(self) -> dict[str, Any]:
        """The outputs as JSON-ready lists, rows first; non-finite numbers as None."""
        return self.record.outputs

    @property
    def outputs(self) -> Tensors:
        """The outputs as arrays, rows first."""
        return self.run.outputs or {}


@dataclass(frozen=True, slots=True)
class ServedModel:
    """What is served of one model."""

    name: ModelName
    champion: int
    revision: int
    route: Route
    manifests: dict[int, Manifest]


def first_record(inputs: object) -> Mapping[str, object]:
    """The first record of the inputs, for rules that look at a field; empty when they hold none."""
    first = inputs[0] if isinstance(inputs, list) and inputs else inputs
    return first if isinstance(first, dict) else _NOTHING


def rows_of(request: PredictRequest) -> int:
    """How many rows were sent, by the look of it; the contract knows better."""
    if request.tensors:
        first = next(iter(request.tensors.values()))
        return len(first) if first.ndim else 1
    return len(request.inputs) if type(request.inputs) is list else 1


def redacted(values: Any, manifest: Manifest, fields: Sequence[str]) -> Any:
    """Journal values with these features (or tensors) taken out, before anything is written."""
    if isinstance(values, dict):
        return {name: None if name in fields else value for name, value in values.items()}
    hidden = {place for place, feature in enumerate(manifest.features) if feature.name in fields}
    return [[None if place in hidden else cell for place, cell in enumerate(row)] for row in values]
