"""Reading a file from any place where a batch ended gives what reading it at once gives."""

from __future__ import annotations

import csv
import gzip
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import InvalidConfig
from gateway.offline import source
from gateway.offline.cell import Layout
from gateway.offline.source import Place, identity, open_source

BOTH = Layout(places=(1,), kept=(0, 1))
cells = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=6)


def batches(path: Path, begin: Place) -> list[Any]:
    with closing(open_source(str(path))) as file:
        return [(one.rows, one.kept, one.place) for one in file.batches(BOTH, [str], begin)]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(cells, cells), max_size=25), st.sampled_from([".csv", ".csv.gz"]), st.booleans())
def test_a_file_is_read_on_from_any_batch(rows: list[tuple[str, str]], suffix: str, has_mark: bool) -> None:
    """Also where cells hold commas, quotes, ends of lines and letters of several bytes."""
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(source, "BATCH_ROWS", 4):
        path = Path(folder) / f"in{suffix}"
        plain = path.with_name("plain.csv")
        with plain.open("w", newline="", encoding="utf-8-sig" if has_mark else "utf-8") as file:
            csv.writer(file, quoting=csv.QUOTE_ALL).writerows([("a", "b"), *rows])
        content = plain.read_bytes()
        path.write_bytes(gzip.compress(content) if suffix.endswith("gz") else content)
        whole = batches(path, Place())
        assert [row for found, _, _ in whole for row in found] == [[b] for _, b in rows]
        assert [cell for _, kept, _ in whole for cell in kept[0]] == [a for a, _ in rows]
        for number, (_, _, place) in enumerate(whole, start=1):
            assert batches(path, place) == whole[number:]


def test_parquet_is_read_on_from_any_batch(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    path = tmp_path / "in.parquet"
    pq.write_table(pa.table({"a": list(range(23)), "b": [n / 2 for n in range(23)]}), path, row_group_size=9)
    with mock.patch.object(source, "BATCH_ROWS", 4):
        whole = batches(path, Place())
        assert [place.rows for _, _, place in whole] == [4, 8, 9, 13, 17, 18, 22, 23]
        for number, (_, _, place) in enumerate(whole, start=1):
            assert [one[0] for one in batches(path, place)] == [one[0] for one in whole[number:]]


def test_an_input_is_known_by_its_size_and_its_ends(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    found = []
    for content in (b"a" * 200_000, b"a" * 200_001, b"b" + b"a" * 199_999, b"a" * 199_999 + b"b"):
        path.write_bytes(content)
        found.append(identity(str(path)))
    assert len(set(found)) == 4


@pytest.mark.parametrize(("name", "content"), [("x.parquet", b"no"), ("x.csv.gz", b"no"), ("x.csv", b"\xff\n")])
def test_what_is_no_such_file_is_told(tmp_path: Path, name: str, content: bytes) -> None:
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidConfig, match=name):
        open_source(str(tmp_path / name))
