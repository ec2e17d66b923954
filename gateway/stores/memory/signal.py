"""Tells watchers of one event loop that something has a new name or a new body."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Generic, TypeVar
from weakref import WeakSet

T = TypeVar("T")


class Signal(Generic[T]):
    """Every value given to `send` reaches every iterator that `receive` had given before."""

    def __init__(self) -> None:
        self._queues: WeakSet[asyncio.Queue[T]] = WeakSet()

    def send(self, value: T) -> None:
        """Hand the value to all iterators."""
        for queue in list(self._queues):
            queue.put_nowait(value)

    def receive(self, concerns: Callable[[T], bool] = lambda _: True) -> AsyncIterator[T]:
        """The values sent from now on that `concerns` accepts, for ever."""
        queue: asyncio.Queue[T] = asyncio.Queue()
        self._queues.add(queue)
        return _values(queue, concerns)


async def _values(queue: asyncio.Queue[T], concerns: Callable[[T], bool]) -> AsyncIterator[T]:
    while True:
        value = await queue.get()
        if concerns(value):
            yield value
