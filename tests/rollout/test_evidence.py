"""The verdict over what was counted: which guard says what and when, and the reasons people read."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest

from gateway.documents.rollout import Guards
from gateway.rollout.evidence.slices import Slice
from gateway.rollout.evidence.verdict import Compared, Tally, assess, e_value, figures

GUARDS = Guards()


def test_the_verdict_names_the_guard_and_the_counts() -> None:
    """`Why was it aborted?` must be answered by the reason alone."""
    compared = Compared(trial=Tally(212, 7, 0, 0), reference=Tally(4021, 3, 0, 0), errors=math.log(134))
    verdict = assess(compared, GUARDS)
    assert (verdict.result, verdict.guard) == ("fail", "errors")
    assert verdict.reason == "errors: 7 of 212 runs failed, against 3 of 4021 (evidence 134 >= 100)"


@pytest.mark.parametrize(
    ("field", "limit"), [("errors", 100.0), ("slow", 100.0), ("worse_pairs", 20.0 / 0.9), ("worse_share", 200.0)]
)
def test_a_guard_fails_at_its_limit_and_not_before(field: str, limit: float) -> None:
    """1/alpha of the guard; quality shares its alpha between pairs (nine parts) and the split (one part)."""
    below = 0.99 if field in {"errors", "slow"} else 0.9
    almost: dict[str, Any] = {field: math.log(limit * below)}
    enough: dict[str, Any] = {field: math.log(limit * 1.01)}
    assert assess(Compared(**almost), GUARDS).result == "inconclusive"
    assert assess(Compared(**enough), GUARDS).result == "fail"


def test_hard_stop_needs_a_healthy_champion() -> None:
    """A caller's bad input fails everywhere: that is nobody's fault."""
    bad = Tally(20, 5, 0, 5)
    assert assess(Compared(trial=bad, reference=Tally(400, 4, 0, 0)), GUARDS).guard == "hard_stop"
    assert assess(Compared(shadow=bad, reference=Tally(400, 4, 0, 0)), GUARDS).guard == "hard_stop"
    assert assess(Compared(trial=bad, reference=Tally(400, 80, 0, 4)), GUARDS).result == "inconclusive"


def test_only_the_first_twenty_runs_can_stop_it_hard() -> None:
    """Five failures among thousands are the e-process's business."""
    tally = Tally()
    for number in range(1000):
        tally = tally.add(failed=number % 100 == 50, slow=False)
    assert (tally.errors, tally.first_errors) == (10, 0)


def test_promotion_needs_evidence_and_enough_answers() -> None:
    """20 and 500, on the side that the step compares."""
    evidence = math.log(25)
    assert assess(Compared(trial=Tally(499), calm=evidence), GUARDS).result == "inconclusive"
    assert assess(Compared(trial=Tally(500), calm=evidence), GUARDS).result == "pass"
    assert assess(Compared(trial=Tally(500), calm=evidence), GUARDS, on_shadow=True).result == "inconclusive"
    assert assess(Compared(pairs=500, calm_shadow=evidence), GUARDS, on_shadow=True).result == "pass"


def test_a_guard_outweighs_promotion_evidence() -> None:
    """Fewer errors never excuse worse answers."""
    compared = Compared(trial=Tally(900), calm=math.log(1e6), worse_pairs=math.log(1e3))
    assert assess(compared, GUARDS).result == "fail"


def test_figures_hold_everything_a_verdict_rests_on() -> None:
    """Decisions are recomputed from them."""
    shown = figures(Compared(trial=Tally(3, 1, 0, 1), errors=1.0), GUARDS)
    assert shown["counts"]["trial"] == {"requests": 3, "errors": 1, "slow": 0, "first_errors": 1, "waited": 0}
    assert shown["values"]["errors"] == e_value(1.0) == 2.718
    assert shown["limits"] == {"errors": 100, "slow": 100, "quality": 20, "value": 20, "disagree": 100, "promotion": 20}


def test_a_verdict_says_what_pairs_have_shown() -> None:
    """A step may ask for it; without a margin nobody can be not worse."""
    enough = math.log(20.1)
    assert assess(Compared(better=enough, not_worse=1.0), GUARDS).shown == {"better"}
    assert assess(Compared(not_worse=enough), GUARDS).shown == {"not_worse"}


def test_disagreement_is_a_question_and_no_failure() -> None:
    """A good new version must differ somewhere: the verdict waits for a person, whatever speaks for promotion."""
    guards = Guards(disagreement_at_most=0.3)
    much = Compared(
        pairs=1000,
        compared=1000,
        disagreements=412,
        disagree=math.log(150),
        calm_shadow=9.0,
        trial=Tally(900),
        calm=9.0,
    )
    verdict = assess(much, guards, on_shadow=True)
    asked = "disagreement: 412 of 1000 rows differ from the other version's, at most 30 % were expected (evidence 150"
    assert verdict.result == "inconclusive"
    assert verdict.question.startswith(asked)
    assert verdict.reason == verdict.question
    assert assess(much, GUARDS, on_shadow=True).result == "pass"
    assert assess(Compared(disagree=9.0, errors=9.0), guards).question == ""


def test_figures_hold_the_score_of_the_pairs() -> None:
    """Ready for JSON: the flip table by the reference's class, each slice with its mean distance and run time ratio."""
    compared = Compared(
        flips=(("a", "a", 7), ("a", "b", 2), ("b", "a", 1)),
        slices=(
            ("day=1", Slice(rows=4, disagreements=1, distances=1.0)),
            ("day=2", Slice(trial_errors=1, timed=1, log_ratios=math.log(2))),
        ),
        distance=0.25,
    )
    counts = figures(compared, GUARDS)["counts"]
    assert counts["flips"] == {"a": {"a": 7, "b": 2}, "b": {"a": 1}}
    day1, day2 = counts["slices"]["day=1"], counts["slices"]["day=2"]
    assert (day1["distance"], day2["distance"]) == (0.25, None)
    assert (day1["latency_ratio"], day2["latency_ratio"]) == (None, 2.0)
    assert counts["distance"] == 0.25
    assert msgspec.json.decode(msgspec.json.encode(counts)) == counts
