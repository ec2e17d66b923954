"""The audit trail by pages, and live events."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest

from gateway.api.admin.trail import _events, event_of
from gateway.journal.journal import START
from gateway.journal.record import Alert, Cleared, Decision, Entry, Place
from gateway.names import Role
from tests.api.admin.conftest import MODEL, Office

ALERT = Alert(
    id="a1",
    model=MODEL,
    version=1,
    role=Role.CHAMPION,
    kind="data_drift",
    detector="panel",
    evidence=30.0,
    threshold=20.0,
    severity="high",
    message="nswprice moved\nfar",
)
CLEARED = Cleared("c1", "a1", MODEL, 1, Role.CHAMPION, "data_drift", "the traffic is like the reference again")
DECISION = Decision(id="d1", model=MODEL, actor="rollout", action="start", reason="new")


async def test_the_audit_trail_is_read_by_pages_or_from_its_end(admin: httpx.AsyncClient) -> None:
    for weight in range(1, 6):
        await admin.post(f"/admin/models/{MODEL}/weights", json={"weights": {"2": weight}, "reason": f"r{weight}"})
    last = (await admin.get("/admin/audit", params={"last": 2})).json()["entries"]
    assert [entry["reason"] for entry in last] == ["r4", "r5"]
    first = (await admin.get("/admin/audit", params={"after": 0, "limit": 3})).json()
    rest = (await admin.get("/admin/audit", params={"after": first["next"], "limit": 1000})).json()
    numbers = [entry["number"] for entry in (*first["entries"], *rest["entries"])]
    assert numbers == sorted(set(numbers))
    only = (await admin.get("/admin/audit", params={"subject": MODEL})).json()["entries"]
    assert {entry["action"] for entry in only} == {"weights"}
    assert (await admin.get("/admin/audit", params={"after": "-1"})).status_code == 400


def test_an_event_is_one_frame_whatever_its_text_holds() -> None:
    """A line break inside a message must not forge an event."""
    frame = event_of(Entry(ALERT, 2_000_000_000, Place("control", 1, 1)), "ab12").decode()
    assert frame.endswith("\n\n")
    lines = frame.strip().split("\n")
    assert [line.partition(":")[0] for line in lines] == ["event", "data", "id"]
    data = json.loads(lines[1].removeprefix("data: "))
    assert (data["id"], data["time"], data["message"]) == ("a1", 2.0, "nswprice moved\nfar")


async def test_events_come_as_they_are_written_and_end_with_the_gateway(office: Office) -> None:
    """A stream that outlived the stop would hold the process up."""
    stream = _events(office.ports, await office.ports.control.end())
    assert await anext(stream) == b": connected\n\n"
    for record in (ALERT, CLEARED, DECISION):
        office.ports.tee.offer(record)
    office.ports.tee.flush()
    events = [await anext(stream) for _ in range(3)]
    assert [event.split(b"\n")[0] for event in events] == [b"event: alert", b"event: cleared", b"event: decision"]
    assert b'"alert":"a1"' in events[1]
    waiting = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    office.ports.closing.set()
    with pytest.raises(StopAsyncIteration):
        await asyncio.wait_for(waiting, 5)


async def test_a_reader_that_comes_back_goes_on_behind_its_last_event(admin: httpx.AsyncClient, office: Office) -> None:
    office.ports.tee.offer(ALERT)
    office.ports.tee.flush()
    after = (await office.ports.control.read(START, 10)).offset.hex()
    office.ports.tee.offer(DECISION)
    office.ports.tee.flush()
    stream = _events(office.ports, type(START)(bytes.fromhex(after)))
    await anext(stream)
    assert (await anext(stream)).startswith(b"event: decision\n")
    await stream.aclose()  # type: ignore[attr-defined]
    answer = await admin.get("/admin/events", headers={"last-event-id": "not hex"})
    assert answer.status_code == 400
