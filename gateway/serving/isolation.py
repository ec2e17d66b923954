"""Versions that nobody has proven, and suspects: each runs in a process of its own, and is quarantined when it crashes.

`Isolation` is the executor of a serving process: it sends versions on trial to their runners and everything else to
the executor inside. A crash (a signal that only the version's own code causes) makes the version suspect, a second one
puts it into quarantine; a hang, kill -9 and the want of memory do not. A champion that has crashed runs here as well;
where nothing else could answer for it, it is not quarantined but started again. Used from one event loop only.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Executor as Threads
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from gateway import metrics
from gateway.clock import Clock
from gateway.documents.lease import Condition, after_crash
from gateway.documents.store import AuditEntry
from gateway.errors import ExecutionError
from gateway.execution.executor import Done, Executor
from gateway.execution.session import NOT_LOADED, LoadedVersion, Stop
from gateway.execution.tensors import Tensors
from gateway.names import VersionId
from gateway.registry.manifest import Manifest
from gateway.serving.condition import ACTOR, Conditions, suspected
from gateway.serving.runner import Runner
from gateway.serving.runner_process import Cause, DiedLoading, End

LOADING = 19
"""Nice value of what loads versions: nobody waits for it as long as requests have work for the core."""

RUNNING = 10
"""Nice value of runners: on a core that is never idle they get about a tenth of it, enough to answer for a canary."""

_AT_ONCE = 2


class IsolatedVersion(LoadedVersion):
    """A version in a runner: known by its manifest and its costs, run only by `Isolation.submit`."""

    __slots__ = ("runner",)

    def __init__(self, runner: Runner) -> None:
        self.manifest = runner.manifest
        self.cost_us = runner.ready.cost_us
        self.row_us = runner.ready.row_us
        self.runner = runner

    def run(self, tensors: Tensors, stop: Stop | None = None) -> Tensors:
        """Never here: what it does may end the process."""
        raise ExecutionError(NOT_LOADED)

    def close(self) -> None:
        """End its process."""
        self.runner.close()


class Isolation:
    """Runs versions on trial in their own processes, all others by the executor inside."""

    def __init__(
        self,
        inside: Executor,
        conditions: Conditions,
        clock: Clock,
        threads: Threads,
        memory_bytes: int,
        is_last_good: Callable[[VersionId], bool] = lambda _: False,
    ) -> None:
        """threads: `yielding_threads`, which start the runners.

        memory_bytes: what one runner may use on top of the libraries.
        is_last_good: True for a champion whose place nobody could take.
        """
        self._is_last_good = is_last_good
        self._inside = inside
        self._conditions = conditions
        self._clock = clock
        self._threads = threads
        self._memory_bytes = memory_bytes
        self._runners: list[Runner] = []

    @property
    def memory_bytes(self) -> int:
        """By how much the runners grew when they loaded their versions."""
        return sum(runner.ready.memory_bytes for runner in self._runners if not runner.is_closed)

    async def load(self, manifest: Manifest, directory: Path, yields: bool = False) -> LoadedVersion:
        """The version in a fresh process, warmed up; it `yields` to all others when it is a shadow.

        Raises CorruptPackage or ExecutionError.
        """
        version = manifest.version
        runner = Runner(
            manifest,
            directory,
            self._memory_bytes,
            self._clock,
            self._threads,
            partial(self._ended, version),
            yields=yields,
        )
        try:
            await runner.start()
        except DiedLoading as error:
            await self._ended(version, error.end)
            raise
        self._runners = [*(known for known in self._runners if not known.is_over), runner]
        return IsolatedVersion(runner)

    def submit(
        self, version: LoadedVersion, tensors: Tensors, done: Done, deadline_seconds: float | None = None
    ) -> None:
        """Run the version once, where it belongs."""
        if isinstance(version, IsolatedVersion):
            version.runner.submit(tensors, done, deadline_seconds)
        else:
            self._inside.submit(version, tensors, done, deadline_seconds)

    def at_once(self, version: LoadedVersion) -> int:
        """A runner runs one after the other: what waits together goes to it together."""
        return 1 if isinstance(version, IsolatedVersion) else self._inside.at_once(version)

    def close(self) -> None:
        """Stop. Runs under way are not waited for."""
        for runner in self._runners:
            runner.close()
        self._inside.close()

    async def closed(self) -> None:
        """Wait until every process is gone; after `close`."""
        for runner in self._runners:
            await runner.closed()

    async def _ended(self, version: VersionId, end: End) -> bool:
        """Count the end and write a crash down; True when the version may be started again."""
        metrics.runner_ends.labels(version.model, str(version.number), end.cause).inc()
        if end.cause is not Cause.CRASHED:
            return True
        now = self._clock.now()
        change: Callable[[Condition], Condition] = partial(after_crash, detail=end.detail, now=now)
        if self._is_last_good(version):
            change = partial(suspected, reason=end.detail, now=now)
        audit = AuditEntry(actor=ACTOR, action="crash", subject=str(version), reason=end.detail)
        return not (await self._conditions.change(version, change, audit)).quarantined


def yielding_threads(name: str, nice: int) -> ThreadPoolExecutor:
    """Threads of this priority (nice value); processes that they start inherit it."""
    return ThreadPoolExecutor(_AT_ONCE, thread_name_prefix=name, initializer=_yield_to_others, initargs=(nice,))


def _yield_to_others(nice: int) -> None:
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), nice)
