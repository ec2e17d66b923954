"""One column of a reference: what is measured of its values, and how a value is read against that.

Numbers and texts in, numbers out. Bad values have one meaning each: what is no number is missing, what is infinite is
out of range, what is larger than HUGE counts as HUGE. numpy only, no randomness.

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

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from gateway.registry.manifest import Feature

FloatArray = NDArray[np.float64]

QUANTILES = 257
TOP_CATEGORIES = 8
RANGE_MARGIN = 0.05
HUGE = 1e150
"""Numbers beyond count as this much: their squares and differences are still numbers."""
_BATCHES = (10, 20, 40, 80)
_SAME = 2.0**-22
"""Values so close, as a share of their size, are the same: 0.1 and the float32 next to it."""
_SCORES = {"numeric": ("level", "spread", "range", "missing"), "categorical": ("category", "unseen", "missing")}
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


def measured(name: str, kind: str, values: list[Any], contract: Feature | None = None) -> ColumnReference:
    """What these values, in stream order, say about the column. contract: its range or categories count as known."""
    if kind == "numeric":
        return _numeric(name, np.array([number(value) for value in values]), contract)
    return _categorical(name, values, contract)


def positions(quantiles: FloatArray, values: FloatArray) -> FloatArray:
    """Mid-rank positions in [0, 1] of values (n, columns) among quantiles (columns, 257); NaN stays NaN.

    A value that fills several quantiles (ties) stands in their middle; a quantile that differs by the rounding to
    float32 alone is filled too.
    """
    last, column = quantiles.shape[1] - 1, np.arange(values.shape[1])
    width = quantiles[:, -1] - quantiles[:, 0]
    constant = _SAME * np.abs(quantiles[:, 0]) + 1e-12
    slack = np.where(width > 0, np.minimum(_SAME * np.abs(values), 1e-4 * width), constant)
    least, largest = values - slack, values + slack
    left = np.empty(values.shape, dtype=np.intp)
    for place, ascending in enumerate(quantiles):
        left[:, place] = ascending.searchsorted(least[:, place], "left")
    right = left.copy()
    tied = (quantiles[column, np.minimum(left, last)] <= largest) & (left <= last)
    for place in np.flatnonzero(tied.any(axis=0)).tolist():
        mine = tied[:, place]
        right[mine, place] = quantiles[place].searchsorted(largest[mine, place], "right")
    below = quantiles[column, np.maximum(left - 1, 0)]
    gap = quantiles[column, np.minimum(left, last)] - below
    inside = np.divide(values - below, gap, out=np.zeros_like(values), where=gap > 0)
    place_among = np.where(left == right, left - 1 + inside, (left + right - 1) / 2)
    return np.where(np.isnan(values), np.nan, np.clip(place_among / last, 0.0, 1.0))


def span(column: ColumnReference) -> tuple[float, float]:
    """The lowest and highest value that is not out of range: the reference's span widened by 5 percent each side."""
    if column.low is None or column.high is None:
        return -math.inf, math.inf
    margin = RANGE_MARGIN * (column.high - column.low) + _SAME * max(abs(column.low), abs(column.high)) + 1e-12
    return column.low - margin, column.high + margin


