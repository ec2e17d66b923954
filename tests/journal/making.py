"""Records and packages for the tests of the journal and the stores."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from gateway.journal.record import Alert, Entry, Feedback, Place, Prediction, TrafficRecord
from gateway.names import Outcome, Reason, Role
from gateway.registry.manifest import Feature, Manifest
from gateway.registry.package import write_package


def prediction(id_: str, **changes: Any) -> Prediction:
    """An answer of electricity@3 to one row: it says 1."""
    fields: dict[str, Any] = {
        "id": id_,
        "model": "electricity",
        "version": 3,
        "role": Role.CHAMPION,
        "reason": Reason.WEIGHT,
        "revision": 7,
        "outcome": Outcome.OK,
        "latency_us": 12,
        "rows": 1,
        "contract": 3,
        "inputs": [[0.5, 0.25]],
        "outputs": {"label": [1], "probabilities": [[0.2, 0.8]]},
    }
    return Prediction(**(fields | changes))


def label(id_: str, value: Any = 1, row: int = 0) -> Feedback:
    """The truth for a row."""
    return Feedback(id=id_, row=row, label=value)


def alert(id_: str) -> Alert:
    """Some alert."""
    return Alert(id_, "electricity", 3, Role.CHAMPION, "concept_drift", "error", 9.0, 5.0, "high", "it changed")


def entry(record: TrafficRecord, time_ns: int) -> Entry[TrafficRecord]:
    """The record as it comes from a journal."""
    return Entry(record, time_ns, Place("serving", 1, max(1, time_ns)))


def package(directory: Path, seed: int = 0, model: str = "electricity", low: float = 0.0) -> Path:
    """A package whose model is bytes; the same seed and `low` are the same model and contract."""
    manifest = Manifest(model=model, features=(Feature(name="nswprice", low=low, high=1.0),))
    write_package(directory, f"model {seed}".encode() * 50, manifest, reference=b"{}")
    return directory


def noted(monkeypatch: pytest.MonkeyPatch, name: str) -> list[tuple[Any, ...]]:
    """The arguments of every call of os.<name> from now on; the calls happen as ever."""
    calls: list[tuple[Any, ...]] = []
    real = getattr(os, name)

    def operation(*arguments: Any) -> Any:
        calls.append(arguments)
        return real(*arguments)

    monkeypatch.setattr(os, name, operation)
    return calls
