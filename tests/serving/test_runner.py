"""A version in its own process answers as it would inline, and nothing it does reaches beyond its own runs."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import psutil
import pytest
import pytest_asyncio
from msgspec.structs import replace

from gateway.clock import SystemClock
from gateway.errors import CorruptPackage
from gateway.execution.executor import CLOSING, TOO_LATE, Run
from gateway.execution.session import OUT_OF_MEMORY, WRONG_INPUTS, load
from gateway.execution.tensors import Tensors
from gateway.names import Outcome
from gateway.registry.manifest import Feature, Manifest, Tensor
from gateway.registry.package import write_package
from gateway.serving.runner import AWAY, Runner, next_pause
from gateway.serving.runner_process import Cause, DiedLoading, End, cause_of
from tests.execution import graphs

DRAFT = Manifest(
    model="m",
    inputs=(Tensor(name="x", datatype="FP32", shape=(-1, 2)),),
    outputs=(Tensor(name="y", datatype="FP32", shape=(-1, 2)),),
    features=(Feature(name="a", input="x", position=0), Feature(name="b", input="x", position=1)),
)
MEMORY = 1 << 30


class QuickClock(SystemClock):
    """Real time, but nobody waits before a process is started again."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


class Bench:
    """Makes runners, notes how their processes end, and closes them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.threads = ThreadPoolExecutor(1)
        self.ends: asyncio.Queue[End] = asyncio.Queue()
        self.may_start_again = True
        self.runners: list[Runner] = []
        self.manifest = DRAFT

    async def start(self, model: onnx.ModelProto, hang_seconds: float = 30.0, yields: bool = False) -> Runner:
        self.manifest = write_package(self.directory / "p", model.SerializeToString(), DRAFT)
        runner = self.make(self.manifest, hang_seconds, yields)
        await runner.start()
        return runner

    def make(self, manifest: Manifest, hang_seconds: float = 30.0, yields: bool = False) -> Runner:
        package = self.directory / "p"
        runner = Runner(manifest, package, MEMORY, QuickClock(), self.threads, self._ended, hang_seconds, yields)
        self.runners.append(runner)
        return runner

    async def _ended(self, end: End) -> bool:
        self.ends.put_nowait(end)
        return self.may_start_again

    async def end(self) -> End:
        return await asyncio.wait_for(self.ends.get(), 30)


@pytest_asyncio.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    made = Bench(tmp_path)
    yield made
    for runner in made.runners:
        runner.close()
        await runner.closed()
    made.threads.shutdown()


def row(a: float, b: float) -> Tensors:
    return {"x": np.array([[a, b]], np.float32)}


def ask(runner: Runner, tensors: Tensors, seconds: float | None = 30.0) -> Awaitable[Run]:
    answered: asyncio.Future[Run] = asyncio.get_running_loop().create_future()
    runner.submit(tensors, answered.set_result, seconds)
    return asyncio.wait_for(answered, 60)


async def until(check: Callable[[], Any]) -> Any:
    """Other processes tell nobody when they are ready, so ask again."""
    async with asyncio.timeout(30):
        while True:
            if found := check():
                return found
            await asyncio.sleep(0.002)


async def until_back(runner: Runner) -> None:
    await until(lambda: runner.process_id is not None)


def children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "runner_child" in " ".join(child.cmdline())]


def sockets_of(process: int | None) -> set[str]:
    return {str(link.readlink()) for link in Path(f"/proc/{process}/fd").iterdir()}


async def test_it_answers_what_an_inline_version_answers(bench: Bench) -> None:
    """Promotion changes where a version runs, never what it says. The time is the model's own."""
    runner = await bench.start(graphs.identity())
    inline = load(bench.manifest, bench.directory / "p")
    batch = [row(n, -n) for n in range(100)]
    for tensors, ended in zip(batch, await asyncio.gather(*(ask(runner, one) for one in batch)), strict=True):
        assert ended.outcome is Outcome.OK
        assert ended.outputs is not None
        assert ended.outputs["y"].tobytes() == inline.run(tensors)["y"].tobytes()
        assert ended.latency_us < 50_000
    assert runner.ready.cost_us > 0
    assert runner.ready.memory_bytes < MEMORY


