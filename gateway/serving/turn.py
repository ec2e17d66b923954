"""One journal write for each turn of the event loop: records added in a turn share the write that follows it.

Records are held here until the turn ends, so nobody else's write can take some of them away and hide that it failed.
Only used from one event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from gateway.journal.record import Record
from gateway.journal.tee import Tee

Written = Callable[[bool], None]
"""Told whether all records of the turn are in the kernel."""


class Turn:
    """Groups the records of one loop turn."""

    def __init__(self, tee: Tee) -> None:
        self._tee = tee
        self._waiting: list[tuple[Sequence[Record], Written]] = []
        self._is_due = False

    def add(self, records: Sequence[Record], written: Written) -> None:
        """Add records to the turn; `written` is called after its write, before any reply leaves."""
        self._waiting.append((records, written))
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._end)

    def write(self, records: Sequence[Record]) -> bool:
        """Write records at once, together with what the turn holds so far. True when they are in the kernel."""
        ended: list[bool] = []
        self._waiting.append((records, ended.append))
        self.flush()
        return ended[0]

    def flush(self) -> None:
        """End the turn now."""
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        offer = self._tee.offer
        for records, _ in waiting:
            for record in records:
                offer(record)
        is_written = self._tee.flush()
        for _, written in waiting:
            written(is_written)

    async def synced(self) -> bool:
        """Wait for the disk."""
        return await self._tee.synced()

    def _end(self) -> None:
        self._is_due = False
        self.flush()
