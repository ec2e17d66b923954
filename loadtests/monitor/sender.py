"""An open loop: requests are due at fixed times, whether or not the last ones were answered. Their labels follow.

One asyncio program with raw keep-alive connections. A request that is late is sent at once and counted as late.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count

from loadtests.monitor.material import Body

CONNECTIONS = 8
"""That ask; one more tells the labels."""

_LABELS_A_REQUEST = 500
_LATE_SECONDS = 0.1
_PATIENCE_SECONDS = 30.0


@dataclass
class Sent:
    """What was asked and told. late: requests that left a tenth of a second after they were due, or later."""

    predictions: int = 0
    requests: int = 0
    labels: int = 0
    failed: int = 0
    late: int = 0
    text: str = ""


class Sender:
    """Sends for a while. rate: rows a second. delay: seconds from a prediction to its labels."""

    def __init__(self, port: int, bodies: Sequence[Body], rate: float, delay: float) -> None:
        self.sent = Sent()
        self._port = port
        self._bodies = bodies
        self._pause = len(bodies[0].labels) / rate
        self._delay = delay
        self._name = f"{time.time_ns():x}"
        self._due: deque[tuple[float, str, tuple[int, ...]]] = deque()

    async def run(self, seconds: float) -> None:
        """Ask for so long, then tell the labels that are still due."""
        numbers = count()
        start = time.monotonic() + 0.2
        asking = asyncio.gather(*(self._ask(numbers, start, start + seconds) for _ in range(CONNECTIONS)))
        telling = asyncio.create_task(self._tell(asking))
        await asking
        await telling

    async def _ask(self, numbers: count[int], start: float, end: float) -> None:
        connection = await Connection.open(self._port)
        try:
            while (due := start + self._pause * (number := next(numbers))) < end:
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                self.sent.late += time.monotonic() - due > _LATE_SECONDS
                body, name = self._bodies[number % len(self._bodies)], f"{self._name}-{number:09d}"
                status, text = await connection.exchange(b"/predict", body.before + name.encode() + body.behind)
                self.sent.requests += 1
                if status == 200:
                    self.sent.predictions += len(body.labels)
                    self._due.append((time.monotonic() + self._delay, name, body.labels))
                else:
                    self._note(status, text)
        finally:
            await connection.close()

    async def _tell(self, asking: asyncio.Future[list[None]]) -> None:
        connection = await Connection.open(self._port)
        try:
            while not asking.done() or self._due:
                items = self._ripe()
                if not items:
                    await asyncio.sleep(0.02)
                    continue
                status, text = await connection.exchange(
                    b"/feedback", b'{"feedback":[' + ",".join(items).encode() + b"]}"
                )
                if status == 202:
                    self.sent.labels += len(items)
                else:
                    self._note(status, text)
        finally:
            await connection.close()

    def _ripe(self) -> list[str]:
        now = time.monotonic()
        items: list[str] = []
        while self._due and self._due[0][0] <= now and len(items) < _LABELS_A_REQUEST:
            _, name, labels = self._due.popleft()
            items += [f'{{"id":"{name}","row":{row},"label":{label}}}' for row, label in enumerate(labels)]
        return items

    def _note(self, status: int, text: bytes) -> None:
        self.sent.failed += 1
        self.sent.text = self.sent.text or f"{status}: {text[:200].decode(errors='replace')}"


class Connection:
    """One keep-alive connection, one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, port: int) -> Connection:
        """A new connection to a loopback port."""
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def exchange(self, path: bytes, body: bytes) -> tuple[int, bytes]:
        """Status and body of the answer. Raises OSError, EOFError or TimeoutError."""
        self._writer.write(
            b"POST %b HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
            % (path, len(body), body)
        )
        async with asyncio.timeout(_PATIENCE_SECONDS):
            head = await self._reader.readuntil(b"\r\n\r\n")
            _, _, rest = head.lower().partition(b"\r\ncontent-length:")
            answer = await self._reader.readexactly(int(rest.partition(b"\r\n")[0] or 0))
        return int(head[9:12]), answer

    async def close(self) -> None:
        """End it."""
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()
