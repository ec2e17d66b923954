"""The tee: one write a turn, never an exception, and the truth about what is where."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from gateway.clock import SystemClock
from gateway.journal.codec import decode_traffic
from gateway.journal.journal import START
from gateway.journal.record import Record
from gateway.journal.spool import SpoolWriter
from gateway.journal.tee import Tee
from gateway.stores.embedded.journal import SpoolJournal, Stream
from tests.journal.making import noted, prediction


def _tee(directory: Path, gateway: str = "serving-1", sync_seconds: float = 0.05) -> Tee:
    clock = SystemClock()
    return Tee(SpoolWriter(directory / "traffic", gateway, 65536, clock), sync_seconds, clock)


def _ids(directory: Path) -> list[str]:
    stream = Stream(directory / "traffic", SystemClock())
    records, _ = stream.read(START, 10_000)
    stream.close()
    return [decode_traffic(record.payload).id for record in records]


def test_one_flush_is_one_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write for each record would cost more than the model."""
    writes = noted(monkeypatch, "pwrite")
    with _tee(tmp_path) as tee:
        for number in range(20):
            tee.offer(prediction(str(number)))
        assert writes == []
        assert tee.flush()
        assert len(writes) == 1
        assert tee.flush()
        assert len(writes) == 1
    assert _ids(tmp_path) == [str(number) for number in range(20)]


def test_a_record_that_can_not_be_encoded_does_not_take_others_along(tmp_path: Path) -> None:
    """The turn's answers say `dropped`, the other records are written all the same."""
    with _tee(tmp_path) as tee:
        tee.offer(prediction("good"))
        tee.offer(prediction("bad", inputs=object()))
        assert not tee.flush()
        tee.offer(prediction("next"))
        assert tee.flush()
    assert _ids(tmp_path) == ["good", "next"]


async def test_synced_means_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Durability `strict` answers only then; many waiting answers share one sync."""
    synced = noted(monkeypatch, "fdatasync")
    with _tee(tmp_path, sync_seconds=3600) as tee:
        assert await tee.synced()
        assert synced == []
        tee.offer(prediction("a"))
        tee.flush()
        assert await tee.synced()
        assert len(synced) == 1
        assert await tee.synced()
        assert len(synced) == 1


async def test_a_failed_sync_is_told_to_who_waits_and_to_who_comes_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`X-Journal: strict` must never be said of a record that may be lost."""

    def fails(_: int) -> None:
        raise OSError(errno.EIO, "gone")

    with _tee(tmp_path, sync_seconds=3600) as tee:
        tee.offer(prediction("a"))
        tee.flush()
        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", fails)
            assert not await tee.synced()
        assert not await tee.synced()
        tee.offer(prediction("b"))
        tee.flush()
        assert await tee.synced()


async def test_a_thousand_records_are_synced_without_being_asked(tmp_path: Path) -> None:
    """The second bound on what a power cut can take."""
    with _tee(tmp_path, sync_seconds=3600) as tee:
        for number in range(1000):
            tee.offer(prediction(str(number)))
        tee.flush()
        clock = SystemClock()
        while tee._synced < 1000:
            await clock.sleep(0.001)


async def test_a_lone_record_is_synced_soon(tmp_path: Path) -> None:
    """The first bound: sync_seconds."""
    with _tee(tmp_path, sync_seconds=0.03) as tee:
        tee.offer(prediction("a"))
        tee.flush()
        clock = SystemClock()
        while tee._synced < 1:
            await clock.sleep(0.001)


async def test_an_idle_tee_does_not_hold_readers_up(tmp_path: Path) -> None:
    """Its beat moves the floor: another process's record is readable within the time-out of one wait."""
    clock = SystemClock()
    journal = SpoolJournal(Stream(tmp_path / "traffic", clock), decode_traffic, clock)
    with _tee(tmp_path, "idle"), _tee(tmp_path, "busy") as busy:
        busy.offer(prediction("a"))
        busy.flush()
        await journal.wait(START, 10)
        batch = await journal.read(START, 10)
        assert [entry.record.id for entry in batch.entries] == ["a"]
    journal.close()


def test_everything_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written, bytes, dropped: what an operator sees of a full disk."""

    def total(name: str) -> float:
        return REGISTRY.get_sample_value(f"gateway_journal_{name}_total", {"stream": "traffic"}) or 0.0

    before = {name: total(name) for name in ("records", "written_bytes", "dropped")}
    tee = _tee(tmp_path)
    records: list[Record] = [prediction("a"), prediction("b")]
    for record in records:
        tee.offer(record)
    assert tee.flush()
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", lambda *_: 0)
        tee.offer(prediction("lost"))
        assert not tee.flush()
    tee.offer(prediction("bad", inputs=object()))
    assert not tee.flush()
    tee.close()
    assert total("records") - before["records"] == 2
    assert total("dropped") - before["dropped"] == 2
    assert total("written_bytes") - before["written_bytes"] == tee._writer.written_bytes > 100


def test_after_close_records_are_dropped_not_raised(tmp_path: Path) -> None:
    """A shadow may end after the tee did."""
    tee = _tee(tmp_path)
    tee.offer(prediction("a"))
    tee.close()
    tee.offer(prediction("late"))
    assert not tee.flush()
    tee.close()
    assert _ids(tmp_path) == ["a"]
