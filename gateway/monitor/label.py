"""A label that found its row, as the parts of the watch read it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Label:
    """One label joined to one answer. time_ns, place: of the entry that completed the pair.

    inputs: of the row; contract: the version whose columns they have; id, row: of the prediction, of answers only.
    """

    version: int
    role: str
    reason: str
    predicted_ns: int
    prediction: Any
    probabilities: Any
    label: Any
    time_ns: int
    place: str
    inputs: Any = None
    contract: int = 0
    id: str = ""
    row: int = 0
