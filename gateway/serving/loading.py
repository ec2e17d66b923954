"""Brings versions onto the shelf and holds them there while somebody decides what to do with them.

A version is loaded once, however many ask for it; only so many loads are under way at a time. What memory has no room
for is refused before it is loaded where its cost is known, else when it is. Used from one event loop; the loads
themselves run in threads and other processes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Set
from concurrent.futures import Executor as Threads
from contextlib import asynccontextmanager
from pathlib import Path
from weakref import WeakValueDictionary

from gateway import metrics
from gateway.errors import ExecutionError, RegistryError
from gateway.execution.mark import Mark, NoMark
from gateway.execution.session import LoadedVersion, load
from gateway.registry.manifest import Manifest
from gateway.registry.registry import Registry
from gateway.serving.generation import Shelf, Slot
from gateway.serving.memory import Memory

Loader = Callable[[Manifest, Path], LoadedVersion]
Isolator = Callable[[Manifest, Path, bool], Awaitable[LoadedVersion]]
"""Takes a package, its directory, and whether nobody waits for its answers."""

_LOADS_AT_ONCE = 4
"""Most of a load is waiting (for a thread, for a runner): two threads load, runners load in their own processes."""


class Loading:
    """The way from the registry to the shelf."""

    def __init__(
        self,
        registry: Registry,
        cache: Path,
        shelf: Shelf,
        loader: Loader = load,
        isolator: Isolator | None = None,
        threads: Threads | None = None,
        memory: Memory | None = None,
        mark: Mark | None = None,
    ) -> None:
        """As for `Pickup`."""
        self._registry = registry
        self._cache = cache
        self._shelf = shelf
        self._loader = loader
        self._isolator = isolator
        self._threads = threads
        self._memory = memory or Memory(None, lambda: 0, lambda: 0)
        self._mark = mark or NoMark()
        self._free = asyncio.Semaphore(_LOADS_AT_ONCE)
        self._locks: WeakValueDictionary[Slot, asyncio.Lock] = WeakValueDictionary()

    @property
    def can_isolate(self) -> bool:
        """True when there is somebody who loads versions into processes of their own."""
        return self._isolator is not None

    @asynccontextmanager
    async def held(self, slots: Set[Slot], last_hope: int | None = None) -> AsyncIterator[dict[int, str]]:
        """Have these on the shelf and hold them inside the block. Gives why each number that failed is not there.

        last_hope: the version without which nothing would answer; no limit of memory keeps it out.
        """
        taken = [slot for slot in sorted(slots) if slot in self._shelf]
        for slot in taken:
            self._shelf.take(slot)
        failed: dict[int, str] = {}
        try:
            for slot in sorted(slots - set(taken)):
                try:
                    await self._bring(slot, slot.version.number == last_hope)
                    taken.append(slot)
                    metrics.loads.labels(slot.version.model, "ok").inc()
                except (RegistryError, ExecutionError, OSError) as error:
                    failed[slot.version.number] = str(error)
                    metrics.loads.labels(slot.version.model, "failed").inc()
            yield failed
        finally:
            for slot in taken:
                self._shelf.give_back(slot)

    async def _bring(self, slot: Slot, is_spared: bool) -> None:
        """Load the version unless another has meanwhile, and hold it."""
        lock = self._locks.setdefault(slot, asyncio.Lock())
        async with lock:
            if slot not in self._shelf:
                async with self._free:
                    await self._load(slot, is_spared)
            self._shelf.take(slot)

    async def _load(self, slot: Slot, is_spared: bool) -> None:
        manifest, directory = await self._registry.fetch(slot.version, self._cache)
        with self._memory.loading(manifest) as load:
            if not is_spared and (refusal := load.refusal()):
                raise ExecutionError(refusal)
            if slot.isolated and self._isolator is not None:
                loaded = await self._isolator(manifest, directory, slot.is_shadow)
            else:
                loop = asyncio.get_running_loop()
                loaded = await loop.run_in_executor(self._threads, self._load_inside, manifest, directory)
            self._shelf.put(slot, loaded)
            load.done()
        if not is_spared and (refusal := self._memory.refusal()):
            self._shelf.drop(slot)
            raise ExecutionError(refusal)

    def _load_inside(self, manifest: Manifest, directory: Path) -> LoadedVersion:
        place = self._mark.begin(manifest)
        try:
            return self._loader(manifest, directory)
        finally:
            self._mark.end(place)
