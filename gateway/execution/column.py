"""A feature of the contract, compiled: which values it takes, and what the model gets for one that is missing.

Pure. Knows the manifest's features and the policy's handling, never a request.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from msgspec import Struct

from gateway.documents.policy import FieldHandling, Inputs
from gateway.execution.tensors import BY_NAME, Datatype
from gateway.registry.manifest import Feature, Tensor

NUMBERS = frozenset({int, float})
WHOLE_NUMBERS = frozenset({int})
TEXTS = frozenset({str})
TRUTHS = frozenset({bool})
WHOLE = 2.0**63
"""Whole numbers beyond it are kept as floating point: a journal record holds 64-bit integers only."""


class Column(Struct, frozen=True, kw_only=True):
    """One feature compiled. low, high: the contract's range, else what the datatype holds; None for texts.

    bound_low, bound_high: what the datatype holds. absent: what the model gets for a missing value; None: it can not.
    """

    feature: Feature
    types: frozenset[type]
    is_integer: bool = False
    low: float | None = None
    high: float | None = None
    bound_low: float = 0.0
    bound_high: float = 0.0
    categories: frozenset[Any] | None = None
    absent: Any = None
    on_missing: FieldHandling = "reject"
    on_range: FieldHandling = "flag"
    on_unseen: FieldHandling = "flag"


def bounds_of(columns: Sequence[Column]) -> tuple[list[float] | None, list[float]]:
    """Lower and upper ends of all columns where each takes any number and nothing else; else None."""
    ranges = [plain_range(column) for column in columns]
    lows = [low for low, _ in ranges if low is not None]
    highs = [high for _, high in ranges if high is not None]
    are_numbers = all(column.types is NUMBERS and column.categories is None for column in columns)
    return (lows if are_numbers and len(lows) == len(highs) == len(columns) else None), highs


def widest_of(columns: Sequence[Column]) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper ends of what the columns' datatype, and a journal record, hold as it is."""
    lows = [max(column.bound_low, -WHOLE) for column in columns]
    highs = [min(column.bound_high, math.nextafter(WHOLE, 0.0)) for column in columns]
    return np.array(lows), np.array(highs)


class Part:
    """One input tensor: which features, by place, fill its columns."""

    __slots__ = ("_highs", "_is_checkable", "_lows", "dtype", "name", "places", "width")

    def __init__(self, tensor: Tensor, places: list[int], columns: Sequence[Column]) -> None:
        self.name = tensor.name
        self.dtype = BY_NAME[tensor.datatype].numpy
        self.width = len(tensor.shape)
        self.places = places
        filled = [columns[place] for place in places]
        self._is_checkable = all(column.categories is None for column in filled)
        is_ranged = all(column.low is not None for column in filled)
        self._lows = np.array([column.low for column in filled], dtype=self.dtype) if is_ranged else None
        self._highs = np.array([column.high for column in filled], dtype=self.dtype) if is_ranged else None

    def is_clean(self, array: np.ndarray) -> bool:
        """True when every value is in its range, told without looking at them one by one."""
        if not self._is_checkable or self._lows is None or self._highs is None:
            return self._is_checkable
        table = array.reshape(len(array), -1)
        return bool(((table >= self._lows) & (table <= self._highs)).all())


def column_of(feature: Feature, tensor: Tensor, handling: Inputs) -> Column:
    """The feature as its tensor's datatype and the policy's handling make it."""
    datatype = BY_NAME[tensor.datatype]
    fields = handling.fields.get(feature.name, {})
    shared: dict[str, Any] = {
        "feature": feature,
        "categories": frozenset(feature.categories) if feature.categories else None,
        "on_missing": fields.get("missing", handling.missing),
        "on_range": fields.get("out_of_range", handling.out_of_range),
        "on_unseen": fields.get("unseen_category", handling.unseen_category),
    }
    if datatype.numpy.kind == "O":
        return Column(types=TEXTS, absent="", **shared)
    if datatype.numpy.kind == "b":
        return Column(types=TRUTHS, **shared)
    limits: Any = np.finfo(datatype.numpy) if datatype.is_float else np.iinfo(datatype.numpy)
    if datatype.is_integer:
        least, most = int(limits.min), int(limits.max)
        low = least if feature.low is None else max(math.ceil(feature.low), least)
        high = most if feature.high is None else min(math.floor(feature.high), most)
        return Column(
            types=WHOLE_NUMBERS, is_integer=True, low=low, high=high, bound_low=least, bound_high=most, **shared
        )
    smallest, largest = float(limits.min), float(limits.max)
    return Column(
        types=NUMBERS,
        low=smallest if feature.low is None else _rounded(feature.low, datatype, min),
        high=largest if feature.high is None else _rounded(feature.high, datatype, max),
        bound_low=smallest,
        bound_high=largest,
        absent=math.nan,
        **shared,
    )


def plain_range(column: Column) -> tuple[float | None, float | None]:
    """The range in which a value needs no second look."""
    if column.low is None or column.high is None or column.is_integer:
        return column.low, column.high
    return max(column.low, -WHOLE), min(column.high, math.nextafter(WHOLE, 0.0))


def _rounded(limit: float, datatype: Datatype, outer: Callable[[float, float], float]) -> float:
    """The limit as the datatype holds it, if that is wider: 0.7 is inside a range that begins at 0.7 in FP32 too."""
    bound = float(np.finfo(datatype.numpy).max)
    return outer(limit, float(datatype.numpy.type(limit))) if -bound <= limit <= bound else math.copysign(bound, limit)
