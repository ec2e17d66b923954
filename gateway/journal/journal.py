"""The port through which everybody reads the journal. Writing is the local tee's (`gateway.journal.tee`).

A stream has many writers (one spool for each process and start) and is read in one fixed merged order: by
(time, gateway, epoch, sequence), behind a watermark. An implementation promises, each with a contract test:

1. The same stream gives the same order, however the reads are cut into chunks.
2. `read(after=batch.offset)` goes on exactly where that batch ended: nothing lost, nothing twice.
3. An offset stays valid for ever; where the records behind it are trimmed, reading starts at what is left.
4. A torn or damaged record is skipped and counted (`damaged`), never raised and never returned.
5. A record is readable once its writer's flush returned and every live writer has moved its watermark past it
   (at most 50 ms later).
6. `trim` removes only whole stretches before the offset, never a record at or after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, NewType, Protocol, TypeVar

from msgspec import Struct

from gateway.journal.record import ControlRecord, Entry, TrafficRecord

Offset = NewType("Offset", bytes)
"""Opaque. `START` reads from the oldest record that is kept."""

START = Offset(b"")

R = TypeVar("R", covariant=True)


class Batch(Struct, Generic[R], frozen=True):
    """Some entries in merged order and the offset right behind the last of them."""

    entries: Sequence[Entry[R]]
    offset: Offset


class Journal(Protocol[R]):
    """One stream, read side."""

    async def read(self, after: Offset, limit: int) -> Batch[R]:
        """At most `limit` entries behind `after`. Empty when nothing newer is behind the watermark."""

    async def wait(self, after: Offset, timeout_seconds: float) -> None:
        """Return when something newer than `after` may be readable, or after the time-out."""

    async def seek(self, time_ns: int) -> Offset:
        """An offset before which every record is older than `time_ns`; reading from it misses none that is not."""

    async def end(self) -> Offset:
        """The offset behind everything readable now."""

    async def lag_seconds(self, after: Offset) -> float:
        """Seconds between the newest record written and the first unread one behind `after`; 0 when all is read."""

    async def trim(self, before: Offset) -> None:
        """Forget what lies before the offset, as far as whole segments allow."""


TrafficJournal = Journal[TrafficRecord]
ControlJournal = Journal[ControlRecord]
