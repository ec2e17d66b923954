"""What "normal" was for a version: the reference that ships with its package as `reference.json`.

Built from rows the version was not fitted on, in stream order; read by the monitor, which bets against it. Holds
numbers only: it must not know where rows come from, nor what is done when they move. numpy only, no randomness.

A *score* is a number in [0, 1] made of one column of a row, with a mean and an autocorrelation time that the
reference measured:

    numeric column       level   mid-rank position among the reference's quantiles
                         spread  |2 level - 1|
                         range   1 outside the reference's span widened by 5 percent
                         missing 1 where there is no value
    categorical column   one indicator for each of its most frequent categories, unseen, missing
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from gateway.errors import Fault, InvalidConfig
from gateway.registry.manifest import Feature

FloatArray = NDArray[np.float64]

REFERENCE_FILE = "reference.json"
QUANTILES = 257
TOP_CATEGORIES = 8
WARMUP_ROWS = 32
RANGE_MARGIN = 0.05
UNSEEN = -1.0
"""The code of a category that the reference does not know; a missing value is NaN."""


class Score(Struct, frozen=True, kw_only=True):
    """One score on the reference: mean, standard deviation and integrated autocorrelation time (in rows, >= 1).

    name: level | spread | range | missing | unseen | category; code: the category's place, for `category` only.
    """

    name: str
    mean: float
    deviation: float = 0.0
    tau: float = 1.0
    code: int = -1


class ColumnReference(Struct, frozen=True, kw_only=True):
    """One column: a feature, the predicted class or the score of a prediction.

    kind: numeric | categorical. quantiles: 257 ascending values, empty for a column that never had a number.
    low, high: span of the reference and the contract together. deviation: standard deviation of the values.
    categories: known values as text, most frequent first; shares: of all rows, in the same order. rows: how many
    the column was measured on; predictions may cover fewer than the features.
    """

    name: str
    kind: str
    rows: int = 0
    missing: float = 0.0
    quantiles: tuple[float, ...] = ()
    low: float | None = None
    high: float | None = None
    deviation: float = 0.0
    categories: tuple[str, ...] = ()
    shares: tuple[float, ...] = ()
    scores: tuple[Score, ...] = ()


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
        _column(feature.name, feature.kind, [row[place] for row in rows], feature)
        for place, feature in enumerate(features)
    ]
    prediction = []
    if predictions is not None and len(predictions):
        is_class = prediction_kind == "class" if prediction_kind else not _is_continuous(predictions)
        kind = "categorical" if is_class else "numeric"
        prediction.append(_column("prediction", kind, list(predictions)))
    if scores is not None and len(scores):
        prediction.append(_column("score", "numeric", [score_of(score) for score in scores]))
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
        if wrong := _wrong(column):
            raise InvalidConfig(
                f"{REFERENCE_FILE}: {column.name}: {wrong}", [Fault(f"{REFERENCE_FILE}: {column.name}", wrong)]
            )
    if reference.rows < 1:
        raise InvalidConfig(f"{REFERENCE_FILE}: rows must be at least 1")
    return reference


def score_of(score: Any) -> float:
    """One number for a prediction's probabilities: of the last class when there are two, else the largest."""
    if isinstance(score, (list, tuple, np.ndarray)):
        row = [_number(value) for value in score]
        return math.nan if not row else row[-1] if len(row) <= 2 else max(row)
    return _number(score)


def category(value: Any) -> str:
    """A category or class as text: 1, 1.0, True and "1" are the same."""
    if isinstance(value, (bool, np.bool_)):
        return str(int(value))
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    return str(value)


def loss(prediction: Any, label: Any, scale: float, *, is_class: bool) -> float:
    """How wrong one row was, in [0, 1]: 0 or 1 for a class, the absolute error over `scale`, at most 1, for a value.

    NaN when either is missing.
    """
    if prediction is None or label is None:
        return math.nan
    if is_class:
        return float(category(prediction) != category(label))
    return min(1.0, abs(_number(prediction) - _number(label)) / scale)


