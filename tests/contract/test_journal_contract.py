"""The promises of `gateway.journal.journal.Journal`."""

from __future__ import annotations

import asyncio

import pytest

from gateway.journal.journal import START, Offset, TrafficJournal
from gateway.journal.record import Entry, TrafficRecord
from gateway.stores import Stores
from tests.journal.making import alert, label, prediction


def _write(stores: Stores, count: int, gateways: int = 2, each: int = 3) -> list[str]:
    """Write `count` predictions in turns of `each`, from several gateways; their ids in order of writing."""
    tees = [stores.open_tee("traffic", f"serving-{number}") for number in range(gateways)]
    ids = [f"id-{number}" for number in range(count)]
    for turn in range(0, count, each):
        tee = tees[turn // each % gateways]
        for id_ in ids[turn : turn + each]:
            tee.offer(prediction(id_))
        assert tee.flush()
    for tee in tees:
        tee.close()
    return ids


async def _all(journal: TrafficJournal, limit: int, after: Offset = START) -> list[Entry[TrafficRecord]]:
    found: list[Entry[TrafficRecord]] = []
    while True:
        batch = await journal.read(after, limit)
        assert len(batch.entries) <= limit
        if not batch.entries:
            assert batch.offset == after
            return found
        found += batch.entries
        after = batch.offset


async def test_everything_flushed_is_read_once_in_time_order(stores: Stores) -> None:
    """Every record with its place, and no place twice."""
    ids = _write(stores, 20)
    entries = await _all(stores.traffic, 100)
    assert sorted(entry.record.id for entry in entries) == sorted(ids)
    assert [entry.time_ns for entry in entries] == sorted(entry.time_ns for entry in entries)
    assert len({entry.place for entry in entries}) == 20


@pytest.mark.parametrize("limit", [1, 2, 7, 19])
async def test_any_chunking_gives_the_same_order(stores: Stores, limit: int) -> None:
    """Promises 1 and 2."""
    _write(stores, 20, gateways=3)
    assert await _all(stores.traffic, limit) == await _all(stores.traffic, 1000)


async def test_both_kinds_of_record_and_both_streams(stores: Stores) -> None:
    """A stream's records never show up in the other."""
    with stores.open_tee("traffic", "serving-1") as traffic, stores.open_tee("control", "control") as control:
        traffic.offer(prediction("a"))
        traffic.offer(label("a"))
        control.offer(alert("x"))
        assert traffic.flush()
        assert control.flush()
    assert [entry.record for entry in await _all(stores.traffic, 9)] == [prediction("a"), label("a")]
    assert [entry.record for entry in (await stores.control.read(START, 9)).entries] == [alert("x")]


async def test_an_unknown_stream_is_refused(stores: Stores) -> None:
    """A typing error must not open a third stream."""
    with pytest.raises(ValueError, match="traffic"):
        stores.open_tee("trafic", "serving-1")


async def test_a_live_writers_record_is_readable_soon(stores: Stores) -> None:
    """Promise 5; also while a second writer is idle."""
    with stores.open_tee("traffic", "serving-1") as tee, stores.open_tee("traffic", "serving-2"):
        after = START
        for number in range(5):
            tee.offer(prediction(str(number)))
            assert tee.flush()
            batch = await stores.traffic.read(after, 10)
            while not batch.entries:
                await stores.traffic.wait(after, 5)
                batch = await stores.traffic.read(after, 10)
            assert [entry.record.id for entry in batch.entries] == [str(number)]
            after = batch.offset


async def test_waiting_ends_at_the_time_out(stores: Stores) -> None:
    """Readers have other things to do."""
    await asyncio.wait_for(stores.traffic.wait(START, 0.02), 5)
    _write(stores, 3)
    end = await stores.traffic.end()
    await asyncio.wait_for(stores.traffic.wait(end, 0.02), 5)


async def test_an_old_offset_stays_valid(stores: Stores) -> None:
    """Promise 3: a checkpoint from before a restart, with writers that came since."""
    _write(stores, 4)
    batch = await stores.traffic.read(START, 3)
    _write(stores, 6)
    assert len(await _all(stores.traffic, 2, batch.offset)) == 7


async def test_seek_misses_nothing_that_is_not_older(stores: Stores) -> None:
    """Rollouts and exports start by time."""
    _write(stores, 20)
    entries = await _all(stores.traffic, 100)
    for index in (0, 7, 19):
        offset = await stores.traffic.seek(entries[index].time_ns)
        assert await _all(stores.traffic, 3, offset) == entries[index:]
    assert await stores.traffic.seek(0) == START
    assert await _all(stores.traffic, 3, await stores.traffic.seek(entries[-1].time_ns + 1)) == []


async def test_the_end_is_behind_everything(stores: Stores) -> None:
    """A new monitor may start there."""
    assert await stores.traffic.end() == START
    _write(stores, 5)
    end = await stores.traffic.end()
    assert await _all(stores.traffic, 3, end) == []
    _write(stores, 4)
    assert len(await _all(stores.traffic, 3, end)) == 4


async def test_lag_is_the_time_between_the_first_unread_and_the_newest(stores: Stores) -> None:
    """Zero when all is read."""
    assert await stores.traffic.lag_seconds(START) == 0.0
    _write(stores, 12)
    entries = await _all(stores.traffic, 100)
    expected = (entries[-1].time_ns - entries[4].time_ns) / 1e9
    after = (await stores.traffic.read(START, 4)).offset
    assert await stores.traffic.lag_seconds(after) == pytest.approx(expected)
    assert await stores.traffic.lag_seconds(await stores.traffic.end()) == 0.0


async def test_trim_keeps_everything_at_or_behind_the_offset(stores: Stores) -> None:
    """Promises 3 and 6: an offset from before goes on at what is left."""
    _write(stores, 2000, each=50)
    entries = await _all(stores.traffic, 500)
    batch = await stores.traffic.read(START, 1900)
    await stores.traffic.trim(batch.offset)
    left = await _all(stores.traffic, 500)
    assert left[-100:] == entries[-100:]
    assert len(left) < 2000
    assert await _all(stores.traffic, 500, batch.offset) == entries[1900:]
    early = (await stores.traffic.read(START, 1)).offset
    assert await _all(stores.traffic, 500, early) == left[1:]
    await stores.traffic.trim(await stores.traffic.end())
    assert await _all(stores.traffic, 500) == []
    _write(stores, 3, gateways=1)
    places = {entry.place for entry in await _all(stores.traffic, 500)}
    assert len(places) == 3
    assert not places & {entry.place for entry in entries}
