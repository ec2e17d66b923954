"""A sample of rows in CSV, read into what a version says of itself: features with their contract, and the reference.

For models that come without a recipe. Pure: text in, values out. The sample should be rows like those the model will
see, in the order in which they came; its ranges and categories become the contract.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from typing import Any

from gateway.errors import Fault, InvalidConfig
from gateway.registry.manifest import Feature

MOST_ROWS = 200_000
MOST_CATEGORIES = 200
_MISSING = {"", "na", "nan", "null", "none", "?"}

Rows = list[list[Any]]


def read_sample(text: str, names: Sequence[str] = ()) -> tuple[tuple[Feature, ...], Rows]:
    """Features and rows of a CSV with a header line. names: the columns to take, in this order; none: all of them.

    A column whose values are all numbers is numeric, any other categorical; an empty cell is a missing value (None).
    Raises InvalidConfig naming the line or the column.
    """
    reader = csv.reader(io.StringIO(text))
    try:
        header = [name.strip() for name in next(reader, [])]
        places = _places(header, names)
        cells = [_cells(row, header, number) for number, row in enumerate(reader, start=2) if row]
    except csv.Error as error:
        raise _wrong(f"line {reader.line_num}", f"is not CSV ({error})") from error
    if not cells:
        raise _wrong("line 2", "there are no rows")
    if len(cells) > MOST_ROWS:
        raise _wrong(f"line {MOST_ROWS + 2}", f"at most {MOST_ROWS} rows are read")
    columns = [[row[place].strip() for row in cells] for place in places]
    features, values = zip(*(_column(header[at], c) for at, c in zip(places, columns, strict=True)), strict=True)
    return tuple(features), [list(row) for row in zip(*values, strict=True)]


def _places(header: Sequence[str], names: Sequence[str]) -> list[int]:
    if not header or not all(header):
        raise _wrong("line 1", "must name every column")
    if len(set(header)) != len(header):
        twice = next(name for name in header if list(header).count(name) > 1)
        raise _wrong("line 1", f"names the column {twice!r} twice")
    for name in names:
        if name not in header:
            raise _wrong("line 1", f"has no column {name!r}; there are {', '.join(header)}")
    return [header.index(name) for name in names] if names else list(range(len(header)))


def _cells(row: list[str], header: Sequence[str], line: int) -> list[str]:
    if len(row) != len(header):
        raise _wrong(f"line {line}", f"has {len(row)} values, the header has {len(header)}")
    return row


def _column(name: str, texts: Sequence[str]) -> tuple[Feature, list[Any]]:
    numbers = [_number(text) for text in texts]
    present = [text for text in texts if text.lower() not in _MISSING]
    may_be_missing = len(present) < len(texts)
    if all(number is not None for number, text in zip(numbers, texts, strict=True) if text.lower() not in _MISSING):
        known = [number for number in numbers if number is not None]
        low, high = (min(known), max(known)) if known else (None, None)
        return Feature(name=name, low=low, high=high, may_be_missing=may_be_missing), list(numbers)
    categories = tuple(sorted(set(present)))
    if len(categories) > MOST_CATEGORIES:
        raise _wrong(f"column {name!r}", f"has {len(categories)} different texts; at most {MOST_CATEGORIES} are read")
    values = [None if text.lower() in _MISSING else text for text in texts]
    return Feature(name=name, kind="categorical", categories=categories, may_be_missing=may_be_missing), values


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _wrong(place: str, detail: str) -> InvalidConfig:
    return InvalidConfig(f"the sample: {place}: {detail}", [Fault(f"sample: {place}", detail)])
