"""Tensors as raw bytes: exact both ways, checked before anything is allocated."""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import InvalidInput
from gateway.execution.binary import from_binary, from_raw, to_binary
from gateway.execution.tensors import DATATYPES, Datatype
from gateway.registry.manifest import Tensor

FIXED = [datatype for datatype in DATATYPES if datatype.name != "BYTES"]


def read(datatype: str, shape: list[int], data: bytes) -> np.ndarray:
    return from_binary(datatype, shape, memoryview(data), "/inputs/0")


def detail(datatype: str, shape: Any, data: bytes) -> str:
    with pytest.raises(InvalidInput) as caught:
        read(datatype, shape, data)
    assert caught.value.faults[0].pointer.startswith("/inputs/0")
    return caught.value.faults[0].detail


@given(st.sampled_from(FIXED), st.lists(st.integers(0, 3), max_size=3), st.data())
def test_any_bits_survive_the_way_in_and_out(datatype: Datatype, shape: list[int], data: st.DataObject) -> None:
    """NaN payloads, infinities and negative zeros too: the bytes are the value."""
    size = math.prod(shape) * datatype.numpy.itemsize
    sent = data.draw(st.binary(min_size=size, max_size=size))
    if datatype.name == "BOOL":
        sent = bytes(byte & 1 for byte in sent)
    array = read(datatype.name, shape, sent)
    assert array.dtype == datatype.numpy
    assert array.shape == tuple(shape)
    assert array.flags.aligned
    assert array.flags.writeable
    assert to_binary(array) == sent


@given(st.lists(st.text(max_size=8)))
def test_texts_survive_the_way_in_and_out(texts: list[str]) -> None:
    array = np.array([*texts, None], dtype=np.object_)[:-1]
    sent = b"".join(struct.pack("<I", len(text.encode())) + text.encode() for text in texts)
    assert to_binary(array) == sent
    assert read("BYTES", [len(texts)], sent).tolist() == texts


def test_the_bytes_are_little_endian_and_row_major() -> None:
    assert to_binary(np.array([[1, 2], [3, 256]], np.uint16)) == bytes.fromhex("0100 0200 0300 0001")
    assert to_binary(np.array([[1, 2], [3, 4]], np.int8).T) == bytes([1, 3, 2, 4])
    assert to_binary(np.array([1.0], ">f4")) == bytes.fromhex("0000803f")
    assert to_binary(np.array(1.5, np.float16)) == bytes.fromhex("003e")
    assert to_binary(np.array([True, False])) == b"\x01\x00"
    assert read("INT64", [], struct.pack("<q", -5)).item() == -5


def test_data_in_the_middle_of_a_body_is_read() -> None:
    """A tensor begins wherever the JSON before it ends, seldom at a multiple of its element size."""
    body = memoryview(b"{}x" + struct.pack("<2d", 1.0, math.inf) + b"rest")
    assert from_binary("FP64", [2], body[3:19]).tolist() == [1.0, math.inf]


@pytest.mark.parametrize(
    ("datatype", "shape", "data", "told"),
    [
        ("FP32", [2], b"\0" * 7, "7 bytes"),
        ("FP32", [2], b"\0" * 12, "needs 8"),
        ("FP32", [], b"", "needs 4"),
        ("FP32", [0], b"\0\0\0\0", "needs 0"),
        ("FP32", [2**40, 2**40], b"", "must hold at most"),
        ("FP32", [-1], b"\0\0\0\0", "0 or larger"),
        ("FP33", [1], b"\0\0\0\0", "must be one of"),
        ("BOOL", [3], b"\0\1\2", "byte 2"),
        ("BYTES", [2**40], b"\1\0\0\0a", "need more"),
        ("BYTES", [1], b"\2\0\0\0a", "element 0"),
        ("BYTES", [1], b"\xff\xff\xff\xffa", "element 0"),
        ("BYTES", [2], b"\4\0\0\0abcd", "element 1"),
        ("BYTES", [1], b"\1\0\0\0ab", "1 bytes of binary data after"),
        ("BYTES", [1], b"\1\0\0\0\xff", "not UTF-8"),
    ],
)
def test_wrong_bytes_are_refused_with_the_reason(datatype: str, shape: list[int], data: bytes, told: str) -> None:
    assert told in detail(datatype, shape, data)


@pytest.mark.parametrize(
    ("shape", "count", "solved"),
    [
        ((2, 3), 6, (2, 3)),
        ((-1, 3), 3, (1, 3)),
        ((-1, 3), 6, (2, 3)),
        ((2, -1), 6, (2, 3)),
        ((-1, -1), 6, (1, 6)),
        ((), 1, ()),
        ((-1,), 0, (0,)),
        ((0, 4), 0, (0, 4)),
    ],
)
def test_a_raw_body_takes_its_shape_from_the_signature(
    shape: tuple[int, ...], count: int, solved: tuple[int, ...]
) -> None:
    tensor = Tensor(name="x", datatype="INT16", shape=shape)
    assert from_raw(tensor, memoryview(bytes(2 * count))).shape == solved


@pytest.mark.parametrize(
    ("shape", "size"), [((2, 3), 10), ((2, 3), 13), ((4, -1), 6), ((2, -1, -1), 8), ((0, -1), 0), ((), 0)]
)
def test_a_raw_body_that_fills_no_tensor_is_refused(shape: tuple[int, ...], size: int) -> None:
    tensor = Tensor(name="x", datatype="INT16", shape=shape)
    with pytest.raises(InvalidInput, match=f"{size} raw bytes"):
        from_raw(tensor, memoryview(bytes(size)))


def test_a_raw_body_of_text_is_one_element() -> None:
    """Nothing tells where a second one would begin."""
    for shape in ((1,), (-1,), (-1, 1), ()):
        array = from_raw(Tensor(name="x", datatype="BYTES", shape=shape), memoryview("grün".encode()))
        assert array.shape == (1,) * len(shape)
        assert array.ravel().tolist() == ["grün"]
    with pytest.raises(InvalidInput, match="one text"):
        from_raw(Tensor(name="x", datatype="BYTES", shape=(2,)), memoryview(b"ab"))
