"""Detectors under study: this gateway's by its own classes, river's and a windowed test on the same streams, dummies.

A rule gets what is known before the stream and the stream; it yields alarms in order, each at the event that fired,
counted from 1, and starts again after each of them (river's detectors do so by themselves).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gateway.documents.policy import MonitoringPolicy
from gateway.monitor.detectors.detector import Detector, FloatArray
from gateway.monitor.detectors.error import ErrorDetector, baseline
from gateway.monitor.detectors.panel import Panel
from gateway.monitor.detectors.second_opinion import SecondOpinion
from tests.statistics.monitor_streams import NUMERIC, Known, Rows

BUDGET = 100_000.0
PIECE = 512
WINDOW = 500
LEAST_TOLERANCE = MonitoringPolicy().error_tolerance


@dataclass(frozen=True)
class Alarm:
    """event: from 1. feature: the one named first."""

    event: int
    feature: str = ""


RowsRule = Callable[[Known, Rows], Iterator[Alarm]]
ErrorRule = Callable[[float, int], Detector]
"""From an error rate and the labels it was measured on to a detector of the error stream."""


# Rows: this gateway's panel.


def panel(seen: Known, rows: Rows) -> Iterator[Alarm]:
    """`Panel` as the monitor feeds it."""
    return restarting(lambda: Panel(seen.plan, BUDGET), seen.encoded(rows))


def restarting(make: Callable[[], Detector], values: FloatArray) -> Iterator[Alarm]:
    """Every alarm, a fresh detector after each."""
    start, detector = 0, make()
    while start < len(values):
        piece = values[start : start + PIECE]
        before = detector.events
        verdict = detector.update(piece)
        if verdict.alarmed:
            start += verdict.event - before
            yield Alarm(start, verdict.features[0][0] if verdict.features else "")
            detector = make()
        else:
            start += len(piece)


# Rows: river's on every numeric feature, and a test of windows.


def each(name: str) -> RowsRule:
    """One of river's detectors with its defaults on every numeric feature."""

    def rule(seen: Known, rows: Rows) -> Iterator[Alarm]:
        drift: Any = __import__("river.drift", fromlist=[name])
        made = [getattr(drift, name)(**({"seed": 1} if name == "KSWIN" else {})) for _ in range(rows.numbers.shape[1])]
        for event, row in enumerate(rows.numbers.tolist(), 1):
            fired = [place for place, value in enumerate(row) if value == value and _moved(made[place], value)]
            if fired:
                yield Alarm(event, f"f{fired[0]}")

    return rule


def _moved(detector: Any, value: float) -> bool:
    detector.update(value)
    return bool(detector.drift_detected)


def windowed(seen: Known, rows: Rows) -> Iterator[Alarm]:
    """Kolmogorov-Smirnov on every numeric feature, windows of 500 rows, 0.05 shared out by Bonferroni."""
    from scipy.stats import ks_2samp

    columns = rows.numbers.shape[1]
    for start in range(0, len(rows) - WINDOW + 1, WINDOW):
        part = rows.numbers[start : start + WINDOW]
        chances = [
            float(ks_2samp(seen.rows.numbers[:, place], part[:, place], method="asymp", nan_policy="omit").pvalue)
            for place in range(columns)
        ]
        if min(chances) < 0.05 / columns:
            yield Alarm(start + WINDOW, f"f{int(np.argmin(chances))}")


ROWS_ELSEWHERE: Mapping[str, RowsRule] = {
    "ADWIN": each("ADWIN"),
    "PageHinkley": each("PageHinkley"),
    "KSWIN": each("KSWIN"),
    "KS, windows of 500": windowed,
}


# Errors.


def error_detector(rate: float, rows: int) -> Detector:
    """This gateway's, with the policy's default tolerance."""
    return ErrorDetector(baseline(rate, rows, LEAST_TOLERANCE), BUDGET)


def opinion(name: str) -> ErrorRule:
    """One of river's on errors, as the policy would add it: a fall is no alarm."""
    return lambda rate, rows: SecondOpinion(name, rising=True)


ERRORS_ELSEWHERE: Mapping[str, ErrorRule] = {
    name: opinion(name) for name in ("ADWIN", "DDM", "EDDM", "HDDMA", "HDDMW", "FHDDM", "PageHinkley")
}


# Dummies: a study that one of them passes proves nothing.


def always(seen: Known, rows: Rows) -> Iterator[Alarm]:
    """Alarms at every event."""
    return (Alarm(event, f"f{event % NUMERIC}") for event in range(1, len(rows) + 1))


def never(seen: Known, rows: Rows) -> Iterator[Alarm]:
    """Says nothing."""
    return iter(())
