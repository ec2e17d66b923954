"""The bench's own load tool, for machines without wrk: N connections in a closed loop, one process, one event loop.

Run as `python -m loadtests.bench.generator plan.json --connections N --seconds S`. It needs several times the CPU of
wrk for a request: beside a fast server it measures itself, and the table says so.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import httptools

from loadtests.bench.load import MARK


class Counts:
    """What all connections saw together. latencies_us: one for each answer."""

    def __init__(self) -> None:
        self.latencies_us: list[float] = []
        self.refused = 0
        self.broken = 0

    def line(self, seconds: float) -> str:
        """The closing line, as wrk's script prints it."""
        ordered = sorted(self.latencies_us)
        told = {
            "requests": len(ordered),
            "seconds": seconds,
            "p50_us": percentile(ordered, 50),
            "p99_us": percentile(ordered, 99),
            "refused": self.refused,
            "broken": self.broken,
        }
        return MARK + json.dumps(told)


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Nearest rank of sorted values; 0 of none."""
    if not ordered:
        return 0.0
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


class Connection(asyncio.Protocol):
    """Sends a request, waits for its whole answer, sends the next one."""

    def __init__(self, requests: Iterator[bytes], counts: Counts) -> None:
        self._requests = requests
        self._counts = counts
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._sent = 0.0
        self._is_over = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        # uvloop's transports are not of asyncio's class.
        self._transport = cast(asyncio.Transport, transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        """Feed the parser; it calls on_message_complete."""
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        """An answer is whole."""
        self._counts.latencies_us.append((time.perf_counter() - self._sent) * 1e6)
        self._counts.refused += self._parser.get_status_code() != 200
        # A parser is good for one answer after another only while nothing is left over, which a closed loop ensures.
        if not self._is_over:
            self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        """The server hung up."""
        self._counts.broken += not self._is_over

    def end(self) -> None:
        """Stop after the time is over; the answer under way is not counted."""
        self._is_over = True
        if self._transport is not None:
            self._transport.abort()

    def _send(self) -> None:
        assert self._transport is not None
        self._sent = time.perf_counter()
        self._transport.write(next(self._requests))


def format_request(url: str, headers: Mapping[str, str], body: bytes) -> bytes:
    """A POST of HTTP/1.1 with keep-alive."""
    parts = urlsplit(url)
    lines = [f"POST {parts.path} HTTP/1.1", f"Host: {parts.netloc}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def generate(url: str, requests: Sequence[bytes], connections: int, seconds: float) -> str:
    """Load for so long; the closing line."""
    parts = urlsplit(url)
    host, port = parts.hostname or "127.0.0.1", parts.port or 80
    counts, turns = Counts(), itertools.cycle(requests)
    loop = asyncio.get_running_loop()
    started = time.perf_counter()
    made = [
        (await loop.create_connection(lambda: Connection(turns, counts), host, port))[1] for _ in range(connections)
    ]
    await asyncio.sleep(max(0.0, started + seconds - time.perf_counter()))
    lasted = time.perf_counter() - started
    line = counts.line(lasted)
    for connection in made:
        connection.end()
    return line


def main(arguments: Sequence[str]) -> None:
    """Read the plan, load, print the closing line."""
    parser = argparse.ArgumentParser(description="Closed-loop load on one address.")
    parser.add_argument("plan", type=Path, help="JSON: url, headers, bodies (files)")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=4.0)
    asked = parser.parse_args(arguments)
    plan = json.loads(asked.plan.read_text())
    bodies = [Path(name).read_bytes() for name in plan["bodies"]]
    requests = [format_request(plan["url"], plan["headers"], body) for body in bodies]
    if sys.platform != "win32":
        import uvloop

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    print(asyncio.run(generate(plan["url"], requests, asked.connections, asked.seconds)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
