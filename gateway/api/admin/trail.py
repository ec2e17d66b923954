"""What happened: the audit trail, and alerts, their ends and decisions as they come (server-sent events)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator

import msgspec
from starlette.responses import Response, StreamingResponse

from gateway.api.admin.call import Asked, Call
from gateway.api.control import ControlPorts
from gateway.api.problems import json_response
from gateway.documents.store import AuditEntry
from gateway.documents.token import Scope
from gateway.errors import Fault, InvalidInput
from gateway.journal.journal import Offset
from gateway.journal.record import Alert, Cleared, ControlRecord, Decision, Entry

MOST_ENTRIES = 1000
_PAGE = 500
_BEAT_SECONDS = 10.0
_WAIT_SECONDS = 0.5
_KINDS = {Alert: "alert", Cleared: "cleared", Decision: "decision"}


async def show_audit(asked: Asked) -> Response:
    """Audit entries, oldest first: `after` a number, or the `last` so many (100). `subject` keeps one subject."""
    subject = asked.request.query_params.get("subject")
    limit = asked.number("limit", 100, MOST_ENTRIES)
    if "after" in asked.request.query_params:
        entries = [e async for e in _entries(asked.ports, asked.number("after", 0, 2**62), subject, limit)]
    else:
        last = asked.number("last", limit, MOST_ENTRIES)
        entries = list(deque([e async for e in _entries(asked.ports, 0, subject, None)], maxlen=last))
    return json_response({"entries": entries, "next": entries[-1].number if entries else None})


async def _entries(
    ports: ControlPorts, after: int, subject: str | None, limit: int | None
) -> AsyncIterator[AuditEntry]:
    given = 0
    while page := await ports.config.audit(after, _PAGE):
        for entry in page:
            if subject is None or entry.subject == subject or entry.subject.startswith(f"{subject}@"):
                yield entry
                given += 1
                if given == limit:
                    return
        after = page[-1].number


async def follow_events(asked: Asked) -> Response:
    """Alerts, clearings and decisions from now on, or from behind Last-Event-ID, until the gateway stops."""
    sent = asked.request.headers.get("last-event-id")
    try:
        after = Offset(bytes.fromhex(sent)) if sent else await asked.ports.control.end()
    except ValueError:
        detail = "must be an id that this stream gave"
        raise InvalidInput(f"Last-Event-ID {detail}", [Fault("header Last-Event-ID", detail)]) from None
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(_events(asked.ports, after), media_type="text/event-stream", headers=headers)


async def _events(ports: ControlPorts, after: Offset) -> AsyncIterator[bytes]:
    yield b": connected\n\n"
    beat = ports.clock.monotonic()
    while not ports.closing.is_set():
        batch = await ports.control.read(after, 100)
        for number, entry in enumerate(batch.entries, start=1):
            # Only the last of a batch knows the offset behind it: a reader that comes back may see some again.
            yield event_of(entry, batch.offset.hex() if number == len(batch.entries) else "")
        after = batch.offset
        if not batch.entries:
            if ports.clock.monotonic() - beat > _BEAT_SECONDS:
                beat = ports.clock.monotonic()
                yield b": beat\n\n"
            await _wait(ports, after)


async def _wait(ports: ControlPorts, after: Offset) -> None:
    """Until something may be new, half a second passed, or the process ends."""
    closing = asyncio.create_task(ports.closing.wait())
    newer = asyncio.create_task(ports.control.wait(after, _WAIT_SECONDS))
    try:
        await asyncio.wait({closing, newer}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        closing.cancel()
        newer.cancel()
        await asyncio.gather(closing, newer, return_exceptions=True)


def event_of(entry: Entry[ControlRecord], offset: str) -> bytes:
    """One server-sent event. Pure. JSON has no line breaks, so one data line holds it."""
    kind = _KINDS[type(entry.record)]
    fields = {"time": entry.time_ns / 1e9, **msgspec.structs.asdict(entry.record)}
    lines = [f"event: {kind}", f"data: {msgspec.json.encode(fields).decode()}"]
    if offset:
        lines.append(f"id: {offset}")
    return ("\n".join(lines) + "\n\n").encode()


CALLS = (
    Call("GET", "/admin/audit", Scope.READ, show_audit),
    Call("GET", "/admin/events", Scope.READ, follow_events),
)
