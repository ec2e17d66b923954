"""The runner: a process that runs one version which nobody has proven yet, for one serving process.

Its crash, its hang and its memory are its own. It speaks `runner_wire` on the one socket it is given, runs what it is
asked in order, ends with that socket or with its parent, has no listening socket, and is the first to be killed when
the machine runs out of memory. A run is told to end at its deadline; a model that does not listen (one long operator)
is killed by the serving process.

The time of a run is the processor time that its thread used: a runner has low priority, and its wait for the
champion is not the model's.
"""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from gateway.errors import CorruptPackage, ExecutionError
from gateway.execution.executor import TOO_LATE
from gateway.execution.runner_wire import Ask, Frames, Ready, Start, Told, frame, pack, unpack
from gateway.execution.session import WRONG_INPUTS, LoadedVersion, Stop, load
from gateway.names import Outcome

_PR_SET_PDEATHSIG = 1
_LOOK_SECONDS = 0.02
"""How late a run may be told to end."""

_TELL_SECONDS = 0.001
"""Answers of one batch wait at most so long for those behind them."""

_LOWEST_PRIORITY = 19

_LEAST_HEADROOM_BYTES = 512 * 1024**2
_HEADROOM_TIMES = 8
"""After warming up a version may use so many times what it took to load, and at least the least headroom."""


def main() -> None:
    """Load the version that the first message names, then run until the socket ends."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    _be_expendable(int(sys.argv[2]))
    batches = _messages(channel)
    start = msgspec.msgpack.decode(next(batches), type=Start)
    ready, version = _load(start)
    if start.yields:  # only now: others wait until it is loaded
        os.nice(_LOWEST_PRIORITY)
    channel.sendall(frame(ready))
    if version is None:
        return
    watch = _Watch()
    gc.freeze()  # the collector need not walk through libraries while callers wait
    for body in batches:
        _run_all(channel, version, watch, msgspec.msgpack.decode(body, type=list[Ask]))


def _messages(channel: socket.socket) -> Iterator[bytes]:
    frames = Frames()
    while data := channel.recv(1 << 20):
        yield from frames.feed(data)
    os._exit(0)  # the serving process is gone; nothing here is worth an orderly end


def _be_expendable(parent: int) -> None:
    """Die with the parent, leave no core file, be killed before anybody else when memory ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before this process asked to die with it
        os._exit(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    Path("/proc/self/oom_score_adj").write_text("1000")


def _load(start: Start) -> tuple[Ready, LoadedVersion | None]:
    mapped, resident = memory()
    _limit_memory(mapped + start.memory_bytes)
    try:
        version = load(start.manifest, Path(start.directory))
    except CorruptPackage as error:
        return Ready(error=str(error), is_corrupt=True), None
    except (ExecutionError, OSError) as error:
        return Ready(error=str(error)), None
    except MemoryError:
        return Ready(error=f"it needs more than {start.memory_bytes} bytes of memory to load"), None
    mapped_then, resident_then = memory()
    headroom = max(_LEAST_HEADROOM_BYTES, _HEADROOM_TIMES * (mapped_then - mapped))
    _limit_memory(min(mapped_then + headroom, mapped + start.memory_bytes))
    grown = max(0, resident_then - resident)
    return Ready(cost_us=version.cost_us, row_us=version.row_us, memory_bytes=grown), version


def memory() -> tuple[int, int]:
    """Bytes of this process: mapped, resident."""
    mapped, resident = Path("/proc/self/statm").read_text().split()[:2]
    return int(mapped) * resource.getpagesize(), int(resident) * resource.getpagesize()


def _limit_memory(size_bytes: int) -> None:
    """Cap the address space; an earlier cap is never lifted."""
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    size = size_bytes if hard == resource.RLIM_INFINITY else min(size_bytes, hard)
    resource.setrlimit(resource.RLIMIT_AS, (size, hard))


def _run_all(channel: socket.socket, version: LoadedVersion, watch: _Watch, batch: list[Ask]) -> None:
    told: list[Told] = []
    last = time.monotonic()
    for ask in batch:
        told.append(_run(version, watch, ask))
        if time.monotonic() - last > _TELL_SECONDS:
            channel.sendall(frame(told))
            told, last = [], time.monotonic()
    if told:
        channel.sendall(frame(told))


def _run(version: LoadedVersion, watch: _Watch, ask: Ask) -> Told:
    if ask.expires is not None and time.monotonic() >= ask.expires:
        return Told(ask.number, Outcome.DEADLINE, 0, TOO_LATE, [])
    stop = watch.begin(ask.expires)
    began = time.thread_time_ns()
    try:
        outputs = version.run(unpack(ask.tensors), stop)
        used = _microseconds_since(began)
        return Told(ask.number, Outcome.OK, used, "", pack(outputs))
    except ExecutionError as error:
        outcome, text = (Outcome.DEADLINE, TOO_LATE) if stop.is_set else (Outcome.ERROR, str(error))
        return Told(ask.number, outcome, _microseconds_since(began), text, [])
    except ValueError:
        return Told(ask.number, Outcome.ERROR, 0, WRONG_INPUTS, [])
    finally:
        watch.end()


def _microseconds_since(began: int) -> int:
    return round((time.thread_time_ns() - began) / 1000)


class _Watch:
    """Tells the run under way to end once its deadline has passed. Looks only while there is a run with a deadline."""

    def __init__(self) -> None:
        self._running: tuple[float, Stop] | None = None
        self._busy = threading.Event()
        threading.Thread(target=self._look, daemon=True).start()

    def begin(self, expires: float | None) -> Stop:
        """The stop of the run that begins now."""
        stop = Stop()
        if expires is not None:
            self._running = (expires, stop)
            if not self._busy.is_set():
                self._busy.set()
        return stop

    def end(self) -> None:
        """The run is over."""
        self._running = None

    def _look(self) -> None:
        while True:
            self._busy.wait()
            time.sleep(_LOOK_SECONDS)
            running = self._running
            if running is None:
                self._busy.clear()
            elif time.monotonic() >= running[0]:
                running[1].set()


if __name__ == "__main__":
    main()
