"""The small HTTP client of the hot loop: what it must get right although it is small."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from gateway.demo.client import Client
from gateway.settings import Address

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Serve = Callable[[Handler], Awaitable[Address]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Starts a raw TCP server around a handler."""
    servers = []

    async def start(handler: Handler) -> Address:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await handler(reader, writer)
            except (asyncio.IncompleteReadError, ConnectionError):
                pass
            finally:
                writer.close()

        servers.append(await asyncio.start_server(handle, "127.0.0.1", 0))
        return Address(host="127.0.0.1", port=servers[-1].sockets[0].getsockname()[1])

    yield start
    for server in servers:
        server.close()


async def read_request(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Head and body of the next request."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    return head, await reader.readexactly(length)


async def test_one_connection_carries_calls_one_after_another(serve: Serve) -> None:
    """A new connection for each of 43,000 rows would be most of the cost."""
    connections = []

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(1)
        while True:
            _, body = await read_request(reader)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))

    async with Client(await serve(echo)) as client:
        assert [(await client.post("/", b"%d" % n)).body for n in range(3)] == [b"0", b"1", b"2"]
    assert len(connections) == 1


async def test_concurrent_calls_get_their_own_answers(serve: Serve) -> None:
    """An answer that reached another row would be scored against the wrong label."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            _, body = await read_request(reader)
            reply = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n"
            for byte in reply % (len(body), body):
                writer.write(bytes([byte]))

    async with Client(await serve(echo)) as client:
        bodies = [b"row %d" % number for number in range(20)]
        replies = await asyncio.gather(*(client.post("/", body) for body in bodies))
    assert [reply.body for reply in replies] == bodies


async def test_sends_path_host_and_headers(serve: Serve) -> None:
    """Pinned requests carry their version in a header."""
    heads = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await read_request(reader))[0])
        writer.write(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")

    address = await serve(note)
    async with Client(address) as client:
        for _ in range(2):
            assert (await client.post("/predict", b"{}", {"x-model-version": "1"})).status == 202
    assert heads[0].startswith(b"POST /predict HTTP/1.1\r\nhost: %s\r\n" % str(address).encode())
    assert b"\r\nx-model-version: 1\r\n" in heads[0]
    assert len(heads) == 2


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf", b"nonsense\r\n\r\n"])
async def test_a_broken_answer_is_a_connection_error(serve: Serve, answer: bytes) -> None:
    """A process that is killed mid-answer must read as a retry, never as an answer."""

    async def break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(answer)

    async with Client(await serve(break_off)) as client:
        with pytest.raises(ConnectionError):
            await client.post("/", b"{}")


async def test_silence_is_a_connection_error(serve: Serve) -> None:
    """A hung gateway must not hang the demo."""

    async def stay_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with Client(await serve(stay_silent), timeout_seconds=0.05) as client:
        with pytest.raises(ConnectionError, match="no answer within"):
            await client.post("/", b"{}")


async def test_nobody_listening_is_a_connection_error(serve: Serve) -> None:
    """The seconds in which a killed process is started again look like this."""

    async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        return

    free = Address(host="127.0.0.1", port=1)
    async with Client(free) as client:
        with pytest.raises(ConnectionError):
            await client.post("/", b"{}")
