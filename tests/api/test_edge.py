"""The edge on real sockets: limits in time and size, order, callers who vanish or do not read, the end.

Time limits of a few hundredths of a second stand for seconds; nothing here waits longer than it must.
"""

from __future__ import annotations

import asyncio
import inspect
import re
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, cast

import httptools
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route
from uvicorn.protocols.http import flow_control, httptools_impl

from gateway.api.door import Head
from gateway.api.edge import MOST_HEADER_BYTES, MOST_HEADERS, Edge, Limits
from gateway.api.fast_lane import FastLane, KnownHeads, Reply

PATIENCE = 20.0


class Lane:
    """Answers with the body it got; keeps requests whose body begins with `wait` until told."""

    def __init__(self) -> None:
        self.kept: dict[bytes, Reply] = {}
        self.taken: list[bytes] = []
        self.heads = KnownHeads()

    def admits(self, headers: object) -> bool:
        return True

    def call_of(self, path: bytes) -> object:
        return self if path == b"/predict" else None

    def take(self, call: object, head: Head, body: bytes, reply: Reply) -> None:
        self.taken.append(body)
        if body.startswith(b"wait"):
            self.kept[body] = reply
        elif body.startswith(b"large"):
            reply(*sent(b"x" * 4_000_000))
        else:
            reply(*sent(body))

    def answer(self, body: bytes) -> None:
        self.kept.pop(body)(*sent(body))


def sent(body: bytes) -> tuple[int, bytes, bytes]:
    return 200, b"content-length: %d\r\n" % len(body), body


class Kit:
    """A server with a lane and an application that echoes; `gate` holds requests to /held."""

    def __init__(self) -> None:
        self.lane = Lane()
        self.gate = asyncio.Event()
        self.entered = asyncio.Event()
        self.bodies: list[bytes] = []
        self.port = 0
        self.server: uvicorn.Server

    async def echo(self, request: Request) -> PlainTextResponse:
        body = await request.body()
        self.bodies.append(body)
        return PlainTextResponse(b"app:" + body)

    async def held(self, request: Request) -> PlainTextResponse:
        self.entered.set()
        await self.gate.wait()
        return PlainTextResponse("held")

    async def large(self, request: Request) -> StreamingResponse:
        return StreamingResponse(iter([b"x" * 1_000_000] * 20))

    async def dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def exchange(self, *pieces: bytes) -> bytes:
        """Send the pieces, read until the server closes."""
        reader, writer = await self.dial()
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        async with asyncio.timeout(PATIENCE):
            answer = await reader.read()
        writer.close()
        return answer


@asynccontextmanager
async def running(header: float = 5.0, body: float = 5.0, stall: float = 5.0, **config: Any) -> AsyncIterator[Kit]:
    kit = Kit()
    routes = [
        Route("/echo", kit.echo, methods=["POST"]),
        Route("/predict", kit.echo, methods=["POST"]),
        Route("/held", kit.held),
        Route("/large", kit.large),
    ]
    limits = Limits(header_seconds=header, body_seconds=body, stall_seconds=stall, max_body_bytes=10_000)
    edge = partial(Edge, limits=limits, lane=cast(FastLane, kit.lane))
    listening = socket.create_server(("127.0.0.1", 0))
    kit.port = listening.getsockname()[1]
    kit.server = uvicorn.Server(
        uvicorn.Config(
            Starlette(routes=routes),
            http=cast("type[asyncio.Protocol]", edge),
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            **config,
        )
    )
    serving = asyncio.create_task(kit.server._serve([listening]))
    try:
        await until(lambda: kit.server.started)
        yield kit
    finally:
        kit.gate.set()
        kit.server.should_exit = True
        await serving
        listening.close()


@pytest.fixture
async def kit() -> AsyncIterator[Kit]:
    async with running() as made:
        yield made


def post(body: bytes, *headers: str, path: str = "/predict") -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: g", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def bodies(answer: bytes) -> list[bytes]:
    """The bodies of answers with a Content-Length, in order."""
    found = []
    while answer:
        head, _, rest = answer.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        assert length, answer
        found.append(rest[: int(length[1])])
        answer = rest[int(length[1]) :]
    return found


CLOSE = "Connection: close"


async def until(check: Callable[[], object]) -> None:
    """Ask again: what is waited for happens in a server that tells nobody."""
    async with asyncio.timeout(PATIENCE):
        while not check():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


