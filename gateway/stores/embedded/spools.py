"""Reading one spool: its segments, frame by frame, from any sequence number on.

The layout and what a live writer promises: `gateway.journal.spool`. Nothing here raises for damaged files; what can
not be read is stepped over and counted once. Not thread-safe; one journal owns it.
"""

from __future__ import annotations

import fcntl
import os
from bisect import bisect_right
from collections import OrderedDict, deque
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from gateway.journal.codec import HEADER_BYTES, Frame, find_frame, read_frame, read_header
from gateway.journal.merge import Written
from gateway.journal.spool import FLOOR, LOCK, SEGMENT, Word, segment_name

_FIRST_CHUNK: Final = 4096
_LARGEST_CHUNK: Final = 262_144
_POSITIONS: Final = 64
_RETRY_NS: Final = 1_000_000_000
_UNWRITTEN: Final = bytes(HEADER_BYTES)


class _Position(NamedTuple):
    segment: int  # first sequence of the segment
    end: int  # byte at which the next frame starts


class SpoolReader:
    """One (gateway, epoch). `on_damage(n)`: n records are lost here.

    A dead spool is final: once its lock could be taken it never grows again.
    """

    def __init__(self, directory: Path, gateway: str, epoch: int, on_damage: Callable[[int], None]) -> None:
        """Raises OSError or ValueError when the spool is not (or no longer) complete enough to be read."""
        self.directory = directory
        self.gateway = gateway
        self.epoch = epoch
        self.is_live = True
        self._on_damage = on_damage
        self._lock = os.open(directory / LOCK, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._floor = Word(directory / FLOOR, writable=False)
        except (OSError, ValueError):
            os.close(self._lock)
            raise
        self._segments: list[int] = []
        self._file: tuple[int, int] | None = None  # (segment, descriptor)
        self._positions: OrderedDict[int, _Position] = OrderedDict()
        self._counted: set[_Position] = set()
        self._stuck: tuple[_Position, int] | None = None  # (where no successor was found, when)
        self._finished_at: int | None = None  # the last sequence of a dead spool, once a reader came so far
        self._tail = (0, 0)  # (sequence, time_ns) of the newest record seen by `last`

    def probe(self) -> int | None:
        """The floor of a live writer, None when it is dead; the segments are listed behind that, so they hold it."""
        if not self.is_live:
            return None
        with suppress(OSError):
            fcntl.flock(self._lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            fcntl.flock(self._lock, fcntl.LOCK_UN)
            self.is_live = False
        floor = self._floor.get()
        self.list_segments()
        if self.is_live:
            return floor
        self._release()  # dead spools are many: they keep no descriptor
        return None

    def list_segments(self) -> None:
        """Look which segments there are now."""
        try:
            names = [path.name for path in self.directory.iterdir()]
        except FileNotFoundError:
            names = []
        except OSError:
            return
        numbers = [name.removesuffix(SEGMENT) for name in names if name.endswith(SEGMENT)]
        self._segments = sorted(int(number) for number in numbers if number.isdecimal())

    @property
    def segments(self) -> list[int]:
        """First sequence numbers of the segments, ascending."""
        return self._segments

    def records(self, after: int, until_ns: int) -> Iterator[Written]:
        """Records behind sequence `after`, in order, not newer than `until_ns` (of a live spool: at most its floor)."""
        if self._finished_at is not None and after >= self._finished_at:
            return
        position = self._locate(after)
        ended_at: int | None = after
        while position is not None:
            ended_at = yield from self._segment(position, after, until_ns)
            if ended_at is None:
                return
            position = self._next_segment(position.segment, max(ended_at, after))
        if not self.is_live:
            self._finished_at = max(ended_at or 0, after)
            self._close_file()

    def remember(self, record: Written) -> None:
        """Reading will go on behind this record: keep where that is."""
        self._keep(record.sequence, _Position(record.segment, record.end))

    def last(self, until_ns: int) -> tuple[int, int]:
        """(sequence, time_ns) of the newest record not newer than `until_ns`, which must not shrink; zeros: none."""
        for first in reversed(self._segments):
            start = max(first - 1, self._tail[0])
            newest = deque(self.records(start, until_ns), maxlen=1)
            if newest:
                self.remember(newest[0])
                self._tail = (newest[0].sequence, newest[0].time_ns)
            if newest or start == self._tail[0]:
                break
        return self._tail

    def before(self, time_ns: int) -> int:
        """The last sequence that is older than `time_ns`; 0 when there is none."""
        until_ns = time_ns - 1 if not self.is_live else min(time_ns - 1, self._floor.get())
        older = [first for first in self._segments if self._starts_ns(first) < time_ns]
        start = (older[-1] if older else self._segments[0] if self._segments else 1) - 1
        sequence = start
        for record in self.records(start, until_ns):
            sequence = record.sequence
        return sequence

    def trim(self, upto: int) -> None:
        """Delete the segments whose records all have a sequence of at most `upto`. Keeps the lock and the floor."""
        self.list_segments()
        following = self._segments[1:]
        whole = [first for first, after in zip(self._segments, following, strict=False) if after - 1 <= upto]
        if not self.is_live and self._segments and whole == self._segments[:-1]:
            last = self._segments[-1] - 1
            for record in self.records(last, 2**63):
                last = record.sequence
            if last <= upto:
                whole.append(self._segments[-1])
        for first in whole:
            with suppress(OSError):
                self._path(first).unlink()
        self.list_segments()

    def close(self) -> None:
        """Let go of the files."""
        self._close_file()
        if self.is_live:
            self._release()

    def _release(self) -> None:
        self._floor.close()
        os.close(self._lock)

    def _locate(self, after: int) -> _Position | None:
        if (known := self._positions.get(after)) is not None and known.segment in self._segments:
            return known
        if not self._segments:
            return None
        index = max(0, bisect_right(self._segments, after + 1) - 1)
        return _Position(self._segments[index], 0)

    def _next_segment(self, segment: int, read: int) -> _Position | None:
        following = self._first_behind(segment)
        if following is None:
            return None
        self._count(_Position(segment, -1), following - 1 - read)  # lost at the end of the segment
        return _Position(following, 0)

    def _first_behind(self, segment: int) -> int | None:
        index = bisect_right(self._segments, segment)
        return self._segments[index] if index < len(self._segments) else None

    def _segment(self, start: _Position, after: int, until_ns: int) -> Generator[Written, None, int | None]:
        """Records of one segment behind `after`. Returns the last sequence of the segment, None: more will come."""
        segment, at = start
        last = after if at else segment - 1
        try:
            window = self._window(segment, at)
        except FileNotFoundError:  # trimmed meanwhile
            return (self._first_behind(segment) or segment) - 1
        except OSError:
            return None
        while True:
            frame = window.frame(at)
            if frame is None:
                found = self._step_over(window, _Position(segment, at), last, until_ns)
                if found > 0:
                    at += found
                    continue
                self._keep(last, _Position(segment, at))
                return None if found < 0 else last
            if frame.time_ns > until_ns:
                self._keep(last, _Position(segment, at))
                return None
            at, last = frame.end, frame.sequence
            if last > after:
                yield Written(frame.time_ns, self.gateway, self.epoch, last, frame.payload, segment, at)

    def _step_over(self, window: _Window, here: _Position, last: int, until_ns: int) -> int:
        """How many bytes to step over to reach the next whole frame; 0: the segment ends here, -1: wait here."""
        may_grow = self.is_live and self._first_behind(here.segment) is None
        if window.is_unwritten(here.end):
            return -1 if may_grow else 0
        stuck = self._stuck if self.is_live else None
        if stuck is not None and stuck[0] == here and until_ns < stuck[1] + _RETRY_NS:
            return -1
        rest = window.rest(here.end)
        found = find_frame(rest, 1, last + 2)
        frame = read_frame(rest, found) if found is not None else None
        if found is None or frame is None:
            if may_grow:
                self._stuck = (here, until_ns)
                return -1
            if self._first_behind(here.segment) is None:
                self._count(here, 1)
            return 0
        if frame.time_ns > until_ns:
            return -1
        self._count(here, frame.sequence - last - 1)
        return found

    def _count(self, where: _Position, lost: int) -> None:
        if lost > 0 and where not in self._counted:
            self._counted.add(where)
            self._on_damage(lost)

    def _keep(self, sequence: int, position: _Position) -> None:
        self._positions[sequence] = position
        self._positions.move_to_end(sequence)
        while len(self._positions) > _POSITIONS:
            self._positions.popitem(last=False)

    def _starts_ns(self, segment: int) -> int:
        try:
            frame = self._window(segment, 0).frame(0)
        except OSError:
            return 0
        return frame.time_ns if frame is not None else 0

    def _window(self, segment: int, at: int) -> _Window:
        if self._file is None or self._file[0] != segment:
            self._close_file()
            self._file = (segment, os.open(self._path(segment), os.O_RDONLY | os.O_CLOEXEC))
        return _Window(self._file[1], at)

    def _path(self, segment: int) -> Path:
        return self.directory / segment_name(segment)

    def _close_file(self) -> None:
        if self._file is not None:
            os.close(self._file[1])
        self._file = None


class _Window:
    """What was read of a segment file from some byte on; grows and moves as frames are asked for."""

    def __init__(self, descriptor: int, at: int) -> None:
        self._descriptor = descriptor
        self._base = at
        self._buffer = b""
        self._chunk = _FIRST_CHUNK

    def frame(self, at: int) -> Frame | None:
        """The whole frame at this byte, its `end` counted from the start of the file."""
        frame = read_frame(self._buffer, at - self._base, self._base)
        while frame is None and self._reads_more(at):
            frame = read_frame(self._buffer, 0, self._base)
        return frame

    def is_unwritten(self, at: int) -> bool:
        """True when the file ends here, or has only zeros for a header."""
        header = self._buffer[at - self._base : at - self._base + HEADER_BYTES]
        return header == _UNWRITTEN[: len(header)]

    def rest(self, at: int) -> bytes:
        """Everything from this byte to the end of the file."""
        return self._read(at, os.fstat(self._descriptor).st_size - at)

    def _reads_more(self, at: int) -> bool:
        start = at - self._base
        header = read_header(self._buffer, start)
        needed = HEADER_BYTES + header[0] if header is not None else 0
        held = len(self._buffer) - start
        if header is not None and needed <= held:
            return False
        if needed > self._chunk:
            needed = min(needed, os.fstat(self._descriptor).st_size - at)
        buffer = self._read(at, max(needed, self._chunk))
        self._chunk = min(4 * self._chunk, _LARGEST_CHUNK)
        self._base, self._buffer = at, buffer
        return len(buffer) > held

    def _read(self, at: int, size: int) -> bytes:
        try:
            return os.pread(self._descriptor, max(0, size), at)
        except OSError:
            return b""  # an unreadable stretch is a damaged one
