"""Rows keep their numbers, order and identity on the way through a directory."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from gateway.errors import InvalidConfig
from gateway.journal.join import LabelledRow
from gateway.registry.manifest import Feature, Manifest, Tensor
from gateway.retraining.recipe import Recipe, load_recipe
from gateway.retraining.rows.dataset import ROWS_FILE, head, read_csv, read_dataset, write_dataset
from gateway.retraining.rows.parquet import write_parquet
from gateway.retraining.rows.window import texts_of

Rows = Callable[..., list[LabelledRow]]


def test_what_was_written_is_read_back(tmp_path: Path, labelled: Rows) -> None:
    """The job sees exactly the exported rows."""
    rows = labelled(20)
    rows[3] = replace(rows[3], inputs=[None, 0.5])
    written = write_dataset(tmp_path, rows, model="quick", features=["a", "b"], alert="x", change_ns=7)
    dataset = read_dataset(tmp_path)
    assert dataset.description == written
    assert (written.rows, written.alert, written.change_ns, written.delay_seconds) == (20, "x", 7, 10.0)
    assert np.isnan(dataset.features[3, 0])
    assert dataset.labels.tolist() == [row.label for row in rows]


def test_rows_are_ordered_by_the_time_of_their_prediction(tmp_path: Path, labelled: Rows) -> None:
    """Labels come in any order; what was known when depends on times alone."""
    rows = labelled(30)
    first = write_dataset(tmp_path / "1", rows, model="quick", features=["a", "b"])
    second = write_dataset(tmp_path / "2", rows[::-1], model="quick", features=["a", "b"])
    assert first.digest == second.digest


@pytest.mark.parametrize("field", ["inputs", "label", "predicted_ns", "labelled_ns"])
def test_digest_covers_everything_that_a_model_depends_on(tmp_path: Path, labelled: Rows, field: str) -> None:
    """Two datasets with one digest must give one model."""
    rows = labelled(10)
    changed = {"inputs": [0.123, 0.5], "label": 1 - rows[4].label, "predicted_ns": 1, "labelled_ns": 2}[field]
    other = [*rows[:4], replace(rows[4], **{field: changed}), *rows[5:]]
    one = write_dataset(tmp_path / "1", rows, model="quick", features=["a", "b"])
    two = write_dataset(tmp_path / "2", other, model="quick", features=["a", "b"])
    assert one.digest != two.digest


def test_rows_that_can_not_be_used_are_counted_out(tmp_path: Path, labelled: Rows) -> None:
    """Redacted texts, records without inputs, rows without label."""
    rows = labelled(10)
    rows[0] = replace(rows[0], inputs=None)
    rows[1] = replace(rows[1], inputs=["***", 1.0])
    rows[2] = replace(rows[2], label=None)
    rows[3] = replace(rows[3], inputs={"tensor": [[1.0]]})
    written = write_dataset(tmp_path, rows, model="quick", features=["a", "b"])
    assert (written.rows, written.skipped) == (6, 4)


def test_damaged_rows_are_refused(tmp_path: Path, labelled: Rows) -> None:
    """A job never trains on something else than what its lineage names."""
    write_dataset(tmp_path, labelled(10), model="quick", features=["a", "b"])
    write_dataset(tmp_path / "other", labelled(11), model="quick", features=["a", "b"])
    (tmp_path / "other" / ROWS_FILE).replace(tmp_path / ROWS_FILE)
    with pytest.raises(InvalidConfig, match="digest"):
        read_dataset(tmp_path)
    (tmp_path / ROWS_FILE).write_bytes(b"PK")
    with pytest.raises(InvalidConfig, match="not a readable dataset"):
        read_dataset(tmp_path)


def test_columns_are_found_by_name(tmp_path: Path, labelled: Rows) -> None:
    """The recipe's order of features is its own."""
    write_dataset(tmp_path, labelled(10), model="quick", features=["a", "b"])
    dataset = read_dataset(tmp_path)
    assert head(dataset, ["b", "a"]).features[:, 1].tolist() == dataset.features[:, 0].tolist()
    with pytest.raises(InvalidConfig, match="'c'"):
        head(dataset, ["a", "c"])


