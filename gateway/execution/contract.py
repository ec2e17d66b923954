"""The contract at the door: what a caller sent becomes tensors, or a list of the places that are wrong.

Pure: values in, values out. Knows the manifest (names, order, types, ranges, categories) and the policy's `inputs`
(reject, clip or flag), never the model. One record without faults is the hot path: its values are checked in one loop,
and everything that can go wrong is sorted out afterwards by the slow path, which alone knows how to say it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from itertools import chain
from operator import itemgetter, le
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
from msgspec import Struct

from gateway.documents.policy import Inputs
from gateway.errors import Fault
from gateway.execution.column import NUMBERS, TEXTS, Part, bounds_of, column_of, plain_range, widest_of
from gateway.execution.judge import Judge, escaped, refused
from gateway.execution.tensor_inputs import (
    lists,
    nested,
    non_finite_flags,
    rows_of,
    shape_faults,
    signature_faults,
    written,
)
from gateway.execution.tensors import Tensors, columns_of
from gateway.registry.manifest import Manifest

_SMALL_CELLS = 64
_MANY_ROWS = 8
"""So many rows of one caller are faster looked at as a table."""

_OUT_OF_RANGE = ("out_of_range",)


class Prepared(Struct, frozen=True):
    """Tensors for the model, and what the journal keeps.

    values: rows in feature order as the model sees them (None: missing), or {tensor name: nested list} for models
    without features. flags: what the policy let through, each once: missing, out_of_range, unseen_category. is_small:
    so few numbers and no text that nobody need measure what writing them down takes.
    """

    tensors: Tensors
    rows: int
    values: list[list[Any]] | dict[str, Any]
    flags: tuple[str, ...] = ()
    is_small: bool = False


class Contract:
    """A manifest and a policy's handling, compiled once. Immutable; safe to share."""

    def __init__(self, manifest: Manifest, handling: Inputs) -> None:
        """Raises nothing: what does not fit shows when values come."""
        self.manifest = manifest
        self.handling = handling
        inputs = {tensor.name: tensor for tensor in manifest.inputs}
        self.columns = tuple(column_of(feature, inputs[feature.input], handling) for feature in manifest.features)
        self._names = [feature.name for feature in manifest.features]
        self._known = frozenset(self._names)
        self._checks = [(c.types, *plain_range(c), c.categories) for c in self.columns]
        self._take = _taker(self._names)
        self._parts = [Part(tensor, columns_of(tensor, manifest), self.columns) for tensor in manifest.inputs]
        single = self._parts[0] if len(self._parts) == 1 else None
        in_order = single is not None and single.width == 2 and single.places == list(range(len(self._names)))
        self._only = single if in_order else None
        self._takes_one_row = any(tensor.shape[:1] == (1,) for tensor in manifest.inputs)
        has_texts = any(column.types is TEXTS for column in self.columns)
        self._small_rows = 0 if has_texts else _SMALL_CELLS // max(1, len(self.columns))
        self._lows, self._highs = bounds_of(self.columns)
        are_plain = self._lows is not None and self._only is not None and not self._takes_one_row
        self._table_range = (np.array(self._lows), np.array(self._highs)) if are_plain else None
        are_flagged = are_plain and all(column.on_range == "flag" for column in self.columns)
        self._flagged_range = widest_of(self.columns) if are_flagged else None

    def records(self, inputs: object, are_numbers: bool = False) -> Prepared:
        """A record, records, rows in feature order, or {tensor: nested list} when there are no features.

        are_numbers: they are known to be rows of numbers. Raises InvalidInput; pointers begin with `/inputs`.
        """
        if not self.columns:
            return self._named_tensors(inputs)
        if type(inputs) is dict:
            row = self._fast(inputs)
            if row is not None:
                return self._clean([row])
            return self._slow([(inputs, "/inputs")])
        if type(inputs) is not list or not inputs:
            raise refused([Fault("/inputs", "must be a record or a list of at least one record or row")])
        if not isinstance(inputs[0], (list, dict)):
            raise refused([Fault("/inputs", "one row must be a list in a list: [[...]]; or send a record by name")])
        if len(inputs) >= _MANY_ROWS and (found := self.clean([inputs], are_numbers)[0][0]) is not None:
            return found
        rows: list[list[Any]] = []
        for item in inputs:
            row = self._fast(item)
            if row is None:
                return self._slow([(item, f"/inputs/{place}") for place, item in enumerate(inputs)])
            rows.append(row)
        return self._clean(rows)

    def clean(self, many: Sequence[object], are_numbers: bool = False) -> tuple[list[Prepared | None], Tensors]:
        """What `records` makes of the inputs of several callers, all looked at together; and one table of them all.

        None in the place of inputs that need a closer look, by `records`: anything but numbers in their range, or out
        of it where the policy lets that through.
        """
        if self._only is None or self._table_range is None:
            return [None] * len(many), {}
        every = [self._rows(inputs) for inputs in many]
        rows = [row for own in every for row in own]
        if not rows:
            return [None] * len(many), {}
        try:
            table = np.array(rows, dtype=np.float64)
        except (OverflowError, TypeError, ValueError):
            return [None] * len(many), {}
        if not are_numbers and not NUMBERS.issuperset(map(type, chain.from_iterable(rows))):
            return [None] * len(many), {}
        are_good = _rows_within(table, self._table_range)
        are_let_through = None if are_good is None else self._let_through(table)
        with nullcontext() if are_good is None else np.errstate(all="ignore"):
            tensor = table.astype(self._only.dtype)
        name, small_rows = self._only.name, self._small_rows
        found: list[Prepared | None] = []
        start = 0
        for own in every:
            behind = start + len(own)
            if own and (are_good is None or all(are_good[start:behind])):
                count = behind - start
                found.append(Prepared({name: tensor[start:behind]}, count, own, (), count <= small_rows))
            elif own and are_let_through is not None and all(are_let_through[start:behind]):
                found.append(Prepared({name: tensor[start:behind]}, behind - start, own, _OUT_OF_RANGE))
            else:
                found.append(None)
            start = behind
        return found, {name: tensor}

    def _let_through(self, table: np.ndarray) -> list[bool] | None:
        """Which rows the policy flags at most; None: it does more about some column than flag."""
        if self._flagged_range is None:
            return None
        within = _rows_within(table, self._flagged_range)
        return [True] * len(table) if within is None else within

    def _rows(self, inputs: object) -> list[list[Any]]:
        """The rows of one caller by their form alone; empty when the form is not plain."""
        width = len(self._names)
        if type(inputs) is dict:
            inputs = [inputs]
        elif type(inputs) is not list:
            return []
        rows: list[list[Any]] = []
        for item in inputs:
            if type(item) is list and len(item) == width:
                rows.append(item)
            elif type(item) is dict and len(item) == width:
                try:
                    rows.append(list(self._take(item)))
                except KeyError:
                    return []
            else:
                return []
        return rows

    def tensors(self, tensors: Tensors) -> Prepared:
        """Tensors as a protocol client sent them, in any order. Raises InvalidInput; `/inputs/<place>` names a tensor.

        NaN in a tensor is a missing value that the caller wrote on purpose: it is let through and flagged.
        """
        faults = signature_faults(self.manifest.inputs, tensors)
        if faults:
            raise refused(faults)
        if not self.columns:
            height = rows_of(self.manifest.inputs, tensors)
            return Prepared(tensors, height, lists(tensors), non_finite_flags(tensors))
        heights = {len(array) for array in tensors.values()}
        if len(heights) != 1 or 0 in heights:
            raise refused([Fault("/inputs", "every tensor needs the same number of rows, at least one")])
        rows = self._rows_of_tensors(tensors, heights.pop())
        if all(part.is_clean(tensors[part.name]) for part in self._parts):
            return Prepared(tensors, len(rows), rows)
        places = {name: place for place, name in enumerate(tensors)}
        sorter = Judge(self.columns, nan_is_missing=True)
        for number, row in enumerate(rows):
            for column, value in enumerate(row):
                feature = self.columns[column].feature
                tail = f"/{feature.position}" if feature.position >= 0 else ""
                row[column] = sorter.sort(column, value, f"/inputs/{places[feature.input]}/data/{number}{tail}")
        sorter.finish()
        return self._prepared(rows, sorter.flags)

    def _fast(self, item: Any) -> list[Any] | None:
        """The row when nothing at all is wrong or noteworthy, else None."""
        if type(item) is dict:
            if len(item) != len(self._names):
                return None
            try:
                row = self._take(item)
            except KeyError:
                return None
        elif type(item) is list and len(item) == len(self._names):
            row = item
        else:
            return None
        if self._lows is not None:  # a few calls for the whole row: a third of the loop's time
            if set(map(type, row)) <= NUMBERS and all(map(le, self._lows, row)) and all(map(le, row, self._highs)):
                return list(row)
            return None
        for value, (types, low, high, categories) in zip(row, self._checks, strict=True):
            if type(value) not in types:
                return None
            if low is not None and not low <= value <= high:
                return None
            if categories is not None and value not in categories:
                return None
        return list(row)

    def _slow(self, items: Sequence[tuple[Any, str]]) -> Prepared:
        sorter = Judge(self.columns)
        rows = [self._slow_row(item, pointer, sorter) for item, pointer in items]
        sorter.finish()
        return self._prepared(rows, sorter.flags)

    def _slow_row(self, item: Any, pointer: str, sorter: Judge) -> list[Any]:
        if type(item) is dict:
            for name in item:
                if name not in self._known:
                    sorter.fault(
                        f"{pointer}/{escaped(name)}", f"is no feature of {self.manifest.model}; {self._expected()}"
                    )
            return [
                sorter.sort(column, item.get(name), f"{pointer}/{escaped(name)}")
                for column, name in enumerate(self._names)
            ]
        if type(item) is list:
            if len(item) != len(self._names):
                sorter.fault(pointer, f"has {len(item)} values, a row needs {len(self._names)}; {self._expected()}")
                return []
            return [sorter.sort(column, value, f"{pointer}/{column}") for column, value in enumerate(item)]
        sorter.fault(pointer, "must be a record (an object by feature name) or a row (a list)")
        return []

    def _expected(self) -> str:
        shown = ", ".join(self._names[:40])
        return f"features are {shown}" + (" ..." if len(self._names) > 40 else "")

    def _clean(self, rows: list[list[Any]]) -> Prepared:
        """Rows in which nothing is missing, in one call of numpy where one tensor holds them all."""
        if self._only is None or self._takes_one_row:
            return self._prepared(rows, ())
        height = len(rows)
        table = np.array(rows, dtype=self._only.dtype)
        return Prepared({self._only.name: table}, height, rows, (), height <= self._small_rows)

    def _prepared(self, rows: list[list[Any]], flags: tuple[str, ...]) -> Prepared:
        if self._takes_one_row and len(rows) != 1:
            raise refused([Fault("/inputs", f"has {len(rows)} rows; this model takes one row at a time")])
        return Prepared({part.name: self._array(part, rows) for part in self._parts}, len(rows), rows, flags)

    def _array(self, part: Part, rows: list[list[Any]]) -> np.ndarray:
        array = np.empty((len(rows), len(part.places)), dtype=part.dtype)
        for number, row in enumerate(rows):
            array[number] = [self.columns[place].absent if row[place] is None else row[place] for place in part.places]
        return array if part.width == 2 else array[:, 0]

    def _rows_of_tensors(self, tensors: Tensors, height: int) -> list[list[Any]]:
        if self._only is not None:
            table: list[list[Any]] = tensors[self._only.name].tolist()
            return table
        rows: list[list[Any]] = [[None] * len(self.columns) for _ in range(height)]
        for part in self._parts:
            for row, values in zip(rows, tensors[part.name].reshape(height, -1).tolist(), strict=True):
                for place, value in zip(part.places, values, strict=True):
                    row[place] = value
        return rows

    def _named_tensors(self, inputs: object) -> Prepared:
        """Nested lists by tensor name; shape and type come from the signature."""
        if type(inputs) is not dict:
            names = ", ".join(tensor.name for tensor in self.manifest.inputs)
            raise refused([Fault("/inputs", f"this model has no features: send an object of tensors ({names})")])
        known = {tensor.name: tensor for tensor in self.manifest.inputs}
        faults = [
            Fault(f"/inputs/{escaped(name)}", "is no input of this model") for name in inputs if name not in known
        ]
        faults += [Fault(f"/inputs/{escaped(name)}", "is missing") for name in known if name not in inputs]
        if faults:
            raise refused(faults)
        tensors: Tensors = {}
        for name, tensor in known.items():
            pointer = f"/inputs/{escaped(name)}"
            array = nested(tensor, inputs[name], pointer)
            faults += [Fault(pointer, detail) for detail in shape_faults(tensor, array.shape)]
            tensors[name] = array
        if faults:
            raise refused(faults)
        return Prepared(tensors, rows_of(self.manifest.inputs, tensors), written(inputs, tensors))


def _rows_within(table: np.ndarray, limits: tuple[np.ndarray, np.ndarray]) -> list[bool] | None:
    """Which rows lie within the limits (lowest, highest, each by column); None: all of them."""
    within: np.ndarray = (table >= limits[0]) & (table <= limits[1])
    if within.all():
        return None
    rows: list[bool] = np.logical_and.reduce(within, axis=1).tolist()
    return rows


def _taker(names: list[str]) -> Callable[[dict[str, Any]], Sequence[Any]]:
    """The values of a record in feature order. Raises KeyError."""
    if len(names) == 1:
        only = names[0]
        return lambda record: (record[only],)
    return itemgetter(*names) if names else lambda record: ()


_compiled: WeakValueDictionary[tuple[int, int], Contract] = WeakValueDictionary()


def contract_for(manifest: Manifest, handling: Inputs) -> Contract:
    """The compiled contract; the same two objects (by identity) give the same one again as long as anybody holds it."""
    key = (id(manifest), id(handling))
    kept = _compiled.get(key)
    if kept is not None and kept.manifest is manifest and kept.handling is handling:
        return kept
    contract = _compiled[key] = Contract(manifest, handling)
    return contract
