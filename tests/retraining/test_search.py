"""Windows hold the rows they name; the choice is made on rows that no trial was fitted on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from gateway.documents.policy import Window
from gateway.journal.join import LabelledRow
from gateway.retraining.job.search import search
from gateway.retraining.recipe import Recipe
from gateway.retraining.rows.dataset import Dataset, read_dataset, write_dataset
from gateway.retraining.rows.span import window_name, window_rows
from gateway.retraining.rows.split import last_known, split

SECOND = 1_000_000_000
START_NS = 1_700_000_000 * SECOND
Rows = Callable[..., list[LabelledRow]]


@pytest.fixture
def dataset(tmp_path: Path, labelled: Rows) -> Dataset:
    """A thousand rows, labels ten rows late; from row 600 on the labels are the other way round."""
    rows = labelled(600) + labelled(400, first=600, flipped=True)
    write_dataset(tmp_path, rows, model="quick", features=["a", "b"], change_ns=START_NS + 600 * SECOND)
    return read_dataset(tmp_path)


def test_windows_hold_what_they_say(dataset: Dataset) -> None:
    """Rows, days, a sample, and what came since the change."""
    train = np.arange(900)
    assert window_rows(dataset, train, Window(rows=200), 50, 0).tolist() == list(range(700, 900))
    assert window_rows(dataset, train, "since_change", 50, 0).tolist() == list(range(600, 900))
    days = Window(days=100 / 86_400)
    assert window_rows(dataset, train, days, 50, 0).tolist() == list(range(799, 900))
    sample = window_rows(dataset, train, Window(sample=300), 50, 0)
    assert (len(set(sample.tolist())), sample.tolist()) == (300, sorted(sample.tolist()))
    assert sample.tolist() == window_rows(dataset, train, Window(sample=300), 50, 0).tolist()


def test_window_after_a_late_change_is_filled_up(dataset: Dataset) -> None:
    """Three rows since the change are no training set."""
    assert len(window_rows(dataset, np.arange(603), "since_change", 100, 0)) == 100


def test_window_that_fits_the_present_is_chosen(dataset: Dataset, quick: Recipe) -> None:
    """Half of all rows tell the opposite: the window since the change must win."""
    train = split(dataset, 100).train
    fitted = search(quick, dataset, train, [Window(rows=4000), "since_change"], seed=0)
    assert fitted.window == "since_change"
    assert {trial["window"] for trial in fitted.tried} == {"rows:4000", "since_change"}


def test_a_short_window_that_wins_by_luck_is_not_chosen(tmp_path: Path, labelled: Rows, quick: Recipe) -> None:
    """One concept all along, noisy labels: more rows are worth more, whatever some rows of validation say."""
    lucky, chosen = 0, []
    for seed in range(12):
        noise = np.random.default_rng(seed).random(900) < 0.3
        rows = [msgspec.structs.replace(row, label=row.label ^ int(noise[n])) for n, row in enumerate(labelled(900))]
        folder = tmp_path / str(seed)
        folder.mkdir()
        write_dataset(folder, rows, model="quick", features=["a", "b"])
        dataset = read_dataset(folder)
        fitted = search(quick, dataset, split(dataset, 100).train, [Window(rows=300), Window(rows=4000)], seed=seed)
        metrics = {trial["window"]: trial[quick.metric] for trial in fitted.tried}
        lucky += metrics["rows:300"] > metrics["rows:4000"]
        chosen.append(fitted.window)
    assert lucky >= 3, "otherwise this shows nothing"
    assert chosen.count("rows:4000") >= 11


def test_no_trial_was_fitted_on_a_row_it_is_scored_on(
    dataset: Dataset, quick: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every label a trial was fitted on was known before the validation part began."""
    from gateway.retraining.job import search as room

    seen: list[np.ndarray] = []
    original = room.fit

    def spy(recipe: Recipe, candidate: str, rows_of: Dataset, rows: np.ndarray, seed: int, *more: Any) -> object:
        seen.append(rows)
        return original(recipe, candidate, rows_of, rows, seed, *more)

    monkeypatch.setattr(room, "fit", spy)
    parts = split(dataset, 100)
    fitted = search(quick, dataset, parts.train, [Window(rows=4000)], seed=0)
    trial, final = seen
    assert dataset.labelled_ns[trial].max() <= dataset.predicted_ns[fitted.validation].min()
    assert dataset.labelled_ns[final].max() <= dataset.predicted_ns[parts.holdout].min()
    assert set(final.tolist()).isdisjoint(parts.holdout.tolist())


def test_holdout_is_newer_than_what_the_champion_was_fitted_on(dataset: Dataset) -> None:
    """A champion looks better than it is on rows that it knows."""
    until = START_NS + 950 * SECOND
    assert split(dataset, 200, until).holdout.tolist() == list(range(950, 1000))
    assert split(dataset, 200, START_NS + 5000 * SECOND).holdout.size == 0


def test_last_known_label_respects_the_delay(dataset: Dataset) -> None:
    """At row 500 the label of row 490 is the newest that is known."""
    assert last_known(dataset, np.array([500]))[0] == dataset.labels[490]


def test_candidate_that_can_not_be_fitted_is_told_and_passed_over(dataset: Dataset, quick: Recipe) -> None:
    """One broken candidate does not cost the job."""

    def broken() -> object:
        from sklearn.linear_model import LogisticRegression

        return LogisticRegression(C=-1.0)

    both = replace(quick, candidates={"broken": broken, **quick.candidates})
    fitted = search(both, dataset, split(dataset, 100).train, [Window(rows=500)], seed=0)
    assert fitted.candidate == "tree"
    assert "error" in fitted.tried[-1]
    with pytest.raises(ValueError, match="no candidate"):
        search(replace(quick, candidates={"broken": broken}), dataset, split(dataset, 100).train, [], seed=0)


def test_windows_are_named_as_in_the_policy() -> None:
    """Reports and lineage use these names."""
    assert [window_name(one) for one in ("since_change", Window(rows=10_0), Window(days=1.5))] == [
        "since_change",
        "rows:100",
        "days:1.5",
    ]
