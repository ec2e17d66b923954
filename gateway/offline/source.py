"""Files of rows, read in batches that fit into memory, from any place where a batch ended.

    CSV      `.csv`, `.csv.gz`, or `-` for standard input; UTF-8, a header line, commas
    Parquet  `.parquet`, `.pq`; needs the extra `analytics`

The same file gives the same batches wherever reading begins, so an output that goes on is that of one run.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol, cast

from gateway.errors import InvalidConfig, NotAllowed
from gateway.offline.cell import Layout, plain

BATCH_ROWS = 4096
_EDGE_BYTES = 65536
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

Row = list[Any] | str
"""The features' values in order (None: missing), or why the row can not be read."""


class Place(NamedTuple):
    """Where a batch ended. rows: read so far; at: bytes of (unpacked) text read so far, for CSV."""

    rows: int = 0
    at: int = 0


class Batch(NamedTuple):
    """Some rows. kept: the columns that are kept, each with one value a row. done: how much of `total` is read."""

    rows: list[Row]
    kept: list[Any]
    place: Place
    done: int


class Source(Protocol):
    """A file of rows. names: its columns. types: of each column for Parquet (None: text). total: for a progress bar."""

    names: tuple[str, ...]
    types: tuple[Any, ...]
    total: int | None

    def batches(self, layout: Layout, read: Sequence[Callable[[str], Any]], begin: Place) -> Iterator[Batch]:
        """The batches behind a place. Raises InvalidConfig where the file is broken."""

    def close(self) -> None:
        """Close the file."""


def is_parquet(path: str) -> bool:
    """True for the name of a Parquet file. Raises InvalidConfig for a name that says nothing."""
    if path == "-" or path.endswith((".csv", ".csv.gz")):
        return False
    if path.endswith((".parquet", ".pq")):
        return True
    raise InvalidConfig(f"{path}: end its name with .csv, .csv.gz, .parquet or .pq, or write - for CSV by a pipe")


def open_source(path: str) -> Source:
    """The file. Raises InvalidConfig, or NotAllowed when pyarrow is missing."""
    if path != "-" and not Path(path).is_file():
        raise InvalidConfig(f"there is no file {path}")
    return ParquetSource(Path(path)) if is_parquet(path) else CsvSource(path)


def identity(path: str) -> str:
    """What tells one input file from another: its size and its two ends, hashed."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        digest.update(file.read(_EDGE_BYTES))
        size = file.seek(0, 2)
        file.seek(max(0, size - _EDGE_BYTES))
        digest.update(file.read())
    digest.update(str(size).encode())
    return digest.hexdigest()


def arrow(what: str) -> Any:
    """The module pyarrow. Raises NotAllowed, saying what needs it."""
    try:
        import pyarrow as pa
    except ImportError as error:
        raise NotAllowed(f"{what} needs pyarrow: pip install 'gateway[analytics]'") from error
    return pa


class _Lines:
    """Lines of text from bytes, and how many bytes they were: `csv` asks for no more than a record needs."""

    def __init__(self, file: IO[bytes], at: int) -> None:
        self._file = file
        self.at = at

    def __iter__(self) -> Iterator[str]:
        while line := self._file.readline():
            start = len(_BYTE_ORDER_MARK) if self.at == 0 and line.startswith(_BYTE_ORDER_MARK) else 0
            self.at += len(line)
            yield line[start:].decode()


def _unpacked(file: IO[bytes]) -> IO[bytes]:
    return cast(IO[bytes], gzip.GzipFile(fileobj=file))


class CsvSource:
    """See `Source`."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._packed: IO[bytes] | None = None
        if path == "-":
            self._file: IO[bytes] = sys.stdin.buffer
            self.total: int | None = None
        else:
            self._packed = Path(path).open("rb")  # noqa: SIM115 - `close` closes it
            self._file = _unpacked(self._packed) if path.endswith(".gz") else self._packed
            self.total = Path(path).stat().st_size
        header, self._begin = self._header()
        self.names: tuple[str, ...] = tuple(name.strip() for name in header)
        self.types: tuple[Any, ...] = (None,) * len(self.names)

    def _header(self) -> tuple[list[str], int]:
        lines = _Lines(self._file, 0)
        try:
            return next(csv.reader(lines), []), lines.at
        except (csv.Error, UnicodeDecodeError, OSError, EOFError) as error:
            self.close()
            raise InvalidConfig(f"{self._path}: is not CSV in UTF-8 ({error})") from error

    def batches(self, layout: Layout, read: Sequence[Callable[[str], Any]], begin: Place) -> Iterator[Batch]:
        """See `Source`."""
        at = begin.at or self._begin
        if at != self._begin:
            self._file.seek(at)
        lines = _Lines(self._file, at)
        made = _Made(layout, read, len(self.names))
        rows = begin.rows
        reader = csv.reader(lines)
        try:
            for cells in reader:
                if not cells:
                    continue
                made.add(cells)
                rows += 1
                if len(made.rows) == BATCH_ROWS:
                    yield Batch(made.rows, made.kept, Place(rows, lines.at), self._done(lines.at))
                    made = _Made(layout, read, len(self.names))
        except (csv.Error, UnicodeDecodeError, OSError, EOFError) as error:
            raise InvalidConfig(f"{self._path}: row {rows + 1} can not be read: {error}") from error
        if made.rows:
            yield Batch(made.rows, made.kept, Place(rows, lines.at), self._done(lines.at))

    def _done(self, at: int) -> int:
        return at if self._packed is None else self._packed.tell()

    def close(self) -> None:
        """See `Source`."""
        if self._packed is not None:
            self._file.close()
            self._packed.close()


