"""The contract at the door: what a caller sent becomes tensors, or a list of the places that are wrong.

Pure: values in, values out. Knows the manifest (names, order, types, ranges, categories) and the policy's `inputs`
(reject, clip or flag), never the model. One record without faults is the hot path: its values are checked in one loop,
and everything that can go wrong is sorted out afterwards by the slow path, which alone knows how to say it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from operator import itemgetter, le
from typing import Any

import numpy as np
from msgspec import Struct

from gateway.documents.policy import FieldHandling, Inputs
from gateway.errors import Fault, InvalidInput
from gateway.execution.tensors import (
    BY_NAME,
    BY_NUMPY,
    MOST_FAULTS,
    Datatype,
    Tensors,
    columns_of,
    from_json,
    shape_of,
    without_non_finite,
)
from gateway.registry.manifest import Feature, Manifest, Tensor

_SMALL_CELLS = 64
_NUMBERS = frozenset({int, float})
_WHOLE_NUMBERS = frozenset({int})
_TEXTS = frozenset({str})
_TRUTHS = frozenset({bool})
_WHOLE = 2.0**63
"""Whole numbers beyond it are kept as floating point: a journal record holds 64-bit integers only."""


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


class Contract:
    """A manifest and a policy's handling, compiled once. Immutable; safe to share."""

    def __init__(self, manifest: Manifest, handling: Inputs) -> None:
        """Raises nothing: what does not fit shows when values come."""
        self.manifest = manifest
        inputs = {tensor.name: tensor for tensor in manifest.inputs}
        self.columns = tuple(_column(feature, inputs[feature.input], handling) for feature in manifest.features)
        self._names = [feature.name for feature in manifest.features]
        self._known = frozenset(self._names)
        self._checks = [(c.types, *_plain_range(c), c.categories) for c in self.columns]
        self._take = _taker(self._names)
        self._parts = [_Part(tensor, columns_of(tensor, manifest), self.columns) for tensor in manifest.inputs]
        single = self._parts[0] if len(self._parts) == 1 else None
        in_order = single is not None and single.width == 2 and single.places == list(range(len(self._names)))
        self._only = single if in_order else None
        self._takes_one_row = any(tensor.shape[:1] == (1,) for tensor in manifest.inputs)
        has_texts = any(column.types is _TEXTS for column in self.columns)
        self._small_rows = 0 if has_texts else _SMALL_CELLS // max(1, len(self.columns))
        self._lows, self._highs = _bounds(self.columns)

    def records(self, inputs: object) -> Prepared:
        """A record, records, rows in feature order, or {tensor: nested list} when there are no features.

        Raises InvalidInput; pointers begin with `/inputs`.
        """
        if not self.columns:
            return self._named_tensors(inputs)
        if type(inputs) is dict:
            row = self._fast(inputs)
            if row is not None:
                return self._clean([row])
            return self._slow([(inputs, "/inputs")])
        if type(inputs) is not list or not inputs:
            raise _refused([Fault("/inputs", "must be a record or a list of at least one record or row")])
        if not isinstance(inputs[0], (list, dict)):
            raise _refused([Fault("/inputs", "one row must be a list in a list: [[...]]; or send a record by name")])
        rows: list[list[Any]] = []
        for item in inputs:
            row = self._fast(item)
            if row is None:
                return self._slow([(item, f"/inputs/{place}") for place, item in enumerate(inputs)])
            rows.append(row)
        return self._clean(rows)

    def tensors(self, tensors: Tensors) -> Prepared:
        """Tensors as a protocol client sent them, in any order. Raises InvalidInput; `/inputs/<place>` names a tensor.

        NaN in a tensor is a missing value that the caller wrote on purpose: it is let through and flagged.
        """
        faults = _signature_faults(self.manifest.inputs, tensors)
        if faults:
            raise _refused(faults)
        if not self.columns:
            height = _rows_of(self.manifest.inputs, tensors)
            return Prepared(tensors, height, _lists(tensors), _non_finite_flags(tensors))
        heights = {len(array) for array in tensors.values()}
        if len(heights) != 1 or 0 in heights:
            raise _refused([Fault("/inputs", "every tensor needs the same number of rows, at least one")])
        rows = self._rows_of_tensors(tensors, heights.pop())
        if all(part.is_clean(tensors[part.name]) for part in self._parts):
            return Prepared(tensors, len(rows), rows)
        places = {name: place for place, name in enumerate(tensors)}
        sorter = _Sorter(self.columns, nan_is_missing=True)
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
            if set(map(type, row)) <= _NUMBERS and all(map(le, self._lows, row)) and all(map(le, row, self._highs)):
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
        sorter = _Sorter(self.columns)
        rows = [self._slow_row(item, pointer, sorter) for item, pointer in items]
        sorter.finish()
        return self._prepared(rows, sorter.flags)

    def _slow_row(self, item: Any, pointer: str, sorter: _Sorter) -> list[Any]:
        if type(item) is dict:
            for name in item:
                if name not in self._known:
                    sorter.fault(
                        f"{pointer}/{_escaped(name)}", f"is no feature of {self.manifest.model}; {self._expected()}"
                    )
            return [
                sorter.sort(column, item.get(name), f"{pointer}/{_escaped(name)}")
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
            raise _refused([Fault("/inputs", f"has {len(rows)} rows; this model takes one row at a time")])
        return Prepared({part.name: self._array(part, rows) for part in self._parts}, len(rows), rows, flags)

    def _array(self, part: _Part, rows: list[list[Any]]) -> np.ndarray:
        array = np.empty((len(rows), len(part.places)), dtype=part.dtype)
        for number, row in enumerate(rows):
            array[number] = [self.columns[place].absent if row[place] is None else row[place] for place in part.places]
        return array if part.width == 2 else array[:, 0]

    def _rows_of_tensors(self, tensors: Tensors, height: int) -> list[list[Any]]:
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
            raise _refused([Fault("/inputs", f"this model has no features: send an object of tensors ({names})")])
        known = {tensor.name: tensor for tensor in self.manifest.inputs}
        faults = [
            Fault(f"/inputs/{_escaped(name)}", "is no input of this model") for name in inputs if name not in known
        ]
        faults += [Fault(f"/inputs/{_escaped(name)}", "is missing") for name in known if name not in inputs]
        if faults:
            raise _refused(faults)
        tensors: Tensors = {}
        for name, tensor in known.items():
            pointer = f"/inputs/{_escaped(name)}"
            array = _nested(tensor, inputs[name], pointer)
            faults += [Fault(pointer, detail) for detail in _shape_faults(tensor, array.shape)]
            tensors[name] = array
        if faults:
            raise _refused(faults)
        return Prepared(tensors, _rows_of(self.manifest.inputs, tensors), _written(inputs, tensors))


def _bounds(columns: Sequence[Column]) -> tuple[list[float] | None, list[float]]:
    """Lower and upper ends of all columns where each takes any number and nothing else; else None."""
    lows = [column.low for column in columns if column.low is not None]
    highs = [column.high for column in columns if column.high is not None]
    are_numbers = all(column.types is _NUMBERS and column.categories is None for column in columns)
    return (lows if are_numbers and len(lows) == len(highs) == len(columns) else None), highs


class _Part:
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


class _Sorter:
    """Judges single values by the contract; collects faults and flags."""

    def __init__(self, columns: Sequence[Column], *, nan_is_missing: bool = False) -> None:
        self._columns = columns
        self._nan_is_missing = nan_is_missing
        self._faults: list[Fault] = []
        self._flags: dict[str, None] = {}

    @property
    def flags(self) -> tuple[str, ...]:
        return tuple(self._flags)

    def fault(self, pointer: str, detail: str) -> None:
        self._faults.append(Fault(pointer, detail))
        if len(self._faults) >= MOST_FAULTS:
            self.finish()

    def finish(self) -> None:
        """Raise InvalidInput when there are faults."""
        if self._faults:
            raise _refused(self._faults)

    def sort(self, place: int, value: Any, pointer: str) -> Any:
        """The value the model gets. None: missing and let through."""
        column = self._columns[place]
        if value is None:
            return self._missing(column, pointer, column.on_missing)
        if type(value) not in column.types and not (column.is_integer and type(value) is float and value.is_integer()):
            self.fault(pointer, f"must be {_word(column)}, not {_shown(value)}")
            return None
        if isinstance(value, float) and not math.isfinite(value):
            return self._non_finite(column, value, pointer)
        if column.is_integer and type(value) is float:
            value = int(value)
        judged = self._in_range(column, self._known_category(column, value, pointer), pointer)
        return float(judged) if type(judged) is int and not column.is_integer and abs(judged) >= _WHOLE else judged

    def _missing(self, column: Column, pointer: str, handling: FieldHandling) -> Any:
        if column.absent is None:
            self.fault(pointer, f"is missing; it must be {_word(column)}")
        elif column.feature.may_be_missing:
            return None
        elif handling == "reject":
            self.fault(pointer, "is missing")
        else:  # nothing to clip to: clip is flag
            self._flags["missing"] = None
        return None

    def _non_finite(self, column: Column, value: float, pointer: str) -> Any:
        if math.isnan(value) and self._nan_is_missing:
            return self._missing(column, pointer, "flag")
        if self._nan_is_missing:  # an infinite number in a binary tensor: exact, and outside every range
            return self._outside(column, value, pointer)
        self.fault(pointer, "must be a finite number")
        return None

    def _known_category(self, column: Column, value: Any, pointer: str) -> Any:
        if column.categories is not None and value not in column.categories:
            if column.on_unseen == "reject":
                self.fault(pointer, f"{_shown(value)} is not one of the known categories")
            else:  # nothing to clip to: clip is flag
                self._flags["unseen_category"] = None
        return value

    def _in_range(self, column: Column, value: Any, pointer: str) -> Any:
        if column.low is None or column.high is None or column.low <= value <= column.high:
            return value
        return self._outside(column, value, pointer)

    def _outside(self, column: Column, value: Any, pointer: str) -> Any:
        low, high = column.low, column.high
        if low is None or high is None:
            return value
        if column.on_range == "reject":
            self.fault(pointer, f"{_shown(value)} is outside {_range(low, high)}")
            return None
        if column.on_range == "clip":
            self._flags["out_of_range"] = None
            return min(max(value, low), high)
        if not column.bound_low <= value <= column.bound_high and not self._nan_is_missing:
            self.fault(pointer, f"is too large for {_word(column)} here")
            return None
        self._flags["out_of_range"] = None
        return value


def _column(feature: Feature, tensor: Tensor, handling: Inputs) -> Column:
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
        return Column(types=_TEXTS, absent="", **shared)
    if datatype.numpy.kind == "b":
        return Column(types=_TRUTHS, **shared)
    limits: Any = np.finfo(datatype.numpy) if datatype.is_float else np.iinfo(datatype.numpy)
    if datatype.is_integer:
        least, most = int(limits.min), int(limits.max)
        low = least if feature.low is None else max(math.ceil(feature.low), least)
        high = most if feature.high is None else min(math.floor(feature.high), most)
        return Column(
            types=_WHOLE_NUMBERS, is_integer=True, low=low, high=high, bound_low=least, bound_high=most, **shared
        )
    smallest, largest = float(limits.min), float(limits.max)
    return Column(
        types=_NUMBERS,
        low=smallest if feature.low is None else _rounded(feature.low, datatype, min),
        high=largest if feature.high is None else _rounded(feature.high, datatype, max),
        bound_low=smallest,
        bound_high=largest,
        absent=math.nan,
        **shared,
    )


def _plain_range(column: Column) -> tuple[float | None, float | None]:
    """The range in which a value needs no second look."""
    if column.low is None or column.high is None or column.is_integer:
        return column.low, column.high
    return max(column.low, -_WHOLE), min(column.high, math.nextafter(_WHOLE, 0.0))


def _rounded(limit: float, datatype: Datatype, outer: Callable[[float, float], float]) -> float:
    """The limit as the datatype holds it, if that is wider: 0.7 is inside a range that begins at 0.7 in FP32 too."""
    bound = float(np.finfo(datatype.numpy).max)
    return outer(limit, float(datatype.numpy.type(limit))) if -bound <= limit <= bound else math.copysign(bound, limit)


def _taker(names: list[str]) -> Callable[[dict[str, Any]], Sequence[Any]]:
    """The values of a record in feature order. Raises KeyError."""
    if len(names) == 1:
        only = names[0]
        return lambda record: (record[only],)
    return itemgetter(*names) if names else lambda record: ()


def _signature_faults(inputs: Sequence[Tensor], tensors: Tensors) -> list[Fault]:
    known = {tensor.name: tensor for tensor in inputs}
    faults: list[Fault] = []
    for place, (name, array) in enumerate(tensors.items()):
        pointer = f"/inputs/{place}"
        tensor = known.get(name)
        datatype = BY_NUMPY.get(array.dtype)
        if tensor is None:
            faults.append(Fault(f"{pointer}/name", f"is no input of this model; inputs are {', '.join(known)}"))
        elif datatype is None or datatype.name != tensor.datatype:
            faults.append(Fault(f"{pointer}/datatype", f"{name} takes {tensor.datatype}"))
        else:
            faults += [Fault(f"{pointer}/shape", detail) for detail in _shape_faults(tensor, array.shape)]
    faults += [Fault("/inputs", f"{name} is missing") for name in known if name not in tensors]
    return faults[:MOST_FAULTS]


def _shape_faults(tensor: Tensor, shape: tuple[int, ...]) -> list[str]:
    fits = len(shape) == len(tensor.shape) and all(
        wanted in (-1, size) for wanted, size in zip(tensor.shape, shape, strict=True)
    )
    return [] if fits else [f"{tensor.name} has shape {list(shape)}, the model takes {list(tensor.shape)} (-1 is free)"]


def _nested(tensor: Tensor, data: Any, pointer: str) -> np.ndarray:
    shape = shape_of(data)
    if len(shape) != len(tensor.shape):
        detail = f"is {len(shape)} lists deep, the model takes {len(tensor.shape)}: shape {list(tensor.shape)}"
        raise _refused([Fault(pointer, detail)])
    try:
        return from_json(tensor.datatype, shape, data, pointer)
    except InvalidInput as error:  # there is no `data` member in this body
        start = f"{pointer}/data"
        raise _refused([Fault(pointer + f.pointer.removeprefix(start), f.detail) for f in error.faults]) from error


def _rows_of(inputs: Sequence[Tensor], tensors: Tensors) -> int:
    """The common free first dimension; 1 when there is none."""
    heights = {tensors[tensor.name].shape[0] if tensor.shape[:1] == (-1,) else None for tensor in inputs}
    height = heights.pop() if len(heights) == 1 else None
    return 1 if height is None else height


def _lists(tensors: Tensors) -> dict[str, Any]:
    """Nested lists for the journal; numbers that are not finite are None."""
    return {name: without_non_finite(array).tolist() for name, array in tensors.items()}


def _non_finite_flags(tensors: Tensors) -> tuple[str, ...]:
    """What the data of inputs without features lacks: NaN is missing, an infinite number is outside every range."""
    floats = [array for array in tensors.values() if array.dtype.kind == "f" and not np.isfinite(array).all()]
    flags = {"missing": np.isnan, "out_of_range": np.isinf}
    return tuple(flag for flag, is_such in flags.items() if any(is_such(array).any() for array in floats))


def _written(inputs: dict[str, Any], tensors: Tensors) -> dict[str, Any]:
    """The caller's own lists for the journal; of a tensor with whole numbers that it can not hold, the tensor's."""
    huge = {name: a for name, a in tensors.items() if a.dtype.kind == "f" and (np.abs(a) >= _WHOLE).any()}
    return dict(inputs) | _lists(huge)


def _refused(faults: Sequence[Fault]) -> InvalidInput:
    shown = list(faults[:MOST_FAULTS])
    more = "" if len(faults) == 1 else f" (and {len(faults) - 1} more)"
    return InvalidInput(f"{shown[0].pointer} {shown[0].detail}{more}", shown)


def _escaped(name: str) -> str:
    """RFC 6901 section 3; long names are cut."""
    return str(name)[:200].replace("~", "~0").replace("/", "~1")


def _word(column: Column) -> str:
    if column.types is _TEXTS:
        return "a text"
    if column.types is _TRUTHS:
        return "true or false"
    return "a whole number" if column.is_integer else "a number"


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"the text {value[:40]!r}"
    if isinstance(value, (list, dict)):
        return "a list" if isinstance(value, list) else "an object"
    return str(value)[:40] if not isinstance(value, int) or abs(value) < 10**40 else "a very large number"


def _range(low: float, high: float) -> str:
    return f"{low:g} to {high:g}"


_compiled: dict[tuple[int, int], tuple[Manifest, Inputs, Contract]] = {}
_MOST_COMPILED = 256


def contract_for(manifest: Manifest, handling: Inputs) -> Contract:
    """The compiled contract; the same two objects (by identity) give the same one again, from a bounded memo."""
    key = (id(manifest), id(handling))
    kept = _compiled.get(key)
    if kept is not None and kept[0] is manifest and kept[1] is handling:
        return kept[2]
    contract = Contract(manifest, handling)
    if len(_compiled) >= _MOST_COMPILED:
        _compiled.clear()
    _compiled[key] = (manifest, handling, contract)
    return contract


def prepare_records(inputs: object, manifest: Manifest, handling: Inputs) -> Prepared:
    """`inputs` of `POST /predict` as tensors, see `Contract.records`. Raises InvalidInput."""
    return contract_for(manifest, handling).records(inputs)


def prepare_tensors(tensors: Tensors, manifest: Manifest, handling: Inputs) -> Prepared:
    """Tensors of a protocol client, checked and handled as the policy says, see `Contract.tensors`."""
    return contract_for(manifest, handling).tensors(tensors)
