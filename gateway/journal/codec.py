"""How a record becomes bytes, and how bytes are cut into records again.

A segment is a row of frames and nothing else. Integers are little-endian:

    offset  size  field
    0       4     length     u32, bytes of the payload
    4       4     crc        u32, CRC32C (Castagnoli, RFC 3720 appendix B.4) over everything after this field
    8       8     sequence   u64, place within the spool, from 1
    16      8     time_ns    u64, nanoseconds since 1970, strictly growing within a spool
    24      n     payload    msgpack of one record, a tagged array (`gateway.journal.record`)

A length of 0 means that nothing was written here yet: segments are preallocated with zeros. Pure; knows no files.
"""

from __future__ import annotations

import struct
from typing import Any, Final, NamedTuple, cast

import google_crc32c
import msgspec

from gateway.journal.record import ControlRecord, Record, TrafficRecord

HEADER_BYTES: Final = 24
_HEADER: Final = struct.Struct("<IIQQ")
_PREFIX: Final = struct.Struct("<II")
_PLACE: Final = struct.Struct("<QQ")
_CRC_END: Final = 8
_RESYNC_RECORDS: Final = 64
"""How many damaged records in a row are stepped over before the rest of a segment is given up."""

_crc = google_crc32c.value


def _plain(value: Any) -> Any:
    """numpy arrays and scalars as lists and numbers; anything else is refused."""
    as_list = getattr(value, "tolist", None)
    if as_list is None:
        raise TypeError(f"a record can not hold a {type(value).__name__}")
    return as_list()


_ENCODER: Final = msgspec.msgpack.Encoder(enc_hook=_plain)
_TRAFFIC: Final = msgspec.msgpack.Decoder(TrafficRecord)
_CONTROL: Final = msgspec.msgpack.Decoder(ControlRecord)


class Frame(NamedTuple):
    """One whole frame: its sequence, its time, its payload, and where the next one starts in the buffer."""

    sequence: int
    time_ns: int
    payload: bytes
    end: int


def encode_record(record: Record) -> bytes:
    """The record as a payload. Raises TypeError, ValueError or OverflowError for what msgpack can not hold."""
    return _ENCODER.encode(record)


def decode_traffic(payload: bytes) -> TrafficRecord:
    """The traffic record of a payload. Raises msgspec.DecodeError."""
    return cast(TrafficRecord, _TRAFFIC.decode(payload))


def decode_control(payload: bytes) -> ControlRecord:
    """The control record of a payload. Raises msgspec.DecodeError."""
    return cast(ControlRecord, _CONTROL.decode(payload))


def encode_frame(sequence: int, time_ns: int, payload: bytes) -> bytes:
    """One frame."""
    rest = _PLACE.pack(sequence, time_ns) + payload
    return _PREFIX.pack(len(payload), _crc(rest)) + rest


def read_header(buffer: bytes, start: int) -> tuple[int, int, int] | None:
    """(length, sequence, time_ns) as they are written, unchecked. None when fewer than HEADER_BYTES are left."""
    if start + HEADER_BYTES > len(buffer):
        return None
    length, _, sequence, time_ns = _HEADER.unpack_from(buffer, start)
    return length, sequence, time_ns


def read_frame(buffer: bytes, start: int, base: int = 0) -> Frame | None:
    """The frame at `start` when it is there whole and undamaged, else None. base: added to the frame's end."""
    body = start + HEADER_BYTES
    if body > len(buffer):
        return None
    length, crc, sequence, time_ns = _HEADER.unpack_from(buffer, start)
    end = body + length
    if length == 0 or end > len(buffer) or _crc(buffer[start + _CRC_END : end]) != crc:
        return None
    return Frame(sequence, time_ns, buffer[body:end], base + end)


def find_frame(buffer: bytes, start: int, sequence: int) -> int | None:
    """Where the first whole frame with at least this sequence starts, at or behind `start`; None: there is none.

    Looks for the bytes of the sequence number, so it also finds its way where a length was damaged.
    """
    used = len(buffer.rstrip(b"\0")) + _CRC_END  # the rest of a preallocated segment is not worth a search
    for wanted in range(sequence, sequence + _RESYNC_RECORDS):
        pattern = wanted.to_bytes(8, "little")
        found = buffer.find(pattern, start + _CRC_END, used)
        while found >= 0:
            if read_frame(buffer, found - _CRC_END) is not None:
                return found - _CRC_END
            found = buffer.find(pattern, found + 1, used)
    return None
