"""Tensors as numpy arrays, and the one table of their datatypes: protocol name, numpy, runtime.

JSON to arrays and back. Must not know the runtime, HTTP or policies. Datatype names and the two legal forms of `data`
(flat or nested): Open Inference Protocol v2, "Tensor Data".
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from gateway.errors import Fault, InvalidInput
from gateway.registry.manifest import Manifest, Tensor

Tensors = dict[str, np.ndarray]

MOST_FAULTS = 20
"""How many wrong places one error names at most."""
MOST_DIMENSIONS = 16
MOST_ELEMENTS = 2**56
"""More than any body holds; every array of so many has sizes and offsets that fit 64 bits."""
_SMALL = 64


class Datatype(NamedTuple):
    """One row of the table. runtime: the type as the ONNX runtime writes it."""

    name: str
    numpy: np.dtype[Any]
    runtime: str

    @property
    def is_float(self) -> bool:
        """True for numbers that may have a fraction."""
        return self.numpy.kind == "f"

    @property
    def is_integer(self) -> bool:
        """True for whole numbers."""
        return self.numpy.kind in "iu"


DATATYPES: tuple[Datatype, ...] = (
    Datatype("BOOL", np.dtype(np.bool_), "tensor(bool)"),
    Datatype("UINT8", np.dtype(np.uint8), "tensor(uint8)"),
    Datatype("UINT16", np.dtype(np.uint16), "tensor(uint16)"),
    Datatype("UINT32", np.dtype(np.uint32), "tensor(uint32)"),
    Datatype("UINT64", np.dtype(np.uint64), "tensor(uint64)"),
    Datatype("INT8", np.dtype(np.int8), "tensor(int8)"),
    Datatype("INT16", np.dtype(np.int16), "tensor(int16)"),
    Datatype("INT32", np.dtype(np.int32), "tensor(int32)"),
    Datatype("INT64", np.dtype(np.int64), "tensor(int64)"),
    Datatype("FP16", np.dtype(np.float16), "tensor(float16)"),
    Datatype("FP32", np.dtype(np.float32), "tensor(float)"),
    Datatype("FP64", np.dtype(np.float64), "tensor(double)"),
    Datatype("BYTES", np.dtype(np.object_), "tensor(string)"),
)
BY_NAME: Mapping[str, Datatype] = {datatype.name: datatype for datatype in DATATYPES}
BY_RUNTIME: Mapping[str, Datatype] = {datatype.runtime: datatype for datatype in DATATYPES}
BY_NUMPY: Mapping[np.dtype[Any], Datatype] = {datatype.numpy: datatype for datatype in DATATYPES}

_ALLOWED_TYPES: Mapping[str, frozenset[type]] = {
    "b": frozenset({bool}),
    "i": frozenset({int}),
    "u": frozenset({int}),
    "f": frozenset({int, float}),
    "O": frozenset({str}),
}
_TYPE_WORDS = {"b": "true or false", "i": "a whole number", "u": "a whole number", "f": "a number", "O": "a text"}


def to_json(outputs: Tensors) -> tuple[dict[str, list[Any]], int]:
    """Lists, rows first, and how many numbers were not finite: each of those is None.

    A tensor without dimensions becomes a list of one value.
    """
    lists: dict[str, list[Any]] = {}
    non_finite = 0
    for name, array in outputs.items():
        values = array.tolist() if array.ndim else [array.item()]
        if array.dtype.kind == "f" and not _all_finite(array, values):
            non_finite += int(array.size - np.isfinite(array).sum())
            values = without_non_finite(array).reshape(array.shape or (1,)).tolist()
        lists[name] = values
    return lists, non_finite


def without_non_finite(array: np.ndarray) -> np.ndarray:
    """The array itself, or, when it holds NaN or infinite numbers, an array of objects with None in their places."""
    if array.dtype.kind != "f" or np.isfinite(array).all():
        return array
    objects = array.astype(np.object_)
    objects[~np.isfinite(array)] = None
    return objects


def _all_finite(array: np.ndarray, values: list[Any]) -> bool:
    if array.ndim <= 2 and array.size <= _SMALL:  # a loop is faster than numpy's call on the few numbers of one row
        isfinite = math.isfinite
        if array.ndim == 2:
            return all(isfinite(value) for row in values for value in row)
        return all(map(isfinite, values))
    return bool(np.isfinite(array).all())


def from_json(datatype: str, shape: Sequence[int], data: Any, pointer: str = "") -> np.ndarray:
    """The array of one JSON tensor; `data` is flat or nested, `shape` is the truth.

    FP16 is read from numbers and rounded. The number of elements is checked before anything is allocated. Raises
    InvalidInput: `pointer` is where the tensor stands in the body, faults name `<pointer>/shape` and
    `<pointer>/data/...`.
    """
    known = datatype_named(datatype, pointer)
    sizes = checked_shape(shape, pointer)
    flat, is_nested = _flatten(data, sizes, f"{pointer}/data")
    places = sizes if is_nested or not isinstance(data, list) else (len(flat),)
    _check_types(known, flat, places, f"{pointer}/data")
    array = _fill(known, flat, places, f"{pointer}/data")
    return array.reshape(sizes)


def datatype_named(name: str, pointer: str = "") -> Datatype:
    """The row of the table. Raises InvalidInput naming `<pointer>/datatype`."""
    known = BY_NAME.get(str(name))
    if known is None:
        raise _invalid(f"{pointer}/datatype", f"must be one of {', '.join(BY_NAME)}")
    return known


def checked_shape(shape: Sequence[int], pointer: str = "") -> tuple[int, ...]:
    """The sizes as sent. Raises InvalidInput naming `<pointer>/shape`: negative, not whole, too many or too large."""
    if not isinstance(shape, (list, tuple)) or len(shape) > MOST_DIMENSIONS:
        raise _invalid(f"{pointer}/shape", f"must be a list of at most {MOST_DIMENSIONS} whole numbers")
    for place, size in enumerate(shape):
        if type(size) is not int or size < 0:
            raise _invalid(f"{pointer}/shape/{place}", "must be a whole number, 0 or larger")
    # Also beside a size of 0: numpy multiplies the others, and a number of 9,000 digits can not even be shown.
    if math.prod(size for size in shape if size) > MOST_ELEMENTS:
        raise _invalid(f"{pointer}/shape", f"must hold at most {MOST_ELEMENTS} elements, sizes of 0 left out")
    return tuple(shape)


def _flatten(data: Any, sizes: tuple[int, ...], pointer: str) -> tuple[list[Any], bool]:
    """The elements in row-major order, and whether they came nested."""
    count = math.prod(sizes)
    if not sizes and not isinstance(data, list):
        return [data], False
    if not isinstance(data, list):
        raise _invalid(pointer, "must be a list, flat or nested")
    is_nested = len(sizes) > 1 and list in map(type, data)
    if not is_nested:
        if len(data) != count and not (count == 0 and all(item == [] for item in data)):
            raise _invalid(pointer, f"has {len(data)} elements, the shape {list(sizes)} needs {count}")
        return (data if count else []), False
    level: list[Any] = [data]
    for depth, size in enumerate(sizes):
        for place, item in enumerate(level):
            if not isinstance(item, list) or len(item) != size:
                where = pointer + _path(place, sizes[:depth])
                raise _invalid(where, f"must be a list of {size}: the shape is {list(sizes)}")
        level = [element for item in level for element in item]
    return level, True


def _check_types(datatype: Datatype, flat: list[Any], places: tuple[int, ...], pointer: str) -> None:
    allowed = _ALLOWED_TYPES[datatype.numpy.kind]
    if set(map(type, flat)) <= allowed:
        return
    word = _TYPE_WORDS[datatype.numpy.kind]
    wrong = (place for place, value in enumerate(flat) if type(value) not in allowed)
    raise _wrong_elements(wrong, places, pointer, f"must be {word} ({datatype.name})")


def _fill(datatype: Datatype, flat: list[Any], places: tuple[int, ...], pointer: str) -> np.ndarray:
    if datatype.is_integer:
        limits = np.iinfo(datatype.numpy)
        if flat and not (limits.min <= min(flat) and max(flat) <= limits.max):
            wrong = (place for place, value in enumerate(flat) if not limits.min <= value <= limits.max)
            raise _wrong_elements(wrong, places, pointer, f"must be {limits.min} to {limits.max} ({datatype.name})")
    if datatype.is_float and flat:
        most = float(np.finfo(datatype.numpy).max)
        if not (-most <= min(flat) and max(flat) <= most) or any(map(math.isnan, flat)):
            wrong = (place for place, value in enumerate(flat) if not -most <= value <= most)
            raise _wrong_elements(wrong, places, pointer, f"must be a finite number within {datatype.name}")
    array = np.empty(len(flat), dtype=datatype.numpy)
    array[:] = flat
    return array


def _wrong_elements(wrong: Iterable[int], places: tuple[int, ...], pointer: str, detail: str) -> InvalidInput:
    faults = [
        Fault(pointer + _path(place, places), detail) for place, _ in zip(wrong, range(MOST_FAULTS), strict=False)
    ]
    return InvalidInput(f"{faults[0].pointer} {detail}", faults)


def _path(place: int, sizes: tuple[int, ...]) -> str:
    """The pointer of one element of a nested list, `/0/3`."""
    parts: list[int] = []
    for size in reversed(sizes):
        parts.append(place % size)
        place //= size
    return "".join(f"/{part}" for part in reversed(parts))


def _invalid(pointer: str, detail: str) -> InvalidInput:
    return InvalidInput(f"{pointer} {detail}", [Fault(pointer, detail)])


def shape_of(data: Any) -> tuple[int, ...]:
    """The shape of a nested list, read along its first elements; at most MOST_DIMENSIONS deep."""
    sizes: list[int] = []
    while isinstance(data, list) and len(sizes) < MOST_DIMENSIONS:
        sizes.append(len(data))
        data = data[0] if data else None
    return tuple(sizes)


def from_rows(rows: Sequence[Sequence[Any]], manifest: Manifest) -> Tensors:
    """The input tensors of rows in feature order that are known to be right; None becomes NaN or an empty text.

    Raises ValueError or TypeError when they are not. Values from outside go through `gateway.execution.contract`.
    """
    tensors: Tensors = {}
    for tensor in manifest.inputs:
        places = columns_of(tensor, manifest)
        datatype = BY_NAME[tensor.datatype].numpy
        absent: Any = "" if datatype.kind == "O" else math.nan if datatype.kind == "f" else None
        array = np.empty((len(rows), len(places)), dtype=datatype)
        for number, row in enumerate(rows):
            array[number] = [absent if row[place] is None else row[place] for place in places]
        tensors[tensor.name] = array if len(tensor.shape) == 2 else array[:, 0]
    return tensors


def columns_of(tensor: Tensor, manifest: Manifest) -> list[int]:
    """Which features, by place in the manifest, fill the columns of this input, in column order."""
    features = [(f.position, place) for place, f in enumerate(manifest.features) if f.input == tensor.name]
    return [place for _, place in sorted(features)]


def from_example(manifest: Manifest) -> Tensors:
    """The input tensors of the publisher's example; empty when there is none. Raises InvalidInput."""
    return {
        one.name: from_json(one.datatype, one.shape, one.data, f"/example/{number}")
        for number, one in enumerate(manifest.example)
    }


def made_up(manifest: Manifest, rows: int, fill: float) -> Tensors:
    """Tensors of one value: `fill` in every number, no letters in every text.

    Free first dimensions get `rows`, other free ones 1.
    """
    tensors: Tensors = {}
    for tensor in manifest.inputs:
        sizes = [size if size >= 0 else rows if place == 0 else 1 for place, size in enumerate(tensor.shape)]
        datatype = BY_NAME[tensor.datatype].numpy
        value: Any = "" if datatype.kind == "O" else fill
        tensors[tensor.name] = np.full(sizes, value, dtype=datatype)
    return tensors
