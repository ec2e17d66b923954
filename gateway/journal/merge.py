"""The one order in which the spools of a stream are read, and the offset that names a place in it.

Records are merged by (time, gateway, epoch, sequence). A reader may pass a record only when no live writer can still
write an older one; the watermark says up to when that is so. Pure: values in, values out.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import msgspec

from gateway.journal.journal import START, Offset

Spool = tuple[str, int]
"""Whose records: (gateway, epoch). One serving process has one from its start to its end."""


class Written(NamedTuple):
    """A record as it lies in a spool. Compares in merged order: no two are equal in the first four fields.

    segment, end: where reading this spool goes on behind the record.
    """

    time_ns: int
    gateway: str
    epoch: int
    sequence: int
    payload: bytes
    segment: int
    end: int


def merge(spools: Iterable[Iterator[Written]]) -> Iterator[Written]:
    """All records of the spools in merged order. Each spool comes in its own order, behind one common watermark."""
    return heapq.merge(*spools)


def watermark(live_floors: Iterable[int], listed_ns: int) -> int:
    """The time up to which every record is already there.

    live_floors: the promise of each live writer that its later records are newer than this. listed_ns: when the
    directories were listed; a spool that started since then has only newer records. A dead writer holds nothing up.
    """
    return min(listed_ns, min(live_floors, default=listed_ns))


def encode_offset(vector: Mapping[Spool, int]) -> Offset:
    """The last sequence read of each spool as an offset: equal places give equal bytes."""
    read = sorted((gateway, epoch, sequence) for (gateway, epoch), sequence in vector.items() if sequence > 0)
    return Offset(msgspec.msgpack.encode(read)) if read else START


def decode_offset(offset: Offset) -> dict[Spool, int]:
    """The last sequence read of each spool. Raises ValueError when these bytes are no offset."""
    if not offset:
        return {}
    try:
        read = msgspec.msgpack.decode(offset, type=list[tuple[str, int, int]])
    except msgspec.DecodeError as error:
        raise ValueError("these bytes are not an offset of the journal; use one that `read` gave, or START") from error
    return {(gateway, epoch): sequence for gateway, epoch, sequence in read}
