"""Frames: what is written is read, and what is damaged is noticed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.journal.codec import (
    decode_control,
    decode_traffic,
    encode_frame,
    encode_record,
    find_frame,
    read_frame,
    read_header,
)
from tests.journal.making import alert, label, prediction


def test_records_come_back_as_they_were() -> None:
    """The tag of the union names the kind, so one stream may hold several."""
    answer = prediction("a", split=((4, 500),), flags=("missing",), inputs=[["x", None, 1.5]])
    assert decode_traffic(encode_record(answer)) == answer
    assert decode_traffic(encode_record(label("a", "up", row=3))) == label("a", "up", row=3)
    assert decode_control(encode_record(alert("d"))) == alert("d")


def test_numpy_values_become_plain_ones() -> None:
    """A model's outputs reach the journal without a conversion of their own in the request path."""
    record = prediction("a", outputs={"label": np.array([1, 2]), "score": [np.float64(0.5)]})
    decoded = decode_traffic(encode_record(record))
    assert decoded == prediction("a", outputs={"label": [1, 2], "score": [0.5]})


def test_what_msgpack_can_not_hold_is_refused() -> None:
    """The tee counts on these three errors."""
    with pytest.raises(TypeError, match="object"):
        encode_record(prediction("a", inputs=object()))
    with pytest.raises((ValueError, OverflowError)):
        encode_record(prediction("a", inputs=2**70))


def test_the_frame_is_laid_out_as_documented() -> None:
    """Other programs may read segments: the check value is that of CRC32C for "123456789" behind 16 zero bytes."""
    frame = encode_frame(1, 2, b"xyz")
    assert frame[:4] == (3).to_bytes(4, "little")
    assert frame[8:] == (1).to_bytes(8, "little") + (2).to_bytes(8, "little") + b"xyz"
    assert read_header(frame, 0) == (3, 1, 2)


@given(st.binary(min_size=1, max_size=60), st.integers(0, 59 + 24), st.integers(0, 7))
def test_every_flipped_bit_is_noticed(payload: bytes, place: int, bit: int) -> None:
    """CRC32C covers everything but the length, and a wrong length covers other bytes."""
    frame = bytearray(encode_frame(5, 6, payload))
    frame[place % len(frame)] ^= 1 << bit
    assert read_frame(bytes(frame), 0) is None


@given(st.lists(st.binary(min_size=1, max_size=30), min_size=3, max_size=6), st.integers(0, 200))
def test_the_next_frame_is_found_behind_any_damage(payloads: list[bytes], noise: int) -> None:
    """Also where the length itself is wrong, so one bad byte never costs more than one record."""
    frames = [encode_frame(number, number, payload) for number, payload in enumerate(payloads, 1)]
    damaged = (noise % 256).to_bytes(1, "little") * len(frames[1])
    buffer = frames[0] + damaged + b"".join(frames[2:])
    assert find_frame(buffer, len(frames[0]) + 1, 3) == len(frames[0]) + len(frames[1])


def test_nothing_is_found_in_zeros() -> None:
    """The rest of a preallocated segment is no record."""
    assert find_frame(bytes(1000), 0, 1) is None
    assert read_frame(bytes(1000), 0) is None