def loss_scale(predictions: Sequence[Any]) -> float:
    """What absolute errors of a regression are divided by: the span of the middle 98 percent of predictions."""
    numbers = np.array([_number(value) for value in predictions], dtype=np.float64)
    numbers = numbers[np.isfinite(numbers)]
    if not numbers.size:
        return 1.0
    low, high = np.quantile(numbers, (0.01, 0.99))
    return float(high - low) if high > low else 1.0


def encode_rows(columns: Sequence[ColumnReference], rows: Sequence[Sequence[Any]]) -> FloatArray:
    """Rows as float64 (rows, columns): numbers as they are, categories as their place, UNSEEN, missing as NaN."""
    if all(column.kind == "numeric" for column in columns):
        try:
            return np.array(rows, dtype=np.float64).reshape(len(rows), len(columns))
        except (TypeError, ValueError):
            pass  # a text among the numbers: column by column, it counts as missing
    encoded = np.empty((len(rows), len(columns)))
    for place, column in enumerate(columns):
        encoded[:, place] = _encode(column, [row[place] for row in rows])
    return encoded


def positions(quantiles: FloatArray, values: FloatArray) -> FloatArray:
    """Mid-rank positions in [0, 1] of values (n, columns) among quantiles (columns, 257); NaN stays NaN.

    A value that fills several quantiles (ties) stands in their middle.
    """
    left = np.empty(values.shape, dtype=np.intp)
    right = np.empty(values.shape, dtype=np.intp)
    for place, sorted_values in enumerate(quantiles):
        left[:, place] = sorted_values.searchsorted(values[:, place], "left")
        right[:, place] = sorted_values.searchsorted(values[:, place], "right")
    last = quantiles.shape[1] - 1
    column = np.arange(values.shape[1])
    below = quantiles[column, np.clip(left - 1, 0, last)]
    gap = quantiles[column, np.clip(left, 0, last)] - below
    inside = np.divide(values - below, gap, out=np.zeros_like(values), where=gap > 0)
    place_among = np.where(left == right, left - 1 + inside, (left + right - 1) / 2)
    return np.where(np.isnan(values), np.nan, np.clip(place_among / last, 0.0, 1.0))


def span(column: ColumnReference) -> tuple[float, float]:
    """The lowest and highest value that is not out of range: the reference's span widened by 5 percent each side."""
    if column.low is None or column.high is None:
        return -math.inf, math.inf
    margin = RANGE_MARGIN * (column.high - column.low)
    return column.low - margin, column.high + margin


