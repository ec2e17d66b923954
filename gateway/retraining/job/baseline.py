"""What any candidate has to beat: dice, the most frequent label, the last known label, a simple model.

Baselines are fitted on the same rows as the candidate and judged on the same holdout. scikit-learn is loaded inside
the one function that needs it.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gateway.retraining.job.front import places
from gateway.retraining.recipe import Recipe
from gateway.retraining.rows.dataset import Dataset, IntArray
from gateway.retraining.rows.split import last_known


def baselines(
    recipe: Recipe, dataset: Dataset, train: IntArray, holdout: IntArray, seed: int = 0
) -> dict[str, NDArray[Any]]:
    """Predictions for the holdout by name: random, majority, last_label, simple (left out where it can not be fitted).

    random: labels drawn from the training rows, so in their shares.
    """
    answers = {
        "random": np.random.default_rng(seed).choice(dataset.labels[train], len(holdout)),
        "majority": majority(recipe, dataset.labels[train], len(holdout)),
        "last_label": last_known(dataset, holdout),
    }
    if len(np.unique(dataset.labels[train])) > 1:
        answers["simple"] = simple(recipe, dataset, train, holdout)
    return answers


def majority(recipe: Recipe, labels: NDArray[Any], count: int) -> NDArray[Any]:
    """The most frequent label (the median of a regression), `count` times."""
    if recipe.is_class:
        values, counts = np.unique(labels, return_counts=True)
        return np.full(count, values[counts.argmax()])
    return np.full(count, np.median(labels.astype(np.float64)))


def simple(recipe: Recipe, dataset: Dataset, train: IntArray, holdout: IntArray) -> NDArray[Any]:
    """A logistic (ridge for values) regression on standardised features, missing values replaced by the median.

    Texts become one column for each category.
    """
    from sklearn.compose import make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    last = LogisticRegression(max_iter=200) if recipe.is_class else Ridge()
    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    texts = places(recipe)[1]
    if texts:
        encoder = OneHotEncoder(handle_unknown="ignore", max_categories=50)
        pipeline = make_pipeline(make_column_transformer((encoder, texts), remainder=numbers), last)
    else:
        pipeline = make_pipeline(numbers, last)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # not converged is still a baseline
        pipeline.fit(dataset.features[train], dataset.labels[train])
    answers: NDArray[Any] = pipeline.predict(dataset.features[holdout])
    return answers
