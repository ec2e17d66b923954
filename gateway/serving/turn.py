"""One journal write for each turn of the event loop: records added in a turn share the write that follows it.

Records are held here until the turn ends, so nobody else's write can take some of them away and hide that it failed.
Only used from one event loop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gateway.journal.record import Record
from gateway.journal.tee import Tee
from gateway.serving.call import Call

Written = Callable[[Call, bool, float], None]
"""Told for each call whether all records of the turn are in the kernel, and when (monotonic seconds)."""


class Turn:
    """Groups the records of one loop turn."""

    def __init__(self, tee: Tee, monotonic: Callable[[], float], written: Written) -> None:
        self._tee = tee
        self._monotonic = monotonic
        self._written = written
        self._waiting: list[Call] = []

    def add(self, call: Call) -> None:
        """Write the call's records at the next `flush`; `written` is told after it, before any reply leaves."""
        self._waiting.append(call)

    def write(self, records: Sequence[Record]) -> bool:
        """Write records at once, after what the turn holds so far. True when they are in the kernel."""
        self.flush()
        for record in records:
            self._tee.offer(record)
        return self._tee.flush()

    def flush(self) -> None:
        """End the turn now."""
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        offer, written = self._tee.offer, self._written
        for call in waiting:
            for record in call.records:
                offer(record)
        is_written = self._tee.flush()
        now = self._monotonic()
        for call in waiting:
            written(call, is_written, now)

    async def synced(self) -> bool:
        """Wait for the disk."""
        return await self._tee.synced()
