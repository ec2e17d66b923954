"""Where a process writes its records: gathered for one turn, handed to the kernel in one write.

`offer` and `flush` belong to one thread (the event loop). Two threads of the tee's own keep its promises to others:
one moves the floor every few milliseconds, so that readers do not wait for an idle writer, and reports the counts;
the other brings the records to the disk. Knows no files: they are the writer's (`gateway.journal.spool`).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Final, Protocol, Self

from gateway import metrics
from gateway.clock import Clock
from gateway.journal.codec import encode_record
from gateway.journal.record import Record

_BEAT_SECONDS: Final = 0.01
_SYNC_RECORDS: Final = 1000


class Writer(Protocol):
    """What a tee writes to; `SpoolWriter` is the real one. The counts only grow."""

    stream: str
    written: int
    written_bytes: int
    dropped: int

    def append(self, payloads: Sequence[bytes]) -> bool:
        """Write all or drop all; never raises."""

    def tick(self) -> None:
        """Let readers pass what others wrote until now."""

    def sync(self) -> bool:
        """Bring everything appended to the disk."""

    def close(self) -> None:
        """Sync and end; later appends are dropped."""


class Tee:
    """A process's own writing end of one stream.

    sync_seconds: a record is on the disk at most so long after its flush (if the disk keeps up), or after 1,000
    records. clock: None leaves the two threads out, for writers that need neither tick nor sync.
    """

    def __init__(self, writer: Writer, sync_seconds: float = 0.05, clock: Clock | None = None) -> None:
        self._writer = writer
        self._sync_seconds = sync_seconds
        self._clock = clock
        self._pending: list[bytes] = []
        self._refused = 0  # records of this turn that can not be encoded
        self._refused_total = 0
        self._counts = _Counts(writer.stream)
        self._synced = 0
        self._lost = 0  # records up to here may be missing from the disk: a sync failed
        self._dirty_since: float | None = None
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[bool], int]] = []
        self._lock = threading.Lock()
        self._due = threading.Event()
        self._closing = threading.Event()
        self._threads: list[threading.Thread] = []
        if clock is not None:
            names = {"beat": self._beat, "sync": self._sync_when_due}
            self._threads = [
                threading.Thread(target=run, name=f"journal-{name}", daemon=True) for name, run in names.items()
            ]
            for thread in self._threads:
                thread.start()

    def offer(self, record: Record) -> None:
        """Add the record to the turn. Never blocks, never raises; what can not be encoded is dropped and counted."""
        try:
            self._pending.append(encode_record(record))
        except (TypeError, ValueError, OverflowError, RecursionError):
            self._refused += 1

    def flush(self) -> bool:
        """Hand everything offered to the kernel in one write. True when all of it is there; False: some was dropped."""
        refused, self._refused = self._refused, 0
        self._refused_total += refused
        if not self._pending:
            return not refused
        pending, self._pending = self._pending, []
        written = self._writer.append(pending)
        if written and self._clock is not None:
            if self._dirty_since is None:
                self._dirty_since = self._clock.monotonic()
            if self._writer.written - self._synced >= _SYNC_RECORDS and not self._due.is_set():
                self._due.set()
        return written and not refused

    async def synced(self) -> bool:
        """Wait until everything flushed so far is on the disk. False when the disk refused it."""
        if not self._threads:
            return self._writer.sync()
        upto = self._writer.written
        if upto <= self._synced:
            return self._is_safe(upto)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bool] = loop.create_future()
        with self._lock:
            self._waiting.append((loop, future, upto))
        self._due.set()
        return await future

    def close(self) -> None:
        """Flush, sync, release the spool. Waits for both threads."""
        if self._closing.is_set():
            return
        self.flush()
        self._closing.set()
        self._due.set()
        for thread in self._threads:
            thread.join()
        self._writer.close()
        self._report()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _beat(self) -> None:
        assert self._clock is not None
        # Two beats early: this thread looks only once a beat, and the sync itself takes time.
        age = max(0.0, self._sync_seconds - 2 * _BEAT_SECONDS)
        while not self._closing.wait(_BEAT_SECONDS):
            self._writer.tick()
            since = self._dirty_since
            if since is not None and self._clock.monotonic() - since >= age:
                self._due.set()
            self._report()

    def _sync_when_due(self) -> None:
        while not self._closing.is_set():
            self._due.wait()
            self._due.clear()
            self._sync()
        self._sync()

    def _sync(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, []
        self._dirty_since = None
        upto = self._writer.written
        if not self._writer.sync():
            self._lost = upto
        self._synced = upto
        for loop, future, wanted in waiting:
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(_settle, future, self._is_safe(wanted))

    def _is_safe(self, upto: int) -> bool:
        return upto > self._lost or upto == 0

    def _report(self) -> None:
        writer = self._writer
        self._counts.report(writer.written, writer.written_bytes, writer.dropped + self._refused_total)


class _Counts:
    """Passes growing totals on to the metrics; kept out of `flush`, where each would cost as much as the write."""

    def __init__(self, stream: str) -> None:
        self._counters = (
            metrics.journal_records.labels(stream),
            metrics.journal_bytes.labels(stream),
            metrics.journal_dropped.labels(stream),
        )
        self._reported = (0, 0, 0)

    def report(self, *totals: int) -> None:
        for counter, total, before in zip(self._counters, totals, self._reported, strict=True):
            if total > before:
                counter.inc(total - before)
        self._reported = totals  # type: ignore[assignment]


def _settle(future: asyncio.Future[bool], result: bool) -> None:
    if not future.done():
        future.set_result(result)
