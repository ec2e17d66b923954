"""The stream's order and its late labels: what makes the demo's accuracy an honest figure."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.demo.stream import LateLabels, Row, Score, read_stream, write_shuffled
from gateway.errors import InvalidConfig


def row(number: int, label: int = 0) -> Row:
    return Row(number, {"x": float(number)}, label)


def test_reads_rows_in_order_with_names_and_labels(tmp_path: Path) -> None:
    """Row numbers are the stream's own, so a label finds its row."""
    file = tmp_path / "stream.csv.gz"
    file.write_bytes(gzip.compress(b"a,b,class\n0.5,1,1\n0.25,2,0\n"))
    assert read_stream(file) == [Row(1, {"a": 0.5, "b": 1.0}, 1), Row(2, {"a": 0.25, "b": 2.0}, 0)]


@pytest.mark.parametrize("text", [b"a,class\nx,1\n", b"a,b,class\n1,0\n", b"a,class\n\n"])
def test_a_damaged_file_is_named(tmp_path: Path, text: bytes) -> None:
    """A cut or edited file stops the demo with the file's name, not with a traceback."""
    file = tmp_path / "stream.csv.gz"
    file.write_bytes(gzip.compress(text))
    with pytest.raises(InvalidConfig, match=r"stream\.csv\.gz"):
        read_stream(file)


@given(st.integers(1, 20), st.integers(0, 60), st.integers(1, 200))
def test_no_label_leaves_before_its_day_nor_a_batch_later(batch: int, delay: int, count: int) -> None:
    """Early labels would flatter the accuracy, late ones would hide drift."""
    late = LateLabels(delay, batch)
    left = []
    for number in range(1, count + 1):
        late.sent(number)
        late.answered(row(number), str(number))
        for due in late.take():
            assert delay <= number - int(due.id) < delay + batch
            left.append(due.id)
    left += [due.id for due in late.take_rest()]
    assert left == [str(number) for number in range(1, count + 1)]
    assert late.take_rest() == []


def test_a_row_that_is_answered_late_gets_its_label_then() -> None:
    """A retried row must not send its label under an id that was never answered."""
    late = LateLabels(delay_rows=2, batch=1)
    late.sent(1)
    late.sent(5)
    assert late.take() == []
    late.answered(row(1, label=1), "one-again")
    assert [(due.id, due.label) for due in late.take()] == [("one-again", 1)]


def test_accuracy_counts_right_answers() -> None:
    """Zero before the first answer, so that the live view can always print it."""
    score = Score()
    assert score.accuracy == 0.0
    for answer in (1, 0, 1, 1):
        score.add(row(1, label=1), answer)
    assert (score.rows, score.accuracy) == (4, 0.75)


def test_shuffled_labels_keep_rows_and_shares(tmp_path: Path) -> None:
    """Same rows, same label counts, other order: only the relation is gone. The same seed gives the same file."""
    rows = [row(number, label=int(number <= 30)) for number in range(1, 101)]
    for name in ("one.csv", "two.csv"):
        write_shuffled(tmp_path / name, rows, "class", seed=7)
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()
    header, *written = csv.reader((tmp_path / "one.csv").read_text().splitlines())
    assert header == ["x", "class"]
    assert [float(values[0]) for values in written] == [r.features["x"] for r in rows]
    labels = [int(values[1]) for values in written]
    assert sum(labels) == 30
    assert labels != [r.label for r in rows]