async def test_a_shadow_runs_at_the_lowest_priority(bench: Bench) -> None:
    runner = await bench.start(graphs.identity(), yields=True)
    assert psutil.Process(runner.process_id).nice() == 19


async def test_an_error_of_the_model_is_the_answer_to_one_run(bench: Bench) -> None:
    """It is not lost: the model saw the inputs and failed."""
    runner = await bench.start(graphs.identity())
    wrong, right = ask(runner, {"x": np.zeros((1, 3), np.float32)}), ask(runner, row(1, 2))
    ended = await wrong
    assert (ended.outcome, ended.error, ended.is_lost) == (Outcome.ERROR, WRONG_INPUTS, False)
    assert (await right).outcome is Outcome.OK


@pytest.mark.parametrize(
    ("number", "cause"),
    [
        (signal.SIGSEGV, Cause.CRASHED),
        (signal.SIGABRT, Cause.CRASHED),
        (signal.SIGKILL, Cause.KILLED),
        (signal.SIGTERM, Cause.KILLED),
    ],
)
async def test_a_dead_process_loses_its_runs_and_comes_back(bench: Bench, number: int, cause: Cause) -> None:
    """The caller is told at once, so that the champion can answer; who killed it decides whose fault it is."""
    runner = await bench.start(graphs.identity())
    first = runner.process_id
    assert first is not None
    os.kill(first, signal.SIGSTOP)
    waiting = ask(runner, row(1, 2))
    os.kill(first, number)
    os.kill(first, signal.SIGCONT)
    assert await waiting == Run(None, Outcome.ERROR, 0, AWAY, is_lost=True)
    assert (await bench.end()).cause is cause
    await until_back(runner)
    assert runner.process_id != first
    assert (await ask(runner, row(1, 2))).outcome is Outcome.OK


async def test_while_it_is_away_runs_are_lost_at_once(bench: Bench) -> None:
    """Waiting for a process that may never come back would cost the caller the champion's answer as well."""
    bench.may_start_again = False
    runner = await bench.start(graphs.identity())
    assert runner.process_id is not None
    os.kill(runner.process_id, signal.SIGSEGV)
    assert (await bench.end()).detail == "its process crashed (SIGSEGV)"
    ended: list[Run] = []
    runner.submit(row(1, 2), ended.append, 30.0)
    assert ended == [Run(None, Outcome.ERROR, 0, AWAY, is_lost=True)]


async def test_a_process_that_says_nothing_is_killed_and_started_again(bench: Bench) -> None:
    """One run past its deadline is enough to send later ones elsewhere; a little later the process is killed."""
    runner = await bench.start(graphs.identity(), hang_seconds=0.2)
    stopped = runner.process_id
    assert stopped is not None
    os.kill(stopped, signal.SIGSTOP)
    late = ask(runner, row(1, 2), 0.02)
    await asyncio.sleep(0.03)
    assert await ask(runner, row(1, 2)) == Run(None, Outcome.ERROR, 0, AWAY, is_lost=True)
    assert await late == Run(None, Outcome.DEADLINE, 0, TOO_LATE, is_lost=True)
    assert (await bench.end()).cause is Cause.HUNG
    await until_back(runner)
    assert not psutil.pid_exists(stopped)
    assert (await ask(runner, row(1, 2))).outcome is Outcome.OK


async def test_a_run_that_never_ends_is_told_to_end_at_its_deadline(bench: Bench) -> None:
    """No process has to die for a model that loops; the next run is right behind it."""
    runner = await bench.start(graphs.loops_beyond_a_thousand())
    process = runner.process_id
    endless, next_one = ask(runner, row(5000, 2), 0.05), ask(runner, row(1, 2), 30.0)
    ended = await endless
    assert (ended.outcome, ended.error, ended.is_lost) == (Outcome.DEADLINE, TOO_LATE, False)
    assert (await next_one).outcome is Outcome.OK
    assert runner.process_id == process


async def test_expired_work_is_not_begun(bench: Bench) -> None:
    runner = await bench.start(graphs.identity())
    assert await ask(runner, row(1, 2), -1.0) == Run(None, Outcome.DEADLINE, 0, TOO_LATE)