def test_every_internal_of_uvicorn_that_the_edge_relies_on_is_there() -> None:
    """The class is not a public interface: an upgrade must show here first, not in production."""
    protocol = inspect.getsource(httptools_impl.HttpToolsProtocol.__init__)
    names = "app config connections cycle expect_100_continue flow headers loop parser pipeline scope server_state"
    for name in [*names.split(), "timeout_keep_alive", "timeout_keep_alive_task", "transport"]:
        assert f"self.{name} = " in protocol or f"self.{name}: " in protocol, name
    cycle = inspect.getsource(httptools_impl.RequestResponseCycle.__init__)
    for name in ("disconnected", "keep_alive", "message_event", "response_complete", "response_started"):
        assert f"self.{name} = " in cycle, name
    methods = {
        "_start_asgi_task": ["cycle", "app"],
        "_unset_keepalive_if_required": [],
        "connection_lost": ["exc"],
        "connection_made": ["transport"],
        "data_received": ["data"],
        "on_body": ["body"],
        "on_header": ["name", "value"],
        "on_headers_complete": [],
        "on_message_begin": [],
        "on_message_complete": [],
        "on_response_complete": [],
        "on_url": ["url"],
        "pause_writing": [],
        "resume_writing": [],
        "shutdown": [],
    }
    for name, arguments in methods.items():
        method = getattr(httptools_impl.HttpToolsProtocol, name)
        assert list(inspect.signature(method).parameters)[1:] == arguments, name
    assert "self.scope = {" in inspect.getsource(httptools_impl.HttpToolsProtocol.on_message_begin)
    assert "self.pipeline.appendleft((self.cycle, app))" in inspect.getsource(
        httptools_impl.HttpToolsProtocol.on_headers_complete
    )
    completed = inspect.getsource(httptools_impl.HttpToolsProtocol.on_response_complete)
    assert "self.pipeline.pop()" in completed
    assert "self._start_asgi_task(" in completed
    assert httptools_impl.STATUS_LINE[431].startswith(b"HTTP/1.1 431 ")
    for name in ("pause_reading", "resume_reading", "write_paused"):
        assert name in inspect.getsource(flow_control.FlowControl), name
    assert {"default_headers", "total_requests"} <= set(vars(uvicorn.server.ServerState()))
    for name in ("get_http_version", "get_method", "should_keep_alive", "feed_data"):
        assert hasattr(httptools.HttpRequestParser, name)


async def test_the_lane_and_the_application_answer_on_one_connection(kit: Kit) -> None:
    answer = await kit.exchange(
        post(b"one") + post(b"two", path="/echo") + post(b"three") + post(b"four") + post(b"five", CLOSE, path="/echo")
    )
    assert bodies(answer) == [b"one", b"app:two", b"app:three", b"app:four", b"app:five"]
    assert kit.lane.taken == [b"one"]  # behind a request in the application everybody goes through it


async def test_pipelined_answers_keep_their_order(kit: Kit) -> None:
    """The second is ready before the first, the third goes through the application."""
    reader, writer = await kit.dial()
    writer.write(post(b"wait 1") + post(b"2") + post(b"3", path="/echo") + post(b"4", CLOSE))
    await until(lambda: kit.lane.kept)
    assert kit.bodies == []
    kit.lane.answer(b"wait 1")
    async with asyncio.timeout(PATIENCE):
        assert bodies(await reader.read()) == [b"wait 1", b"2", b"app:3", b"app:4"]
    writer.close()


async def test_many_pipelined_requests_are_all_answered(kit: Kit) -> None:
    count = 500
    requests = b"".join(post(str(number).encode()) for number in range(count - 1)) + post(b"last", CLOSE)
    answers = bodies(await kit.exchange(requests))
    assert answers == [str(number).encode() for number in range(count - 1)] + [b"last"]


