"""What was known when: which rows a job may fit on, and which it is judged by. Pure."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gateway.retraining.rows.dataset import Dataset, IntArray

LEAST_HOLDOUT_ROWS = 100
"""With fewer rows a comparison is noise."""


class Split(NamedTuple):
    """Places of rows, ascending: to fit on, and the holdout, which begins after every fitted label was known."""

    train: IntArray
    holdout: IntArray


def split(dataset: Dataset, newest: int, trained_until_ns: int = 0) -> Split:
    """The newest `newest` rows predicted at or after `trained_until_ns` as holdout, and what was labelled before it.

    The gap is the label's real delay: a row is fitted on only if its label was known when the first holdout row was
    predicted. `trained_until_ns`: when the last label that the champion was fitted on was known.
    """
    unseen = np.flatnonzero(dataset.predicted_ns >= trained_until_ns)
    holdout = unseen[-newest:]
    if not len(holdout):
        return Split(holdout, holdout)
    return Split(known_before(dataset, holdout[0]), holdout)


def shortfall(parts: Split, least_rows: int) -> int:
    """How many more labels a job needs at least; 0 when there are enough."""
    return max(0, LEAST_HOLDOUT_ROWS - len(parts.holdout), least_rows - len(parts.train))


def known_before(dataset: Dataset, place: int) -> IntArray:
    """Places of earlier rows whose label was known when the row at `place` was predicted."""
    return np.flatnonzero(dataset.labelled_ns[:place] <= dataset.predicted_ns[place])


def last_known(dataset: Dataset, places: IntArray) -> NDArray[Any]:
    """For each place the label of the newest earlier row that was known by then; the first label when none was."""
    answers = []
    for place in places:
        known = known_before(dataset, int(place))
        answers.append(dataset.labels[known[-1] if len(known) else 0])
    return np.array(answers)
