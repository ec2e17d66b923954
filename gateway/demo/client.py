"""A keep-alive HTTP/1.1 client for one thing: many small JSON calls to one address at little cost.

The stream is 43,000 calls, and the client shares two cores with the gateway it measures: httpx spends more on
one call than the gateway on its answer. Everything that is not in the hot loop uses `gateway.client`.
Knows nothing of models. One event loop; a connection carries one call at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import TracebackType
from typing import NamedTuple, Self, cast

import httptools

from gateway.settings import Address


class Reply(NamedTuple):
    """Status and body of one answer."""

    status: int
    body: bytes

    @property
    def is_success(self) -> bool:
        """True for 2xx."""
        return 200 <= self.status < 300


class _Connection(asyncio.Protocol):
    """One connection. `call` writes a request and waits for its reply, or raises ConnectionError."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[Reply] | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._body = bytearray()
        self.is_open = False

    async def call(self, request: bytes, timeout_seconds: float) -> Reply:
        if self._transport is None or not self.is_open:
            raise ConnectionError("the connection is closed")
        loop = asyncio.get_running_loop()
        self._waiting = loop.create_future()
        # A timer costs a tenth of what asyncio.timeout does, and nearly every call ends long before it.
        timer = loop.call_later(timeout_seconds, self.lost, f"no answer within {timeout_seconds:g} s")
        self._transport.write(request)
        try:
            return await self._waiting
        finally:
            timer.cancel()

    def lost(self, why: str) -> None:
        """Close, and fail the call that waits."""
        self.is_open = False
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(ConnectionError(why))
        if self._transport is not None:
            self._transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have all methods of asyncio.Transport, but are no subclass of it.
        self._transport = cast(asyncio.Transport, transport)
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.lost(f"the answer is not HTTP: {error}")

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost(str(exc) or "the gateway closed the connection")

    # httptools callbacks

    def on_message_begin(self) -> None:
        self._body.clear()

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        if not self._parser.should_keep_alive():
            self.is_open = False
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(Reply(self._parser.get_status_code(), bytes(self._body)))


class Client:
    """Posts JSON to one address over kept connections; concurrent calls get a connection each."""

    def __init__(self, address: Address, *, timeout_seconds: float = 30.0) -> None:
        self._address = address
        self._timeout_seconds = timeout_seconds
        self._idle: list[_Connection] = []
        self._open: set[_Connection] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for connection in self._open:
            connection.lost("the client is closed")

    async def post(self, path: str, body: bytes, headers: Mapping[str, str] | None = None) -> Reply:
        """The answer to one POST. Raises ConnectionError when there is no connection or no answer in time."""
        more = "".join(f"{name}: {value}\r\n" for name, value in headers.items()) if headers else ""
        head = (
            f"POST {path} HTTP/1.1\r\nhost: {self._address}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n{more}\r\n"
        )
        connection = await self._connection()
        try:
            reply = await connection.call(head.encode() + body, self._timeout_seconds)
        except BaseException:
            # Also when cancelled: the answer may still come, and must not become that of the next call.
            connection.lost("the call was given up")
            self._open.discard(connection)
            raise
        if connection.is_open:
            self._idle.append(connection)
        else:
            self._open.discard(connection)
        return reply

    async def _connection(self) -> _Connection:
        while self._idle:
            kept = self._idle.pop()
            if kept.is_open:
                return kept
            self._open.discard(kept)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._timeout_seconds):
                _, made = await loop.create_connection(_Connection, self._address.host, self._address.port)
        except OSError as error:
            raise ConnectionError(str(error)) from error
        self._open.add(made)
        return made
