"""Prediction ids: sortable by time, unique without coordination; and the memory of ids that callers chose."""

from __future__ import annotations

import os
from collections import OrderedDict

from gateway.clock import Clock


class RequestIds:
    """Makes ids: 12 hex digits of milliseconds, 10 of this process's random mark, 8 of a counter."""

    def __init__(self, clock: Clock, mark: bytes | None = None) -> None:
        self._clock = clock
        self._mark = (mark or os.urandom(5)).hex()
        self._count = 0
        self._millisecond = -1
        self._prefix = ""

    def next(self) -> str:
        """A new id."""
        self._count = (self._count + 1) & 0xFFFFFFFF
        millisecond = int(self._clock.now() * 1000)
        if millisecond != self._millisecond:
            self._millisecond, self._prefix = millisecond, f"{millisecond:012x}{self._mark}"
        return f"{self._prefix}{self._count:08x}"


class RecentIds:
    """The newest ids that callers gave, so that a reused one is flagged at once (the join finds older ones)."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._seen: OrderedDict[str, None] = OrderedDict()

    def seen(self, request: str) -> bool:
        """True when the id was given before; remembers it either way."""
        if request in self._seen:
            self._seen.move_to_end(request)
            return True
        self._seen[request] = None
        if len(self._seen) > self._size:
            self._seen.popitem(last=False)
        return False
