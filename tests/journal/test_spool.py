"""The writer's files, also when the disk fails."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.clock import ManualClock
from gateway.errors import JournalUnavailable
from gateway.journal.journal import START
from gateway.journal.spool import SpoolWriter
from gateway.stores.embedded.journal import Stream

_KIB = 1024


def _writer(directory: Path, clock: ManualClock | None = None, segment_bytes: int = 64 * _KIB) -> SpoolWriter:
    return SpoolWriter(directory / "traffic", "serving-1", segment_bytes, clock or ManualClock())


def _payloads(directory: Path, clock: ManualClock | None = None) -> list[bytes]:
    stream = Stream(directory / "traffic", clock or ManualClock())
    records, _ = stream.read(START, 10_000)
    assert stream.damaged == 0
    stream.close()
    return [record.payload for record in records]


def test_a_record_is_readable_once_append_returned(tmp_path: Path) -> None:
    """The writer lives on: nothing is closed or synced before."""
    writer = _writer(tmp_path)
    assert writer.append([b"one", b"two"])
    assert writer.append([b"three"])
    assert _payloads(tmp_path) == [b"one", b"two", b"three"]
    writer.close()


def test_every_start_gets_an_epoch_of_its_own(tmp_path: Path) -> None:
    """(gateway, epoch, sequence) names a record for ever, so an epoch is never used again."""
    epochs = []
    for number in range(3):
        writer = _writer(tmp_path)
        writer.append([b"%d" % number])
        epochs.append(writer.epoch)
        writer.close()
    assert epochs == [1, 2, 3]
    assert _payloads(tmp_path) == [b"0", b"1", b"2"]


def test_two_writers_of_one_name_do_not_share_a_spool(tmp_path: Path) -> None:
    """A restarted process may overlap with its dying predecessor."""
    first, second = _writer(tmp_path), _writer(tmp_path)
    assert (first.epoch, second.epoch) == (1, 2)
    first.close()
    second.close()


def test_segments_are_named_by_their_first_sequence(tmp_path: Path) -> None:
    """Readers find a place without an index."""
    writer = _writer(tmp_path, segment_bytes=100)
    for _ in range(5):
        writer.append([b"x" * 20])
    names = sorted(path.name for path in writer.directory.glob("*.seg"))
    assert [int(name.removesuffix(".seg")) for name in names] == [1, 3, 5]
    writer.close()


def test_a_record_larger_than_a_segment_gets_its_own(tmp_path: Path) -> None:
    """max_record_bytes is a policy, segment_bytes a setting: either may be the larger."""
    writer = _writer(tmp_path, segment_bytes=100)
    large = b"y" * 5000
    assert writer.append([b"small"])
    assert writer.append([large])
    assert writer.append([b"small"])
    assert _payloads(tmp_path) == [b"small", large, b"small"]
    writer.close()


def test_space_that_was_not_used_is_given_back_at_the_end(tmp_path: Path) -> None:
    """A restart must not cost a whole segment each time."""
    writer = _writer(tmp_path)
    writer.append([b"x" * 76])
    (segment,) = writer.directory.glob("*.seg")
    assert segment.stat().st_size == 64 * _KIB
    writer.close()
    assert segment.stat().st_size == 100


def test_times_grow_strictly_even_when_the_clock_goes_back(tmp_path: Path) -> None:
    """The merged order of a spool must be its own order."""
    clock = ManualClock()
    writer = _writer(tmp_path, clock)
    writer.append([b"1", b"2"])
    clock.advance(-86_400)
    writer.append([b"3"])
    stream = Stream(tmp_path / "traffic", clock)
    records, _ = stream.read(START, 10)
    times = [record.time_ns for record in records]
    assert [record.payload for record in records] == [b"1", b"2", b"3"]
    assert times == sorted(set(times))
    stream.close()
    writer.close()


def test_an_idle_writer_follows_a_busy_one_after_the_clock_went_back(tmp_path: Path) -> None:
    """Else its floor would hold up every reader for as long as the clock was set back."""
    clock = ManualClock()
    busy, idle = _writer(tmp_path, clock), _writer(tmp_path, clock)
    busy.append([b"before"])
    clock.advance(-86_400)
    busy.append([b"after"])
    idle.tick()
    assert _payloads(tmp_path, clock) == [b"before", b"after"]
    busy.close()
    idle.close()


def test_an_idle_writer_holds_readers_up_until_it_ticks(tmp_path: Path) -> None:
    """It could still write an older record; its tick is the promise that it will not."""
    clock = ManualClock()
    idle = _writer(tmp_path, clock)
    clock.advance(1)
    busy = _writer(tmp_path, clock)
    busy.append([b"x"])
    assert _payloads(tmp_path, clock) == []
    clock.advance(1)
    idle.tick()
    assert _payloads(tmp_path, clock) == [b"x"]
    idle.close()
    busy.close()


def test_what_comes_after_close_is_dropped_and_counted(tmp_path: Path) -> None:
    """A late record at shutdown must not raise."""
    writer = _writer(tmp_path)
    writer.close()
    assert not writer.append([b"late"])
    assert writer.dropped == 1
    writer.tick()
    writer.close()


Pwrite = Callable[[int, bytes, int], int]


def _fails(monkeypatch: pytest.MonkeyPatch, name: str, calls: int, short: bool = False) -> None:
    """The next `calls` calls of os.<name> fail; `short`: a write that takes half."""
    real = getattr(os, name)
    left = [calls]

    def failing(descriptor: int, *arguments: object) -> object:
        if left[0] <= 0:
            return real(descriptor, *arguments)
        left[0] -= 1
        if short:
            data, place = arguments
            assert isinstance(data, bytes)
            return real(descriptor, data[: len(data) // 2], place)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, name, failing)


@pytest.mark.parametrize("short", [False, True])
def test_a_failed_write_drops_its_batch_and_the_next_one_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, short: bool
) -> None:
    """A full disk must never stop predictions, and must heal without a person."""
    writer = _writer(tmp_path)
    assert writer.append([b"1"])
    _fails(monkeypatch, "pwrite", 1, short)
    assert not writer.append([b"lost" * 10, b"lost too", b"lost as well"])
    assert writer.append([b"2"])
    assert writer.append([b"3"])
    assert writer.dropped == 3
    assert _payloads(tmp_path) == [b"1", b"2", b"3"]
    writer.close()
    assert _payloads(tmp_path) == [b"1", b"2", b"3"]


def test_a_dropped_batch_that_can_not_be_wiped_gives_up_its_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two records must never share a place."""
    writer = _writer(tmp_path)
    writer.append([b"1"])
    _fails(monkeypatch, "pwrite", 2)
    assert not writer.append([b"lost", b"lost"])
    assert writer.append([b"2"])
    stream = Stream(tmp_path / "traffic", ManualClock())
    records, _ = stream.read(START, 10)
    assert [(record.sequence, record.payload) for record in records] == [(1, b"1"), (4, b"2")]
    assert stream.damaged == 2
    stream.close()
    writer.close()


