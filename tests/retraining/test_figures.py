"""Figures are those of the textbooks, and their intervals hold what they say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from gateway.retraining.job.figures import class_figures, exact_interval, roc_auc, value_figures


@pytest.mark.parametrize("classes", [2, 4])
def test_figures_are_those_of_scikit_learn(classes: int) -> None:
    """The same names mean the same everywhere."""
    random = np.random.default_rng(classes)
    truth = random.integers(0, classes, 300)
    probabilities = random.dirichlet(np.ones(classes), 300) * 0.5 + 0.5 * np.eye(classes)[truth]
    said = np.where(random.random(300) < 0.7, truth, random.integers(0, classes, 300))
    found = class_figures(range(classes), said, probabilities, truth)
    scores = probabilities[:, 1] if classes == 2 else probabilities
    known = {
        "accuracy": metrics.accuracy_score(truth, said),
        "precision": metrics.precision_score(truth, said, average="macro"),
        "recall": metrics.recall_score(truth, said, average="macro"),
        "f1": metrics.f1_score(truth, said, average="macro"),
        "log_loss": metrics.log_loss(truth, probabilities),
        "roc_auc": metrics.roc_auc_score(truth, scores, multi_class="ovr"),
    }
    for name, value in known.items():
        assert found[name].value == pytest.approx(value), name
        assert found[name].low <= value <= found[name].high
    values = random.normal(size=300)
    guessed = values + random.normal(scale=0.5, size=300)
    numbers = value_figures(guessed, values)
    assert numbers["r2"].value == pytest.approx(metrics.r2_score(values, guessed))
    assert numbers["rmse"].value == pytest.approx(metrics.root_mean_squared_error(values, guessed))


def test_what_rows_do_not_define_is_left_out() -> None:
    """One class has no ROC curve; a constant has no R2."""
    ones = np.ones(20, dtype=np.int64)
    found = class_figures([0, 1], ones, np.full((20, 2), 0.5), ones)
    assert "roc_auc" not in found
    assert found["accuracy"] == (1.0, exact_interval(20, 20)[0], 1.0)
    assert set(value_figures(np.arange(20.0), np.ones(20))) == {"mae", "rmse"}


def test_same_seed_gives_the_same_intervals() -> None:
    """A gate report is part of what is reproduced."""
    truth = np.arange(60) % 2
    one, two = (class_figures([0, 1], truth[::-1], None, truth, seed=3) for _ in range(2))
    assert one == two


def test_exact_interval_covers_the_share_at_least_so_often() -> None:
    """For every share: the probability of all counts whose interval holds it is 95 % or more."""
    from scipy.stats import binom

    intervals = [exact_interval(count, 40) for count in range(41)]
    for share in np.linspace(0.01, 0.99, 33):
        held = sum(binom.pmf(count, 40, share) for count, (low, high) in enumerate(intervals) if low <= share <= high)
        assert held >= 0.95


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=40))
def test_area_counts_pairs(rows: list[tuple[int, bool]]) -> None:
    """The definition, by brute force; turned round it is one minus itself."""
    scores = np.array([score for score, _ in rows], dtype=np.float64)
    positive = np.array([is_positive for _, is_positive in rows])
    pairs = [(a > b) + (a == b) / 2 for a in scores[positive] for b in scores[~positive]]
    if pairs:
        assert roc_auc(scores, positive) == pytest.approx(np.mean(pairs))
        assert roc_auc(-scores, positive) == pytest.approx(1 - np.mean(pairs))
