"""Rows through the contract and the version, as serving does it: the same contract, the same joining, the same words.

A row is what one caller would send alone. Rows share a run only where serving would let callers share one, so a row's
answer has the same bits as `/predict` gives. Knows neither files nor the journal.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from gateway.documents.policy import Policy
from gateway.errors import InvalidConfig, InvalidInput
from gateway.execution.contract import Contract, Prepared
from gateway.execution.executor import Run
from gateway.execution.joining import joins_under
from gateway.execution.tensors import BY_NAME, Tensors, to_json
from gateway.monitor.version import answers
from gateway.names import Outcome
from gateway.offline.engine import Runs
from gateway.registry.manifest import MOST_JOINED_ROWS, Manifest, PredictionSpec, Tensor

Kind = Literal["whole", "number", "truth", "text"]
PREDICTION, FLAGS, REJECTED = "prediction", "flags", "rejected"
_NON_FINITE = "non_finite"


class Column(NamedTuple):
    """A column that scoring adds."""

    name: str
    kind: Kind


class Answered(NamedTuple):
    """One row. values: of the added columns before flags; None where there is no answer. rejected: why; empty: not."""

    values: list[Any]
    flags: tuple[str, ...]
    rejected: str


class Answering:
    """One version under one policy."""

    def __init__(self, manifest: Manifest, policy: Policy) -> None:
        """Raises InvalidConfig when the version takes no rows by name."""
        if not manifest.features:
            names = ", ".join(tensor.name for tensor in manifest.inputs)
            raise InvalidConfig(f"{manifest.version} takes tensors ({names}), not rows: publish it with --features")
        self.names = [feature.name for feature in manifest.features]
        self.columns = columns_of(manifest)
        self.manifest = manifest
        self._contract = Contract(manifest, policy.inputs)
        self._together = MOST_JOINED_ROWS if joins_under(manifest, policy.joining.tolerance) else 1

    async def answer(self, engine: Runs, rows: Sequence[list[Any] | str]) -> list[Answered]:
        """The answers to rows in feature order (None: missing); a text in a row's place is why it can not be read.

        Raises ExecutionError when the engine is gone.
        """
        checked = self._checked(rows)
        good = [place for place, one in enumerate(checked) if isinstance(one, Prepared)]
        groups = [good[start : start + self._together] for start in range(0, len(good), self._together)]
        runs = await engine.run([_joined([checked[place] for place in group]) for group in groups])
        found: dict[int, Answered] = {}
        for group, run in zip(groups, runs, strict=True):
            if run.outcome is Outcome.ERROR and len(group) > 1:  # one row's fault is no other row's
                alone = await engine.run([_joined([checked[place]]) for place in group])
                for place, own in zip(group, alone, strict=True):
                    found[place] = self._read(own, 1, [checked[place]])[0]
            else:
                found.update(zip(group, self._read(run, len(group), [checked[p] for p in group]), strict=True))
        nothing: list[Any] = [None] * len(self.columns)
        return [
            found[place] if isinstance(one, Prepared) else Answered(nothing, (), str(one))
            for place, one in enumerate(checked)
        ]

    def _checked(self, rows: Sequence[list[Any] | str]) -> list[Prepared | str]:
        """What the contract makes of each row, or why it takes it not."""
        checked: list[Prepared | str] = []
        for start in range(0, len(rows), MOST_JOINED_ROWS):  # one odd value sends its whole piece to the slow path
            piece = rows[start : start + MOST_JOINED_ROWS]
            clean, _ = self._contract.clean([[row] if isinstance(row, list) else () for row in piece])
            checked += [found or self._judged(row) for row, found in zip(piece, clean, strict=True)]
        return checked

    def _judged(self, row: list[Any] | str) -> Prepared | str:
        if isinstance(row, str):
            return row
        try:
            return self._contract.records(dict(zip(self.names, row, strict=True)))
        except InvalidInput as error:
            return "; ".join(f"{fault.pointer.removeprefix('/inputs/')} {fault.detail}" for fault in error.faults)

    def _read(self, run: Run, rows: int, checked: Sequence[Prepared | str]) -> list[Answered]:
        flags = [one.flags if isinstance(one, Prepared) else () for one in checked]
        if run.outputs is None:
            nothing: list[Any] = [None] * len(self.columns)
            return [Answered(nothing, own, run.error) for own in flags]
        listed, non_finite = to_json(run.outputs)
        values = values_of(listed, self.manifest, rows)
        return [
            Answered(own, (*flagged, _NON_FINITE) if non_finite and None in own else flagged, "")
            for own, flagged in zip(values, flags, strict=True)
        ]


def columns_of(manifest: Manifest) -> list[Column]:
    """What is answered, as columns: prediction and probabilities; without a known prediction each output as JSON."""
    spec = manifest.prediction
    if spec is None:
        return [Column(f"output_{tensor.name}", "text") for tensor in manifest.outputs]
    tensors = {tensor.name: tensor for tensor in manifest.outputs}
    names = [Column(f"probability_{name}", "number") for name in _probability_names(spec, tensors)]
    if spec.probabilities and not names:
        names = [Column("probabilities", "text")]
    return [Column(PREDICTION, _kind(tensors[spec.output])), *names]


def values_of(listed: dict[str, list[Any]], manifest: Manifest, rows: int) -> list[list[Any]]:
    """The values of `columns_of` for each row of a run."""
    spec = manifest.prediction
    if spec is None:
        every = [_by_row(tensor, listed[tensor.name], rows) for tensor in manifest.outputs]
        return [[json.dumps(own[row]) for own in every] for row in range(rows)]
    predictions, chances = answers(listed, spec, rows)
    tensors = {tensor.name: tensor for tensor in manifest.outputs}
    width = len(_probability_names(spec, tensors))
    is_flat = _kind(tensors[spec.output]) != "text" or tensors[spec.output].datatype == "BYTES"
    said = predictions if is_flat else [json.dumps(one) for one in predictions]
    if not spec.probabilities:
        return [[one] for one in said]
    if not width:
        return [[one, json.dumps(own)] for one, own in zip(said, chances, strict=True)]
    return [[one, *(own or [None] * width)] for one, own in zip(said, chances, strict=True)]


def _probability_names(spec: PredictionSpec, tensors: dict[str, Tensor]) -> list[str]:
    if not spec.probabilities:
        return []
    width = tensors[spec.probabilities].shape[-1]
    if spec.classes:
        return [str(one) for one in spec.classes] if width in (-1, len(spec.classes)) else []
    return [str(place) for place in range(max(0, width))]


def _kind(tensor: Tensor) -> Kind:
    """Of one value a row; a row of several values is text (JSON)."""
    if len(tensor.shape) > 2 or (len(tensor.shape) == 2 and tensor.shape[1] != 1):
        return "text"
    kinds: dict[str, Kind] = {"b": "truth", "i": "whole", "u": "whole", "f": "number", "O": "text"}
    return kinds[BY_NAME[tensor.datatype].numpy.kind]


def _by_row(tensor: Tensor, values: list[Any], rows: int) -> list[Any]:
    return values if tensor.shape[:1] == (-1,) and len(values) == rows else [values] * rows


def _joined(checked: Sequence[Prepared | str]) -> Tensors:
    """The tensors of these rows below one another."""
    every = [one.tensors for one in checked if isinstance(one, Prepared)]
    if len(every) == 1:
        return every[0]
    return {name: np.concatenate([own[name] for own in every]) for name in every[0]}
