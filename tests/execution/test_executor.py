"""Fast versions run in the loop, slow ones in a thread; a deadline ends the wait, and every caller gets one answer."""

from __future__ import annotations

import asyncio
import threading
from typing import cast

import numpy as np
import pytest

from gateway.clock import ManualClock
from gateway.errors import ExecutionError
from gateway.execution.executor import CLOSING, TOO_LATE, Run, SessionExecutor, run
from gateway.execution.session import CAN_NOT_RUN, LoadedVersion, Stop, open_session
from gateway.execution.tensors import Tensors
from gateway.names import Outcome
from gateway.registry.manifest import Manifest
from tests.execution.graphs import endless_loop

INPUTS: Tensors = {"x": np.zeros((1, 2), np.float32)}
CLOCK = ManualClock()


class Fake:
    """A version that does what the test says."""

    def __init__(self, cost_us: float = 1.0, error: Exception | None = None, takes: float = 0.0) -> None:
        self.manifest = Manifest(model="m", number=3)
        self.cost_us = cost_us
        self.row_us = 0.0
        self.error = error
        self.takes = takes
        self.may_run = threading.Event()
        self.may_run.set()
        self.began = threading.Event()
        self.threads: list[threading.Thread] = []

    def run(self, tensors: Tensors, stop: Stop | None = None) -> Tensors:
        self.threads.append(threading.current_thread())
        self.began.set()
        assert self.may_run.wait(10)
        CLOCK.advance(self.takes)
        if self.error is not None:
            raise self.error
        return tensors

    @property
    def version(self) -> LoadedVersion:
        return cast(LoadedVersion, self)


def executor(threads: int = 1) -> SessionExecutor:
    return SessionExecutor(1000, threads, CLOCK.monotonic)


async def test_many_rows_of_a_fast_version_run_in_a_thread() -> None:
    """A thousand rows of a version that takes 10 us and 2 us a further row would keep the loop for 2 ms."""
    fake, ran = Fake(cost_us=10), executor()
    fake.row_us = 2.0
    for rows, is_here in ((100, True), (1000, False)):
        ended: list[Run] = []
        ran.submit(fake.version, {"x": np.zeros((rows, 2), np.float32)}, ended.append)
        while not ended:  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert (fake.threads[-1] is threading.main_thread()) is is_here
    ran.close()


async def test_a_fast_version_runs_in_the_loop() -> None:
    """The hop to a thread costs more than the run itself."""
    fake, ran = Fake(cost_us=10), executor()
    ended: list[Run] = []
    ran.submit(fake.version, INPUTS, ended.append)
    assert [(one.outcome, one.outputs is INPUTS) for one in ended] == [(Outcome.OK, True)]
    assert fake.threads == [threading.current_thread()]
    ran.close()


async def test_a_slow_version_runs_in_a_thread_and_answers_in_the_loop() -> None:
    """Other requests go on meanwhile, and `done` needs no lock."""
    fake, ran = Fake(cost_us=5000), executor()
    fake.may_run.clear()
    answered = asyncio.Event()
    where: list[threading.Thread] = []

    def done(ended: Run) -> None:
        where.append(threading.current_thread())
        assert ended.outcome is Outcome.OK
        answered.set()

    ran.submit(fake.version, INPUTS, done)
    assert await asyncio.to_thread(fake.began.wait, 10)
    assert not answered.is_set()
    fake.may_run.set()
    await asyncio.wait_for(answered.wait(), 10)
    assert where == [threading.current_thread()]
    assert fake.threads != where
    ran.close()


@pytest.mark.parametrize("cost_us", [1.0, 5000.0])
async def test_the_latency_is_the_models_own(cost_us: float) -> None:
    """Guards compare run times, not the wait for a thread."""
    ran = executor()
    ended = await run(ran, Fake(cost_us, takes=0.25).version, INPUTS, None)
    assert (ended.outcome, ended.latency_us) == (Outcome.OK, 250_000)
    ran.close()


@pytest.mark.parametrize("cost_us", [1.0, 5000.0])
async def test_a_failing_version_is_an_outcome(cost_us: float) -> None:
    ran = executor()
    ended = await run(ran, Fake(cost_us, ExecutionError(CAN_NOT_RUN), 0.001).version, INPUTS, 10)
    assert ended == Run(None, Outcome.ERROR, 1000, CAN_NOT_RUN)
    ran.close()


