"""The gate keeps harm out and lets equals pass."""

from __future__ import annotations

import numpy as np
import pytest

from gateway.documents.policy import Gate
from gateway.registry.manifest import GateReport
from gateway.retraining.job.gate import Parity, Scores, better, fairness, gate, golden, learned, size

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


def test_fall_on_the_golden_rows_holds_instead_of_rejecting() -> None:
    """Ten points are the policy's; the version is good by every other check, so a person decides."""
    fell = golden(scores(30).losses, 0.02, "of the champion", Gate())
    report = gate(scores(20, parity=GOOD), scores(20), {}, Gate(), further=[fell])
    assert report.passed
    assert "golden" in report.hold
    fine = golden(scores(30).losses, 0.05, "of the champion", Gate())
    assert gate(scores(20, parity=GOOD), scores(20), {}, Gate(), further=[fine]).hold == ""
    assert not gate(scores(90, parity=GOOD), scores(20), {}, Gate(), further=[fell]).passed


def test_groups_that_fare_differently_are_told_by_evidence() -> None:
    """Forty points apart on a hundred rows each is evidence, four points are not; without a limit nobody is asked."""
    groups = {"x=1": np.arange(200) < 100, "x=2": np.arange(200) >= 100}
    limited = Gate(fairness_gap=0.1)
    assert fairness(scores(40).losses, groups, limited)[0]["passed"] is False
    assert fairness(scores(14).losses, groups, limited)[0]["passed"] is True
    assert fairness(scores(40).losses, groups, Gate()) == []


def test_size_and_follow_up_are_checked() -> None:
    """A file over the limit is stopped; a model that nobody waits for has to be better, not only as good."""
    assert size(300_000_000, Gate())["passed"] is False
    assert size(1_000_000, Gate())["passed"] is True
    assert better(scores(20).losses, scores(20).losses)["passed"] is False
    assert better(scores(19).losses, scores(20).losses)["passed"] is True


def test_learned_asks_for_evidence() -> None:
    """Six rows of 200 better than a constant answer is luck, sixty are not; better on every row is certain."""
    assert learned(scores(80).losses, scores(86).losses)["passed"] is False
    assert learned(scores(30).losses, scores(90).losses)["passed"] is True
    assert learned(scores(0).losses, scores(200).losses)["passed"] is True
    assert learned(scores(80).losses, scores(80).losses)["passed"] is False
