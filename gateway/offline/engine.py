"""One version in a limited process of its own, for runs that nobody waits for: batches and replays.

The same runner that serving gives versions on trial: a crash, a hang or a want of memory ends the runner and then this
run, never anything that serves. It has low priority, and what it does is written down nowhere: a file of odd rows that
crashes a champion here is no reason to take it out of service.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Protocol

from gateway.clock import SystemClock
from gateway.errors import ExecutionError
from gateway.execution.executor import Run
from gateway.execution.tensors import Tensors
from gateway.registry.manifest import Manifest
from gateway.registry.registry import Registry
from gateway.serving.isolation import RUNNING, yielding_threads
from gateway.serving.runner import Runner
from gateway.serving.runner_process import End

RUN_SECONDS = 60.0
"""A run that takes longer is told to end."""

MEMORY_BYTES = 2 * 1024**3
"""What the version may use on top of the libraries."""

_AT_ONCE = 1000


class Runs(Protocol):
    """What scoring and replays need of an engine."""

    async def run(self, tables: Sequence[Tensors]) -> list[Run]:
        """Run each, in order; one that fails has the outcome ERROR or DEADLINE. Raises ExecutionError: it is gone."""


Start = Callable[[Manifest, Path], AbstractAsyncContextManager[Runs]]
"""Loads a package for the length of a block, as `started` does."""


class Engine:
    """Runs tables of one version. Used from one event loop."""

    def __init__(self, manifest: Manifest, directory: Path, memory_bytes: int) -> None:
        self._threads = yielding_threads("offline", RUNNING)
        self._runner = Runner(
            manifest, directory, memory_bytes, SystemClock(), self._threads, self._ended, yields=False
        )
        self._end: End | None = None
        self._gone = asyncio.Event()

    async def start(self) -> None:
        """Load the version. Raises CorruptPackage or ExecutionError with the reason."""
        await self._runner.start()

    @property
    def process_id(self) -> int | None:
        """Its process; None once it is gone."""
        return self._runner.process_id

    async def run(self, tables: Sequence[Tensors]) -> list[Run]:
        """See `Runs`; when the process is gone nothing of this call is worth keeping."""
        done: list[Run] = []
        for start in range(0, len(tables), _AT_ONCE):
            together = tables[start : start + _AT_ONCE]
            # They run one after the other: each has its time from where the one before may have ended.
            done += await asyncio.gather(
                *(self._one(table, RUN_SECONDS * place) for place, table in enumerate(together, start=1))
            )
        return done

    async def _one(self, table: Tensors, seconds: float) -> Run:
        answered: asyncio.Future[Run] = asyncio.get_running_loop().create_future()
        self._runner.submit(table, answered.set_result, seconds)
        run = await answered
        if run.is_lost:
            await self._gone.wait()
            assert self._end is not None
            raise ExecutionError(f"{self._runner.manifest.version}: {self._end.detail}")
        return run

    async def _ended(self, end: End) -> bool:
        self._end = end
        self._gone.set()
        return False

    async def close(self) -> None:
        """End the process."""
        self._runner.close()
        await self._runner.closed()
        self._threads.shutdown(wait=False)


@asynccontextmanager
async def started(manifest: Manifest, directory: Path, memory_bytes: int = MEMORY_BYTES) -> AsyncIterator[Runs]:
    """An engine for the length of a block. Raises CorruptPackage or ExecutionError when it does not load."""
    engine = Engine(manifest, directory, memory_bytes)
    try:
        await engine.start()
        yield engine
    finally:
        await engine.close()


@asynccontextmanager
async def fetched_and_started(registry: Registry, manifest: Manifest, start: Start) -> AsyncIterator[Runs]:
    """An engine of a version in the registry. Its files are gone again once it is loaded, whatever ends this process.

    Raises VersionNotFound, CorruptPackage or ExecutionError.
    """
    async with AsyncExitStack() as stack:
        with tempfile.TemporaryDirectory(prefix="gateway-offline-") as directory:
            _, package = await registry.fetch(manifest.version, Path(directory))
            engine = await stack.enter_async_context(start(manifest, package))
        yield engine