def test_no_space_for_a_segment_drops_until_there_is_some(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Preallocation is where a full disk shows first."""
    writer = _writer(tmp_path, segment_bytes=100)
    writer.append([b"x" * 60])
    _fails(monkeypatch, "posix_fallocate", 2)
    assert not writer.append([b"y" * 60])
    assert not writer.append([b"y" * 60])
    assert writer.append([b"z" * 60])
    assert _payloads(tmp_path) == [b"x" * 60, b"z" * 60]
    writer.close()


def test_a_failed_sync_is_told_and_its_segment_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a failed fsync the kernel forgets the pages: a second one on the same file would lie."""
    writer = _writer(tmp_path)
    writer.append([b"1"])
    assert writer.sync()
    _fails(monkeypatch, "fdatasync", 1)
    assert not writer.sync()
    writer.append([b"2"])
    assert writer.sync()
    assert len(list(writer.directory.glob("*.seg"))) == 2
    assert _payloads(tmp_path) == [b"1", b"2"]
    writer.close()


def test_a_directory_that_can_not_be_written_is_said_at_the_start(tmp_path: Path) -> None:
    """Start-up is the moment to refuse; later nothing raises."""
    (tmp_path / "traffic").write_text("a file")
    with pytest.raises(JournalUnavailable, match="traffic"):
        _writer(tmp_path)


@pytest.mark.parametrize("name", ["../out", "", "a/b"])
def test_a_gateway_name_is_never_a_path(tmp_path: Path, name: str) -> None:
    """It becomes a directory."""
    with pytest.raises(ValueError, match="name"):
        SpoolWriter(tmp_path / "traffic", name, 1000, ManualClock())


_FORKS = """
import os, sys
from pathlib import Path
from gateway.clock import SystemClock
from gateway.journal.spool import SpoolWriter
writer = SpoolWriter(Path(sys.argv[1]), "serving-1", 65536, SystemClock())
writer.append([b"x"])
if os.fork():
    os._exit(0)
sys.stdout.write("child lives\\n"); sys.stdout.flush()
sys.stdin.read()
"""


def test_a_forked_child_does_not_keep_a_dead_writers_spool_alive(tmp_path: Path) -> None:
    """flock goes with the file description, which a child shares: readers would wait for a writer that is gone."""
    with subprocess.Popen(
        [sys.executable, "-c", _FORKS, str(tmp_path / "traffic")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"child lives\n"
        process.wait(10)
        other = _writer(tmp_path)
        assert other.epoch == 2
        stream = Stream(tmp_path / "traffic", ManualClock())
        stream.read(START, 1)
        assert not stream._spools["serving-1", 1].is_live
        stream.close()
        other.close()
