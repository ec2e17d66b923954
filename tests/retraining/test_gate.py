"""The gate keeps harm out and lets equals pass."""

from __future__ import annotations

import numpy as np
import pytest

from gateway.documents.policy import Gate
from gateway.registry.manifest import GateReport
from gateway.retraining.gate import Parity, Scores, gate

GOOD = Parity(1.0, 1e-7)


def scores(wrong: int, rows: int = 200, **more: object) -> Scores:
    """A model that is wrong on the first `wrong` rows."""
    losses = np.zeros(rows)
    losses[:wrong] = 1
    return Scores(losses, **more)  # type: ignore[arg-type]


def failed(report: GateReport) -> set[str]:
    """Names of the checks that failed."""
    return {check["name"] for check in report.checks if not check["passed"]}


def test_same_model_again_passes_against_itself() -> None:
    """Non-inferiority: an equal is welcome."""
    report = gate(scores(20, parity=GOOD), scores(20), {"majority": scores(80)}, Gate())
    assert report.passed
    assert (report.error_rate, report.error_rows) == (0.1, 200)


def test_little_worse_on_few_rows_is_not_rejected_and_much_worse_is() -> None:
    """Only evidence rejects: three rows of 200 are noise, forty are not."""
    assert gate(scores(23, parity=GOOD), scores(20), {}, Gate()).passed
    assert failed(gate(scores(60, parity=GOOD), scores(20), {}, Gate())) == {"not_worse_than_champion"}


def test_constant_answer_never_beats_the_majority() -> None:
    """A model that learned nothing is equal to the baseline, not better."""
    report = gate(scores(80, parity=GOOD), None, {"majority": scores(80)}, Gate())
    assert failed(report) == {"beats_majority"}


@pytest.mark.parametrize("parity", [None, Parity(0.99, 0.0), Parity(1.0, 1e-3), Parity(1.0, float("inf"))])
def test_conversion_that_differs_is_stopped(parity: Parity | None) -> None:
    """skl2onnx 1.20 converts a calibrator around a pipeline to nonsense without a word."""
    assert failed(gate(scores(1, parity=parity), None, {}, Gate())) == {"parity"}


def test_slow_model_is_stopped() -> None:
    """The ratio is the policy's."""
    slow = scores(20, parity=GOOD, run_us=100.0)
    assert failed(gate(slow, scores(20, run_us=10.0), {}, Gate(latency_ratio=3))) == {"latency"}
    assert gate(slow, scores(20, run_us=40.0), {}, Gate(latency_ratio=3)).passed
    assert gate(slow, scores(20), {}, Gate(latency_ratio=3)).passed


def test_part_of_the_rows_that_got_worse_is_named() -> None:
    """A better average may hide that one group pays for it."""
    mine, theirs = np.zeros(400), np.zeros(400)
    mine[:60], theirs[100:200] = 1, 1
    part = np.zeros(400, dtype=bool)
    part[:100] = True
    report = gate(Scores(mine, parity=GOOD), Scores(theirs), {}, Gate(), {"night": part, "day": ~part})
    assert failed(report) == {"slice night"}


def test_baseline_that_nobody_could_compute_is_no_obstacle() -> None:
    """A window with one class has no simple model."""
    assert gate(scores(1, parity=GOOD), None, {}, Gate(beats=("simple", "majority"))).passed
