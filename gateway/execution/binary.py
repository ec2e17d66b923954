"""Tensors as raw bytes: little-endian, row-major, no padding; BOOL one byte, BYTES a 4-byte length before each element.

Bytes to arrays and back. Must not know the runtime, HTTP or policies. Nothing is allocated before the sizes are
checked. Source: Open Inference Protocol v2, binary tensor data extension.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence

import numpy as np

from gateway.errors import Fault, InvalidInput
from gateway.execution.tensors import checked_shape, datatype_named
from gateway.registry.manifest import Tensor

_LENGTH = struct.Struct("<I")


def from_binary(datatype: str, shape: Sequence[int], data: memoryview, pointer: str = "") -> np.ndarray:
    """The array of one tensor; `shape` is the truth. The array is a copy, aligned and in the machine's byte order.

    BYTES elements must be UTF-8: the runtime's strings are texts. NaN and infinite numbers are kept. Raises
    InvalidInput: `pointer` is where the tensor stands in the body, faults name `<pointer>/shape` and `<pointer>`.
    """
    known = datatype_named(datatype, pointer)
    sizes = checked_shape(shape, pointer)
    count = math.prod(sizes)
    if known.numpy.kind == "O":
        return _texts(data, count, pointer).reshape(sizes)
    if len(data) != count * known.numpy.itemsize:
        needed = f"the shape {list(sizes)} of {known.name} needs {count * known.numpy.itemsize}"
        raise _invalid(pointer, f"has {len(data)} bytes of binary data, {needed}")
    if known.numpy.kind == "b" and len(data) and np.frombuffer(data, np.uint8).max() > 1:
        place = int(np.argmax(np.frombuffer(data, np.uint8) > 1))
        raise _invalid(pointer, f"byte {place} of its binary data must be 0 or 1 (BOOL)")
    sent = np.frombuffer(data, known.numpy.newbyteorder("<")) if count else np.empty(0, known.numpy)
    return sent.astype(known.numpy, copy=True).reshape(sizes)


def to_binary(array: np.ndarray) -> bytes:
    """The bytes of one tensor. Texts are UTF-8."""
    if array.dtype.kind not in "OUS":
        return array.astype(array.dtype.newbyteorder("<"), order="C", copy=False).tobytes()
    parts: list[bytes] = []
    for element in array.ravel().tolist():
        content = element if isinstance(element, bytes) else str(element).encode()
        parts += (_LENGTH.pack(len(content)), content)
    return b"".join(parts)


def from_raw(tensor: Tensor, data: memoryview, pointer: str = "") -> np.ndarray:
    """The array of an input that came as bytes alone: the shape is the signature's, a free dimension follows the size.

    When two dimensions are free and one of them is the first, the first is 1. A BYTES input takes one element: the
    whole body, without a length before it. Raises InvalidInput naming `pointer`.
    """
    if tensor.datatype == "BYTES":
        return _one_text(tensor, data, pointer)
    count, rest = divmod(len(data), datatype_named(tensor.datatype, pointer).numpy.itemsize)
    shape = _solved(list(tensor.shape), count)
    if rest or shape is None:
        wanted = f"{tensor.datatype} {list(tensor.shape)}"
        raise _invalid(pointer, f"{len(data)} raw bytes do not fill {tensor.name}, which is {wanted}")
    return from_binary(tensor.datatype, shape, data, pointer)


def _solved(shape: list[int], count: int) -> list[int] | None:
    """The shape with its free dimensions filled so that it has `count` elements; None: there is no one way."""
    free = [place for place, size in enumerate(shape) if size < 0]
    if len(free) == 2 and free[0] == 0:
        shape[0] = 1
        del free[0]
    if len(free) > 1:
        return None
    fixed = math.prod(size for size in shape if size >= 0)
    if free:
        if not fixed or count % fixed:
            return None
        shape[free[0]] = count // fixed
    elif fixed != count:
        return None
    return shape


def _one_text(tensor: Tensor, data: memoryview, pointer: str) -> np.ndarray:
    if any(size not in (1, -1) for size in tensor.shape):
        raise _invalid(pointer, f"a raw body is one text, {tensor.name} has the shape {list(tensor.shape)}")
    array = np.empty(1, np.object_)
    array[0] = _decoded(data, 0, pointer)
    return array.reshape([1] * len(tensor.shape))


def _texts(data: memoryview, count: int, pointer: str) -> np.ndarray:
    if count * _LENGTH.size > len(data):
        raise _invalid(pointer, f"has {len(data)} bytes of binary data, {count} BYTES elements need more")
    array = np.empty(count, np.object_)
    for place, element in enumerate(_elements(data, count, pointer)):
        array[place] = _decoded(element, place, pointer)
    return array


def _elements(data: memoryview, count: int, pointer: str) -> Iterator[memoryview]:
    start = 0
    for place in range(count):
        begin = start + _LENGTH.size
        end = begin + _LENGTH.unpack_from(data, start)[0] if begin <= len(data) else begin
        if end > len(data):
            raise _invalid(pointer, f"element {place} of its binary data is longer than the data")
        yield data[begin:end]
        start = end
    if start != len(data):
        raise _invalid(pointer, f"has {len(data) - start} bytes of binary data after its last element")


def _decoded(element: memoryview, place: int, pointer: str) -> str:
    try:
        return str(element, "utf-8")
    except UnicodeDecodeError:
        raise _invalid(pointer, f"element {place} of its binary data is not UTF-8") from None


def _invalid(pointer: str, detail: str) -> InvalidInput:
    return InvalidInput(f"{pointer} {detail}".strip(), [Fault(pointer, detail)])
