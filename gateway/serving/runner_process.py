"""The process behind a runner: started, spoken to, buried; and what its end means.

Knows nothing of runs, routes or restarts. Everything here is called in one event loop; starting and burying happens in
threads, so that the loop never waits for the system.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Executor as Threads
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import msgspec

from gateway.errors import CorruptPackage, ExecutionError
from gateway.execution.runner_wire import Frames, Ready, Start, frame
from gateway.serving.running import CRASHES

LOAD_SECONDS = 60.0
_LAST_BREATH_SECONDS = 1.0
_ROOT = str(Path(__file__).resolve().parents[2])
_START = (
    "import os, sys; os.environ.update(OMP_NUM_THREADS='1', OPENBLAS_NUM_THREADS='1'); "
    "sys.path.insert(0, sys.argv.pop(1)); from gateway.execution.runner_child import main; main()"
)
_NONSENSE = "its process said what no runner says"


class Cause(StrEnum):
    """Why a runner's process is gone."""

    CRASHED = "crashed"  # a signal that only its own code causes: the version's fault
    HUNG = "hung"
    KILLED = "killed"  # from outside, or for want of memory: not its fault
    NONSENSE = "nonsense"
    ENDED = "ended"


class End(NamedTuple):
    """How a runner's process ended. detail: for people."""

    cause: Cause
    detail: str


def cause_of(code: int) -> End:
    """What an exit code (negative: a signal, as `subprocess` says it) means. Pure."""
    if code >= 0:
        return End(Cause.ENDED, f"its process ended with exit code {code}")
    name = signal.Signals(-code).name
    if -code in CRASHES:
        return End(Cause.CRASHED, f"its process crashed ({name})")
    return End(Cause.KILLED, f"its process was killed ({name})")


class DiedLoading(ExecutionError):
    """The process ended before it was ready; `end` says how."""

    def __init__(self, end: End) -> None:
        super().__init__(f"it could not be loaded: {end.detail}")
        self.end = end


class RunnerProcess:
    """One process and the stream to it. `on_message` gets every message after the first; ValueError: it is nonsense."""

    def __init__(self, process: subprocess.Popen[bytes], transport: asyncio.Transport, channel: Channel) -> None:
        self._process = process
        self._transport = transport
        self._channel = channel
        self._why: End | None = None

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def listen(self, on_message: Callable[[bytes], None]) -> None:
        """Hand over every message from now on."""
        self._channel.on_message = on_message
        self._channel.on_nonsense = lambda: self.kill(End(Cause.NONSENSE, _NONSENSE))

    def write(self, message: object) -> None:
        """Send a message. Raises ValueError when it can not be encoded; then nothing was sent."""
        self._transport.write(frame(message))

    def kill(self, why: End) -> None:
        """End it now; `ended` tells why."""
        self._why = self._why or why
        self._process.kill()
        self._transport.abort()

    async def ended(self) -> End:
        """Wait until the process is gone and buried, and say how it ended."""
        await asyncio.wait([self._channel.lost])
        self._transport.abort()
        code = await asyncio.shield(asyncio.to_thread(_reap, self._process))
        return self._why or cause_of(code)

    async def first(self) -> Ready:
        """The first words. Raises ExecutionError, or CorruptPackage, with the reason when there is nothing to run."""
        channel = self._channel
        waiting: list[asyncio.Future[None]] = [channel.first, channel.lost]
        done, _ = await asyncio.wait(waiting, timeout=LOAD_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if channel.first not in done:
            if done:
                raise DiedLoading(await self.ended())
            raise ExecutionError(f"it did not load within {LOAD_SECONDS:g} s")
        try:
            ready = msgspec.msgpack.decode(channel.greeting, type=Ready)
        except msgspec.MsgspecError as error:
            raise ExecutionError(_NONSENSE) from error
        if ready.error:
            raise CorruptPackage(ready.error) if ready.is_corrupt else ExecutionError(ready.error)
        return ready


async def open_process(start: Start, threads: Threads) -> tuple[RunnerProcess, Ready]:
    """Start a process and let it load. threads: must outlive it, and give it their priority. Raises as `first` does."""
    opening = asyncio.ensure_future(_connected(threads))
    try:
        opened = await asyncio.shield(opening)
    except asyncio.CancelledError:
        opened = await opening  # a process that nobody waits for any more must be buried all the same
        opened.kill(End(Cause.ENDED, "it is not needed any more"))
        await opened.ended()
        raise
    try:
        opened.write(start)
        return opened, await opened.first()
    except BaseException:
        opened.kill(End(Cause.ENDED, "it never became ready"))
        await opened.ended()
        raise


async def _connected(threads: Threads) -> RunnerProcess:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    loop = asyncio.get_running_loop()
    with theirs:
        process = await loop.run_in_executor(threads, _spawn, theirs)
    transport, channel = await loop.create_unix_connection(Channel, sock=ours)
    return RunnerProcess(process, transport, channel)


class Channel(asyncio.Protocol):
    """The stream from one process: `greeting` is the first message, `lost` is done at its end."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.greeting = b""
        self.first: asyncio.Future[None] = loop.create_future()
        self.lost: asyncio.Future[None] = loop.create_future()
        self.on_message: Callable[[bytes], None] = lambda _: None
        self.on_nonsense: Callable[[], None] = lambda: None
        self._frames = Frames()

    def data_received(self, data: bytes) -> None:
        try:
            for body in self._frames.feed(data):
                if self.first.done():
                    self.on_message(body)
                else:
                    self.greeting = body
                    self.first.set_result(None)
        except ValueError:
            self.on_nonsense()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.lost.done():
            self.lost.set_result(None)


def _spawn(channel: socket.socket) -> subprocess.Popen[bytes]:
    """Start the child with this one descriptor. It dies with the thread that calls this (PR_SET_PDEATHSIG)."""
    return subprocess.Popen(
        [sys.executable, "-P", "-W", "ignore", "-c", _START, _ROOT, str(channel.fileno()), str(os.getpid())],
        pass_fds=(channel.fileno(),),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        process_group=0,  # not a session of its own: the kernel would give that half a core, whatever its priority
    )


def _reap(process: subprocess.Popen[bytes]) -> int:
    """The exit code of a process that has closed its channel; one that lingers is killed."""
    try:
        return process.wait(_LAST_BREATH_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