async def test_memory_beyond_its_limit_is_the_error_of_one_run(bench: Bench) -> None:
    """40 GB for one answer: refused inside the process, whose limit is its own."""
    runner = await bench.start(graphs.allocates_its_inputs())
    process = runner.process_id
    greedy = await ask(runner, row(100_000, 100_000))
    assert (greedy.outcome, greedy.error) == (Outcome.ERROR, OUT_OF_MEMORY)
    assert (await ask(runner, row(2, 3))).outcome is Outcome.OK
    assert runner.process_id == process


async def test_a_package_that_can_not_be_loaded_leaves_no_process(bench: Bench) -> None:
    """Pickup reports the reason; nothing is started again."""
    write_package(bench.directory / "p", graphs.identity().SerializeToString(), DRAFT)
    with pytest.raises(CorruptPackage, match="digests differ"):
        await bench.make(replace(DRAFT, digest="0" * 64)).start()
    assert not children()


async def test_a_process_that_dies_while_it_loads_says_how(bench: Bench) -> None:
    """A model may crash the runtime before it ever ran."""
    manifest = write_package(bench.directory / "p", graphs.identity().SerializeToString(), DRAFT)
    starting = asyncio.create_task(bench.make(manifest).start())
    (await until(children))[0].send_signal(signal.SIGSEGV)
    with pytest.raises(DiedLoading, match="SIGSEGV") as raised:
        await starting
    assert raised.value.end.cause is Cause.CRASHED


async def test_nonsense_from_the_process_ends_it(bench: Bench) -> None:
    """A model that took its process over can say what it likes; it is not believed."""
    runner = await bench.start(graphs.identity())
    assert runner._process is not None
    runner._process._channel.data_received(b"\x00\x00\x00\x05what?")
    assert (await bench.end()).cause is Cause.NONSENSE


async def test_closing_ends_the_process_and_what_waits(bench: Bench) -> None:
    """An unloaded version leaves nothing behind."""
    runner = await bench.start(graphs.identity())
    process = runner.process_id
    assert process is not None
    os.kill(process, signal.SIGSTOP)
    waiting = ask(runner, row(1, 2))
    runner.close()
    assert await waiting == Run(None, Outcome.ERROR, 0, CLOSING, is_lost=True)
    await runner.closed()
    assert not psutil.pid_exists(process)
    assert bench.ends.empty()


async def test_closing_while_it_is_started_again_leaves_no_process(bench: Bench) -> None:
    """A roll-back comes just when the crashed version is on its way back."""
    runner = await bench.start(graphs.identity())
    assert runner.process_id is not None
    os.kill(runner.process_id, signal.SIGSEGV)
    await bench.end()
    for _ in range(5):
        await asyncio.sleep(0)
    runner.close()
    await runner.closed()
    assert not children()


async def test_no_listening_socket_is_inherited(bench: Bench) -> None:
    """A runner that outlived its gateway would else swallow connections for ever."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.set_inheritable(True)
        inode = os.fstat(listening.fileno()).st_ino
        runner = await bench.start(graphs.identity())
        held = await asyncio.to_thread(sockets_of, runner.process_id)
    assert held
    assert f"socket:[{inode}]" not in held


def _pauses(lives: list[float]) -> list[float]:
    pauses = [0.0]
    for lived in lives:
        pauses.append(next_pause(pauses[-1], lived))
    return pauses[1:]


def test_pauses_double_to_ten_seconds_and_fall_back_after_a_long_life() -> None:
    assert _pauses([0] * 9) == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]
    assert _pauses([0, 0, 31]) == [0.1, 0.2, 0.1]


@pytest.mark.parametrize(
    ("code", "cause"), [(-11, Cause.CRASHED), (-7, Cause.CRASHED), (-9, Cause.KILLED), (1, Cause.ENDED)]
)
def test_only_its_own_crash_is_a_versions_fault(code: int, cause: Cause) -> None:
    """kill -9 and the killer of processes that eat memory say nothing about the code."""
    assert cause_of(code).cause is cause
