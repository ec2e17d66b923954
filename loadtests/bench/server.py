"""One server as a child process on its core: started, asked until its first right answer, measured from outside, ended.

Ended by its process ids only: SIGTERM to the child, and SIGKILL to what is left of its tree.
"""

from __future__ import annotations

import http.client
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from loadtests.bench import machine
from loadtests.bench.load import Request

START_SECONDS = 120.0
_STOP_SECONDS = 15.0
_POLL_SECONDS = 0.01

Check = Callable[[bytes, Mapping[str, str]], str | None]
"""Takes an answer's body and headers (names in lower case); says what is wrong with it, or None."""


class StartFailed(Exception):
    """The server ended, or gave no right answer in time."""


class Server:
    """A running server. port: where it answers."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.process = process
        self.port = port
        self._log = log
        self._started = time.monotonic()

    def wait(self, request: Request, check: Check, give_up_seconds: float = START_SECONDS) -> float:
        """Seconds from the start to the first right answer. Raises StartFailed with the log's end."""
        why = "no answer"
        while time.monotonic() - self._started < give_up_seconds:
            if self.process.poll() is not None:
                raise StartFailed(f"ended with code {self.process.returncode}: {self.end_of_log()}")
            with suppress(OSError, http.client.HTTPException):
                wrong = self.ask(request, check)
                if wrong is None:
                    return time.monotonic() - self._started
                why = wrong
            time.sleep(_POLL_SECONDS)
        raise StartFailed(f"{why}, for {give_up_seconds:g} s: {self.end_of_log()}")

    def ask(self, request: Request, check: Check, body: int = 0) -> str | None:
        """Send one of the request's bodies; what is wrong with the answer, or None."""
        status, headers, content = post(self.port, request, body)
        if status != 200:
            return f"status {status}: {content[:200].decode(errors='replace')}"
        return check(content, headers)

    def end_of_log(self) -> str:
        """What the server said last, in one line."""
        return " ".join(self._log.read_bytes()[-600:].decode(errors="replace").split())


def post(port: int, request: Request, body: int = 0) -> tuple[int, dict[str, str], bytes]:
    """One request on a connection of its own: status, headers with names in lower case, content."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("POST", request.path, request.bodies[body], request.headers)
        answer = connection.getresponse()
        content = answer.read()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, content
    finally:
        connection.close()


@contextmanager
def running(
    command: Sequence[str], folder: Path, core: int, environment: Mapping[str, str], port: int
) -> Iterator[Server]:
    """Start `command` in `folder`, pinned to `core` with all it starts; end it on the way out."""
    log = folder / "server.log"
    with log.open("wb") as opened, machine.pinned(core):
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=opened,
            stderr=opened,
            # A session of its own: Ctrl-C in the terminal ends the bench, which ends its children in order.
            start_new_session=True,
        )
    try:
        yield Server(process, port, log)
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, and SIGKILL for whatever of the tree lives on."""
    started = machine.tree(process.pid)
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_STOP_SECONDS)
    _, alive = psutil.wait_procs(started, timeout=2)
    for one in alive:
        with suppress(psutil.Error):
            one.kill()
    process.wait()


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on now, all different, below those that connections of clients take."""
    held: list[socket.socket] = []
    while len(held) < count:
        with suppress(OSError):
            held.append(socket.create_server(("127.0.0.1", secrets.choice(range(20_000, 32_000)))))
    ports = [int(one.getsockname()[1]) for one in held]
    for one in held:
        one.close()
    return ports
