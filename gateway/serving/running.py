"""What a serving process runs, readable after its death: a small mapped file for each process below `DIR/run/running`.

One word of eight bytes for each thread, zero while it runs no version; behind the words the names of the models, one a
line. A word is the line of the model (from 1) times 2^32 plus the version's number. The process stores words without
asking the system; the parent reads the file once the process is gone. What was running when a process died is written
below `DIR/run/deaths`, and put down in the versions' conditions by the process that is started next: the parent itself
reads no store. Loads nothing heavy, because the parent imports it.
"""

from __future__ import annotations

import mmap
import signal
import struct
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from gateway.names import ModelName, VersionId
from gateway.registry.manifest import Manifest

CRASHES = frozenset({signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE})
"""Signals that only a process's own code causes."""

_PLACES = 256
_WORDS = struct.Struct(f"<{_PLACES}Q")
_DEATHS_IN_A_ROW = 3


class Running:
    """The marks of this process (`execution.mark.Mark`). Costs about 0.2 us a run."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_bytes(bytes(_WORDS.size))
        with path.open("r+b") as file:
            self._words = memoryview(mmap.mmap(file.fileno(), _WORDS.size)).cast("Q")
        self._path = path
        self._lines: dict[str, int] = {}
        self._own = threading.local()
        self._places = 0
        self._lock = threading.Lock()

    def begin(self, manifest: Manifest) -> int:
        """This thread runs the version now."""
        try:
            place: int = self._own.place
        except AttributeError:
            place = self._take_place()
        line = self._lines.get(manifest.model) or self._add_line(manifest.model)
        self._words[place] = line | manifest.number
        return place

    def end(self, place: int) -> None:
        """The run is over."""
        self._words[place] = 0

    def _take_place(self) -> int:
        with self._lock:
            place = min(self._places, _PLACES - 1)
            self._places += 1
        self._own.place = place
        return place

    def _add_line(self, model: str) -> int:
        """The place of the model's name, moved to where it stands in a word."""
        with self._lock:
            if model not in self._lines:
                with self._path.open("ab") as file:
                    file.write(f"{model}\n".encode())
                self._lines[model] = (len(self._lines) + 1) << 32
            return self._lines[model]


def was_running(path: Path) -> frozenset[VersionId]:
    """What the process of this file was running when it ended; nothing when it never got so far."""
    try:
        content = path.read_bytes()
        words, names = _WORDS.unpack_from(content), content[_WORDS.size :].decode().splitlines()
        return frozenset(VersionId(ModelName(names[(w >> 32) - 1]), w & 0xFFFFFFFF) for w in words if w >> 32)
    except (OSError, struct.error, UnicodeDecodeError, IndexError):
        return frozenset()


def suspects(code: int, ran: Sequence[frozenset[VersionId]]) -> frozenset[VersionId]:
    """The versions to try alone after a process ended with this exit code (negative: a signal). Pure.

    ran: what it was running, then what those were running that died young right before it. A crash is the fault of what
    ran. Whoever sends kill -9 or takes the memory away may have meant anybody; only when the same version was running
    in three processes in a row that died young is it tried alone.
    """
    if -code in CRASHES:
        return ran[0]
    if code != 0 and len(ran) >= _DEATHS_IN_A_ROW:
        return frozenset.intersection(*ran[:_DEATHS_IN_A_ROW])
    return frozenset()


class Death(Struct, frozen=True, kw_only=True):
    """Versions that were running when a serving process died. reason: for people."""

    versions: tuple[tuple[str, int], ...]
    reason: str


def write_death(directory: Path, name: str, versions: frozenset[VersionId], reason: str) -> None:
    """Leave a note for the process that is started next."""
    directory.mkdir(parents=True, exist_ok=True)
    body = msgspec.json.encode(Death(versions=tuple(sorted(versions)), reason=reason))
    fresh = directory / f"{name}.new"
    fresh.write_bytes(body)
    fresh.replace(directory / f"{name}.json")


def read_deaths(directory: Path) -> Iterator[tuple[Path, Death]]:
    """The notes that nobody has acted on; the reader removes each file when it has. A broken one is removed here."""
    for path in sorted(directory.glob("*.json")):
        try:
            yield path, msgspec.json.decode(path.read_bytes(), type=Death)
        except FileNotFoundError:  # another process was faster
            continue
        except msgspec.MsgspecError:
            path.unlink(missing_ok=True)
