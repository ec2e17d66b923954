"""A stream in memory: the port `gateway.journal.journal`, and the writer behind its tees.

All writers share one list and one strictly growing time, so the list is in merged order as it is.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

import msgspec

from gateway import metrics
from gateway.clock import Clock
from gateway.journal.journal import Batch, Offset
from gateway.journal.merge import decode_offset, encode_offset
from gateway.journal.record import Entry, Place
from gateway.names import model_name

R_co = TypeVar("R_co", covariant=True)
_STREAM = ("memory", 1)


class _Stored(NamedTuple):
    time_ns: int
    place: Place
    payload: bytes


class MemoryStream:
    """The records of one stream, and who waits for more."""

    def __init__(self, name: str, clock: Clock) -> None:
        self.name = name
        self.records: list[_Stored] = []
        self.trimmed = 0
        self._clock = clock
        self._newest = 0
        self._epochs: dict[str, int] = {}
        self._waiting: set[asyncio.Event] = set()

    @property
    def length(self) -> int:
        """How many records were ever written."""
        return self.trimmed + len(self.records)

    def next_epoch(self, gateway: str) -> int:
        """The number of this start of the gateway."""
        self._epochs[gateway] = self._epochs.get(gateway, 0) + 1
        return self._epochs[gateway]

    def add(self, places: Sequence[Place], payloads: Sequence[bytes]) -> None:
        """Append the records with times of their own."""
        for place, payload in zip(places, payloads, strict=True):
            self._newest = max(int(self._clock.now() * 1e9), self._newest + 1)
            self.records.append(_Stored(self._newest, place, payload))
        for event in self._waiting:
            event.set()

    async def wait(self, length: int, timeout_seconds: float) -> None:
        """Return when there are more than `length` records, or after the time-out."""
        if self.length > length:
            return
        event = asyncio.Event()
        self._waiting.add(event)
        try:
            await asyncio.wait_for(event.wait(), timeout_seconds)
        except TimeoutError:
            return
        finally:
            self._waiting.discard(event)


class MemoryWriter:
    """A tee's writer into a stream in memory."""

    def __init__(self, stream: MemoryStream, gateway: str) -> None:
        self.stream = stream.name
        self.written = self.written_bytes = self.dropped = 0
        self._into = stream
        self._gateway = str(model_name(gateway))
        self._epoch = stream.next_epoch(gateway)
        self._is_open = True

    def append(self, payloads: Sequence[bytes]) -> bool:
        """See `Writer`."""
        if not self._is_open:
            self.dropped += len(payloads)
            return False
        numbers = range(self.written + 1, self.written + len(payloads) + 1)
        self._into.add([Place(self._gateway, self._epoch, number) for number in numbers], payloads)
        self.written += len(payloads)
        self.written_bytes += sum(map(len, payloads))
        return True

    def tick(self) -> None:
        """See `Writer`."""

    def sync(self) -> bool:
        """See `Writer`."""
        return True

    def close(self) -> None:
        """See `Writer`."""
        self._is_open = False


class MemoryJournal(Generic[R_co]):
    """See `Journal`."""

    def __init__(self, stream: MemoryStream, decode: Callable[[bytes], R_co]) -> None:
        self._stream = stream
        self._decode = decode
        self.damaged = 0

    async def read(self, after: Offset, limit: int) -> Batch[R_co]:
        """See `Journal`."""
        start = self._index(after)
        stored = self._stream.records[start : start + limit]
        entries = [entry for one in stored if (entry := self._entry(one)) is not None]
        return Batch(entries, self._offset(start + len(stored)) if stored else after)

    async def wait(self, after: Offset, timeout_seconds: float) -> None:
        """See `Journal`."""
        await self._stream.wait(self._stream.trimmed + self._index(after), timeout_seconds)

    async def seek(self, time_ns: int) -> Offset:
        """See `Journal`."""
        return self._offset(bisect_left(self._stream.records, time_ns, key=lambda one: one.time_ns))

    async def end(self) -> Offset:
        """See `Journal`."""
        return self._offset(len(self._stream.records))

    async def lag_seconds(self, after: Offset) -> float:
        """See `Journal`."""
        unread = self._stream.records[self._index(after) :]
        return (unread[-1].time_ns - unread[0].time_ns) / 1e9 if unread else 0.0

    async def trim(self, before: Offset) -> None:
        """See `Journal`."""
        upto = self._index(before)
        del self._stream.records[:upto]
        self._stream.trimmed += upto

    def _index(self, after: Offset) -> int:
        return max(0, decode_offset(after).get(_STREAM, 0) - self._stream.trimmed)

    def _offset(self, index: int) -> Offset:
        return encode_offset({_STREAM: self._stream.trimmed + index})

    def _entry(self, stored: _Stored) -> Entry[R_co] | None:
        try:
            return Entry(self._decode(stored.payload), stored.time_ns, stored.place)
        except msgspec.DecodeError:
            self.damaged += 1
            metrics.journal_damaged.labels(self._stream.name).inc()
            return None
