"""What "normal" was for a version: the reference that ships with its package as `reference.json`.

Built from rows the version was not fitted on, in stream order; read by the monitor, which bets against it. Holds
numbers only: it must not know where rows come from, nor what is done when they move. numpy only, no randomness.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from gateway.errors import Fault, InvalidConfig
from gateway.registry.column import (
    HUGE,
    UNSEEN,
    ColumnReference,
    FloatArray,
    Score,
    autocorrelation_time,
    category,
    encode,
    flaw,
    measured,
    number,
    positions,
    span,
)
from gateway.registry.manifest import Feature

__all__ = [
    "REFERENCE_FILE",
    "UNSEEN",
    "ColumnReference",
    "Reference",
    "Score",
    "autocorrelation_time",
    "build_reference",
    "category",
    "encode_reference",
    "encode_rows",
    "loss",
    "loss_scale",
    "positions",
    "read_reference",
    "score_of",
    "span",
]

REFERENCE_FILE = "reference.json"
WARMUP_ROWS = 32

_NUMBERS = frozenset({float, int, bool, type(None)})
"""Types that numpy turns into float64 as `number` does: texts are missing values here, and "1.5" is a text."""


class Reference(Struct, frozen=True, kw_only=True):
    """The whole reference. prediction: columns named `prediction` (class or value) and `score`.

    error_rate: on error_rows unseen rows (mean clipped loss for a value); None when it is not known.
    loss_scale: what an absolute error is divided by before it is clipped to 1, see `loss`.
    labels: the truth of the rows, a column like the others (categorical for classes); None when it was not given.
    """

    rows: int
    features: tuple[ColumnReference, ...]
    prediction: tuple[ColumnReference, ...] = ()
    error_rate: float | None = None
    error_rows: int = 0
    loss_scale: float = 1.0
    warmup: tuple[tuple[Any, ...], ...] = ()
    format: int = 1
    labels: ColumnReference | None = None

    @property
    def columns(self) -> tuple[ColumnReference, ...]:
        """Features, then the prediction's columns: the order of `encode_rows`."""
        return self.features + self.prediction


def build_reference(
    features: Sequence[Feature],
    rows: Sequence[Sequence[Any]],
    predictions: Sequence[Any] | None = None,
    scores: Sequence[Any] | None = None,
    error_rate: float | None = None,
    error_rows: int = 0,
    *,
    prediction_kind: str = "",
    labels: Sequence[Any] | None = None,
) -> Reference:
    """Measure rows (in stream order, columns in the order of `features`) and what the version said about them.

    predictions: class labels or numbers, one a row. scores: a number or a probability row each, see `score_of`.
    prediction_kind: class, score or value as in the manifest; left out, fractions tell values from classes.
    Predictions and scores must be of rows that the version was not fitted on, else the first live answers look moved
    (fewer than `rows` are fine).
    labels: the truth of rows, in stream order; they may be of rows that the version was fitted on.
    Raises InvalidConfig when there are no rows or their width is not the number of features.
    """
    if not rows or any(len(row) != len(features) for row in rows):
        raise InvalidConfig(f"a reference needs at least one row, each with {len(features)} values")
    columns = [
        measured(feature.name, feature.kind, [row[place] for row in rows], feature)
        for place, feature in enumerate(features)
    ]
    prediction = []
    if predictions is not None and len(predictions):
        is_class = prediction_kind == "class" if prediction_kind else not _is_continuous(predictions)
        kind = "categorical" if is_class else "numeric"
        prediction.append(measured("prediction", kind, list(predictions)))
    if scores is not None and len(scores):
        prediction.append(measured("score", "numeric", [score_of(score) for score in scores]))
    return Reference(
        rows=len(rows),
        features=tuple(columns),
        prediction=tuple(prediction),
        error_rate=None if error_rate is None else float(error_rate),
        error_rows=int(error_rows),
        loss_scale=loss_scale(predictions or ()),
        warmup=tuple(tuple(_plain(value) for value in row) for row in rows[-WARMUP_ROWS:]),
        labels=_labels(labels, prediction_kind) if labels is not None and len(labels) else None,
    )


