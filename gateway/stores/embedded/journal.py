"""The journal's readers over the spools of one data directory.

`Stream` is the synchronous heart: which spools there are, up to when they can be believed, merged. `SpoolJournal`
gives it as the port, on a thread of its own, so that a long read never holds up the event loop.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Final, Generic, TypeVar

import msgspec

from gateway import metrics
from gateway.clock import Clock
from gateway.journal.journal import Batch, Offset
from gateway.journal.merge import Spool, Written, decode_offset, encode_offset, merge, watermark
from gateway.journal.record import Entry, Place
from gateway.journal.spool import CLOCK, FLOOR, LOCK, Word
from gateway.stores.embedded.spools import SpoolReader

_POLL_SECONDS: Final = 0.01
_LOOK_EVERY_POLLS: Final = 5
_EVER: Final = 2**63 - 1

T = TypeVar("T")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Stream:
    """Every spool of one stream. Calls may come from several threads, one at a time goes on."""

    def __init__(self, directory: Path, clock: Clock) -> None:
        self.name = directory.name
        self.damaged = 0
        self._directory = directory
        self._clock = clock
        self._clock_word: Word | None = None
        self._spools: dict[Spool, SpoolReader] = {}
        self._lock = threading.Lock()

    def read(self, after: Offset, limit: int) -> tuple[list[Written], Offset]:
        """At most `limit` records behind `after` in merged order, and the offset behind them."""
        vector = decode_offset(after)
        with self._lock:
            until_ns = self._look()
            records = self._merged(vector, until_ns, limit)
            last = {(record.gateway, record.epoch): record for record in records}
            for spool, record in last.items():
                self._spools[spool].remember(record)
            read = vector | {spool: record.sequence for spool, record in last.items()}
            return records, encode_offset(
                {spool: sequence for spool, sequence in read.items() if spool in self._spools}
            )

    def has_news(self, after: Offset, look: bool) -> bool:
        """Whether something behind `after` may be readable. look: list the directories too, not only known spools."""
        vector = decode_offset(after)
        if not self._lock.acquire(blocking=False):
            return False  # somebody reads; the next poll will tell
        try:
            until_ns = self._look() if look else self._believed(_EVER)
            return bool(self._merged(vector, until_ns, 1))
        finally:
            self._lock.release()

    def seek(self, time_ns: int) -> Offset:
        """The offset behind which everything from `time_ns` on lies."""
        with self._lock:
            self._look()
            return encode_offset({spool: reader.before(time_ns) for spool, reader in self._spools.items()})

    def end(self) -> Offset:
        """The offset behind everything readable now."""
        with self._lock:
            until_ns = self._look()
            return encode_offset({spool: reader.last(until_ns)[0] for spool, reader in self._spools.items()})

    def lag_seconds(self, after: Offset) -> float:
        """From the first unread record to the newest readable one."""
        vector = decode_offset(after)
        with self._lock:
            until_ns = self._look()
            unread = self._merged(vector, until_ns, 1)
            if not unread:
                return 0.0
            newest = max(reader.last(until_ns)[1] for reader in self._spools.values())
            return max(0.0, (newest - unread[0].time_ns) / 1e9)

    def trim(self, before: Offset) -> None:
        """Delete whole segments before the offset, and what is left of dead epochs that have a follower."""
        with self._lock:
            self._look()
            for spool, upto in decode_offset(before).items():
                if (reader := self._spools.get(spool)) is not None:
                    reader.trim(upto)
                    self._remove_if_empty(spool, reader)

    def close(self) -> None:
        """Let go of every file."""
        with self._lock:
            for reader in self._spools.values():
                reader.close()
            self._spools.clear()
            if self._clock_word is not None:
                self._clock_word.close()

    def lost(self, records: int) -> None:
        """Count records that could not be read."""
        self.damaged += records
        metrics.journal_damaged.labels(self.name).inc(records)

    def _merged(self, vector: Mapping[Spool, int], until_ns: int, limit: int) -> list[Written]:
        sources: list[Iterator[Written]] = [
            reader.records(vector.get(spool, 0), until_ns) for spool, reader in self._spools.items()
        ]
        return list(islice(merge(sources), limit))

    def _look(self) -> int:
        """List the directories; returns the watermark. The time is taken first: what starts later is newer."""
        listed_ns = max(int(self._clock.now() * 1e9), self._newest_given())
        try:
            homes = [home for home in self._directory.iterdir() if home.is_dir()]
            found = {(home.name, int(path.name)): path for home in homes for path in _epochs(home)}
        except OSError:
            return self._believed(listed_ns)
        for spool, path in found.items():
            if spool not in self._spools:
                with suppress(OSError, ValueError):  # just being made, or just being removed
                    self._spools[spool] = SpoolReader(path, *spool, self.lost)
        for spool in self._spools.keys() - found.keys():
            self._spools.pop(spool).close()
        return self._believed(listed_ns)

    def _believed(self, listed_ns: int) -> int:
        floors = [reader.probe() for reader in self._spools.values()]
        return watermark([floor for floor in floors if floor is not None], listed_ns)

    def _newest_given(self) -> int:
        if self._clock_word is None:
            with suppress(OSError, ValueError):
                self._clock_word = Word(self._directory / CLOCK, writable=False)
        return self._clock_word.get() if self._clock_word is not None else 0

    def _remove_if_empty(self, spool: Spool, reader: SpoolReader) -> None:
        # The newest epoch of a gateway stays, even empty: its number must not be given again.
        gateway, epoch = spool
        newest = max(other for name, other in self._spools if name == gateway)
        if reader.is_live or reader.segments or epoch == newest:
            return
        for name in (FLOOR, LOCK):
            with suppress(OSError):
                (reader.directory / name).unlink()
        with suppress(OSError):
            reader.directory.rmdir()


class SpoolJournal(Generic[R_co]):
    """One stream as the port `Journal`."""

    def __init__(self, stream: Stream, decode: Callable[[bytes], R_co], clock: Clock) -> None:
        self._stream = stream
        self._decode = decode
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"journal-{stream.name}")

    @property
    def damaged(self) -> int:
        """Records that this reader skipped because they could not be read."""
        return self._stream.damaged

    async def read(self, after: Offset, limit: int) -> Batch[R_co]:
        """See `Journal`."""
        return await self._run(lambda: self._read(after, limit))

    async def wait(self, after: Offset, timeout_seconds: float) -> None:
        """See `Journal`."""
        deadline = self._clock.monotonic() + timeout_seconds
        polls = 0
        while not self._stream.has_news(after, look=polls % _LOOK_EVERY_POLLS == 0):
            polls += 1
            left = deadline - self._clock.monotonic()
            if left <= 0:
                return
            await self._clock.sleep(min(_POLL_SECONDS, left))

    async def seek(self, time_ns: int) -> Offset:
        """See `Journal`."""
        return await self._run(lambda: self._stream.seek(time_ns))

    async def end(self) -> Offset:
        """See `Journal`."""
        return await self._run(self._stream.end)

    async def lag_seconds(self, after: Offset) -> float:
        """See `Journal`."""
        return await self._run(lambda: self._stream.lag_seconds(after))

    async def trim(self, before: Offset) -> None:
        """See `Journal`."""
        await self._run(lambda: self._stream.trim(before))

    def close(self) -> None:
        """End the thread and let go of the files."""
        self._thread.shutdown()
        self._stream.close()

    def _read(self, after: Offset, limit: int) -> Batch[R_co]:
        records, offset = self._stream.read(after, limit)
        while records:
            entries = [entry for record in records if (entry := self._entry(record)) is not None]
            if entries:
                return Batch(entries, offset)
            records, offset = self._stream.read(offset, limit)  # nothing but records that can not be decoded
        return Batch([], offset)

    def _entry(self, written: Written) -> Entry[R_co] | None:
        try:
            record = self._decode(written.payload)
        except msgspec.DecodeError:
            self._stream.lost(1)
            return None
        return Entry(record, written.time_ns, Place(written.gateway, written.epoch, written.sequence))

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def _epochs(home: Path) -> Iterator[Path]:
    return (path for path in home.iterdir() if path.name.isdecimal())
