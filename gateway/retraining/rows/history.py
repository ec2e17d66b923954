"""Rows from before the journal: what a recipe says was known when the gateway took the model over.

Without them the first jobs would know less than the first version did. They are older than anything in the journal,
and count only as far as the journal's rows do not fill what the windows can use. Pure.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from msgspec.structs import replace as changed
from numpy.typing import NDArray

from gateway.errors import InvalidConfig
from gateway.retraining.rows.dataset import Dataset, IntArray, TextArray, as_texts, digested


def with_history(dataset: Dataset, history: Dataset, most: int) -> Dataset:
    """The rows of both, `most` at most, those of the history first; row numbers stand for their times.

    history: rows of a file with the same columns in the same order, which name those of the result. Rows of a dataset
    that has its history already stay as they are.
    Raises InvalidConfig when labels are texts in one and numbers in the other.
    """
    known = history.description
    count = min(history.rows, most - dataset.rows)
    if count <= 0 or dataset.description.history:
        return dataset
    newest = np.arange(history.rows - count, history.rows)
    if dataset.rows and (dataset.labels.dtype.kind == "U") != (history.labels.dtype.kind == "U"):
        raise InvalidConfig("history: its labels are texts where those of the journal are numbers, or the reverse")
    texts = {
        column: np.concatenate([_texts(history, column)[newest], _texts(dataset, column)])
        for column in sorted({*history.texts, *dataset.texts})
    }
    features = np.concatenate([history.features[newest], dataset.features])
    features[:, list(texts)] = np.nan
    return digested(
        replace(
            dataset,
            description=changed(dataset.description, features=known.features, rows=count + dataset.rows, history=count),
            features=features,
            labels=_joined(history.labels[newest], dataset.labels),
            predicted_ns=_joined(history.predicted_ns[newest], dataset.predicted_ns),
            labelled_ns=_joined(history.labelled_ns[newest], dataset.labelled_ns),
            texts=texts,
        )
    )


def _texts(dataset: Dataset, column: int) -> TextArray:
    found = dataset.texts.get(column)
    return as_texts(dataset.features[:, column].tolist()) if found is None else found


def _joined(first: NDArray[np.generic], second: NDArray[np.generic]) -> IntArray:
    joined: IntArray = np.concatenate([first, second])
    return joined
