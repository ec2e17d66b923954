"""Where scored rows go: a part file that grows by whole batches, and takes the output's name when it is complete.

    OUT.part        batches so far: CSV, gzip members of CSV, or an Arrow stream
    OUT.part.json   how far it is whole; replaced behind each batch, when the batch is on the disk

A run that ends half-way leaves both. A sink that is started at a recorded size cuts off what came behind it.
"""

from __future__ import annotations

import csv
import fcntl
import gzip
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol

from gateway.errors import NotAllowed
from gateway.offline.answer import Column
from gateway.offline.source import arrow, is_parquet

_GROUP_BATCHES = 16
"""So many batches become one row group of a Parquet file."""


class Kept(NamedTuple):
    """A column that is kept as it is. type: pyarrow's; None: text."""

    name: str
    type: Any


class Encoder(Protocol):
    """How batches become bytes. kept, added: the columns' values."""

    def head(self) -> bytes:
        """What comes first."""

    def batch(self, kept: Sequence[Any], added: Sequence[Sequence[Any]]) -> bytes:
        """One batch."""

    def finish(self, part: Path) -> Path:
        """The complete file, made of the part file; it may be the same."""


class PartFile:
    """The part file of an output; no other run has it meanwhile."""

    def __init__(self, out: Path, encoder: Encoder, at: int) -> None:
        """at: bytes that are whole; 0 begins anew. Raises NotAllowed when another run writes it."""
        self._out = out
        self._encoder = encoder
        self.path = part_of(out)
        self._file: IO[bytes] = os.fdopen(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644), "r+b")
        self._take()
        self._file.truncate(at)
        self._file.seek(at)
        if not at:
            self._file.write(encoder.head())

    def _take(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_there = self.path.exists() and os.path.samestat(os.fstat(self._file.fileno()), self.path.stat())
        except BlockingIOError:
            is_there = False
        if not is_there:  # or a run that ended just now has taken it away
            self._file.close()
            raise NotAllowed(f"{self._out} is being written by another run")

    def write(self, kept: Sequence[Any], added: Sequence[Sequence[Any]]) -> int:
        """Write a batch to the disk; how many bytes are whole now."""
        self._file.write(self._encoder.batch(kept, added))
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.tell()

    def finish(self) -> None:
        """Give the complete file its name."""
        self._file.flush()
        complete = self._encoder.finish(self.path)
        os.fsync(self._file.fileno())
        self._file.close()
        complete.replace(self._out)
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Leave the part file as it is."""
        self._file.close()


class Pipe:
    """Standard output."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        sys.stdout.write(encoder.head().decode())

    def write(self, kept: Sequence[Any], added: Sequence[Sequence[Any]]) -> int:
        """Write a batch."""
        sys.stdout.write(self._encoder.batch(kept, added).decode())
        return 0

    def finish(self) -> None:
        """Everything is out."""
        sys.stdout.flush()

    def close(self) -> None:
        """Nothing to close."""


def part_of(out: Path) -> Path:
    """The part file's name."""
    return out.with_name(f"{out.name}.part")


def encoder_of(out: str, kept: Sequence[Kept], added: Sequence[Column]) -> Encoder:
    """By the output's name. Raises NotAllowed when pyarrow is missing."""
    if is_parquet(out):
        return _Parquet(kept, added)
    names = [*(column.name for column in kept), *(column.name for column in added)]
    return _PackedCsv(names) if out.endswith(".gz") else _Csv(names)


class _Csv:
    """Lines; floating point numbers as the shortest decimals that read back the same."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    def head(self) -> bytes:
        return _lines([self._names])

    def batch(self, kept: Sequence[Any], added: Sequence[Sequence[Any]]) -> bytes:
        columns = [column if isinstance(column, list) else column.to_pylist() for column in (*kept, *added)]
        return _lines(zip(*columns, strict=True))

    def finish(self, part: Path) -> Path:
        return part  # it is complete as it is


class _PackedCsv(_Csv):
    """One gzip member for each batch: a file of several members reads as one."""

    def head(self) -> bytes:
        return gzip.compress(super().head(), mtime=0)

    def batch(self, kept: Sequence[Any], added: Sequence[Sequence[Any]]) -> bytes:
        return gzip.compress(super().batch(kept, added), mtime=0)


class _Parquet:
    """An Arrow stream while it grows (a Parquet file can not be added to), a Parquet file at the end."""

    def __init__(self, kept: Sequence[Kept], added: Sequence[Column]) -> None:
        self._arrow = pa = arrow("Parquet")
        types = {"whole": pa.int64(), "number": pa.float64(), "truth": pa.bool_(), "text": pa.string()}
        own = [(column.name, column.type or pa.string()) for column in kept]
        self._schema = pa.schema([*own, *((column.name, types[column.kind]) for column in added)])

    def head(self) -> bytes:
        return bytes(self._schema.serialize())

    def batch(self, kept: Sequence[Any], added: Sequence[Sequence[Any]]) -> bytes:
        pa = self._arrow
        arrays = [
            column if isinstance(column, pa.Array) else pa.array(column, type=field.type)
            for column, field in zip((*kept, *added), self._schema, strict=True)
        ]
        return bytes(pa.record_batch(arrays, schema=self._schema).serialize())

    def finish(self, part: Path) -> Path:
        import pyarrow.parquet as pq

        complete = part.with_name(f"{part.name}.parquet")
        with part.open("rb") as file, pq.ParquetWriter(complete, self._schema) as writer:
            waiting: list[Any] = []
            for batch in self._arrow.ipc.open_stream(file):
                waiting.append(batch)
                if len(waiting) == _GROUP_BATCHES:
                    writer.write_table(self._arrow.Table.from_batches(waiting, self._schema))
                    waiting = []
            if waiting:
                writer.write_table(self._arrow.Table.from_batches(waiting, self._schema))
        return complete


def _lines(rows: Any) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(map(_words, rows))
    return text.getvalue().encode()


def _words(row: Sequence[Any]) -> Sequence[Any]:
    """Truths as JSON writes them."""
    if True in row or False in row:  # also 1 and 0: they stay
        return [("true" if value else "false") if isinstance(value, bool) else value for value in row]
    return row