def autocorrelation_time(values: FloatArray) -> float:
    """Integrated autocorrelation time 1 + 2 sum(rho_k) of a series, at least 1; 1 for a constant one.

    The sum ends at the first k >= 5 tau(k). Source: Sokal, Monte Carlo Methods in Statistical Mechanics, 1997.
    """
    count = values.size
    centred = values - values.mean() if count else values
    if count < 8 or not np.any(np.abs(centred) > 1e-12):
        return 1.0
    spectrum = np.fft.rfft(centred, 2 * count)
    covariance = np.fft.irfft(spectrum * np.conj(spectrum))[: count // 2]
    running = 2 * np.cumsum(covariance / covariance[0]) - 1
    ends = np.flatnonzero(np.arange(running.size) >= 5 * running)
    tau = running[ends[0]] if ends.size else running.max()
    return float(max(1.0, min(tau, count / 4)))


def _labels(labels: Sequence[Any], kind: str) -> ColumnReference:
    is_class = kind == "class" if kind in ("class", "value") else not _is_continuous(labels)
    return _column("label", "categorical" if is_class else "numeric", list(labels))


def _column(name: str, kind: str, values: list[Any], contract: Feature | None = None) -> ColumnReference:
    if kind == "numeric":
        return _numeric(name, np.array([_number(value) for value in values]), contract)
    return _categorical(name, values, contract)


def _numeric(name: str, values: FloatArray, contract: Feature | None) -> ColumnReference:
    known = values[np.isfinite(values)]
    absent = np.isnan(values).astype(np.float64)
    if not known.size:
        return ColumnReference(
            name=name,
            kind="numeric",
            rows=values.size,
            missing=float(absent.mean()),
            scores=(_score("missing", absent),),
        )
    quantiles = np.quantile(known, np.linspace(0, 1, QUANTILES))
    low, high = float(known.min()), float(known.max())
    if contract is not None and contract.low is not None:
        low = min(low, contract.low)
    if contract is not None and contract.high is not None:
        high = max(high, contract.high)
    level = positions(quantiles[None, :], known[:, None])[:, 0]
    level_score = _score("level", level)
    scores = (
        level_score,
        _score("spread", np.abs(2 * level - 1)),
        # None was out of range here, so how they cluster is taken from the level.
        Score(name="range", mean=0.0, tau=level_score.tau),
        _score("missing", absent),
    )
    return ColumnReference(
        name=name,
        kind="numeric",
        rows=values.size,
        missing=float(absent.mean()),
        quantiles=tuple(quantiles.tolist()),
        low=low,
        high=high,
        deviation=float(known.std()),
        scores=scores,
    )


def _categorical(name: str, values: list[Any], contract: Feature | None) -> ColumnReference:
    texts = [None if _is_missing(value) else category(value) for value in values]
    counts = Counter(text for text in texts if text is not None)
    known = sorted(counts, key=lambda text: (-counts[text], text))
    extra = () if contract is None else (category(value) for value in contract.categories)
    known += [text for text in dict.fromkeys(extra) if text not in counts]
    absent = np.array([text is None for text in texts], dtype=np.float64)
    indicators = [
        _score("category", np.array([text == one for text in texts], dtype=np.float64), code)
        for code, one in enumerate(known[:TOP_CATEGORIES])
    ]
    return ColumnReference(
        name=name,
        kind="categorical",
        rows=len(values),
        missing=float(absent.mean()),
        categories=tuple(known),
        shares=tuple(counts[text] / len(values) for text in known),
        scores=(*indicators, Score(name="unseen", mean=0.0), _score("missing", absent)),
    )


def _score(name: str, values: FloatArray, code: int = -1) -> Score:
    return Score(
        name=name,
        mean=float(values.mean()),
        deviation=float(values.std()),
        tau=autocorrelation_time(values),
        code=code,
    )


def _encode(column: ColumnReference, values: Sequence[Any]) -> FloatArray:
    if column.kind == "numeric":
        return np.array([_number(value) for value in values], dtype=np.float64)
    codes = _codes(column.categories)
    return np.array(
        [math.nan if _is_missing(value) else codes.get(category(value), UNSEEN) for value in values],
        dtype=np.float64,
    )


@lru_cache(maxsize=1000)
def _codes(categories: tuple[str, ...]) -> dict[str, float]:
    return {text: float(code) for code, text in enumerate(categories)}


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, (float, np.floating)) and math.isnan(value))


def _number(value: Any) -> float:
    if isinstance(value, (int, float, np.number, np.bool_)):
        return float(value)
    return math.nan


def _is_continuous(values: Sequence[Any]) -> bool:
    return any(isinstance(value, (float, np.floating)) and not float(value).is_integer() for value in values)


def _plain(value: Any) -> Any:
    plain = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(plain, float) and not math.isfinite(plain) else plain


def _wrong(column: ColumnReference) -> str:
    if column.kind not in ("numeric", "categorical"):
        return f"kind is {column.kind!r}; allowed are numeric and categorical"
    if column.quantiles and len(column.quantiles) != QUANTILES:
        return f"has {len(column.quantiles)} quantiles, not {QUANTILES}"
    if any(left > right for left, right in pairwise(column.quantiles)):
        return "its quantiles must ascend"
    if len(column.categories) != len(column.shares):
        return "needs one share for each category"
    if any(not 0 <= score.mean <= 1 or score.tau < 1 for score in column.scores):
        return "a score's mean must be in [0, 1] and its tau at least 1"
    return ""
