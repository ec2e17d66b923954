"""Rows from before the journal: the first jobs know no less than the first version did."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace as changed

from gateway.documents.job import JobState
from gateway.errors import InvalidConfig
from gateway.journal.join import LabelledRow
from gateway.registry.package import read_package
from gateway.retraining.job.run import JobSpec, run_job
from gateway.retraining.recipe import Recipe
from gateway.retraining.rows.dataset import Dataset, read_csv, read_dataset, write_dataset
from gateway.retraining.rows.history import with_history
from gateway.retraining.rows.split import split

Rows = Callable[..., list[LabelledRow]]


@pytest.fixture
def journal(tmp_path: Path, labelled: Rows) -> Dataset:
    write_dataset(tmp_path / "journal", labelled(300, first=9_000), model="quick", features=["a", "b"])
    return read_dataset(tmp_path / "journal")


@pytest.fixture
def history(tmp_path: Path, quick: Recipe, labelled: Rows) -> Dataset:
    return read_csv(csv_of(tmp_path / "history.csv", labelled(500)), quick)


@pytest.fixture
def spec(tmp_path: Path, quick_path: Path, labelled: Rows) -> JobSpec:
    """A job over three hundred rows, without champion."""
    write_dataset(tmp_path / "dataset", labelled(300, first=9_000), model="quick", features=["a", "b"])
    out, dataset = str(tmp_path / "out"), str(tmp_path / "dataset")
    return JobSpec(job="j1", model="quick", dataset=dataset, out=out, recipe=str(quick_path))


def csv_of(path: Path, rows: list[LabelledRow]) -> Path:
    path.write_text("\n".join(["a,b,y", *(f"{row.inputs[0]},{row.inputs[1]},{row.label}" for row in rows)]) + "\n")
    return path


def test_history_is_older_than_the_journal_and_known_before_it(journal: Dataset, history: Dataset) -> None:
    """So that no row of it is ever in a holdout behind a champion, and all of it may be fitted on."""
    both = with_history(journal, history, 10_000)
    assert both.rows == 800
    assert both.description.rows == 800
    assert both.description.history == 500
    assert np.all(np.diff(both.predicted_ns) >= 0)
    assert both.labelled_ns[499] < both.predicted_ns[500]
    parts = split(both, 200, int(journal.predicted_ns[0]))
    assert parts.holdout.min() >= 600
    assert set(range(500)) <= set(parts.train.tolist())


def test_only_as_much_of_it_is_used_as_the_windows_want(journal: Dataset, history: Dataset) -> None:
    """Its newest rows; none of them once the journal fills the windows."""
    both = with_history(journal, history, 400)
    assert both.rows == 400
    assert np.array_equal(both.features[:100], history.features[400:])
    assert with_history(journal, history, 300) is journal


def test_the_digest_covers_it_and_the_delay_is_the_journals(journal: Dataset, history: Dataset) -> None:
    """Row numbers stand for its times; they say nothing of how long labels take."""
    both = with_history(journal, history, 10_000)
    other = with_history(journal, history, 700)
    assert len({both.description.digest, other.description.digest, journal.description.digest}) == 3
    assert both.description.delay_seconds == journal.description.delay_seconds
    assert with_history(both, history, 10_000) is both


def test_texts_of_either_side_are_kept(journal: Dataset, history: Dataset) -> None:
    """A column may hold texts in one and numbers in the other."""
    texts = {0: np.array(["red"] * 300)}
    both = with_history(replace(journal, texts=texts), history, 10_000)
    assert np.allclose(both.texts[0][:500].astype(float), history.features[:, 0])
    assert both.texts[0][-1] == "red"
    assert np.isnan(both.features[:, 0]).all()
    assert both.description.texts == (0,)


def test_labels_of_another_kind_are_refused(journal: Dataset, history: Dataset) -> None:
    """Numbers would become texts otherwise, and no class would be known."""
    with pytest.raises(InvalidConfig, match="history: its labels are texts"):
        with_history(journal, replace(history, labels=history.labels.astype(str)), 10_000)


def test_a_job_with_a_history_fits_on_it_and_can_be_made_again(tmp_path: Path, spec: JobSpec, labelled: Rows) -> None:
    """300 rows of traffic are too few for this recipe; what the job used is what its dataset then holds."""
    recipe = Path(spec.recipe)
    csv_of(recipe.parent / "before.csv", labelled(2_000))
    text = recipe.read_text().replace("least_rows=100", 'least_rows=1000, history="before.csv"')
    recipe.write_text(text)
    first = run_job(spec)
    assert first.state is JobState.PUBLISHED, first.detail
    kept = read_dataset(tmp_path / "dataset")
    assert (kept.rows, kept.description.history) == (2_300, 2_000)
    assert first.data_digest == kept.description.digest
    assert read_package(tmp_path / "out" / "package").lineage.data_digest == kept.description.digest
    (recipe.parent / "before.csv").unlink()
    again = run_job(changed(spec, out=str(tmp_path / "again")))
    assert again.model_digest == first.model_digest


def test_columns_in_another_order_are_kept_under_their_own_names(tmp_path: Path, spec: JobSpec, labelled: Rows) -> None:
    """The champion may have them in another order than the recipe has now; what is kept must be read back alike."""
    recipe = Path(spec.recipe)
    csv_of(recipe.parent / "before.csv", labelled(500))
    turned = [changed(row, inputs=row.inputs[::-1]) for row in labelled(300, first=9_000)]
    write_dataset(tmp_path / "dataset", turned, model="quick", features=["b", "a"])
    recipe.write_text(recipe.read_text().replace('label="y"', 'label="y", history="before.csv"'))
    first = run_job(spec)
    assert first.state is JobState.PUBLISHED, first.detail
    assert read_dataset(tmp_path / "dataset").description.features == ("a", "b")
    assert run_job(changed(spec, out=str(tmp_path / "again"))).model_digest == first.model_digest


def test_a_history_that_is_not_there_fails_the_job_by_name(tmp_path: Path, spec: JobSpec) -> None:
    """The champion serves on; the reason is the recipe's field."""
    recipe = Path(spec.recipe)
    recipe.write_text(recipe.read_text().replace('label="y"', 'label="y", history="gone.csv"'))
    result = run_job(spec)
    assert result.state is JobState.FAILED
    assert "history: there is no file" in result.detail
