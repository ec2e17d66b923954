"""Slow clients: many connections that send the head of a request one byte a second and never end it.

They come within two seconds, evenly: a flood of new connections is something else.
Run as `python -m loadtests.scenarios.dripping PORT COUNT SECONDS`. Says when it began, on a line; then, at its end, as
JSON for each connection after how many seconds the server closed it, and how many it never closed. A client that the
server does not close goes on for SECONDS.
"""

from __future__ import annotations

import json
import resource
import select
import socket
import sys
import time
from collections.abc import Sequence

_HEAD = b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "
_OPENING_SECONDS = 2.0
_SPARE = 100
_TICKS = 20
"""Each second's bytes leave in so many portions, so that they do not come as one burst."""


class Clients:
    """The connections that are still open, and how long the others lived."""

    def __init__(self, port: int, count: int) -> None:
        self.lived: list[float] = []
        self._poll = select.epoll()
        self._open: dict[int, tuple[socket.socket, float]] = {}
        began = time.monotonic()
        for number in range(count):
            self.look(max(0.0, began + _OPENING_SECONDS * number / count - time.monotonic()))
            made = socket.create_connection(("127.0.0.1", port), timeout=10)
            made.setblocking(False)
            made.send(_HEAD)
            self._open[made.fileno()] = (made, time.monotonic())
            self._poll.register(made.fileno(), select.EPOLLIN)

    @property
    def left(self) -> int:
        """How many are open."""
        return len(self._open)

    def drip(self, tick: int) -> None:
        """One byte of every one whose turn it is."""
        for number in [number for number in self._open if number % _TICKS == tick]:
            try:
                self._open[number][0].send(b"x")
            except BlockingIOError:
                continue
            except OSError:
                self._over(number)

    def look(self, seconds: float) -> None:
        """Wait so long and note which of them the server closed."""
        until = time.monotonic() + seconds
        while True:
            for number, _ in self._poll.poll(max(0.0, until - time.monotonic())):
                self._read(number)
            if time.monotonic() >= until:
                return

    def _read(self, number: int) -> None:
        try:
            if self._open[number][0].recv(65536):
                return  # the server says why before it closes
        except BlockingIOError:
            return
        except OSError:
            pass
        self._over(number)

    def _over(self, number: int) -> None:
        made, began = self._open.pop(number)
        self.lived.append(time.monotonic() - began)
        self._poll.unregister(number)
        made.close()


def main(arguments: Sequence[str]) -> None:
    """Open, drip, tell."""
    port, count, seconds = int(arguments[0]), int(arguments[1]), float(arguments[2])
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, count + _SPARE)), hard))
    began = time.monotonic()
    print(began, flush=True)
    clients = Clients(port, count)
    tick = 0
    while clients.left and time.monotonic() - began < seconds:
        clients.drip(tick % _TICKS)
        clients.look(1.0 / _TICKS)
        tick += 1
    print(json.dumps({"lived": clients.lived, "left": clients.left}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