async def test_a_body_in_pieces_is_put_together(kit: Kit) -> None:
    request = post(b"0123456789", CLOSE)
    answer = await kit.exchange(*[request[place : place + 1] for place in range(len(request))])
    assert bodies(answer) == [b"0123456789"]
    assert kit.lane.taken == [b"0123456789"]


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /echo HTTP/1.1\r\nX: " + b"x" * (MOST_HEADER_BYTES + 10) + b"\r\n\r\n", b"431"),
        (b"GET /" + b"x" * (MOST_HEADER_BYTES + 10) + b" HTTP/1.1\r\n\r\n", b"431"),
        (b"GET /echo HTTP/1.1\r\n" + b"X: y\r\n" * (MOST_HEADERS + 1) + b"\r\n", b"431"),
        (b"nonsense\r\n\r\n", b"400"),
        (b"POST /predict HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"400"),
        (b"POST /predict HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", b"400"),
        (b"POST /predict HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc", b"400"),
        (b"POST /predict HTTP/1.1\r\nContent-Length: -3\r\n\r\n", b"400"),
        (b"POST /predict HTTP/1.1\r\nContent-Length : 3\r\n\r\nabc", b"400"),
        (b"POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"400"),
    ],
    ids=lambda value: repr(value[-60:]) if isinstance(value, bytes) else None,
)
async def test_bad_requests_are_refused_and_closed(kit: Kit, request_bytes: bytes, status: bytes) -> None:
    """One problem answer, then the end: what follows on the connection can not be trusted."""
    answer = await kit.exchange(request_bytes + post(b"smuggled"))
    assert answer.startswith(b"HTTP/1.1 " + status), answer[:300]
    assert b"application/problem+json" in answer
    assert b"connection: close" in answer
    assert len(re.findall(rb"HTTP/1\.1 \d", answer)) == 1
    assert kit.lane.taken == kit.bodies == []


async def test_headers_without_an_end_are_refused_while_they_arrive(kit: Kit) -> None:
    pieces = [b"GET /echo HTTP/1.1\r\nX: ", *[b"x" * 4096] * 5]
    assert (await kit.exchange(*pieces)).startswith(b"HTTP/1.1 431")


async def test_pipelined_requests_do_not_count_as_headers(kit: Kit) -> None:
    """Many small requests in one read, the last cut off in its headers: that is no large header."""
    many = b"".join(post(b"x" * 900) for _ in range(40))
    last = post(b"last", CLOSE)
    assert bodies(await kit.exchange(many + last[:20], last[20:]))[-1] == b"last"


async def test_trailers_are_dropped(kit: Kit) -> None:
    answer = await kit.exchange(
        b"POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\nabc\r\n0\r\n"
        + b"X: y\r\n" * 300
        + b"\r\n"
    )
    assert bodies(answer) == [b"app:abc"]


@pytest.mark.parametrize(
    ("pieces", "slug"),
    [
        ([b"POST /predict HTT"], b"headers-too-slow"),
        ([post(b"0123456789")[:-5]], b"body-too-slow"),
        ([post(b"0123456789", path="/echo")[:-5]], b"body-too-slow"),
        ([b"POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"], b"body-too-slow"),
        ([post(b"0123456789", path="/nothing")[:-5]], b"no-such-path"),  # answered at once, then closed
    ],
)
async def test_what_does_not_arrive_is_408_and_closed(pieces: list[bytes], slug: bytes) -> None:
    async with running(header=0.05, body=0.05) as kit:
        answer = await kit.exchange(*pieces)
    if slug == b"no-such-path":
        assert answer.startswith(b"HTTP/1.1 404")
    else:
        assert answer.startswith(b"HTTP/1.1 408"), answer
        assert slug in answer
    assert len(re.findall(rb"HTTP/1\.1 \d", answer)) <= 2
    assert kit.lane.taken == []


async def test_more_bytes_do_not_renew_a_deadline() -> None:
    """A byte now and then kept a connection open for ever."""
    async with running(header=0.2) as kit:
        reader, writer = await kit.dial()
        writer.write(b"GET /echo HTTP/1.1\r\n")
        answered = asyncio.create_task(reader.read())
        async with asyncio.timeout(PATIENCE):
            while not answered.done():
                writer.write(b"X")
                await asyncio.wait([answered], timeout=0.02)
        assert b"408" in answered.result()
        writer.close()


async def test_answers_before_a_refusal_still_leave(kit: Kit) -> None:
    reader, writer = await kit.dial()
    writer.write(post(b"wait") + b"nonsense\r\n\r\n")
    await until(lambda: kit.lane.kept)
    kit.lane.answer(b"wait")
    async with asyncio.timeout(PATIENCE):
        answer = await reader.read()
    assert answer.index(b"wait") < answer.index(b"HTTP/1.1 400")
    writer.close()


async def test_a_refusal_waits_for_the_application(kit: Kit) -> None:
    reader, writer = await kit.dial()
    writer.write(b"GET /held HTTP/1.1\r\nHost: g\r\n\r\n")
    await kit.entered.wait()
    writer.write(b"nonsense\r\n\r\n")
    await writer.drain()
    kit.gate.set()
    async with asyncio.timeout(PATIENCE):
        answer = await reader.read()
    assert answer.index(b"held") < answer.index(b"HTTP/1.1 400")
    writer.close()


