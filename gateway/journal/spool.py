"""The files of one writer of a stream, and the writer itself.

    DIRECTORY/clock                                 newest time any writer of the stream has given (8 bytes, mapped)
    DIRECTORY/<gateway>/<epoch, 10 digits>/lock     held by flock while the writer lives
    DIRECTORY/<gateway>/<epoch>/floor               every later record is newer than this (8 bytes, mapped)
    DIRECTORY/<gateway>/<epoch>/<first sequence, 20 digits>.seg     frames (`gateway.journal.codec`), zeros behind

An epoch is one life of a writer: 1 + the highest so far, taken by an exclusive mkdir, never used again. `lock` gets
its name only once it is held, so a directory with a `lock` that can be taken belongs to a dead writer.

A reader may believe a live spool up to its floor: a record is in the file before the floor reaches its time. Times
never go back, not even when the machine's clock does: `clock` carries them over to every writer of the stream.

Writing after an error: the batch is dropped, its place is wiped (or, when even that fails, its sequence numbers are
given up), and the next batch starts a new segment. A descriptor that failed is never written to or synced again.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import threading
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from gateway.clock import Clock
from gateway.errors import JournalUnavailable
from gateway.journal.codec import encode_frame
from gateway.names import model_name

LOCK: Final = "lock"
FLOOR: Final = "floor"
CLOCK: Final = "clock"
SEGMENT: Final = ".seg"
_NOT_SUPPORTED: Final = frozenset({errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENODEV})


def epoch_name(epoch: int) -> str:
    """The directory of an epoch."""
    return f"{epoch:010d}"


def segment_name(first_sequence: int) -> str:
    """The file that begins with this sequence number."""
    return f"{first_sequence:020d}{SEGMENT}"


class Word:
    """Eight mapped bytes that hold one number; every process that maps the file sees it at once, whole."""

    def __init__(self, path: Path, *, writable: bool) -> None:
        flags = os.O_RDWR | os.O_CREAT if writable else os.O_RDONLY
        descriptor = os.open(path, flags | os.O_CLOEXEC, 0o644)
        try:
            if writable:
                os.posix_fallocate(descriptor, 0, 8)  # a hole would be SIGBUS when the disk is full
            access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
            self._map = mmap.mmap(descriptor, 8, access=access)
        finally:
            os.close(descriptor)
        self._bytes = memoryview(self._map)
        self._number = self._bytes.cast("Q")  # one aligned store or load, never byte by byte

    def get(self) -> int:
        """The number now."""
        return self._number[0]

    def raise_to(self, number: int) -> None:
        """Set the number, if that makes it larger."""
        if number > self._number[0]:
            self._number[0] = number

    def close(self) -> None:
        """Let go of the mapping."""
        self._number.release()
        self._bytes.release()
        self._map.close()


class SpoolWriter:
    """Writes one spool. `append` and `tick` may be called beside a `sync` in another thread.

    directory: of the stream; its last part is the stream's name. Raises JournalUnavailable when the spool can not be
    made; after that nothing here raises for a failing disk.
    """

    def __init__(self, directory: Path, gateway: str, segment_bytes: int, clock: Clock) -> None:
        self.stream = directory.name
        self.gateway = str(model_name(gateway))
        self.written = 0
        self.written_bytes = 0
        self.dropped = 0
        self._segment_bytes = segment_bytes
        self._clock = clock
        self._lock = threading.Lock()
        self._syncing = threading.Lock()
        self._descriptor = -1
        self._retired: list[int] = []
        self._is_listed = False  # the directory entry of the newest segment is on the disk
        self._size = self._end = 0
        self._sequence = 1
        self._is_open = True
        try:
            self._open(directory)
        except OSError as error:
            raise JournalUnavailable(f"no spool can be made in {directory}: {error.strerror}") from error

    def _open(self, directory: Path) -> None:
        home = directory / self.gateway
        home.mkdir(parents=True, exist_ok=True)
        self.epoch = _new_epoch(home)
        self.directory = home / epoch_name(self.epoch)
        self._clock_word = Word(directory / CLOCK, writable=True)
        self._floor_word = Word(self.directory / FLOOR, writable=True)
        self._newest = self._now_ns()
        self._floor_word.raise_to(self._newest)
        self._held = _hold(self.directory / LOCK)
        forget = weakref.WeakMethod(self._forget)
        os.register_at_fork(after_in_child=lambda: (mine := forget()) and mine())
        for path in (self.directory, home, directory):
            sync_directory(path)

    def append(self, payloads: Sequence[bytes]) -> bool:
        """Hand the payloads to the kernel in one write, in this order. False when they were dropped and counted."""
        with self._lock:
            if not self._is_open:
                self.dropped += len(payloads)
                return False
            sequence, time_ns = self._sequence, max(self._now_ns(), self._newest + 1)
            frames = [
                encode_frame(sequence + index, time_ns + index, payload) for index, payload in enumerate(payloads)
            ]
            block = frames[0] if len(frames) == 1 else b"".join(frames)
            if not self._write(block, len(frames)):
                self.dropped += len(frames)
                return False
            self._end += len(block)
            self._sequence += len(frames)
            self._newest = time_ns + len(frames) - 1
            self.written += len(frames)
            self.written_bytes += len(block)
            self._publish_floor()
            return True

    def tick(self) -> None:
        """Move the floor to now, so that readers need not wait for this writer while it is idle."""
        with self._lock:
            if self._is_open:
                self._newest = max(self._now_ns(), self._newest)
                self._publish_floor()

    def sync(self) -> bool:
        """Bring everything appended so far to the disk. False when the disk refused: some of it may be lost."""
        with self._syncing:
            with self._lock:
                retired, self._retired = self._retired, []
                current, is_listed, self._is_listed = self._descriptor, self._is_listed, True
            done = is_listed or _succeeds(sync_directory, self.directory)
            for descriptor in retired:
                done = _succeeds(os.fdatasync, descriptor) and done
                os.close(descriptor)
            if current >= 0 and not _succeeds(os.fdatasync, current):
                done = False
                self._abandon(current)
            return done

    def close(self) -> None:
        """Sync, give back unused space, release the lock: from now on readers take this spool for complete."""
        with self._lock:
            if not self._is_open:
                return
            self._is_open = False
            if self._descriptor >= 0:
                _succeeds(os.ftruncate, self._descriptor, self._end)
        self.sync()
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._floor_word.close()
        self._clock_word.close()
        os.close(self._held)
        self._descriptor = self._held = -1

    def _forget(self) -> None:
        """In a forked child: drop the shared lock, or the child would keep a dead writer's spool alive."""
        if self._held >= 0:
            os.close(self._held)
            self._held, self._is_open = -1, False

    def _now_ns(self) -> int:
        return max(int(self._clock.now() * 1e9), self._clock_word.get())

    def _publish_floor(self) -> None:
        self._clock_word.raise_to(self._newest)
        self._floor_word.raise_to(self._newest)

    def _write(self, block: bytes, records: int) -> bool:
        try:
            if self._descriptor < 0 or self._end + len(block) > self._size:
                self._start_segment(max(self._segment_bytes, len(block)))
        except OSError:
            return False
        try:
            if os.pwrite(self._descriptor, block, self._end) == len(block):
                return True
        except OSError:
            pass
        self._leave_segment(len(block), records)
        return False

    def _start_segment(self, size: int) -> None:
        path = self.directory / segment_name(self._sequence)
        # Without O_EXCL: a file of this name can only be left from a start that failed, and holds no record.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            os.posix_fallocate(descriptor, 0, size)
        except OSError as error:
            if error.errno not in _NOT_SUPPORTED:
                os.close(descriptor)
                _succeeds(os.unlink, path)
                raise
        self._retire()
        self._descriptor, self._size, self._end, self._is_listed = descriptor, size, 0, False

    def _retire(self) -> None:
        if self._descriptor >= 0:
            self._retired.append(self._descriptor)
        self._descriptor, self._size, self._end = -1, 0, 0

    def _leave_segment(self, size: int, records: int) -> None:
        """Wipe what a failed write left, so that no reader ever takes a dropped record for a written one."""
        try:
            os.pwrite(self._descriptor, bytes(size), self._end)
        except OSError:
            self._sequence += records
        self._retire()

    def _abandon(self, descriptor: int) -> None:
        with self._lock:
            if self._descriptor == descriptor:
                self._descriptor, self._size, self._end = -1, 0, 0
            else:
                self._retired.remove(descriptor)
            os.close(descriptor)


def _new_epoch(home: Path) -> int:
    while True:
        taken = [int(entry.name) for entry in home.iterdir() if entry.name.isdecimal()]
        epoch = 1 + max(taken, default=0)
        with suppress(FileExistsError):
            (home / epoch_name(epoch)).mkdir()
            return epoch


def _hold(path: Path) -> int:
    unnamed = path.with_name("lock.new")
    descriptor = os.open(unnamed, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    unnamed.rename(path)
    return descriptor


def sync_directory(path: Path) -> None:
    """Bring the names in a directory to the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _succeeds(operation: Callable[..., object], *arguments: object) -> bool:
    try:
        operation(*arguments)
    except OSError:
        return False
    return True
