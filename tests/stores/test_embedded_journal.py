"""Spools on a disk: real kills, places that are kept, segments that go."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gateway.clock import ManualClock
from gateway.journal.codec import decode_traffic, encode_record
from gateway.journal.journal import START
from gateway.journal.spool import SpoolWriter
from gateway.settings import Settings
from gateway.stores import connect
from gateway.stores.embedded.journal import SpoolJournal, Stream
from gateway.stores.embedded.spools import SpoolReader
from tests.journal.making import alert, noted, prediction
from tests.stores.running import lines_until_killed, program

_WRITES_UNTIL_KILLED = """
import os, sys
from pathlib import Path
from gateway.settings import Settings
from gateway.stores import connect
from tests.journal.making import prediction
stores = connect(Settings(data=Path(sys.argv[1]), segment_bytes=65536))
tee = stores.open_tee("traffic", "serving-1")
for turn in range(1_000_000):
    size = 1 + turn % 5
    ids = [f"{sys.argv[2]}-{turn}-{number}" for number in range(size)]
    for id_ in ids:
        tee.offer(prediction(id_))
    if tee.flush():
        os.write(1, (" ".join(ids) + "\\n").encode())
"""


async def test_sigkill_loses_no_acknowledged_record_and_doubles_none(tmp_path: Path) -> None:
    """Invariant 1. The pipe is the client: what it was told of is in the journal, once, after every kill."""
    acknowledged: list[str] = []
    stores = connect(Settings(data=tmp_path))
    for life, lines in enumerate((1, 40, 700, 3000)):
        with program(_WRITES_UNTIL_KILLED, tmp_path, life) as process:
            said = lines_until_killed(process, lines)
        acknowledged += [id_ for line in said if line.endswith(b"\n") for id_ in line.decode().split()]
        found = []
        after = START
        while (batch := await stores.traffic.read(after, 1000)).entries:
            found += [entry.record.id for entry in batch.entries]
            after = batch.offset
        assert len(found) == len(set(found))
        assert set(acknowledged) <= set(found)
        # At most the one turn that was written and not yet told may be there besides.
        assert len(found) - len(acknowledged) <= 5 * (life + 1)
    assert {entry.place.epoch for entry in (await stores.traffic.read(START, 100_000)).entries} == {1, 2, 3, 4}
    stores.close()


def _stream(directory: Path) -> Stream:
    return Stream(directory / "traffic", ManualClock())


def _writer(directory: Path, segment_bytes: int = 65536, gateway: str = "a") -> SpoolWriter:
    return SpoolWriter(directory / "traffic", gateway, segment_bytes, ManualClock())


def test_going_on_from_the_last_offset_reads_only_what_is_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The common case must not scan the segment again: a monitor reads every few milliseconds, for days."""
    writer = _writer(tmp_path, segment_bytes=1 << 20)
    stream = _stream(tmp_path)
    writer.append([b"x" * 100] * 5000)
    records, offset = stream.read(START, 5000)
    assert len(records) == 5000
    read = noted(monkeypatch, "pread")
    writer.append([b"new"])
    records, _ = stream.read(offset, 10)
    assert [record.payload for record in records] == [b"new"]
    assert min(place for _, _, place in read) == 5000 * 124
    assert stream.read(offset, 10)[0] == records
    read.clear()
    assert _stream(tmp_path).read(offset, 10)[0] == records
    assert min(place for _, _, place in read) == 0
    stream.close()
    writer.close()


def test_several_readers_may_share_a_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Monitor and rollout controller stand at different offsets; neither costs the other its place."""
    writer = _writer(tmp_path)
    writer.append([b"%03d" % number for number in range(200)])
    stream = _stream(tmp_path)
    fast, slow = stream.read(START, 150), stream.read(START, 10)
    read = noted(monkeypatch, "pread")
    assert stream.read(fast[1], 1)[0][0].payload == b"150"
    assert stream.read(slow[1], 1)[0][0].payload == b"010"
    assert [place for _, _, place in read] == [150 * 27, 10 * 27]
    stream.close()
    writer.close()


def test_a_dead_spool_that_was_read_costs_nothing_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every restart leaves one behind."""
    for _ in range(5):
        writer = _writer(tmp_path)
        writer.append([b"x"])
        writer.close()
    stream = _stream(tmp_path)
    _, offset = stream.read(START, 100)
    stream.read(offset, 100)
    open_files = [path.readlink() for path in Path("/proc/self/fd").iterdir() if path.exists()]
    assert not [path for path in open_files if path.is_relative_to(tmp_path / "traffic" / "a")]
    monkeypatch.setattr(os, "pread", lambda *_: pytest.fail("read again"))
    assert stream.read(offset, 100) == ([], offset)
    stream.close()


