"""Tensors cross the socket unchanged, and nonsense from the other side is refused, never run."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.execution.runner_wire import MOST_BYTES, Frames, Packed, frame, pack, unpack
from gateway.execution.tensors import DATATYPES


@pytest.mark.parametrize("datatype", [row.numpy for row in DATATYPES], ids=str)
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 2)])
def test_every_datatype_and_shape_crosses_unchanged(datatype: np.dtype[np.generic], shape: tuple[int, ...]) -> None:
    """A runner answers what an inline version would, bit for bit."""
    values = np.arange(4) % 2 if datatype.kind != "O" else np.array(["ä", "", "b\0c", "d"], dtype=np.object_)
    array = np.resize(values.astype(datatype), shape) if 0 not in shape else np.empty(shape, datatype)
    packed = msgspec.msgpack.decode(msgspec.msgpack.encode(pack({"x": array})), type=list[Packed])
    [(name, crossed)] = unpack(packed).items()
    assert (name, crossed.dtype, crossed.shape) == ("x", array.dtype, array.shape)
    assert crossed.tolist() == array.tolist()


def test_a_view_with_gaps_and_a_foreign_byte_order_cross_too() -> None:
    array = np.arange(12, dtype=">i4").reshape(3, 4)[:, ::2]
    [crossed] = unpack(pack({"x": array})).values()
    assert crossed.tolist() == array.tolist()


@pytest.mark.parametrize(
    "packed",
    [
        Packed("x", "<f4", (2,), b"1234"),
        Packed("x", "<f4", (-2,), b""),
        Packed("x", "no such", (1,), b"1"),
        Packed("x", "<c8", (1,), b"12345678"),
        Packed("x", "O", (3,), b"", ["a"]),
    ],
)
def test_nonsense_is_refused(packed: Packed) -> None:
    """The runner may have been taken over by its model."""
    with pytest.raises(ValueError, match=r"."):
        unpack([packed])


def test_what_the_table_does_not_hold_is_not_sent() -> None:
    with pytest.raises(ValueError, match="complex64"):
        pack({"x": np.zeros(1, np.complex64)})


@given(st.lists(st.binary(max_size=50), max_size=6), st.integers(1, 20))
def test_messages_come_out_whole_however_the_stream_is_cut(bodies: list[bytes], size: int) -> None:
    stream = b"".join(map(frame, bodies))
    frames = Frames()
    cut = [stream[start : start + size] for start in range(0, len(stream), size)]
    assert [msgspec.msgpack.decode(body) for part in cut for body in frames.feed(part)] == bodies


def test_a_length_that_nobody_sends_is_refused() -> None:
    with pytest.raises(ValueError, match="bytes"):
        list(Frames().feed((MOST_BYTES + 1).to_bytes(4, "big")))
