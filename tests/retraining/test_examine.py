"""What is wrong with the rows is said before anything is fitted on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace as changed

from gateway.journal.join import LabelledRow
from gateway.retraining.job.coding import of_known_labels
from gateway.retraining.job.examine import examine, fatal
from gateway.retraining.recipe import Feature, Recipe
from gateway.retraining.rows.dataset import Dataset, read_dataset, write_dataset

Rows = Callable[..., list[LabelledRow]]


@pytest.fixture
def noisy(tmp_path: Path, labelled: Rows) -> Dataset:
    """Twelve hundred rows of random numbers and labels: nothing is wrong with them."""
    random = np.random.default_rng(0)
    rows = [changed(row, inputs=random.random(2).tolist(), label=int(random.random() < 0.5)) for row in labelled(1200)]
    write_dataset(tmp_path, rows, model="quick", features=["a", "b"])
    return read_dataset(tmp_path)


def checks(recipe: Recipe, dataset: Dataset) -> set[str]:
    """The names of what was found."""
    return {one.check for one in examine(recipe, dataset, np.arange(dataset.rows))}


def test_good_rows_are_not_blamed(noisy: Dataset, quick: Recipe) -> None:
    """A report that always finds something is not read."""
    assert checks(quick, noisy) == set()


@pytest.mark.parametrize(
    ("harm", "check"),
    [
        (lambda f, y: (f[:900], y[:900]), "few_rows"),
        (lambda f, y: (np.where(np.arange(1200)[:, None] % 9 == 0, np.nan, f), y), "missing"),
        (lambda f, y: (f * 3, y), "out_of_range"),
        (lambda f, y: (np.round(f, 1), y), "duplicates"),
        (lambda f, y: (f, (np.arange(1200) % 30 == 0).astype(int)), "imbalance"),
        (lambda f, y: (np.column_stack([f[:, 0], y + f[:, 1] / 9]), y), "leakage"),
        (lambda f, y: (np.column_stack([f[:, 0], np.ones(1200)]), y), "constant"),
        (lambda f, y: (np.ones_like(f), y), "constant_features"),
        (lambda f, y: (f, np.ones_like(y)), "one_class"),
        (lambda f, y: (f, y + 1), "unknown_label"),
        pytest.param(lambda f, y: (f, y.astype(str)), "unknown_label", id="labels of another type"),
        (lambda f, y: (f[:0], y[:0]), "no_rows"),
    ],
)
def test_harm_is_named(noisy: Dataset, quick: Recipe, harm: Callable[..., Any], check: str) -> None:
    """Each check finds its own, and the four that no model survives end the job."""
    features, labels = harm(noisy.features, noisy.labels)
    recipe = replace(quick, features=[Feature(name="a", low=0, high=1), Feature(name="b", low=-1, high=2)])
    dataset = replace(noisy, features=features, labels=labels, predicted_ns=noisy.predicted_ns[: len(labels)])
    found = examine(recipe, dataset, np.arange(len(labels)))
    assert check in {one.check for one in found}
    assert (fatal(found) is not None) == (check in ("constant_features", "one_class", "unknown_label", "no_rows"))
    assert fatal(found, [check]) is not None


def test_few_strange_labels_are_left_out_and_many_are_shown(noisy: Dataset, quick: Recipe) -> None:
    """One caller's odd label must not end every job; a hundred of them are for a person to see."""
    labels = noisy.labels.copy()
    labels[:5] = 7
    kept = of_known_labels(quick, replace(noisy, labels=labels))
    assert (kept.rows, kept.description.digest) == (1195, noisy.description.digest)
    labels[:100] = 7
    assert of_known_labels(quick, replace(noisy, labels=labels)).rows == 1200
    assert checks(quick, replace(noisy, labels=labels)) >= {"unknown_label"}


def test_few_texts_among_numbers_are_left_out(tmp_path: Path, labelled: Rows) -> None:
    """A stray "n/a" would make a text of every label."""
    rows = labelled(300)
    rows[7] = changed(rows[7], label="n/a")
    written = write_dataset(tmp_path, rows, model="quick", features=["a", "b"])
    assert (written.rows, written.skipped) == (299, 1)
    assert read_dataset(tmp_path).labels.dtype.kind == "i"