def test_trimmed_epochs_disappear_from_disk_and_offset_but_the_newest_number_stays(tmp_path: Path) -> None:
    """Old epochs must not pile up, and a number must not come again."""
    for number in range(4):
        writer = _writer(tmp_path)
        writer.append([b"%d" % number])
        writer.close()
    stream = _stream(tmp_path)
    records, offset = stream.read(START, 100)
    stream.trim(offset)
    assert [path.name for path in (tmp_path / "traffic" / "a").iterdir()] == ["0000000004"]
    writer = _writer(tmp_path)
    writer.append([b"new"])
    assert writer.epoch == 5
    found, after = stream.read(offset, 100)
    assert [(record.epoch, record.payload) for record in found] == [(5, b"new")]
    assert len(after) < len(offset)
    assert len(records) == 4
    stream.close()
    writer.close()


def test_trim_leaves_a_live_writer_its_segment(tmp_path: Path) -> None:
    """Even when all of it was read."""
    writer = _writer(tmp_path, segment_bytes=100)
    for number in range(7):
        writer.append([b"%020d" % number])
    stream = _stream(tmp_path)
    _, offset = stream.read(START, 100)
    other = _stream(tmp_path)
    other.read(START, 1)
    stream.trim(offset)
    assert len(list(writer.directory.glob("*.seg"))) == 1
    writer.append([b"new"])
    assert [record.payload for record in stream.read(offset, 9)[0]] == [b"new"]
    # One that had listed the segments before they went reads what is left, and calls nothing damaged.
    assert [record.payload for record in other.read(START, 9)[0]][-1] == b"new"
    assert other.damaged == 0
    stream.close()
    other.close()
    writer.close()


async def test_a_record_of_an_unknown_kind_is_skipped_and_counted(tmp_path: Path) -> None:
    """An older gateway beside a newer one must go on reading, even when nothing else is left in the block."""
    clock = ManualClock()
    journal = SpoolJournal(_stream(tmp_path), decode_traffic, clock)
    writer = SpoolWriter(tmp_path / "traffic", "a", 65536, clock)
    writer.append([encode_record(alert("x")), encode_record(alert("y")), encode_record(prediction("a"))])
    first = await journal.read(START, 1)
    assert [entry.record.id for entry in first.entries] == ["a"]
    assert (await journal.read(first.offset, 1)).entries == []
    assert journal.damaged == 2
    journal.close()
    writer.close()


def test_a_directory_without_a_lock_is_not_a_spool_yet(tmp_path: Path) -> None:
    """A writer is just making it, or died while it did."""
    (tmp_path / "traffic" / "a" / "0000000001").mkdir(parents=True)
    (tmp_path / "traffic" / "a" / "notes.txt").write_text("left by a person")
    stream = _stream(tmp_path)
    assert stream.read(START, 10) == ([], START)
    writer = _writer(tmp_path)
    assert writer.epoch == 2
    writer.append([b"x"])
    assert len(stream.read(START, 10)[0]) == 1
    stream.close()
    writer.close()


def test_a_stream_that_nobody_wrote_is_empty(tmp_path: Path) -> None:
    """Readers may start first."""
    stream = _stream(tmp_path)
    assert stream.read(START, 10) == ([], START)
    assert stream.end() == START
    assert not stream.has_news(START, look=True)
    stream.close()


def test_trim_at_any_place_takes_nothing_behind_it(tmp_path: Path) -> None:
    """Promise 6, at each border of the segments."""
    for upto in range(8):
        home = tmp_path / str(upto)
        writer = _writer(home, segment_bytes=100)
        for number in range(7):
            writer.append([b"%020d" % number])
        writer.close()
        stream = _stream(home)
        whole, _ = stream.read(START, 100)
        _, offset = stream.read(START, upto) if upto else ([], START)
        stream.trim(offset)
        left, _ = stream.read(START, 100)
        # Two records lie in each segment; the seventh is alone in the last.
        assert left == whole[7 if upto == 7 else upto // 2 * 2 :]
        stream.close()


def test_damage_in_a_live_spool_is_judged_only_behind_the_watermark(tmp_path: Path) -> None:
    """A write that is just happening looks like damage: its successor may be visible before it is."""
    writer = _writer(tmp_path)
    writer.append([b"one"])
    writer.append([b"two"])
    writer.append([b"three"])
    (segment,) = writer.directory.glob("*.seg")
    with segment.open("r+b") as file:
        file.seek(27 + 25)
        file.write(b"\xff")
    lost: list[int] = []
    reader = SpoolReader(writer.directory, "a", 1, lost.append)
    floor = reader.probe()
    assert floor is not None
    assert [record.payload for record in reader.records(0, floor - 1)] == [b"one"]
    assert lost == []
    assert [record.payload for record in reader.records(1, floor)] == [b"three"]
    assert [record.payload for record in reader.records(1, floor)] == [b"three"]
    assert lost == [1]
    reader.close()
    writer.close()
