"""A model on a stream whose labels come late, replaced after each alarm of its error detector: the loop in short.

What the gateway does with processes, journal and gate, as plain code: predict first, learn from the label later. A
version proves its error rate on rows it was not fitted on, and its detector starts from that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gateway.documents.policy import MonitoringPolicy
from gateway.monitor.detectors.detector import Detector, FloatArray
from tests.statistics.monitor_rules import ErrorRule

DELAY = 100
FIRST = 2_000
"""The first version is fitted on so many rows, and proven on as many."""
FOLLOW_UP = 1_000
"""So many labels after an alarm the next version is fitted: enough of the new concept."""
HOLDOUT = 500
COOLDOWN = MonitoringPolicy().cooldown_labels


def retrained(numbers: FloatArray, labels: NDArray[np.intp], rule: ErrorRule) -> Iterator[int]:
    """The rows (counted from 1) at which the error detector alarmed: each label comes DELAY rows after its row."""
    fitted, proven, start = slice(0, FIRST), slice(FIRST, 2 * FIRST), 2 * FIRST
    while start < len(labels):
        wrong = _wrong(numbers, labels, fitted)
        detector = partial(rule, float(wrong[proven].mean()), proven.stop - proven.start)
        due, alarms, since = _watched(wrong[start:], detector)
        yield from (start + alarm + DELAY for alarm in alarms if start + alarm + DELAY <= len(labels))
        fitted, proven = slice(start + since, start + due - HOLDOUT), slice(start + due - HOLDOUT, start + due)
        start += due + DELAY


def _wrong(numbers: FloatArray, labels: NDArray[np.intp], fitted: slice) -> FloatArray:
    """On every row, whether a version that is fitted on these rows is wrong."""
    from sklearn.linear_model import LogisticRegression

    model: Any = LogisticRegression().fit(numbers[fitted], labels[fitted])
    wrong: FloatArray = (model.predict(numbers) != labels).astype(np.float64)
    return wrong


def _watched(errors: FloatArray, make: Callable[[], Detector]) -> tuple[int, list[int], int]:
    """Labels until the next version is due, the labels that alarmed, and the first label behind the first change."""
    detector, since, start = make(), 0, 0
    alarms: list[int] = []
    end = len(errors)
    while start < end:
        before = detector.events
        verdict = detector.update(errors[start : min(start + 64, end)])
        if not verdict.alarmed:
            start = min(start + 64, end)
            continue
        at = start + verdict.event - before
        if not alarms:
            began = at - verdict.event
            since = max(began + verdict.since - 1, 0) if verdict.since else max(0, at - FOLLOW_UP // 2)
            end = min(end, at + FOLLOW_UP)
        if not alarms or at >= alarms[-1] + COOLDOWN:
            alarms.append(at)
        detector, start = make(), at
    return end, alarms, since