def autocorrelation_time(values: FloatArray) -> float:
    """Integrated autocorrelation time 1 + 2 sum(rho_k) of a series, at least 1; 1 for a constant one.

    The sum ends at the first k >= 5 tau(k), which misses a weak correlation over long times: the share of a category
    that swings a little with the season. So the means of batches count too, where they vary more than chance explains.
    Sources: Sokal, Monte Carlo Methods in Statistical Mechanics, 1997; Flegal, Jones, Batch means, 2010.
    """
    count = values.size
    centred = values - values.mean() if count else values
    if count < 8 or not np.any(np.abs(centred) > 1e-12):
        return 1.0
    spectrum = np.fft.rfft(centred, 2 * count)
    covariance = np.fft.irfft(spectrum * np.conj(spectrum))[: count // 2]
    running = 2 * np.cumsum(covariance / covariance[0]) - 1
    ends = np.flatnonzero(np.arange(running.size) >= 5 * running)
    tau = max(1.0, float(running[ends[0]] if ends.size else running.max()))
    for batches in _BATCHES:
        size = count // batches
        means = centred[: size * batches].reshape(batches, size).mean(axis=1) if size > 1 else np.zeros(batches)
        by_batches = size * float(means.var(ddof=1)) / float(centred.var())
        if by_batches > tau * _by_chance(batches - 1):
            tau = by_batches
    return min(tau, count / 4)


def _by_chance(degrees: int) -> float:
    """How many times too large a variance of so many degrees of freedom comes out, with a probability of 0.0002.

    Source: Wilson, Hilferty, The distribution of chi-square, 1931.
    """
    spread = 2 / (9 * degrees)
    return float((1 - spread + 3.5 * math.sqrt(spread)) ** 3)


def category(value: Any) -> str:
    """A category or class as text: 1, 1.0, True and "1" are the same."""
    if isinstance(value, (bool, np.bool_)):
        return str(int(value))
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    return str(value)


def flaw(column: ColumnReference) -> str:
    """What is wrong with a column as it was read; nothing for one that is right."""
    if column.kind not in ("numeric", "categorical"):
        return f"kind is {column.kind!r}; allowed are numeric and categorical"
    if column.quantiles and len(column.quantiles) != QUANTILES:
        return f"has {len(column.quantiles)} quantiles, not {QUANTILES}"
    if any(left > right for left, right in pairwise(column.quantiles)):
        return "its quantiles must ascend"
    if len(column.categories) != len(column.shares):
        return "needs one share for each category"
    if any(not 0 <= score.mean <= 1 or score.tau < 1 or score.deviation < 0 for score in column.scores):
        return "a score's mean must be in [0, 1], its tau at least 1 and its deviation not below 0"
    if column.rows < 0:
        return "its rows must not be below 0"
    return _wrong_score(column)


def _wrong_score(column: ColumnReference) -> str:
    allowed = _SCORES[column.kind]
    for score in column.scores:
        if score.name not in allowed:
            return f"has a score {score.name!r}; a {column.kind} column may have {', '.join(allowed)}"
        if score.name in ("level", "spread") and not column.quantiles:
            return f"its score {score.name} needs quantiles"
        if score.name == "category" and not 0 <= score.code < len(column.categories):
            return f"its score of category {score.code} has no category"
    return ""


def _numeric(name: str, values: FloatArray, contract: Feature | None) -> ColumnReference:
    is_known = np.isfinite(values)
    known = np.clip(values[is_known], -HUGE, HUGE)
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
        low = max(min(low, contract.low), -HUGE)
    if contract is not None and contract.high is not None:
        high = min(max(high, contract.high), HUGE)
    level = positions(quantiles[None, :], known[:, None])[:, 0]
    level_score = _score("level", level)
    scores = (
        level_score,
        _score("spread", np.abs(2 * level - 1)),
        # No number was out of range here, so how they cluster is taken from the level.
        replace(_score("range", np.isinf(values).astype(np.float64)), tau=level_score.tau),
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
    texts = [None if is_missing(value) else category(value) for value in values]
    counts = Counter(text for text in texts if text is not None)
    known = sorted(counts, key=lambda text: (-counts[text], text))
    extra = [] if contract is None else [category(value) for value in contract.categories]
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
        scores=(*indicators, _unseen(texts, counts, set(extra)), _score("missing", absent)),
    )


def _unseen(texts: list[str | None], counts: Counter[str], listed: set[str]) -> Score:
    """How often a value must be expected that these rows do not hold: the share of those that they hold once.

    Categories that the contract lists are never unseen. Source: Good, The population frequencies of species, 1953.
    """
    once = np.array([text is not None and counts[text] == 1 and text not in listed for text in texts])
    return _score("unseen", once.astype(np.float64))


def _score(name: str, values: FloatArray, code: int = -1) -> Score:
    return Score(
        name=name,
        mean=float(values.mean()),
        deviation=float(values.std()),
        tau=autocorrelation_time(values),
        code=code,
    )


def encode(column: ColumnReference, values: Sequence[Any]) -> FloatArray:
    """Values as float64: numbers as they are, categories as their place, UNSEEN, missing as NaN."""
    if column.kind == "numeric":
        return np.array([number(value) for value in values], dtype=np.float64)
    codes = _codes(column.categories)
    return np.array(
        [math.nan if is_missing(value) else codes.get(category(value), UNSEEN) for value in values],
        dtype=np.float64,
    )


@lru_cache(maxsize=1000)
def _codes(categories: tuple[str, ...]) -> dict[str, float]:
    return {text: float(code) for code, text in enumerate(categories)}


def is_missing(value: Any) -> bool:
    """None or NaN."""
    return value is None or (isinstance(value, (float, np.floating)) and math.isnan(value))


def number(value: Any) -> float:
    """A number as float; NaN for anything else."""
    if isinstance(value, (int, float, np.number, np.bool_)):
        try:
            return float(value)
        except OverflowError:  # a whole number of more than 308 digits
            return math.inf if value > 0 else -math.inf
    return math.nan