async def test_a_body_that_stops_behind_a_held_request_fails_only_itself() -> None:
    async with running(body=0.05) as kit:
        reader, writer = await kit.dial()
        writer.write(b"GET /held HTTP/1.1\r\nHost: g\r\n\r\n" + post(b"0123456789", path="/echo")[:-5])
        await kit.entered.wait()
        edge = next(iter(kit.server.server_state.connections))
        async with asyncio.timeout(PATIENCE):
            await until(lambda: edge._refusal is not None)  # type: ignore[union-attr]
        kit.gate.set()
        async with asyncio.timeout(PATIENCE):
            answer = await reader.read()
        assert answer.index(b"held") < answer.index(b"HTTP/1.1 408")
        writer.close()


async def test_an_idle_connection_may_wait_longer_than_a_request(kit: Kit) -> None:
    async with running(header=0.03, body=0.03) as quick:
        reader, writer = await quick.dial()
        for number in (b"1", b"2"):
            await asyncio.sleep(0.1)
            writer.write(post(number))
            async with asyncio.timeout(PATIENCE):
                await reader.readuntil(b"\r\n\r\n")
                assert await reader.readexactly(1) == number
        writer.close()


async def test_a_connection_that_is_never_used_is_closed() -> None:
    async with running(timeout_keep_alive=0) as kit:
        assert await kit.exchange() == b""


@pytest.mark.parametrize("path", ["/predict", "/large"])
async def test_a_caller_who_does_not_read_is_cut_off(path: str) -> None:
    """Else a few of them hold memory for as long as they like."""
    async with running(stall=0.05) as kit:
        caller = socket.create_connection(("127.0.0.1", kit.port))
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        request = post(b"large") * 5 if path == "/predict" else b"GET /large HTTP/1.1\r\nHost: g\r\n\r\n"
        caller.sendall(request)
        async with asyncio.timeout(PATIENCE):
            await until(lambda: kit.server.server_state.connections)
            await until(lambda: not kit.server.server_state.connections)
        caller.close()


async def test_a_caller_who_reads_slowly_is_served() -> None:
    async with running(stall=0.3) as kit:
        reader, writer = await kit.dial()
        writer.write(post(b"large", CLOSE))
        size = 0
        async with asyncio.timeout(PATIENCE):
            while piece := await reader.read(400_000):
                size += len(piece)
                await asyncio.sleep(0.05)
        assert size > 4_000_000
        writer.close()


async def test_a_caller_who_leaves_disturbs_nobody(kit: Kit) -> None:
    reader, writer = await kit.dial()
    writer.write(post(b"wait 1") + post(b"wait 2"))
    await until(lambda: len(kit.lane.kept) == 2)
    writer.transport.abort()
    await until(lambda: not kit.server.server_state.connections)
    kit.lane.answer(b"wait 2")
    kit.lane.answer(b"wait 1")
    assert bodies(await kit.exchange(post(b"next", CLOSE))) == [b"next"]
    assert await reader.read() == b""


async def test_at_shutdown_what_is_under_way_is_answered_and_idle_connections_are_closed(kit: Kit) -> None:
    waiting, idle, late = [await kit.dial() for _ in range(3)]
    waiting[1].write(post(b"wait"))
    await until(lambda: kit.lane.kept)
    for connection in (idle, late):
        connection[1].write(post(b"hello"))
        await connection[0].readuntil(b"hello")
    kit.server.should_exit = True
    edges = list(kit.server.server_state.connections)
    async with asyncio.timeout(PATIENCE):
        await until(lambda: all(edge._is_draining for edge in edges))  # type: ignore[union-attr]
        late[1].write(post(b"late"))
        answer = await late[0].read()
        assert b"connection: close" in answer
        assert answer.endswith(b"late")
        assert await idle[0].read() == b""
        kit.lane.answer(b"wait")
        answer = await waiting[0].read()
        assert b"connection: close" in answer
        assert answer.endswith(b"wait")
    for _, writer in (waiting, idle, late):
        writer.close()


@pytest.mark.parametrize("header", ["Expect: 100-continue", "Content-Encoding: identity", "Upgrade: h2c"])
async def test_what_the_lane_does_not_know_goes_through_the_application(kit: Kit, header: str) -> None:
    answer = await kit.exchange(post(b"abc", header, CLOSE))
    assert b"app:abc" in answer
    assert kit.lane.taken == []


async def test_a_body_over_the_limit_is_the_applications_to_refuse(kit: Kit) -> None:
    await kit.exchange(post(b"x" * 10_001, CLOSE))
    assert kit.lane.taken == []
