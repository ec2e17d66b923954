"""The error detector: only a rise above the proven rate plus its own uncertainty counts."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gateway.monitor.detectors.error import Baseline, ErrorDetector, baseline


def errors(rate: float, count: int, seed: int = 1) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return (np.random.default_rng(seed).random(count) < rate).astype(np.float64)


def test_the_tolerance_covers_two_standard_errors_of_the_proven_rate() -> None:
    """A rate from few rows is itself uncertain: with no tolerance a quarter of quiet streams alarmed."""
    assert baseline(0.1, 100, 0.01).tolerance == pytest.approx(0.061, abs=0.002)
    assert baseline(0.1, 100_000, 0.01).tolerance == 0.01
    assert baseline(0.0, 50, 0.0).tolerance > 0


def test_names_the_labels_since_the_change() -> None:
    """Retraining takes its first window from there."""
    detector = ErrorDetector(baseline(0.1, 2000, 0.01), 1e5)
    verdict = detector.update(np.concatenate([errors(0.1, 1500), errors(0.35, 500, 2)]))
    assert verdict.alarmed
    assert verdict.kind == "concept_drift"
    assert 1500 < verdict.event < 1600
    assert 1440 < verdict.since < 1540


def test_fewer_errors_than_proven_are_no_alarm() -> None:
    """One-sided: a model that got better needs no answer."""
    assert not ErrorDetector(baseline(0.4, 2000, 0.01), 1e4).update(errors(0.05, 5000)).alarmed


def test_a_rise_within_the_tolerance_is_no_alarm() -> None:
    assert not ErrorDetector(baseline(0.1, 2000, 0.05), 1e4).update(errors(0.13, 5000)).alarmed


def test_clipped_losses_are_bet_on_like_indicators() -> None:
    """Regression: a mean loss that doubles is found, the same mean in small change is not."""
    random = np.random.default_rng(3)
    detector = ErrorDetector(Baseline(0.2, 0.02), 1e4)
    assert not detector.update(random.uniform(0.1, 0.3, 2000)).alarmed
    assert detector.update(random.uniform(0.3, 0.5, 500)).alarmed


def test_a_version_that_never_erred_can_still_fail() -> None:
    detector = ErrorDetector(baseline(0.0, 1000, 0.01), 1e4)
    assert detector.update(errors(0.2, 300)).alarmed


def test_a_useless_version_can_not_become_worse() -> None:
    """A proven rate of 1 leaves no bet that could win, and no division by zero."""
    verdict = ErrorDetector(baseline(1.0, 100, 0.01), 1e4).update(np.ones(1000))
    assert math.isfinite(verdict.evidence)


def test_a_state_of_other_bets_starts_again() -> None:
    """A policy edit may change the bets; the monitor must go on."""
    few = ErrorDetector(Baseline(0.5, 0.2), 1e4)
    few.update(errors(0.5, 10))
    assert ErrorDetector(Baseline(0.01, 0.0), 1e4).restored(few.state()).events in (0, 10)


@pytest.mark.parametrize(("rate", "rows"), [(math.nan, 100), (0.1, 0), (-1.0, 100), (7.0, 100)])
def test_a_rate_that_nobody_proved_is_no_alarm(rate: float, rows: int) -> None:
    """NaN once passed for a rate of zero: every error would have been a rise."""
    detector = ErrorDetector(baseline(rate, rows, 0.01), 1e4)
    assert not detector.update(errors(0.5, 3000)).alarmed


def test_a_loss_beyond_its_scale_counts_as_one_error() -> None:
    """Bets are fair on [0, 1]; a single infinite loss would pay without bounds."""
    detector = ErrorDetector(baseline(0.1, 2000, 0.01), 1e4)
    strange = np.array([1e300, math.inf, -math.inf, math.nan, -5.0])
    verdict = detector.update(np.concatenate([errors(0.05, 500), strange, errors(0.05, 500, 2)]))
    assert math.isfinite(verdict.evidence)
    assert not verdict.alarmed
