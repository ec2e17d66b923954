"""One journal write for each turn of the event loop: records offered in a turn share the write that follows it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from gateway.journal.record import Record
from gateway.journal.tee import Tee


class Turn:
    """Groups the records of one loop turn. Only used from one event loop."""

    def __init__(self, tee: Tee) -> None:
        self._tee = tee
        self._flushed: asyncio.Future[bool] | None = None

    async def offer(self, records: Sequence[Record]) -> bool:
        """Offer records and wait for the turn's write. True when they are in the kernel."""
        for record in records:
            self._tee.offer(record)
        if self._flushed is None:
            loop = asyncio.get_running_loop()
            self._flushed = loop.create_future()
            loop.call_soon(self._flush)
        return await self._flushed

    def write(self, records: Sequence[Record]) -> bool:
        """Offer records and write at once, together with what the turn holds so far."""
        for record in records:
            self._tee.offer(record)
        return self._tee.flush()

    async def synced(self) -> bool:
        """Wait for the disk."""
        return await self._tee.synced()

    def _flush(self) -> None:
        flushed, self._flushed = self._flushed, None
        written = self._tee.flush()
        if flushed is not None and not flushed.done():
            flushed.set_result(written)
