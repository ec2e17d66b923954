"""Notices that errors became more frequent than the version's proven rate: concept drift.

A one-sided Shiryaev-Roberts e-detector on the delayed error indicator (or a loss clipped to [0, 1]). With `high` the
proven rate plus a tolerance, each bet multiplies 1 + lam (v - high) / high, an e-process while the mean error given
the past is at most `high`; starting one at every label and adding them up keeps the mean time to a false alarm at
the threshold or above, without independence. Sources: Shin, Ramdas, Rinaldo, E-detectors, 2022; Podkopaev, Ramdas,
Tracking the risk of a deployed model, 2021 (only harmful changes, with a tolerance). The tolerance must cover the
sampling error of the proven rate: with none, a quarter of quiet 20,000-label streams alarmed.
"""

from __future__ import annotations

import math
from typing import Self

import msgspec
from msgspec import Struct

from gateway.monitor.detectors.detector import FloatArray, Verdict

_LARGEST = 1e100


class Baseline(Struct, frozen=True):
    """The rate that a version proved, and how far above it is still the same."""

    rate: float
    tolerance: float

    @property
    def high(self) -> float:
        """The largest mean error that is no drift."""
        return min(0.98, max(1e-4, self.rate + self.tolerance))


def baseline(rate: float, rows: int, tolerance: float) -> Baseline:
    """The rate with the larger of the policy's tolerance and two standard errors (from `rows` labelled rows).

    A rate that is no number in [0, 1], or that no row proved, is taken for one half of which nothing is known: only
    errors without end are then worse than it.
    """
    if rows < 1 or not 0 <= rate <= 1:
        rate, rows = 0.5, 0
    shrunk = (rate * rows + 1) / (rows + 2)
    return Baseline(rate, max(tolerance, 2 * math.sqrt(shrunk * (1 - shrunk) / max(rows, 1))))


class _State(Struct, array_like=True):
    events: int
    sums: list[float]  # e-processes started at every label, added up; one for each bet
    runs: list[float]  # the same since the last restart (CUSUM), to estimate where the change was
    starts: list[int]


class ErrorDetector:
    """Evidence against `baseline.high`; alarms at `threshold` (the mean number of labels to a false alarm)."""

    def __init__(self, base: Baseline, threshold: float, state: bytes = b"") -> None:
        self._base = base
        self._threshold = threshold
        high = base.high
        expected = {1.25 * high, 1.5 * high, 2 * high, 3 * high, high + 0.05, high + 0.1, high + 0.25}
        rates = sorted(rate for rate in expected if rate < 0.99) or [(1 + high) / 2]
        # A bet that expects this rate multiplies rate / high at an error and (1 - rate) / (1 - high) at none.
        self._gains = [(rate / high - 1, (1 - rate) / (1 - high)) for rate in rates]
        count = len(self._gains)
        kept = msgspec.msgpack.decode(state, type=_State) if state else None
        if kept is None or len(kept.sums) != count:  # other bets than before: their sums mean nothing to these
            kept = _State(0, [0.0] * count, [1.0] * count, [1] * count)
        self._state = kept

    @property
    def events(self) -> int:
        return self._state.events

    def update(self, values: FloatArray) -> Verdict:
        alarm: Verdict | None = None
        for value in values.tolist():
            self._take(value)
            if alarm is None and self._evidence() >= self._threshold:
                alarm = self._verdict()
        return alarm or self._verdict()

    def state(self) -> bytes:
        return msgspec.msgpack.encode(self._state)

    def restored(self, state: bytes) -> Self:
        return type(self)(self._base, self._threshold, state)

    def _take(self, value: float) -> None:
        state = self._state
        state.events += 1
        if math.isnan(value):
            return
        value = min(1.0, max(0.0, value))  # bets are fair on [0, 1] only
        for place, (gain, none) in enumerate(self._gains):
            # Linear between no error and a whole one, so a clipped loss is bet on as fairly as an indicator.
            factor = none + value * (1 + gain - none)
            state.sums[place] = min(_LARGEST, (state.sums[place] + 1) * factor)
            run = state.runs[place] * factor
            if run <= 1:
                state.runs[place], state.starts[place] = 1.0, state.events + 1
            else:
                state.runs[place] = min(_LARGEST, run)

    def _evidence(self) -> float:
        return sum(self._state.sums) / len(self._state.sums)

    def _verdict(self) -> Verdict:
        state, evidence = self._state, self._evidence()
        alarmed = evidence >= self._threshold
        strongest = max(range(len(state.runs)), key=lambda place: state.runs[place])
        since = min(state.starts[strongest], state.events) if alarmed else 0
        kind = "concept_drift" if alarmed else ""
        return Verdict(evidence, self._threshold, alarmed, state.events, since, kind)
