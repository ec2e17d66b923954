"""The open-loop load tool: requests leave when they are due, whatever became of those before them.

Run as `python -m loadtests.scenarios.open_loop plan.json`. Each stream has its own connections: a request takes one
that is free, a new one when all are busy, and waits in line when there are as many as allowed. Latency counts from the
moment a request was due, so waiting in line counts too. One thread, raw sockets, waits of microseconds. Ends when all
streams are over and answered, early on SIGTERM, and writes one row a request (answered.COLUMNS) as a .npy file.
"""

from __future__ import annotations

import array
import ctypes
import gc
import os
import select
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from loadtests.scenarios.answered import BROKEN, COLUMNS, TIMED_OUT, UNSENT
from loadtests.scenarios.plan import Answer, Plan, Stream, decode_plan, due_times, read_answer

_PR_SET_TIMERSLACK = 29
_LONGEST_WAIT_SECONDS = 0.05
_LOOK_FOR_LATE_SECONDS = 0.1
_READ_BYTES = 1 << 16


class _Waiting(NamedTuple):
    due: float
    noticed: float
    body: int


class _Connection:
    """One socket; busy with at most one request."""

    __slots__ = ("buffer", "events", "is_open", "sent", "sock", "stream", "unsent", "waiting")

    def __init__(self, stream: _Sender, port: int) -> None:
        self.stream = stream
        self.sock = socket.socket()
        self.sock.setblocking(False)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.connect_ex(("127.0.0.1", port))
        self.is_open = False
        self.events = select.EPOLLIN | select.EPOLLOUT
        self.buffer = b""
        self.unsent = b""
        self.waiting: _Waiting | None = None
        self.sent = 0.0


class _Sender:
    """One stream while it runs."""

    def __init__(self, number: int, stream: Stream, tool: Tool) -> None:
        self._number = number
        self._stream = stream
        self._tool = tool
        self._due = due_times(stream.bursts)
        self._count = 0
        self._line: deque[_Waiting] = deque()
        self._free: list[_Connection] = []
        self.made: set[_Connection] = set()
        self.next_due = next(self._due, None)

    def send_due(self, passed: float) -> None:
        """Send what is due so many seconds after the start."""
        while self.next_due is not None and self.next_due <= passed:
            body = self._count % len(self._stream.requests)
            self._line.append(_Waiting(self._tool.began + self.next_due, self._tool.began + passed, body))
            self._count += 1
            self.next_due = next(self._due, None)
        while self._line and (connection := self._take()) is not None:
            self._send(connection, self._line.popleft())
        if self._line and self._burst_is_over(passed):
            self._give_up_line()

    def _burst_is_over(self, passed: float) -> bool:
        return not any(one.at_seconds <= passed < one.at_seconds + one.seconds for one in self._stream.bursts)

    def _give_up_line(self) -> None:
        """The load ended: its callers do not stand in line any longer."""
        now = time.monotonic()
        for one in self._line:
            self._tool.write(self._number, one, now, now, UNSENT, 0)
        self._line.clear()

    def stop(self) -> None:
        """Nothing more becomes due; who stands in line is still served."""
        self.next_due = None

    @property
    def is_over(self) -> bool:
        """True when everything was sent and has ended."""
        return self.next_due is None and not self._line and len(self._free) == len(self.made)

    def _take(self) -> _Connection | None:
        if self._free:
            return self._free.pop()
        if len(self.made) >= self._stream.connections:
            return None
        connection = _Connection(self, self._tool.port)
        self.made.add(connection)
        self._tool.watch(connection)
        return connection

    def _send(self, connection: _Connection, one: _Waiting) -> None:
        connection.waiting, connection.sent = one, time.monotonic()
        connection.unsent = self._stream.requests[one.body]
        if connection.is_open:
            self._flush(connection)

    def _flush(self, connection: _Connection) -> None:
        with suppress(BlockingIOError):
            try:
                connection.unsent = connection.unsent[connection.sock.send(connection.unsent) :]
            except ConnectionError:
                self.drop(connection, BROKEN)
                return
        self._tool.waits_for(connection, is_writing=bool(connection.unsent))

    def on_writable(self, connection: _Connection) -> None:
        """Connected, or there is room again."""
        if connection.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.drop(connection, BROKEN)
            return
        connection.is_open = True
        self._flush(connection)

    def on_readable(self, connection: _Connection) -> None:
        """Some of an answer, or the end of the connection."""
        try:
            data = connection.sock.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.drop(connection, BROKEN)
            return
        connection.buffer += data
        try:
            answer = read_answer(connection.buffer)
        except ValueError:
            self.drop(connection, BROKEN)
            return
        if answer is not None:
            self._answered(connection, answer)

    def _answered(self, connection: _Connection, answer: Answer) -> None:
        if connection.waiting is not None:
            now = time.monotonic()
            self._tool.write(self._number, connection.waiting, connection.sent, now, answer.status, answer.version)
        connection.waiting, connection.buffer = None, b""
        if answer.is_last:
            self.drop(connection, BROKEN)
        else:
            self._free.append(connection)

    def drop(self, connection: _Connection, status: float) -> None:
        """Close it; a request that was under way ends with this status."""
        if connection.waiting is not None:
            now = time.monotonic()
            self._tool.write(self._number, connection.waiting, connection.sent, now, status, 0)
            connection.waiting = None
        if connection in self._free:
            self._free.remove(connection)
        self.made.discard(connection)
        self._tool.forget(connection)
        connection.sock.close()


