"""Starting jobs from the control process: the preloaded job server, one job at a time, its limits and its end.

Loads no training library itself. The server is started ahead of the first job and again when it died. Must be used
from one event loop; a second `run` waits for the first.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path
from typing import Any

from msgspec import Struct, json

from gateway.errors import Unavailable

_START = (
    "import sys; sys.path.insert(0, sys.argv[1]); from gateway.retraining.job.child import main; main(int(sys.argv[2]))"
)
_ROOT = str(Path(__file__).resolve().parents[2])
START_SECONDS = 120.0
TIMED_OUT = -1000
"""The status of a job that was ended because its wall-clock time was over."""


class Order(Struct, frozen=True, kw_only=True):
    """One job for the server: paths of its JobSpec and of its log, limits of time (wall and CPU) and address space."""

    spec: str
    log: str
    seconds: float
    memory_bytes: int


class JobServer:
    """Runs jobs in limited processes forked from a preloaded one."""

    def __init__(self) -> None:
        self._process: Process | None = None
        self._child = 0
        self._turn = asyncio.Lock()

    @property
    def child(self) -> int:
        """The process id of the job that runs now; 0 when none does."""
        return self._child

    async def start(self) -> None:
        """Start the server and wait until it is loaded; nothing when it runs. Raises Unavailable."""
        async with self._turn:
            await self._ready()

    async def run(self, order: Order) -> int:
        """Run one job to its end: its exit status, negative for a signal, TIMED_OUT when it took too long.

        Cancelling this call ends the job. Raises Unavailable when the server died meanwhile.
        """
        async with self._turn:
            process = await self._ready()
            assert process.stdin is not None
            process.stdin.write(json.encode(order) + b"\n")
            timed_out = False
            try:
                self._child = (await self._hear(START_SECONDS))["pid"]
                try:
                    status = await self._hear(order.seconds)
                except TimeoutError:
                    timed_out = True
                    self.kill()
                    status = await self._hear(START_SECONDS)
            except asyncio.CancelledError:
                self.kill()  # itself: just forked, it may not die with the server yet
                await self._end()  # no stale line is left in the pipe
                raise
            except TimeoutError as error:
                self.kill()
                await self._end()
                raise Unavailable("the job server does not answer; it is started again") from error
            finally:
                self._child = 0
        return TIMED_OUT if timed_out else int(status["status"])

    def kill(self) -> None:
        """End the job that runs now, if any; `run` then returns its status."""
        if self._child:
            # Not reaped before `run` has read its status, so the number is still this job's.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._child, signal.SIGKILL)

    async def close(self) -> None:
        """End the server and any job."""
        await self._end()

    async def _ready(self) -> Process:
        if self._process is not None and self._process.returncode is None:
            return self._process
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # the folder it is started in is not a place for modules
            "-W",
            "ignore::DeprecationWarning",
            "-c",
            _START,
            _ROOT,
            str(os.getpid()),
            stdin=PIPE,
            stdout=PIPE,
        )
        try:
            await self._hear(START_SECONDS)
        except (TimeoutError, asyncio.CancelledError):
            await self._end()
            raise
        return self._process

    async def _hear(self, seconds: float) -> dict[str, Any]:
        process = self._process
        assert process is not None
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), seconds)
        if not line:
            await self._end()
            raise Unavailable(f"the job server ended with status {process.returncode}; it is started again")
        answer: dict[str, Any] = json.decode(line)
        return answer

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        await process.wait()
