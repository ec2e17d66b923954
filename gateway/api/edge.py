"""The edge: uvicorn's HTTP protocol with limits in time and size, and a lane past ASGI for predictions.

uvicorn alone holds half-sent requests for ever and takes headers of any size. Here each request has one absolute
deadline for its headers and one for its body, counted from the first byte and not renewed by later ones; an idle
connection may wait. Whoever does not read answers is cut off. Replies leave in the order of the requests.

One subclass of a class that is not a public interface: uvicorn is pinned to one minor version, and
tests/api/test_edge.py names every attribute this file relies on. One instance for each connection, one event loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any

import httptools
from msgspec import Struct
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from gateway.api.body import BodyTooSlow, HeadersTooLarge, HeadersTooSlow, MalformedRequest
from gateway.api.door import Head, read_head, refusal
from gateway.api.fast_lane import FastLane, KnownHead, LaneCall, as_lines

MOST_HEADER_BYTES = 16 * 1024
MOST_HEADERS = 100
MOST_WAITING = 64
"""Requests of one connection that wait for their answers at most; then nothing more is read from it."""

DRAIN_SECONDS = 0.25
"""How long an idle connection stays open at shutdown: a request that is on its way is still answered."""

_TOO_LARGE = f"the limits are {MOST_HEADER_BYTES} bytes and {MOST_HEADERS} fields"
_OTHER_WAY = frozenset({b"expect", b"content-encoding", b"transfer-encoding", b"upgrade"})
_IDLE, _HEAD, _BODY = range(3)


class Limits(Struct, frozen=True, kw_only=True):
    """What a connection may take. body_seconds None: the application decides; max_body_bytes bounds the lane alone."""

    header_seconds: float
    body_seconds: float | None
    stall_seconds: float
    max_body_bytes: int = 0


class Edge(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *arguments: Any, limits: Limits, lane: FastLane | None = None, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._limits = limits
        self._lane = lane
        self._phase = _IDLE
        self._head_bytes = 0  # of a head that came in several pieces
        self._requests = 0
        self._running: RequestResponseCycle | None = None  # in the application; `cycle` is the newest one
        self._head: Head | None = None  # of the newest request that took the lane
        self._call: LaneCall | None = None  # what that request asks
        self._parts: list[bytes] | None = None  # the body of a request that takes the lane
        self._is_entered = False  # the request that is arriving went to the application
        self._keep_alive = True
        self._slots: deque[_Slot] = deque()  # lane requests that wait for their answers, in order
        self._refusal: bytes | None = None  # the last thing that will be said here
        self._deadline: asyncio.TimerHandle | None = None
        self._deadline_of = (0, _IDLE)
        self._stalled: asyncio.TimerHandle | None = None
        self._seen = 0  # requests when idleness was last looked at
        self._idle: asyncio.TimerHandle | None = None
        self._is_draining = False

    # The transport speaks.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._idle = self.loop.call_later(self.timeout_keep_alive, self._close_when_idle)

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._deadline, self._stalled, self._idle):
            if timer is not None:
                timer.cancel()
        self._unset_keepalive_if_required()
        self._slots.clear()
        self._parts = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refusal is not None:
            return
        if self._lane is None or self._phase != _IDLE:
            self._parse(data)
            return
        end = data.find(b"\r\n\r\n") + 4
        known = self._lane.heads.get(data[:end])
        if known is not None and len(data) - end == known.body_bytes and self._may_take(known.head.raw):
            self._requests += 1
            self._keep_alive = True
            self._answer(known.call, known.head, data[end:])
            return
        before, requests = self._head, self._requests
        self._parse(data)
        is_whole = self._requests == requests + 1 and self._phase == _IDLE
        head, call = self._head, self._call
        if head is not None and call is not None and head is not before and is_whole and self._keep_alive:
            self._lane.heads.put(data[:end], KnownHead(head, call, len(data) - end))

    def _parse(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        requests, phase = self._requests, self._phase
        self._head_bytes = len(data) + (self._head_bytes if phase == _HEAD else 0)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # answered as plain HTTP
        except httptools.HttpParserError:
            self._refuse(MalformedRequest("this is not HTTP/1.1 as RFC 9112 has it"))
        if self._phase == _IDLE or self._refusal is not None:
            return
        if phase == _BODY or self._requests > requests + 1:
            self._head_bytes = self._size()  # the rest of these bytes was an earlier request's
        if self._phase == _HEAD and self._head_bytes > MOST_HEADER_BYTES:
            self._refuse(HeadersTooLarge(_TOO_LARGE))
        else:
            self._watch()

    def pause_writing(self) -> None:
        super().pause_writing()
        self.flow.pause_reading()
        if self._stalled is None:
            self._watch_reader()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None
        self._read_on()

    # The parser speaks.

    def on_message_begin(self) -> None:
        self._phase = _HEAD
        self._requests += 1
        self._is_entered = False
        self.url = b""
        self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._phase == _HEAD:  # else a trailer, which nobody asked for
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self._phase = _BODY
        if self._refusal is not None:
            return
        if len(self.headers) > MOST_HEADERS or (
            self._head_bytes > MOST_HEADER_BYTES and self._size() > MOST_HEADER_BYTES
        ):
            self._refuse(HeadersTooLarge(_TOO_LARGE))
        elif self._takes_lane():
            self._parts = []
            self._keep_alive = self.parser.get_http_version() != "1.0" and self.parser.should_keep_alive()
        else:
            self._enter_application()

    def on_body(self, body: bytes) -> None:
        if self._parts is not None:
            self._parts.append(body)
        elif self._is_entered and self._refusal is None:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._phase = _IDLE
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if self._parts is not None:
            assert self._call is not None, "found before the first part"
            parts, self._parts = self._parts, None
            self._head = read_head(self.headers)
            self._answer(self._call, self._head, parts[0] if len(parts) == 1 else b"".join(parts))
        elif self._is_entered and self._refusal is None:
            super().on_message_complete()

    def _size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    # The lane.

    def _takes_lane(self) -> bool:
        """True for what the lane answers as the application would, when nothing of the application is under way."""
        if self._lane is None or self.parser.get_method() != b"POST" or self._is_occupied():
            return False
        self._call = self._lane.call_of(self.url)
        if self._call is None:
            return False
        length = None
        for name, value in self.headers:
            if name == b"content-length":
                length = value
            elif name in _OTHER_WAY:
                return False
        if length is None or len(length) > 15 or not length.isdigit() or int(length) > self._limits.max_body_bytes:
            return False
        return self._lane.admits(self.headers)

    def _may_take(self, headers: Sequence[tuple[bytes, bytes]]) -> bool:
        return self._lane is not None and not self._is_occupied() and self._lane.admits(headers)

    def _answer(self, call: LaneCall, head: Head, body: bytes) -> None:
        slot = _Slot(self, self._keep_alive)
        self._slots.append(slot)
        if not self._keep_alive:
            self._refusal = b""  # the caller's last word: what follows is not read
        if len(self._slots) >= MOST_WAITING:
            self.flow.pause_reading()
        assert self._lane is not None
        self._lane.take(call, head, body, slot.reply)

    def _release(self) -> None:
        """Send what is answered and whose turn it is."""
        slots = self._slots
        while slots and (content := slots[0].content) is not None:
            slot = slots.popleft()
            self.server_state.total_requests += 1
            keep_alive = slot.keep_alive and not (self._is_draining and not slots)
            if self.transport.is_closing():
                continue
            self.transport.write(self._response(*content, keep_alive))
            if not keep_alive:
                slots.clear()
                self.transport.close()
                return
        if not slots:
            self._go_on()

    def _go_on(self) -> None:
        """No request of the lane waits any more: requests behind them may enter the application."""
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
        elif self._refusal is not None and not self._is_occupied():
            self._say_last()
        elif self.flow.read_paused:
            self._read_on()

    def _response(self, status: int, lines: bytes, body: bytes, keep_alive: bool) -> bytes:
        default = _default_lines(self.server_state.default_headers)
        last = b"\r\n" if keep_alive or b"\r\nconnection:" in b"\r\n" + lines else b"connection: close\r\n\r\n"
        return b"".join((STATUS_LINE[status], default, lines, last, body))

    # The application.

    def _enter_application(self) -> None:
        """What uvicorn does at the begin of a request, which was put off until now, and at the end of its headers."""
        self._is_entered = True
        url, headers = self.url, self.headers
        super().on_message_begin()
        self.url = url
        self.headers = self.scope["headers"] = headers
        self.expect_100_continue = any(n == b"expect" and v.lower() == b"100-continue" for n, v in headers)
        super().on_headers_complete()
        if self._is_draining:
            self.cycle.keep_alive = False

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        if self._slots:  # answers of the lane leave first
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, app))
        else:
            self._running = cycle
            super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._refusal is not None and not self._is_occupied():
            self._say_last()
        elif self._is_draining and not self._is_occupied():
            self._close_when_unused()

    def _is_occupied(self) -> bool:
        """True while a request is in the application, or waits for it: the newest one is answered last."""
        newest: RequestResponseCycle | None = self.cycle
        return newest is not None and not newest.response_complete

    # Limits.

    def _watch(self) -> None:
        """Set the deadline of the request that is arriving; more bytes of the same part do not move it."""
        part = (self._requests, self._phase)
        if self._deadline is not None:
            if self._deadline_of == part:
                return
            self._deadline.cancel()
            self._deadline = None
        seconds = self._limits.header_seconds if self._phase == _HEAD else self._limits.body_seconds
        if seconds is not None:
            self._deadline_of = part
            self._deadline = self.loop.call_later(seconds, self._too_slow)

    def _too_slow(self) -> None:
        self._deadline = None
        if self._phase == _HEAD:
            self._refuse(HeadersTooSlow(f"the headers did not arrive within {self._limits.header_seconds:g} s"))
        elif self._phase == _BODY:
            self._refuse(BodyTooSlow(f"the body did not arrive within {self._limits.body_seconds:g} s"))

    def _refuse(self, error: Exception) -> None:
        """Answer with this error once everything before it is answered, then close; nothing more is read."""
        path = self.url.partition(b"?")[0].decode("latin-1") if self._phase == _BODY else ""
        self._refusal = self._response(*as_lines(refusal(error, path)), keep_alive=False)
        is_in_application = self._is_entered and self._parts is None
        self._parts = None
        self.flow.pause_reading()
        if self._phase == _BODY and is_in_application and self._is_occupied():
            self._give_up_on_body()
        if not self._slots and not self._is_occupied():
            self._say_last()

    def _give_up_on_body(self) -> None:
        """The application waits for a body that will not come: it is told that the caller is gone."""
        cycle = self.cycle
        cycle.disconnected = cycle.response_complete = True
        cycle.message_event.set()
        if cycle is not self._running:  # it has not begun: those before it are still answered
            self.pipeline.popleft()
            self.cycle = self.pipeline[0][0] if self.pipeline else self._running  # type: ignore[assignment]
        elif cycle.response_started:
            self._refusal = b""

    def _say_last(self) -> None:
        if self._refusal and not self.transport.is_closing():
            self.transport.write(self._refusal)
        self.transport.close()

    def _read_on(self) -> None:
        is_full = len(self._slots) >= MOST_WAITING or bool(self.pipeline)
        if not (is_full or self.flow.write_paused) and self._refusal is None:
            self.flow.resume_reading()

    def _watch_reader(self, before: int | None = None) -> None:
        """Cut off a caller of whose answers nothing has left since the last look."""
        left = self.transport.get_write_buffer_size()
        if before is not None and left >= before:
            self.transport.abort()
        else:
            self._stalled = self.loop.call_later(self._limits.stall_seconds, self._watch_reader, left)

    def _close_when_idle(self) -> None:
        is_idle = self._seen == self._requests and self._phase == _IDLE and not self._slots and not self._is_occupied()
        if is_idle:
            self.transport.close()
            return
        self._seen = self._requests
        self._idle = self.loop.call_later(self.timeout_keep_alive, self._close_when_idle)

    # The end.

    def shutdown(self) -> None:
        """Finish what is under way; a request that is on its way now is answered, with `connection: close`."""
        self._is_draining = True
        if self._is_occupied():
            super().shutdown()
        else:
            self.loop.call_later(DRAIN_SECONDS, self._close_when_unused)

    def _close_when_unused(self) -> None:
        if not self._slots and not self._is_occupied() and not self.transport.is_closing():
            self.transport.close()


class _DefaultLines:
    """The server's own headers as lines, kept until uvicorn makes a new list of them, once a second."""

    def __init__(self) -> None:
        self._headers: Sequence[tuple[bytes, bytes]] = ()
        self._lines = b""

    def __call__(self, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
        if self._headers is not headers:
            self._headers, self._lines = headers, b"".join([b"%b: %b\r\n" % header for header in headers])
        return self._lines


_default_lines = _DefaultLines()


class _Slot:
    """The place of one answer in the row of a connection's answers."""

    __slots__ = ("_edge", "content", "keep_alive")

    def __init__(self, edge: Edge, keep_alive: bool) -> None:
        self._edge = edge
        self.keep_alive = keep_alive
        self.content: tuple[int, bytes, bytes] | None = None

    def reply(self, status: int, lines: bytes, body: bytes) -> None:
        """The answer; it leaves when those before it have left."""
        self.content = (status, lines, body)
        if self._edge._slots:  # noqa: SLF001 - empty once the connection is gone
            self._edge._release()  # noqa: SLF001
