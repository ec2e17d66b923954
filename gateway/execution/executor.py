"""Where a loaded version runs: in the event loop when it is fast, in a thread when it is slow.

Measured: the hop to a thread costs about 60 us, a small model's run about 10. Must not know routes, requests or the
journal. `submit` is called in the event loop, and `done` is always called there, once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

from msgspec import Struct

from gateway.errors import ExecutionError
from gateway.execution.mark import Mark, NoMark
from gateway.execution.session import CAN_NOT_RUN, LoadedVersion, Stop
from gateway.execution.tensors import Tensors
from gateway.names import Outcome

TOO_LATE = "the deadline passed before the model answered"
CLOSING = "the gateway is stopping"


class Run(Struct, frozen=True):
    """How one run ended. whole: None unless the outcome is OK. latency_us: the model alone, 0 when it did not run.

    is_lost: nobody ran it, or the process that did is gone: it says nothing about these inputs. Of a joined run, start
    and behind are this caller's rows of `whole` (tensors in `shared` are everybody's), and listed is the outputs as
    JSON-ready lists, made for all in one go; all their numbers are finite.
    """

    whole: Tensors | None
    outcome: Outcome
    latency_us: int
    error: str = ""
    is_lost: bool = False
    listed: dict[str, list[Any]] | None = None
    start: int = 0
    behind: int | None = None
    shared: frozenset[str] = frozenset()

    @property
    def outputs(self) -> Tensors | None:
        """This caller's outputs, cut from the run when somebody asks for them."""
        if self.whole is None or self.behind is None:
            return self.whole
        return {
            name: array if name in self.shared else array[self.start : self.behind]
            for name, array in self.whole.items()
        }


Done = Callable[[Run], None]


class Executor(Protocol):
    """Runs versions. An implementation promises:

    1. `done` is called exactly once for each `submit`, in the event loop of the caller; it may be called before
       `submit` returns.
    2. A run that has not begun `deadline_seconds` after `submit` does not begin; its outcome is DEADLINE.
    3. After `close` nothing new begins; what waited ends with outcome ERROR.
    """

    def submit(
        self, version: LoadedVersion, tensors: Tensors, done: Done, deadline_seconds: float | None = None
    ) -> None:
        """Run the version once."""

    def at_once(self, version: LoadedVersion) -> int:
        """So many runs of the version at a time are of use: more would wait. 0: `submit` runs it before it returns."""

    def close(self) -> None:
        """Stop. Runs under way are not waited for."""


class SessionExecutor:
    """Runs versions in this process: inline below a measured cost, else in a thread."""

    def __init__(
        self, inline_microseconds: float, threads: int, monotonic: Callable[[], float], mark: Mark | None = None
    ) -> None:
        self._mark = mark or NoMark()
        self._inline_microseconds = inline_microseconds
        self._monotonic = monotonic
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="model")
        self._is_closed = False

    def submit(
        self, version: LoadedVersion, tensors: Tensors, done: Done, deadline_seconds: float | None = None
    ) -> None:
        expires = None if deadline_seconds is None else self._monotonic() + deadline_seconds
        if self._is_closed:
            done(Run(None, Outcome.ERROR, 0, CLOSING))
        elif cost_us(version, tensors) < self._inline_microseconds:
            done(self._run(version, tensors, expires))
        else:
            self._run_in_thread(version, tensors, done, expires, deadline_seconds)

    def at_once(self, version: LoadedVersion) -> int:
        return 0 if version.cost_us < self._inline_microseconds else self._threads

    def _run_in_thread(
        self, version: LoadedVersion, tensors: Tensors, done: Done, expires: float | None, seconds: float | None
    ) -> None:
        """Run in a thread; once the deadline has passed the run is told to end, so that the thread comes free."""
        loop = asyncio.get_running_loop()
        if seconds is None:
            stop = timer = None
        else:
            stop = Stop()
            timer = loop.call_later(max(0.0, seconds), stop.set)

        def ended(result: Run) -> None:
            if timer is not None:
                timer.cancel()
            done(result)

        waiting = self._pool.submit(self._run, version, tensors, expires, stop)
        waiting.add_done_callback(partial(_hand_over, loop, ended))

    def _run(self, version: LoadedVersion, tensors: Tensors, expires: float | None, stop: Stop | None = None) -> Run:
        start = self._monotonic()
        if expires is not None and start >= expires:
            return Run(None, Outcome.DEADLINE, 0, TOO_LATE)
        place = self._mark.begin(version.manifest)
        try:
            outputs = version.run(tensors) if stop is None else version.run(tensors, stop)
        except ExecutionError as error:
            if stop is not None and stop.is_set:
                return Run(None, Outcome.DEADLINE, self._microseconds_since(start), TOO_LATE)
            return Run(None, Outcome.ERROR, self._microseconds_since(start), str(error))
        finally:
            self._mark.end(place)
        return Run(outputs, Outcome.OK, self._microseconds_since(start))

    def _microseconds_since(self, start: float) -> int:
        return round((self._monotonic() - start) * 1e6)

    def close(self) -> None:
        self._is_closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)


def cost_us(version: LoadedVersion, tensors: Tensors) -> float:
    """What this run will take: the measured cost of a run, and of each further row where that was measured."""
    if not version.row_us:
        return version.cost_us
    return version.cost_us + (len(next(iter(tensors.values()))) - 1) * version.row_us


def _hand_over(loop: asyncio.AbstractEventLoop, done: Done, ended: Future[Run]) -> None:
    """Carry a thread's result into the loop; a loop that is gone has nobody waiting."""
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(done, _result(ended))


def _result(ended: Future[Run]) -> Run:
    if ended.cancelled():
        return Run(None, Outcome.ERROR, 0, CLOSING)
    if ended.exception() is not None:
        return Run(None, Outcome.ERROR, 0, CAN_NOT_RUN)
    return ended.result()


async def run(executor: Executor, version: LoadedVersion, tensors: Tensors, deadline_seconds: float | None) -> Run:
    """One run as an awaitable; a passed deadline ends it with outcome DEADLINE, also when the answer came too late.

    A run in a thread is told to end, which it does between two nodes of its graph; a late answer is dropped.
    """
    if deadline_seconds is not None and deadline_seconds <= 0:
        return Run(None, Outcome.DEADLINE, 0, TOO_LATE)
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[Run] = loop.create_future()

    def done(ended: Run) -> None:
        if not answered.done():
            answered.set_result(ended)

    start = loop.time()
    executor.submit(version, tensors, done, deadline_seconds)
    if not answered.done():
        await asyncio.wait([answered], timeout=deadline_seconds)
    if not answered.done():
        answered.cancel()
        return Run(None, Outcome.DEADLINE, round((loop.time() - start) * 1e6), TOO_LATE)
    ended = answered.result()
    if deadline_seconds is not None and ended.latency_us > deadline_seconds * 1e6:
        return Run(None, Outcome.DEADLINE, ended.latency_us, TOO_LATE)
    return ended
