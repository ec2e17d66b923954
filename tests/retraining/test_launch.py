"""Jobs live in processes of their own, within limits, and never outlive the control process."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest
import pytest_asyncio
from msgspec import json

from gateway.documents.job import JobState
from gateway.errors import Unavailable
from gateway.journal.join import LabelledRow
from gateway.retraining.launch import TIMED_OUT, JobServer, Order
from gateway.retraining.rows.dataset import write_dataset
from gateway.retraining.spec import JobSpec, read_result

Rows = Callable[..., list[LabelledRow]]
MEGABYTE = 1024**2


pytestmark = pytest.mark.asyncio(loop_scope="module")  # one server for all: it takes a second to load


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[JobServer]:
    """A job server that is ended after the last test."""
    made = JobServer()
    yield made
    await made.close()


@pytest.fixture
def order(tmp_path: Path, quick_path: Path, labelled: Rows) -> Callable[..., Order]:
    """An order for a job over easy rows; `body` replaces what the candidate does."""

    text = quick_path.read_text()

    def make(body: str = "", seconds: float = 60.0, memory_bytes: int = 4096 * MEGABYTE) -> Order:
        if body:
            begin, end = text.index("    from sklearn.tree"), text.index("recipe =")
            quick_path.write_text(text[:begin] + f"    {body}\n\n" + text[end:])
        write_dataset(tmp_path / "dataset", labelled(500), model="quick", features=["a", "b"])
        spec = JobSpec(
            job="j1",
            model="quick",
            dataset=str(tmp_path / "dataset"),
            out=str(tmp_path / "out"),
            recipe=str(quick_path),
        )
        (tmp_path / "spec.json").write_bytes(json.encode(spec))
        return Order(
            spec=str(tmp_path / "spec.json"), log=str(tmp_path / "log"), seconds=seconds, memory_bytes=memory_bytes
        )

    return make


async def test_two_jobs_run_one_after_the_other_in_processes_of_their_own(
    server: JobServer, order: Callable[..., Order], tmp_path: Path
) -> None:
    """The server is loaded once; each job starts from the same state."""
    assert await server.run(order()) == 0
    first = read_result(tmp_path / "out")
    (tmp_path / "out" / "result.json").unlink()
    for file in (tmp_path / "out" / "package").iterdir():
        file.unlink()
    assert await server.run(order()) == 0
    assert first is not None
    assert first.state is JobState.PUBLISHED, first.detail
    assert read_result(tmp_path / "out") == first
    assert server.child == 0


async def test_job_without_end_is_killed_when_its_time_is_over(
    server: JobServer, order: Callable[..., Order], tmp_path: Path
) -> None:
    """And the server takes the next order."""
    assert await server.run(order("import time; time.sleep(600)", seconds=0.3)) == TIMED_OUT
    assert read_result(tmp_path / "out") is None
    assert await server.run(order("raise ValueError('no')")) == 0


async def test_job_that_wants_too_much_memory_fails_alone(
    server: JobServer, order: Callable[..., Order], tmp_path: Path
) -> None:
    """The limit is on the job's address space; the error is written down."""
    assert await server.run(order("return bytearray(4 * 1024**3)", memory_bytes=2048 * MEGABYTE)) == 0
    result = read_result(tmp_path / "out")
    assert result is not None
    assert result.state is JobState.FAILED
    assert "MemoryError" in result.detail


async def test_crash_of_a_job_is_told_by_its_signal(server: JobServer, order: Callable[..., Order]) -> None:
    """A crash in native code ends the job, not the server."""
    assert await server.run(order("import os; os.kill(os.getpid(), 11)")) == -signal.SIGSEGV
    assert await server.run(order("raise ValueError('no')")) == 0


async def test_server_that_died_is_started_again(server: JobServer, order: Callable[..., Order]) -> None:
    """Killed while a job runs: the caller is told, the next job runs."""
    running = asyncio.create_task(server.run(order("import time; time.sleep(600)")))
    await until(lambda: server.child > 0)
    job = server.child
    assert server._process is not None
    server._process.kill()
    with pytest.raises(Unavailable, match="started again"):
        await running
    assert _is_gone(job)
    assert await server.run(order("raise ValueError('no')")) == 0


async def test_cancelled_call_ends_the_job(server: JobServer, order: Callable[..., Order]) -> None:
    """A supervisor that is stopped leaves no process behind."""
    running = asyncio.create_task(server.run(order("import time; time.sleep(600)")))
    await until(lambda: server.child > 0)
    job = server.child
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert _is_gone(job)


@pytest.mark.slow
async def test_job_never_outlives_the_control_process(order: Callable[..., Order]) -> None:
    """kill -9 of the control process: server and job are gone, no half-made package is taken up by anybody."""
    server, job = await asyncio.to_thread(_killed_control, order("import time; time.sleep(600)"))
    assert await asyncio.to_thread(_is_gone, server)
    assert await asyncio.to_thread(_is_gone, job)


def _killed_control(made: Order) -> tuple[int, int]:
    """Process ids of server and job of a control process that was killed while the job ran."""
    code = (
        "import asyncio, sys\n"
        "from msgspec import json\n"
        "from gateway.retraining.launch import JobServer, Order\n"
        "async def main():\n"
        "    server = JobServer()\n"
        "    job = asyncio.create_task(server.run(json.decode(sys.argv[1], type=Order)))\n"
        "    while not server.child:\n"
        "        await asyncio.sleep(0.01)\n"
        "    print(server._process.pid, server.child, flush=True)\n"
        "    await job\n"
        "asyncio.run(main())\n"
    )
    control = subprocess.Popen(
        [sys.executable, "-c", code, json.encode(made).decode()], stdout=subprocess.PIPE, text=True
    )
    try:
        assert control.stdout is not None
        server, job = map(int, control.stdout.readline().split())
    finally:
        os.kill(control.pid, signal.SIGKILL)
        control.wait()
        assert control.stdout is not None
        control.stdout.close()
    return server, job


async def until(is_so: Callable[[], bool]) -> None:
    """Return once it is so; processes come and go in their own time."""
    for _ in range(6000):
        if is_so():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never became so")


def _is_gone(process: int) -> bool:
    """True when the process ends within ten seconds, or is a zombie that init has not collected yet."""
    try:
        found = psutil.Process(process)
        if found.status() == psutil.STATUS_ZOMBIE:
            return True
        found.wait(10)
    except psutil.NoSuchProcess:
        return True
    except psutil.TimeoutExpired:
        return found.status() == psutil.STATUS_ZOMBIE
    return True


async def test_job_leaves_neither_processes_nor_files(
    server: JobServer, order: Callable[..., Order], tmp_path: Path
) -> None:
    """Workers that a recipe starts end with the job, and what it puts into the temporary folder lies beside its log."""
    body = (
        "import os, subprocess, tempfile; child = subprocess.Popen(['sleep', '600']); "
        "fd, name = tempfile.mkstemp(); os.write(fd, str(child.pid).encode()); raise ValueError(name)"
    )
    assert await server.run(order(body)) == 0
    result = read_result(tmp_path / "out")
    assert result is not None
    name = Path(result.detail.rpartition(" ")[2])
    assert name.parent == tmp_path
    assert _is_gone(int(await asyncio.to_thread(name.read_text)))