def encode_reference(reference: Reference) -> bytes:
    """The text of `reference.json`."""
    return msgspec.json.encode(reference)


def read_reference(body: bytes) -> Reference:
    """The reference in a `reference.json`. Raises InvalidConfig that names what is wrong."""
    try:
        reference = msgspec.json.decode(body, type=Reference)
    except msgspec.MsgspecError as error:
        raise InvalidConfig(f"{REFERENCE_FILE}: {error}", [Fault(REFERENCE_FILE, str(error))]) from error
    for column in (*reference.columns, *([reference.labels] if reference.labels is not None else [])):
        if wrong := flaw(column):
            raise InvalidConfig(
                f"{REFERENCE_FILE}: {column.name}: {wrong}", [Fault(f"{REFERENCE_FILE}: {column.name}", wrong)]
            )
    if reference.rows < 1:
        raise InvalidConfig(f"{REFERENCE_FILE}: rows must be at least 1")
    return reference


def score_of(score: Any) -> float:
    """One number for a prediction's probabilities: of the last class when there are two, else the largest."""
    if isinstance(score, (list, tuple, np.ndarray)):
        row = [number(value) for value in score]
        return math.nan if not row else row[-1] if len(row) <= 2 else max(row)
    return number(score)


def loss(prediction: Any, label: Any, scale: float, *, is_class: bool) -> float:
    """How wrong one row was, in [0, 1]: 0 or 1 for a class, the absolute error over `scale`, at most 1, for a value.

    NaN when either is missing.
    """
    if prediction is None or label is None:
        return math.nan
    if is_class:
        return float(category(prediction) != category(label))
    return min(1.0, abs(number(prediction) - number(label)) / scale)


def loss_scale(predictions: Sequence[Any]) -> float:
    """What absolute errors of a regression are divided by: the span of the middle 98 percent of predictions."""
    numbers = np.array([number(value) for value in predictions], dtype=np.float64)
    numbers = np.clip(numbers[np.isfinite(numbers)], -HUGE, HUGE)
    if not numbers.size:
        return 1.0
    low, high = np.quantile(numbers, (0.01, 0.99))
    return float(high - low) if high > low else 1.0


def encode_rows(columns: Sequence[ColumnReference], rows: Sequence[Sequence[Any]]) -> FloatArray:
    """Rows as float64 (rows, columns): numbers as they are, categories as their place, UNSEEN, missing as NaN.

    What a value becomes does not depend on the rows beside it: blocks of any size give the same numbers.
    """
    encoded = np.empty((len(rows), len(columns)))
    numeric = [place for place, column in enumerate(columns) if column.kind == "numeric"] if len(rows) else []
    parts = [[row[place] for place in numeric] for row in rows]
    if not _are_numbers(parts) or not _filled(encoded, numeric, parts):
        encoded[:, numeric] = [[number(value) for value in part] for part in parts]
    for place, column in enumerate(columns):
        if column.kind != "numeric":
            encoded[:, place] = encode(column, [row[place] for row in rows])
    return encoded


def _are_numbers(parts: Sequence[Sequence[Any]]) -> bool:
    return _NUMBERS.issuperset(kind for part in parts for kind in map(type, part))


def _filled(encoded: FloatArray, places: list[int], parts: Sequence[Sequence[Any]]) -> bool:
    try:
        encoded[:, places] = parts
    except OverflowError:  # a whole number of more than 308 digits
        return False
    return True


def _labels(labels: Sequence[Any], kind: str) -> ColumnReference:
    is_class = kind == "class" if kind in ("class", "value") else not _is_continuous(labels)
    return measured("label", "categorical" if is_class else "numeric", list(labels))


def _is_continuous(values: Sequence[Any]) -> bool:
    return any(isinstance(value, (float, np.floating)) and not float(value).is_integer() for value in values)


def _plain(value: Any) -> Any:
    plain = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(plain, float) and not math.isfinite(plain) else plain
