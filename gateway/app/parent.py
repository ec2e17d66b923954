"""The parent process: binds the sockets once, starts the others, starts again what dies, passes the end on.

It runs no model and reads no store; what a serving process was running when it died it leaves behind as a note for the
next one, so that a version that ends processes is named and tried alone. A child that dies is started again after a
pause that doubles from 0.1 to 10 s and falls back once the child lived for 30 s. Listening sockets stay open meanwhile,
so callers wait instead of failing.
"""

from __future__ import annotations

import fcntl
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO

import msgspec

from gateway.app.child import ChildSpec, deaths_directory, metrics_directory, running_directory
from gateway.errors import NotAllowed, Unavailable
from gateway.names import VersionId
from gateway.serving.running import suspects, was_running, write_death
from gateway.settings import Address, Settings

_LONG_LIFE_SECONDS = 30.0
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 10.0
_DEATHS_KEPT = 2
_CLEAN_ENDS = {0, -signal.SIGTERM}
"""A child that was told to stop before it could listen for that had nothing to finish."""


def next_pause(pause_seconds: float, lived_seconds: float) -> float:
    """The pause before a child that lived so long is started again. Pure."""
    if lived_seconds >= _LONG_LIFE_SECONDS:
        return _FIRST_PAUSE_SECONDS
    return min(max(pause_seconds * 2, _FIRST_PAUSE_SECONDS), _LONGEST_PAUSE_SECONDS)


@dataclass
class _Child:
    name: str
    module: str
    socket: socket.socket
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    pause: float = 0.0
    due: float = 0.0
    ran: list[frozenset[VersionId]] = field(default_factory=list)  # at its last deaths in a row, newest first


def run(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT. Returns the exit code of the command."""
    settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)  # predictions and hashed tokens are nobody else's
    with _only_one(settings.data / "run"):
        _fresh(metrics_directory(settings))
        _fresh(running_directory(settings))
        return _Parent(settings).run()


class _Parent:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._alive_read, self._alive_write = os.pipe()
        self._children = self._bind()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        self._stops = 0

    def run(self) -> int:
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._told_to_stop)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._announce()
        while not self._stops:
            self._start_what_is_due()
            self._wait(self._next_due())
            self._note_the_dead()
        return self._stop()

    def _bind(self) -> list[_Child]:
        settings, children = self._settings, []
        if "control" in settings.roles:
            admin = _bound(settings.admin_listen, "admin_listen")
            children.append(_Child("control", "gateway.app.control_process", admin))
        if "serving" in settings.roles:
            listening = _bound(settings.listen, "listen")
            children += [
                _Child(f"w{number}", "gateway.app.serving_process", listening) for number in range(settings.workers)
            ]
        return children

    def _announce(self) -> None:
        print(f"data directory   {self._settings.data.resolve()}", flush=True)
        shown = {"gateway.app.control_process": "admin API", "gateway.app.serving_process": "serving"}
        for module in dict.fromkeys(child.module for child in self._children):
            child = next(child for child in self._children if child.module == module)
            host, port = child.socket.getsockname()[:2]
            print(f"{shown[module]:<16} http://{Address(host=host, port=port)}", flush=True)
        if "control" in self._settings.roles:
            print(f"admin token      {self._settings.data.resolve() / 'admin-token'}", flush=True)

    def _start_what_is_due(self) -> None:
        now = time.monotonic()
        for child in self._children:
            if child.process is None and child.due <= now:
                child.process, child.started = self._start(child), now

    def _start(self, child: _Child) -> subprocess.Popen[bytes]:
        spec = ChildSpec(
            name=child.name,
            settings=self._settings.model_dump_json(),
            socket=child.socket.fileno(),
            alive=self._alive_read,
        )
        return subprocess.Popen(
            [sys.executable, "-m", child.module, msgspec.json.encode(spec).decode()],
            pass_fds=(child.socket.fileno(), self._alive_read),
            env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(metrics_directory(self._settings))},
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _note_the_dead(self) -> None:
        now = time.monotonic()
        for child in self._children:
            if child.process is not None and child.process.poll() is not None:
                lived = now - child.started
                child.pause = next_pause(child.pause, lived)
                child.due = now + child.pause
                how = _ending(child.process.returncode)
                what = self._note_what_ran(child, child.process.returncode, lived)
                print(f"{child.name} ended ({how}){what}; it starts again in {child.pause:.1f} s", file=sys.stderr)
                child.process = None

    def _note_what_ran(self, child: _Child, code: int, lived: float) -> str:
        """Leave a note when versions are to blame. Returns what ran, for people; nothing ran in a control process."""
        ran = was_running(running_directory(self._settings) / child.name)
        child.ran = [ran, *([] if lived >= _LONG_LIFE_SECONDS else child.ran[:_DEATHS_KEPT])]
        blamed = suspects(code, child.ran)
        if blamed:
            reason = f"a serving process ended ({_ending(code)}) while it ran this version"
            write_death(deaths_directory(self._settings), f"{child.name}-{time.time_ns()}", blamed, reason)
        return f" while it ran {', '.join(map(str, sorted(ran)))}" if ran else ""

    def _next_due(self) -> float:
        waiting = [child.due for child in self._children if child.process is None]
        return max(0.0, min(waiting) - time.monotonic()) if waiting else 60.0

    def _wait(self, seconds: float) -> None:
        if select.select([self._wake_read], [], [], seconds)[0]:
            os.read(self._wake_read, 4096)

    def _told_to_stop(self, number: int, frame: FrameType | None) -> None:
        self._stops += 1

    def _stop(self) -> int:
        """Drain: serving first, so that its last records are still read; a second signal ends everything at once."""
        deadline = time.monotonic() + self._settings.grace_seconds + 2.0
        running = [child.process for child in reversed(self._children) if child.process is not None]
        for process in running:
            process.send_signal(signal.SIGTERM)
        while self._stops < 2 and time.monotonic() < deadline and any(p.poll() is None for p in running):
            self._wait(0.2)
        forced = [process for process in running if process.poll() is None]
        for process in forced:
            process.kill()
        codes = {process.wait() for process in running}
        return 1 if forced or codes - _CLEAN_ENDS else 0


def _bound(address: Address, setting: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((address.host, address.port))
    except OSError as error:
        bound.close()
        reason = f"{setting}: can not listen on {address}: {error.strerror}; choose another address"
        raise Unavailable(reason) from error
    bound.listen(2048)
    bound.set_inheritable(True)
    return bound


@contextmanager
def _only_one(directory: Path) -> Iterator[None]:
    """Hold the data directory for this gateway. Raises NotAllowed when another one does."""
    directory.mkdir(parents=True, exist_ok=True)
    held: IO[str] = (directory / "lock").open("w")
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        held.close()
        raise NotAllowed(f"another gateway runs on {directory.parent}; stop it or choose another --data") from error
    with held:
        yield


def _fresh(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)


def _ending(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
