"""What an open loop sends and when, and how it reads an answer. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_VERSION = re.compile(rb"\r\nx-model-version: *(\d+)", re.IGNORECASE)
_CLOSES = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)


class Burst(NamedTuple):
    """So many requests a second, evenly, for so long; at_seconds after the start of the load."""

    at_seconds: float
    seconds: float
    rate: float


@dataclass(frozen=True)
class Stream:
    """requests: whole HTTP requests, sent in turn. connections: at most."""

    requests: tuple[bytes, ...]
    bursts: tuple[Burst, ...]
    connections: int


@dataclass(frozen=True)
class Plan:
    """What is sent, where to, and how long an answer is waited for."""

    port: int
    streams: tuple[Stream, ...]
    give_up_seconds: float = 10.0

    def encode(self) -> str:
        """As the file that the load tool reads."""
        streams = [
            {"requests": [r.decode("latin-1") for r in s.requests], "bursts": s.bursts, "connections": s.connections}
            for s in self.streams
        ]
        return json.dumps({"port": self.port, "streams": streams, "give_up_seconds": self.give_up_seconds})


def decode_plan(text: str) -> Plan:
    """The plan that `Plan.encode` wrote."""
    told = json.loads(text)
    streams = tuple(
        Stream(
            tuple(request.encode("latin-1") for request in one["requests"]),
            tuple(Burst(*burst) for burst in one["bursts"]),
            one["connections"],
        )
        for one in told["streams"]
    )
    return Plan(told["port"], streams, told["give_up_seconds"])


class Answer(NamedTuple):
    """The head of a whole answer. version: 0 when no model answered."""

    status: int
    version: int
    is_last: bool


def read_answer(data: bytes) -> Answer | None:
    """The answer, once all of it is there; None while it is not. Raises ValueError for what is no answer with a length.

    The gateway always says Content-Length; the connection carries one request at a time.
    """
    behind = data.find(b"\r\n\r\n")
    if behind < 0:
        return None
    head = data[: behind + 2]
    length = _LENGTH.search(head)
    if length is None or not head.startswith(b"HTTP/1.1 "):
        raise ValueError("not an answer with a length")
    if len(data) < behind + 4 + int(length.group(1)):
        return None
    version = _VERSION.search(head)
    return Answer(int(head[9:12]), int(version.group(1)) if version else 0, _CLOSES.search(head) is not None)


def due_times(bursts: Sequence[Burst]) -> Iterator[float]:
    """When each request is due, seconds after the start."""
    for burst in bursts:
        for number in range(int(burst.seconds * burst.rate)):
            yield burst.at_seconds + number / burst.rate
