"""Callers of a gateway: some keep-alive connections that ask at a steady pace and tell the labels of what they asked.

One asyncio program with raw streams, which costs a fraction of a client library. What was answered is kept as counts;
`Watched` keeps answers one by one, for checks of what may be answered after which moment.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from loadtests.rollouts.models import FEATURES, Sample

_CONNECTIONS = 8
_LABELS_AT_ONCE = 25
_PATIENCE_SECONDS = 30.0
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_VERSION = re.compile(rb"\r\nx-model-version: *(\d+)", re.IGNORECASE)
_ROLE = re.compile(rb"\r\nx-route-role: *(\w+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Answered:
    """One answer: when its request was sent (monotonic), the version that answered, the status."""

    sent: float
    version: int
    status: int


@dataclass
class Seen:
    """answered: by (version, role). failed: by role and status, with the first few texts. answers: one by one."""

    answered: Counter[tuple[int, str]] = field(default_factory=Counter)
    failed: Counter[tuple[str, int]] = field(default_factory=Counter)
    texts: list[str] = field(default_factory=list)
    answers: list[Answered] = field(default_factory=list)

    @property
    def requests(self) -> int:
        """Answers of every kind."""
        return self.answered.total() + self.failed.total()

    @property
    def failures(self) -> int:
        """Requests that got no prediction."""
        return self.failed.total()

    @property
    def failures_beside_canary(self) -> int:
        """Those of them that no canary was asked for."""
        return sum(count for (role, _), count in self.failed.items() if role != "canary")


class Callers:
    """Ask for rows of a sample, over and over. rate: requests a second. labelled: also tell the truth afterwards."""

    def __init__(self, port: int, model: str, sample: Sample, rate: float, labelled: bool, keep: bool = False) -> None:
        self.seen = Seen()
        self._port = port
        self._sample = sample
        self._pause = _CONNECTIONS / rate
        self._labelled = labelled
        self._keep = keep
        self._number = 0
        self._name = f"{model}-{time.monotonic_ns()}"
        self._rows = [
            json.dumps({"model": model, "inputs": dict(zip(FEATURES, row.tolist(), strict=True))})[:-1]
            for row in sample.rows
        ]

    @asynccontextmanager
    async def calling(self) -> AsyncIterator[Seen]:
        """Ask as long as the block lasts; requests under way are answered before this ends."""
        stop = asyncio.Event()
        tasks = [asyncio.create_task(self._call(stop, place)) for place in range(_CONNECTIONS)]
        try:
            yield self.seen
        finally:
            stop.set()
            await asyncio.gather(*tasks)

    async def _call(self, stop: asyncio.Event, place: int) -> None:
        due = time.monotonic() + self._pause * place / _CONNECTIONS
        labels: list[dict[str, object]] = []
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            while not stop.is_set():
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                due = max(due + self._pause, time.monotonic() - 1.0)  # after a stall, what was missed is not made up
                self._number += 1
                row, request = self._number % len(self._rows), f"{self._name}-{self._number}"
                try:
                    await self._ask(reader, writer, row, request)
                except (OSError, EOFError, TimeoutError) as error:
                    self._note_broken(error)
                    writer.close()
                    reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
                    continue
                labels.append({"id": request, "row": 0, "label": int(self._sample.labels[row])})
                if self._labelled and len(labels) >= _LABELS_AT_ONCE:
                    await _exchange(reader, writer, "/feedback", json.dumps({"feedback": labels}))
                    labels.clear()
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, row: int, request: str) -> None:
        sent = time.monotonic()
        head, body = await _exchange(reader, writer, "/predict", f'{self._rows[row]}, "id": "{request}"}}')
        status = int(head[9:12])
        version = int(found[1]) if (found := _VERSION.search(head)) else 0
        role = found[1].decode() if (found := _ROLE.search(head)) else ""
        if self._keep:
            self.seen.answers.append(Answered(sent, version, status))
        if status == 200:
            self.seen.answered[version, role] += 1
            return
        self.seen.failed[role, status] += 1
        if len(self.seen.texts) < 5:
            self.seen.texts.append(body[:300].decode(errors="replace"))

    def _note_broken(self, error: Exception) -> None:
        self.seen.failed["", 0] += 1
        if len(self.seen.texts) < 5:
            self.seen.texts.append(f"{type(error).__name__}: {error}")


async def _exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str, body: str
) -> tuple[bytes, bytes]:
    """One request and its whole answer. Raises OSError, EOFError or TimeoutError."""
    writer.write(
        f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n{body}".encode()
    )
    async with asyncio.timeout(_PATIENCE_SECONDS):
        head = await reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(head)
        return head, await reader.readexactly(int(length[1])) if length else b""