def test_csv_gives_the_first_rows_in_the_recipes_order(electricity_path: Path, electricity_csv: Path) -> None:
    """The file has `period` first, the recipe last."""
    dataset = read_csv(electricity_csv, load_recipe(electricity_path), 100)
    assert dataset.rows == 100
    assert dataset.features[1, 5] == 0.021277
    assert dataset.labelled_ns[0] == 48
    assert not dataset.description.has_times


@pytest.mark.parametrize(
    ("text", "place"), [("a,y\n1,1\n", ":1: b"), ("a,b,y\n1,2,0\n1,x,0\n", ":3: b"), ("a,b,y\n1,2,\n", ":2: y")]
)
def test_wrong_csv_names_line_and_column(tmp_path: Path, quick: Recipe, text: str, place: str) -> None:
    """A wrong cell in a big file is found by its line."""
    path = tmp_path / "rows.csv.gz"
    path.write_bytes(gzip.compress(text.encode()))
    with pytest.raises(InvalidConfig) as caught:
        read_csv(path, quick)
    assert caught.value.faults[0].pointer.endswith(place)


def test_empty_cell_is_a_missing_value(tmp_path: Path, quick: Recipe) -> None:
    """As an exported table writes it."""
    path = tmp_path / "rows.csv"
    path.write_text("y,b,a\n1,,0.5\n")
    dataset = read_csv(path, quick)
    assert dataset.features[0, 0] == 0.5
    assert np.isnan(dataset.features[0, 1])


def test_rows_of_a_version_that_takes_texts_keep_them(tmp_path: Path, labelled: Rows) -> None:
    """Which columns are texts is in the champion's inputs; what was redacted in a number's place is no text."""
    rows = [replace(row, inputs=[row.inputs[0], ("de", None)[row.ordinal % 2]]) for row in labelled(10)]
    rows[3] = replace(rows[3], inputs=["***", "de"])
    written = write_dataset(tmp_path, rows, model="quick", features=["a", "land"], texts={"land"})
    assert (written.rows, written.skipped, written.texts) == (9, 1, (1,))
    found = read_dataset(tmp_path)
    assert found.plain(np.array([0, 1])) == [[rows[0].inputs[0], None], [rows[1].inputs[0], "de"]]
    manifest = Manifest(
        model="quick",
        inputs=tuple(
            Tensor(name=name, datatype=datatype, shape=(-1, 1))
            for name, datatype in (("features", "FP32"), ("texts", "BYTES"))
        ),
        features=(Feature(name="a", input="features"), Feature(name="land", kind="categorical", input="texts")),
    )
    assert texts_of(manifest) == {"land"}


def test_rows_are_written_as_parquet_for_other_tools(tmp_path: Path, labelled: Rows) -> None:
    """Numbers, texts, what is missing, labels and times, with the digest that the version names."""
    import pyarrow.parquet

    rows = [replace(row, inputs=[row.inputs[0], ("de", None)[row.ordinal % 2]]) for row in labelled(10)]
    rows[0] = replace(rows[0], inputs=[None, "fr"])
    written = write_dataset(tmp_path, rows, model="quick", features=["a", "land"], texts={"land"})
    write_parquet(read_dataset(tmp_path), tmp_path / "rows.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "rows.parquet")
    assert table.column_names == ["a", "land", "label", "predicted_at", "labelled_at"]
    assert table["a"].null_count == 1
    assert table["land"].to_pylist()[:3] == ["fr", "de", None]
    assert table["label"].to_pylist() == [row.label for row in rows]
    assert table.schema.metadata[b"gateway.digest"].decode() == written.digest
    assert table["labelled_at"].cast("int64").to_pylist() == [row.labelled_ns for row in rows]
