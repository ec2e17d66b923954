"""Sending the stream: order, late labels, retries, failures, and the clock that waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.clock import ManualClock
from gateway.demo.client import Client
from gateway.demo.send import Pace, Pause, Sender, Tally, replay
from gateway.demo.stream import LateLabels, Row, Score

ROWS = [Row(n, {"nswprice": n % 4 / 3}, label=int(n % 4 > 1)) for n in range(1, 201)]


@pytest.fixture
async def client(fake: Any) -> AsyncIterator[Client]:
    """A client of the fake gateway."""
    async with Client(fake.address) as opened:
        yield opened


def sender_of(client: Client, tally: Tally, patience_seconds: float = 60.0) -> Sender:
    return Sender(client, tally, ManualClock(), model="electricity", run="r", patience_seconds=patience_seconds)


async def send(client: Client, rows: list[Row], tally: Tally, **options: Any) -> Score:
    """Replay the rows without pause or pace."""
    score = Score()
    late = LateLabels(delay_rows=48, batch=8)
    clock = ManualClock()

    def answered(row: Row, answer: int | None) -> None:
        if answer is not None:
            score.add(row, answer)

    everything: dict[str, Any] = {"pause": Pause(clock), "pace": Pace(0, clock)} | options
    await replay(rows, sender_of(client, tally), late, answered=answered, **everything)
    return score


async def test_rows_go_in_order_and_every_row_gets_its_own_label(client: Client, fake: Any) -> None:
    """The loop learns from (inputs, label) pairs joined by id: each must be its row's own."""
    tally = Tally()
    score = await send(client, ROWS, tally)
    ids = [body["id"] for body in fake.predictions]
    assert sorted(ids, key=lambda i: int(i[2:])) == [f"r-{row.number}" for row in ROWS]
    # Eight are in flight, so a row may overtake at most that many.
    assert all(abs(int(i[2:]) - place) <= 8 for place, i in enumerate(ids, start=1))
    labels = {item["id"]: item["label"] for batch in fake.feedback for item in batch}
    assert labels == {f"r-{row.number}": row.label for row in ROWS}
    assert score.accuracy == 1.0
    assert (tally.failed, tally.retried, tally.by_version) == (0, 0, {1: 200})


async def test_labels_come_a_day_later(client: Client, fake: Any) -> None:
    """A label that comes early would make the delay, and so the accuracy, a lie."""
    await send(client, ROWS, Tally())
    for batch, seen in zip(fake.feedback[:-1], fake.rows_before_label, strict=False):
        newest = max(int(item["id"][2:]) for item in batch)
        oldest = min(int(item["id"][2:]) for item in batch)
        assert newest + 48 - 8 <= seen
        assert seen <= oldest + 48 + 8 + 8


async def test_a_broken_connection_is_retried_with_a_fresh_id(client: Client, fake: Any) -> None:
    """The first id may be in the journal; answered twice under one id it would never be joined to its label."""
    fake.broken = 3
    tally = Tally()
    await send(client, ROWS[:1], tally)
    assert [body["id"] for body in fake.predictions] == ["r-1-3"]
    assert [item["id"] for batch in fake.feedback for item in batch] == ["r-1-3"]
    assert (tally.failed, tally.retried) == (0, 3)


async def test_every_answered_id_is_told_and_no_other(client: Client, fake: Any) -> None:
    """Whoever kills processes meanwhile compares these ids with the journal."""
    fake.broken, fake.refused = 1, [503]
    told: list[str] = []
    sender = Sender(client, Tally(), ManualClock(), model="electricity", run="r", acknowledged=told.append)
    for row in ROWS[:3]:
        await sender.predict(row)
    assert told == ["r-2", "r-3"]


async def test_a_request_that_is_never_answered_fails(client: Client, fake: Any) -> None:
    """Retrying for ever would hide an outage."""
    fake.broken = 1000
    tally = Tally()
    assert await sender_of(client, tally, patience_seconds=1.0).predict(ROWS[0]) is None
    assert tally.failed == 1
    assert "never answered" in tally.failures[0]


@pytest.mark.parametrize("status", [400, 429, 500, 503])
async def test_anything_but_2xx_is_a_failed_request(client: Client, fake: Any, status: int) -> None:
    """The demo promises 0 failed requests: a refusal counts, at once and without a second try."""
    fake.refused = [status]
    tally = Tally()
    score = await send(client, ROWS[:60], tally, in_flight=1)
    assert tally.failed == 1
    assert str(status) in tally.failures[0]
    assert score.rows == 59
    assert "r-1" not in {item["id"] for batch in fake.feedback for item in batch}


async def test_an_answer_without_the_class_is_a_failed_request(client: Client) -> None:
    """A 200 that can not be read is no answer."""
    tally = Tally()
    sender = Sender(client, tally, ManualClock(), model="electricity", run="r", output="other")
    assert await sender.predict(ROWS[0]) is None
    assert tally.failed == 1


async def test_pinned_rows_are_asked_in_one_request(client: Client, fake: Any) -> None:
    """The never-retrained baseline: many rows, one version, none of them part of the stream."""
    answers = await sender_of(client, Tally()).predict_pinned(ROWS[:8], version=1)
    assert answers == [row.label for row in ROWS[:8]]
    assert fake.predictions == []


async def test_nothing_is_sent_while_the_clock_stands(client: Client, fake: Any) -> None:
    """In the stream's time a job takes seconds; without the wait it would take weeks of rows."""
    clock = ManualClock()
    pause = Pause(clock)
    pause.hold()
    sending = asyncio.create_task(send(client, ROWS[:20], Tally(), pause=pause))
    for _ in range(50):
        await asyncio.sleep(0)
    assert fake.predictions == []
    clock.advance(2.5)
    pause.release()
    await sending
    assert len(fake.predictions) == 20


async def test_replay_ends_when_told(client: Client, fake: Any) -> None:
    """The last act stops as soon as its rollout has ended, and still sends the labels of what it sent."""
    await send(client, ROWS, Tally(), until=lambda: len(fake.predictions) >= 30)
    assert 30 <= len(fake.predictions) <= 30 + 8
    assert sum(map(len, fake.feedback)) == len(fake.predictions)


def test_waited_seconds_add_up_over_holds() -> None:
    """Seconds waited are printed: a hold in force counts, a repeated hold or release does not count twice."""
    clock = ManualClock()
    pause = Pause(clock)
    for _ in range(2):
        pause.hold()
        clock.advance(1.5)
        pause.hold()
        clock.advance(0.5)
        assert pause.is_held
        pause.release()
        pause.release()
        clock.advance(10)
    assert pause.seconds == 4.0
    pause.hold()
    clock.advance(1)
    assert pause.seconds == 5.0


async def test_pace_spaces_rows_evenly_and_saves_nothing_up() -> None:
    """After a pause no burst follows: the replay speed is a ceiling."""
    clock = ManualClock()
    start = clock.monotonic()
    pace = Pace(10, clock)
    for _ in range(21):
        await pace.wait()
    assert clock.monotonic() - start == pytest.approx(2.0)
    clock.advance(100)
    for _ in range(11):
        await pace.wait()
    assert clock.monotonic() - start == pytest.approx(2.0 + 100 + 1.0)
