"""Whatever writers, clocks and disks do, readers see one order, everything once, and never an exception."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.clock import ManualClock
from gateway.journal.journal import START
from gateway.journal.merge import Written
from gateway.journal.spool import SpoolWriter
from gateway.stores.embedded.journal import Stream

_writer_names = st.sampled_from(["a", "b", "c"])
_steps = st.lists(
    st.one_of(
        st.tuples(st.just("write"), _writer_names, st.integers(1, 4)),
        st.tuples(st.just("write"), _writer_names, st.integers(1, 4)),
        st.tuples(st.just("tick"), _writer_names, st.just(0)),
        st.tuples(st.just("close"), _writer_names, st.just(0)),
        st.tuples(st.just("move"), st.just(""), st.sampled_from([0, 1, 20, 20, 5000, -3000])),
        st.tuples(st.just("read"), st.just(""), st.integers(1, 7)),
    ),
    max_size=40,
)


@contextmanager
def _directory() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp())
    try:
        yield path / "traffic"
    finally:
        shutil.rmtree(path)


def _everything(directory: Path, clock: ManualClock, limit: int) -> tuple[list[Written], int]:
    stream = Stream(directory, clock)
    offset, found = START, []
    while True:
        records, offset = stream.read(offset, limit)
        if not records:
            break
        found += records
    damaged = stream.damaged
    stream.close()
    return found, damaged


def _same(records: list[Written]) -> list[tuple[str, int, int, bytes]]:
    return [(one.gateway, one.epoch, one.sequence, one.payload) for one in records]


@settings(max_examples=60, deadline=None)
@given(_steps, st.integers(1, 9))
def test_reading_while_it_is_written_gives_the_order_of_a_later_replay(
    steps: list[tuple[str, str, int]], limit: int
) -> None:
    """Invariant 9: the same journal gives the same decisions. The watermark must hold back exactly what is needed."""
    clock = ManualClock()
    writers: dict[str, SpoolWriter] = {}
    written = 0
    with _directory() as directory:
        stream = Stream(directory, clock)
        offset, live = START, []
        for step, name, amount in steps:
            if step == "move":
                clock.advance(amount / 1000)
            elif step == "read":
                records, offset = stream.read(offset, amount)
                live += records
            elif step == "write":
                if name not in writers:
                    writers[name] = SpoolWriter(directory, name, 300, clock)
                assert writers[name].append([b"%d" % (written + index) for index in range(amount)])
                written += amount
            elif name in writers:
                if step == "tick":
                    writers[name].tick()
                else:
                    writers.pop(name).close()
        for writer in writers.values():
            writer.close()
        while True:
            records, offset = stream.read(offset, limit)
            if not records:
                break
            live += records
        assert stream.damaged == 0
        stream.close()
        replayed, _ = _everything(directory, clock, 10_000)
        in_chunks, _ = _everything(directory, clock, limit)
    assert sorted(int(one.payload) for one in replayed) == list(range(written))
    assert _same(live) == _same(replayed) == _same(in_chunks)


def _six_records(directory: Path) -> Path:
    """A finished spool with six records; the path of its one segment."""
    writer = SpoolWriter(directory, "a", 4096, ManualClock())
    for number in range(6):
        writer.append([bytes([65 + number]) * (number + 3)])
    writer.close()
    (segment,) = writer.directory.glob("*.seg")
    return segment


def test_a_segment_cut_at_any_byte_is_a_valid_prefix() -> None:
    """A killed writer or a power cut tears the tail: what was whole before it stays readable."""
    with _directory() as directory:
        segment = _six_records(directory)
        clock = ManualClock()
        whole, _ = _everything(directory, clock, 100)
        content = segment.read_bytes()
        ends = [record.end for record in whole]
        for size in range(len(content), -1, -1):
            os.truncate(segment, size)
            found, _ = _everything(directory, clock, 100)
            assert found == whole[: sum(end <= size for end in ends)]


def test_a_flipped_bit_costs_the_damaged_record_and_no_other() -> None:
    """In any byte, the length included; and it is counted."""
    with _directory() as directory:
        segment = _six_records(directory)
        clock = ManualClock()
        whole, _ = _everything(directory, clock, 100)
        content = segment.read_bytes()
        for place in range(len(content)):
            hit = sum(record.end <= place for record in whole)
            damaged = bytearray(content)
            damaged[place] ^= 1 << (place % 8)
            segment.write_bytes(damaged)
            found, counted = _everything(directory, clock, 1 + place % 4)
            assert _same(found) == _same(whole[:hit] + whole[hit + 1 :])
            assert counted == 1


def test_a_live_spool_with_a_damaged_record_goes_on_behind_it() -> None:
    """The damage is known for sure once a later record is behind the floor."""
    clock = ManualClock()
    with _directory() as directory:
        writer = SpoolWriter(directory, "a", 4096, clock)
        for payload in (b"one", b"two"):
            writer.append([payload])
        (segment,) = writer.directory.glob("*.seg")
        stream = Stream(directory, clock)
        with segment.open("r+b") as file:
            file.seek(27 + 25)
            file.write(b"\xff")
        records, offset = stream.read(START, 10)
        assert [record.payload for record in records] == [b"one"]
        assert stream.read(offset, 10) == ([], offset)
        writer.append([b"three"])
        clock.advance(2)
        writer.tick()
        records, offset = stream.read(offset, 10)
        assert [record.payload for record in records] == [b"three"]
        assert stream.damaged == 1
        assert stream.read(offset, 10) == ([], offset)
        stream.close()
        writer.close()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=12))
def test_no_damage_makes_a_reader_raise_or_invent(damage: list[tuple[int, int]]) -> None:
    """Any bytes anywhere: what is returned was written, in order."""
    with _directory() as directory:
        segment = _six_records(directory)
        clock = ManualClock()
        whole, _ = _everything(directory, clock, 100)
        content = bytearray(segment.read_bytes())
        for place, value in damage:
            if place < len(content):
                content[place] = value
        segment.write_bytes(content)
        found, _ = _everything(directory, clock, 3)
        remaining = iter(_same(whole))
        assert all(one in remaining for one in _same(found))