class _Made:
    """A batch in the making."""

    def __init__(self, layout: Layout, read: Sequence[Callable[[str], Any]], width: int) -> None:
        self._layout = layout
        self._columns = list(zip(layout.places, read, strict=True))
        self._width = width
        self.rows: list[Row] = []
        self.kept: list[Any] = [[] for _ in layout.kept]

    def add(self, cells: list[str]) -> None:
        if len(cells) == self._width:
            self.rows.append([None if place < 0 else make(cells[place]) for place, make in self._columns])
        else:
            self.rows.append(f"the row has {len(cells)} values, the header names {self._width}")
            cells = [*cells, *[""] * self._width]
        for column, place in zip(self.kept, self._layout.kept, strict=True):
            column.append(cells[place])


class ParquetSource:
    """See `Source`. A batch never spans two row groups."""

    def __init__(self, path: Path) -> None:
        pa = arrow(path.name)
        import pyarrow.parquet as pq

        try:
            self._file = pq.ParquetFile(path)
        except (pa.ArrowException, OSError) as error:
            raise InvalidConfig(f"{path}: is not a Parquet file ({error})") from error
        self._path = path
        self._broken = pa.ArrowException
        schema = self._file.schema_arrow
        self._is_coded = [pa.types.is_dictionary(one) for one in schema.types]
        self.names: tuple[str, ...] = tuple(schema.names)
        self.types: tuple[Any, ...] = tuple(
            one.value_type if is_coded else one for one, is_coded in zip(schema.types, self._is_coded, strict=True)
        )
        self.total: int | None = self._file.metadata.num_rows

    def batches(self, layout: Layout, read: Sequence[Callable[[str], Any]], begin: Place) -> Iterator[Batch]:
        """See `Source`; `read` is not needed: values have types."""
        rows = 0
        for group in range(self._file.num_row_groups):
            behind = rows + self._file.metadata.row_group(group).num_rows
            if behind <= begin.rows:
                rows = behind
                continue
            try:
                for batch in self._file.iter_batches(BATCH_ROWS, row_groups=[group]):
                    rows += len(batch)
                    if rows > begin.rows:
                        yield self._batch(batch, layout, rows)
            except (self._broken, OSError) as error:
                raise InvalidConfig(f"{self._path}: row {rows + 1} can not be read: {error}") from error

    def _batch(self, batch: Any, layout: Layout, rows: int) -> Batch:
        nothing = [None] * len(batch)
        columns = [nothing if place < 0 else batch.column(place).to_pylist() for place in layout.places]
        read: list[Row] = [[plain(value) for value in row] for row in zip(*columns, strict=True)]
        kept = [batch.column(place) for place in layout.kept]
        kept = [
            one.dictionary_decode() if self._is_coded[at] else one for one, at in zip(kept, layout.kept, strict=True)
        ]
        return Batch(read, kept, Place(rows), rows)

    def close(self) -> None:
        """See `Source`."""
        self._file.close()
