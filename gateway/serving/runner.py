"""One version in a process of its own: fed in batches, watched, killed when it hangs, started again when it dies.

Runs submitted in one turn of the event loop travel as one message. Whatever the process does (crash, hang, nonsense,
silence) ends as the outcome of its own runs; a run that it could not answer is `lost`, which says nothing about the
inputs. Used from one event loop only.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor as Threads
from pathlib import Path
from typing import NamedTuple

import msgspec

from gateway.clock import Clock
from gateway.errors import CorruptPackage, ExecutionError
from gateway.execution.executor import CLOSING, TOO_LATE, Done, Run
from gateway.execution.runner_wire import Ask, Ready, Start, Told, pack, unpack
from gateway.execution.session import WRONG_INPUTS
from gateway.execution.tensors import Tensors
from gateway.names import Outcome
from gateway.registry.manifest import Manifest
from gateway.serving.runner_process import Cause, DiedLoading, End, RunnerProcess, open_process

AWAY = "the version's own process is away; it is started again"
HANG_SECONDS = 1.0
"""A run that is not back so long after its deadline hangs: its process is killed."""

_MOST_WAITING = 2000
"""Runs that wait for one runner at most; more are lost at once."""

_LONG_LIFE_SECONDS = 30.0
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 10.0
_logger = logging.getLogger(__name__)

OnEnd = Callable[[End], Awaitable[bool]]
"""Told of each end that we did not cause by `close`; True when the version may be started again."""


def next_pause(pause_seconds: float, lived_seconds: float) -> float:
    """The pause before a runner that lived so long is started again. Pure."""
    if lived_seconds >= _LONG_LIFE_SECONDS:
        return _FIRST_PAUSE_SECONDS
    return min(max(pause_seconds * 2, _FIRST_PAUSE_SECONDS), _LONGEST_PAUSE_SECONDS)


class _Waiting(NamedTuple):
    done: Done
    expires: float | None


class Runner:
    """Keeps one version running in its own process until `close`."""

    def __init__(
        self,
        manifest: Manifest,
        directory: Path,
        memory_bytes: int,
        clock: Clock,
        threads: Threads,
        on_end: OnEnd,
        hang_seconds: float = HANG_SECONDS,
        yields: bool = False,
    ) -> None:
        """threads: where processes are started (`runner_process.open_process`). yields: as of `Start`."""
        self.manifest = manifest
        self.ready = Ready()
        self._start_words = Start(manifest=manifest, directory=str(directory), memory_bytes=memory_bytes, yields=yields)
        self._clock = clock
        self._threads = threads
        self._on_end = on_end
        self._hang_seconds = hang_seconds
        self._process: RunnerProcess | None = None
        self._waiting: dict[int, _Waiting] = {}
        self._turn: list[Ask] = []
        self._number = 0
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed = False
        self._task: asyncio.Task[None] | None = None

    @property
    def process_id(self) -> int | None:
        """Its process now; None while it is away."""
        return None if self._process is None else self._process.pid

    @property
    def is_closed(self) -> bool:
        """True once it was told to end."""
        return self._is_closed

    @property
    def is_over(self) -> bool:
        """True once it was closed and its process is gone."""
        return self._is_closed and (self._task is None or self._task.done())

    async def start(self) -> Ready:
        """Load the version for the first time. Raises CorruptPackage or ExecutionError with the reason."""
        process = await self._launch()
        self._task = asyncio.create_task(self._stay_alive(process))
        return self.ready

    def submit(self, tensors: Tensors, done: Done, deadline_seconds: float | None) -> None:
        """Run once. `done` is called in this loop, exactly once, also when the process is away."""
        expires = None if deadline_seconds is None else self._clock.monotonic() + deadline_seconds
        if self._process is None or len(self._waiting) >= _MOST_WAITING or self._is_stuck():
            done(Run(None, Outcome.ERROR, 0, CLOSING if self._is_closed else AWAY, is_lost=True))
            return
        self._number += 1
        try:
            ask = Ask(self._number, expires, pack(tensors))
        except ValueError:
            done(Run(None, Outcome.ERROR, 0, WRONG_INPUTS))
            return
        self._waiting[self._number] = _Waiting(done, expires)
        if not self._turn:
            asyncio.get_running_loop().call_soon(self._flush)
        self._turn.append(ask)
        self._watch()

    def close(self) -> None:
        """End the process; what waits ends as lost. `closed` waits for its burial."""
        self._is_closed = True
        if self._process is not None:
            self._put_down(self._process, End(Cause.KILLED, CLOSING))
        elif self._task is not None:
            self._task.cancel()

    async def closed(self) -> None:
        """Wait until the process is gone; after `close`."""
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    # Runs.

    def _flush(self) -> None:
        turn, self._turn = self._turn, []
        if not turn or self._process is None:
            return
        try:
            self._process.write(turn)
        except ValueError:  # one of them holds a text that no encoding takes
            for ask in turn:
                self._end(ask.number, Run(None, Outcome.ERROR, 0, WRONG_INPUTS))

    def _told(self, body: bytes) -> None:
        """How some runs ended. Raises ValueError for what no runner says, and then nothing has ended."""
        ended = [(told.number, _run_of(told)) for told in msgspec.msgpack.decode(body, type=list[Told])]
        for number, run in ended:
            self._end(number, run)

    def _end(self, number: int, run: Run) -> None:
        waiting = self._waiting.pop(number, None)
        if waiting is not None:
            waiting.done(run)

    def _lose_all(self) -> None:
        waiting, self._waiting, self._turn = self._waiting, {}, []
        now = self._clock.monotonic()
        for one in waiting.values():
            if one.expires is not None and now >= one.expires:
                one.done(Run(None, Outcome.DEADLINE, 0, TOO_LATE, is_lost=True))
            else:
                one.done(Run(None, Outcome.ERROR, 0, CLOSING if self._is_closed else AWAY, is_lost=True))

    # Hanging: runs end in the order they came, so the oldest one tells.

    def _seconds_late(self) -> float | None:
        """How long ago the oldest run should have been back; negative while it has time, None when there is none."""
        oldest = next(iter(self._waiting.values()), None)
        return None if oldest is None or oldest.expires is None else self._clock.monotonic() - oldest.expires

    def _is_stuck(self) -> bool:
        late = self._seconds_late()
        return late is not None and late > 0

    def _watch(self) -> None:
        late = self._seconds_late()
        if self._timer is None and late is not None:
            seconds = max(0.0, self._hang_seconds - late)
            self._timer = asyncio.get_running_loop().call_later(seconds, self._look)

    def _look(self) -> None:
        self._timer = None
        late = self._seconds_late()
        if late is None or late < self._hang_seconds:
            self._watch()
        elif self._process is not None:
            why = f"a run did not end within {self._hang_seconds:g} s after its deadline"
            self._put_down(self._process, End(Cause.HUNG, why))

    # The process.

    async def _stay_alive(self, process: RunnerProcess) -> None:
        """Follow the process; start it again after each end, later and later while it keeps dying."""
        pause = 0.0
        while True:
            began = self._clock.monotonic()
            end = await process.ended()
            self._is_gone()
            if self._is_closed or not await self._may_start_again(end):
                return
            pause = next_pause(pause, self._clock.monotonic() - began)
            again = await self._start_again(pause)
            if again is None:
                return
            process, pause = again

    async def _start_again(self, pause: float) -> tuple[RunnerProcess, float] | None:
        """The new process and the pause it took; None when the version may not be started any more."""
        while True:
            await self._clock.sleep(pause)
            try:
                return await self._launch(), pause
            except DiedLoading as error:
                if not await self._may_start_again(error.end):
                    return None
            except (CorruptPackage, ExecutionError) as error:
                _logger.warning("%s: its process can not start: %s", self.manifest.version, error)
            pause = next_pause(pause, 0.0)

    async def _may_start_again(self, end: End) -> bool:
        _logger.warning("%s: %s", self.manifest.version, end.detail)
        return await self._on_end(end)

    async def _launch(self) -> RunnerProcess:
        process, self.ready = await open_process(self._start_words, self._threads)
        process.listen(self._told)
        self._process = process
        return process

    def _put_down(self, process: RunnerProcess, why: End) -> None:
        process.kill(why)
        self._is_gone()

    def _is_gone(self) -> None:
        self._process = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._lose_all()


def _run_of(told: Told) -> Run:
    """Raises ValueError when the outputs are none."""
    outputs = unpack(told.tensors) if told.outcome is Outcome.OK else None
    return Run(outputs, told.outcome, max(0, told.latency_us), told.error)
