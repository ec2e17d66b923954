"""What is asked and what is answered, as values; and the step from decoded inputs to checked tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from gateway.documents.policy import Policy
from gateway.documents.route import Route
from gateway.execution.contract import Prepared, prepare_records, prepare_tensors
from gateway.execution.tensors import Tensors
from gateway.names import ModelName, Reason, Role
from gateway.registry.manifest import Manifest

_NOTHING: Mapping[str, Any] = MappingProxyType({})


class PredictRequest(Struct, frozen=True, kw_only=True):
    """One request. inputs: decoded JSON of /predict; tensors: given instead by the v2 protocol."""

    model: str | None
    inputs: object = None
    tensors: dict[str, np.ndarray] | None = None
    key: str | None = None
    id: str | None = None
    pinned: int | None = None
    headers: Mapping[str, str] = _NOTHING
    trace: str = ""
    deadline_ms: float | None = None


class Answer(Struct, frozen=True, kw_only=True):
    """One answer. version is None when a fallback value answered. journal: process | strict | dropped.

    outputs: arrays, rows first. listed: the same as JSON-ready lists, non-finite numbers as None.
    """

    id: str
    model: str
    version: int | None
    role: Role
    reason: Reason
    outputs: Tensors
    listed: dict[str, Any]
    flags: tuple[str, ...]
    journal: str


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


def prepare(request: PredictRequest, manifest: Manifest, policy: Policy) -> Prepared:
    """The request's inputs as tensors of this version, checked; journal values redacted. Raises InvalidInput."""
    if request.tensors is not None:
        prepared = prepare_tensors(request.tensors, manifest, policy.inputs)
    else:
        prepared = prepare_records(request.inputs, manifest, policy.inputs)
    if not policy.journal.redact:
        return prepared
    return replace(prepared, values=redacted(prepared.values, manifest, policy.journal.redact))


def redacted(values: Any, manifest: Manifest, fields: Sequence[str]) -> Any:
    """Journal values with these features (or tensors) taken out, before anything is written."""
    if isinstance(values, dict):
        return {name: None if name in fields else value for name, value in values.items()}
    hidden = {place for place, feature in enumerate(manifest.features) if feature.name in fields}
    return [[None if place in hidden else cell for place, cell in enumerate(row)] for row in values]
