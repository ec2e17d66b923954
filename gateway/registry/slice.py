"""In which slice of a feature a value lies: a category is its own slice, a number falls between limits.

Pure; shared by everybody who counts by the value of a feature. Names are bounded by what the caller gives: the known
categories of a feature, or its limits. A value that is not there is the slice `missing`, everything else `other`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from gateway.registry.reference import category

MOST_VALUES = 20
"""So many categories of a feature have a slice of their own."""

LONGEST_NAME = 60

Limits: TypeAlias = Sequence[tuple[float, str]]
"""Upper ends of the slices of a number, ascending, the last one infinite; each with the slice's name."""


def limits_of(feature: str, inner: Iterable[float]) -> list[tuple[float, str]]:
    """The slices between these values. inner: at least one; equal ones count once."""
    ends = sorted(set(inner))
    return [*((end, f"{feature}<={end:.4g}") for end in ends), (math.inf, f"{feature}>{ends[-1]:.4g}")]


def number_slice(feature: str, value: Any, limits: Limits) -> str:
    """The slice of a number."""
    return next(name for limit, name in limits if value <= limit) if is_number(value) else f"{feature}=missing"


def category_text(value: Any) -> str:
    """A category as its slice names it."""
    return "missing" if value is None else category(value)[:LONGEST_NAME]


def category_slice(feature: str, value: Any, known: dict[str, str]) -> str:
    """The slice of a category. known: text -> name of the slices so far; learns until there are `MOST_VALUES`.

    One text object for each slice: whoever keeps many of them keeps references only.
    """
    text = category_text(value)
    if text not in known and len(known) >= MOST_VALUES:
        text = "other"
    return known.setdefault(text, f"{feature}={text}")


def is_number(value: Any) -> bool:
    """A finite number; True and False are none."""
    return not isinstance(value, bool) and isinstance(value, int | float) and math.isfinite(value)