class Tool:
    """The loop over all streams. The senders call `watch`, `waits_for`, `forget` and `write`."""

    def __init__(self, plan: Plan) -> None:
        self.port = plan.port
        self.began = time.monotonic()
        self._give_up_seconds = plan.give_up_seconds
        # The selector waits in milliseconds, select in microseconds: it watches the selector itself.
        self._poll = select.epoll()
        self._by_number: dict[int, _Connection] = {}
        self._rows = array.array("d")
        self._is_told_to_stop = False
        self._senders = [_Sender(number, stream, self) for number, stream in enumerate(plan.streams)]

    def watch(self, connection: _Connection) -> None:
        """Tell its stream what happens on it."""
        number = connection.sock.fileno()
        self._by_number[number] = connection
        self._poll.register(number, connection.events)

    def waits_for(self, connection: _Connection, is_writing: bool) -> None:
        """Whether room to write matters, or only what comes."""
        events = select.EPOLLIN | select.EPOLLOUT if is_writing else select.EPOLLIN
        if events != connection.events:
            connection.events = events
            self._poll.modify(connection.sock.fileno(), events)

    def forget(self, connection: _Connection) -> None:
        """Before it is closed."""
        number = connection.sock.fileno()
        del self._by_number[number]
        self._poll.unregister(number)

    def write(self, stream: int, one: _Waiting, sent: float, ended: float, status: float, version: int) -> None:
        """How a request ended."""
        self._rows.extend((stream, one.due, one.noticed, sent, ended, status, version, one.body))

    def stop(self) -> None:
        """Let nothing more become due; may be called at any time."""
        self._is_told_to_stop = True

    def run(self) -> None:
        """Until all streams are over and answered."""
        look_at = self.began + _LOOK_FOR_LATE_SECONDS
        while True:
            now = time.monotonic()
            for sender in self._senders:
                if self._is_told_to_stop:
                    sender.stop()
                sender.send_due(now - self.began)
            if now >= look_at:
                self._give_up_late(now)
                look_at = now + _LOOK_FOR_LATE_SECONDS
            if all(sender.is_over for sender in self._senders):
                return
            self._wait()

    def _wait(self) -> None:
        due = min((one.next_due for one in self._senders if one.next_due is not None), default=float("inf"))
        seconds = min(_LONGEST_WAIT_SECONDS, max(0.0, self.began + due - time.monotonic()))
        if not select.select([self._poll.fileno()], [], [], seconds)[0]:
            return
        for number, events in self._poll.poll(0):
            connection = self._by_number.get(number)
            if connection is None:
                continue
            if events & select.EPOLLOUT:
                connection.stream.on_writable(connection)
            elif events:
                connection.stream.on_readable(connection)

    def _give_up_late(self, now: float) -> None:
        for sender in self._senders:
            late = [
                one for one in sender.made if one.waiting is not None and now - one.waiting.due > self._give_up_seconds
            ]
            for connection in late:
                sender.drop(connection, TIMED_OUT)

    def close(self) -> None:
        """Close every connection."""
        for connection in list(self._by_number.values()):
            connection.stream.drop(connection, BROKEN)
        self._poll.close()

    def rows(self) -> np.ndarray:
        """Shape (requests, 8): answered.COLUMNS."""
        return np.array(self._rows, dtype=np.float64).reshape(-1, len(COLUMNS))


def main(arguments: Sequence[str]) -> None:
    """Load as the plan says; its path is the only argument, the answers are written beside it."""
    file = Path(arguments[0])
    tool = Tool(decode_plan(file.read_text()))
    signal.signal(signal.SIGTERM, lambda *_: tool.stop())
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1)
    with suppress(PermissionError):  # what it sends late would be booked as the server's latency
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    gc.disable()
    print(tool.began, flush=True)
    tool.run()
    tool.close()
    np.save(file.with_suffix(".npy"), tool.rows())


if __name__ == "__main__":
    main(sys.argv[1:])