async def test_an_unforeseen_error_in_a_thread_is_answered_too() -> None:
    """A caller who waits for ever would be worse than any error."""
    ran = executor()
    ended = await run(ran, Fake(5000.0, ZeroDivisionError()).version, INPUTS, 10)
    assert (ended.outcome, ended.error) == (Outcome.ERROR, CAN_NOT_RUN)
    ran.close()


async def test_a_passed_deadline_ends_the_wait() -> None:
    """A thread that does not listen can not be stopped, but the caller gets a fallback in time."""
    fake, ran = Fake(cost_us=5000), executor()
    fake.may_run.clear()
    ended = await run(ran, fake.version, INPUTS, 0.01)
    assert (ended.outputs, ended.outcome, ended.error) == (None, Outcome.DEADLINE, TOO_LATE)
    fake.may_run.set()
    ran.close()


async def test_a_run_that_never_ends_is_told_to_end_at_its_deadline() -> None:
    """Else two such requests would take both threads away for ever."""
    session = open_session(endless_loop().SerializeToString())
    manifest = Manifest(model="m", number=1)
    version, ran = LoadedVersion(manifest, session, {}, 5000.0), executor(threads=1)
    ended: asyncio.Future[Run] = asyncio.get_running_loop().create_future()
    ran.submit(version, INPUTS, ended.set_result, 0.05)
    done = await asyncio.wait_for(ended, 10)
    assert (done.outcome, done.error) == (Outcome.DEADLINE, TOO_LATE)
    ran.close()


async def test_an_answer_of_the_loop_that_came_too_late_is_no_answer() -> None:
    ran = executor()
    ended = await run(ran, Fake(takes=2.0).version, INPUTS, 1.0)
    assert (ended.outputs, ended.outcome, ended.latency_us) == (None, Outcome.DEADLINE, 2_000_000)
    ran.close()


@pytest.mark.parametrize("seconds", [0.0, -1.0])
async def test_expired_work_is_not_begun(seconds: float) -> None:
    fake, ran = Fake(), executor()
    assert (await run(ran, fake.version, INPUTS, seconds)).outcome is Outcome.DEADLINE
    assert not fake.threads
    ran.close()


async def test_work_that_expires_while_it_waits_for_a_thread_is_not_begun() -> None:
    """Under overload a queue of dead requests would keep every live one late."""
    first, second, ran = Fake(cost_us=5000, takes=5.0), Fake(cost_us=5000), executor(threads=1)
    first.may_run.clear()
    loop = asyncio.get_running_loop()
    ends: list[asyncio.Future[Run]] = [loop.create_future(), loop.create_future()]
    ran.submit(first.version, INPUTS, ends[0].set_result)
    ran.submit(second.version, INPUTS, ends[1].set_result, 1.0)
    first.may_run.set()
    assert (await ends[0]).outcome is Outcome.OK
    assert await ends[1] == Run(None, Outcome.DEADLINE, 0, TOO_LATE)
    assert not second.threads
    ran.close()


async def test_what_waits_at_the_end_is_answered() -> None:
    first, second, ran = Fake(cost_us=5000), Fake(cost_us=5000), executor(threads=1)
    first.may_run.clear()
    waiting = [asyncio.create_task(run(ran, fake.version, INPUTS, None)) for fake in (first, second)]
    assert await asyncio.to_thread(first.began.wait, 10)
    ran.close()
    assert await waiting[1] == Run(None, Outcome.ERROR, 0, CLOSING)
    first.may_run.set()
    assert (await waiting[0]).outcome is Outcome.OK
    assert (await run(ran, first.version, INPUTS, None)).error == CLOSING


@pytest.mark.parametrize("error", [None, ExecutionError(CAN_NOT_RUN)])
@pytest.mark.parametrize("cost_us", [1.0, 5000.0])
async def test_a_version_is_marked_while_it_runs_and_only_then(cost_us: float, error: Exception | None) -> None:
    """After the death of the process somebody wants to know what ran; inline or in a thread, failing or not."""
    seen: list[str] = []

    class Marks:
        def begin(self, manifest: Manifest) -> int:
            seen.append(f"begins {manifest.version}")
            return 7

        def end(self, place: int) -> None:
            seen.append(f"ends {place} after {len(fake.threads)} run")

    fake, ran = Fake(cost_us, error), SessionExecutor(1000, 1, CLOCK.monotonic, Marks())
    await run(ran, fake.version, INPUTS, None)
    assert seen == ["begins m@3", "ends 7 after 1 run"]
