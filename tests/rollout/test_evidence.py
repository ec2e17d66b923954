"""E-processes and the verdict over them: exact values, directions, and the reasons people read."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest

from gateway.documents.rollout import Guards
from gateway.rollout.betting import CALM, DISCORDANT, SLOWER, WORSE, WRONG, FailureShare, Mean, Paired, Slowness
from gateway.rollout.evidence import Compared, Tally, assess, e_value, figures
from gateway.rollout.slices import Slice

GUARDS = Guards()


def test_one_failure_of_a_small_canary_gives_the_mean_of_its_likelihood_ratios() -> None:
    """The formula itself, worked out by hand for a weight of one half."""
    share = FailureShare()
    share.add(True, 0.5)
    by_hand = sum(part * 2 * ratio / (1 + ratio) for ratio, part in WORSE.items())
    assert math.exp(share.log) == pytest.approx(by_hand)


def test_each_event_counts_with_the_weight_in_force() -> None:
    """A failure at 1 % of the traffic says much more than one at 50 %."""
    small, large = FailureShare(), FailureShare()
    small.add(True, 0.01)
    large.add(True, 0.5)
    assert small.log > large.log > 0


def test_failures_of_the_champion_are_evidence_for_the_canary() -> None:
    """Otherwise an incident that hits both would look like the canary's fault."""
    share = FailureShare()
    for _ in range(9):
        share.add(False, 0.1)
    share.add(True, 0.1)
    assert share.log < 0


@pytest.mark.parametrize("weight", [0.0, 1.0, -1.0])
def test_without_two_sides_nothing_is_compared(weight: float) -> None:
    """Before the first canary and at 100 % there is nobody to compare with."""
    share = FailureShare()
    share.add(True, weight)
    assert share.log == 0.0


def test_a_tolerance_moves_the_null() -> None:
    """With a tolerance of 2, twice the champion's share is nothing remarkable: the evidence shrinks."""
    strict, tolerant = FailureShare(), FailureShare()
    for number in range(300):
        for share, tolerance in ((strict, 1.0), (tolerant, 2.0)):
            share.add(number % 3 != 0, 0.5, tolerance)
    assert strict.log > 5
    assert tolerant.log < 0


def test_promotion_evidence_grows_when_the_canary_fails_less_than_the_ratio_allows() -> None:
    """The mirror: the null is `at least twice the champion's rate`."""
    calm, bad = FailureShare(CALM, 2.0), FailureShare(CALM, 2.0)
    for number in range(300):
        calm.add(number % 20 == 0, 0.05)
        bad.add(number % 8 == 0, 0.05)
    assert calm.log > math.log(20)
    assert bad.log < 0


def test_evidence_never_overflows() -> None:
    """A broken canary in a long pause fails a million times."""
    share, paired = FailureShare(), Paired()
    for _ in range(5000):
        share.add(True, 0.01)
        paired.add(True)
    assert math.isfinite(math.exp(share.log))
    assert math.isfinite(math.exp(paired.log))


def test_pairs_with_one_winner_decide() -> None:
    """The paired rule, worked out by hand for two wins and a loss."""
    paired = Paired()
    for won in (True, True, False):
        paired.add(won)
    by_hand = sum(part * 2 * q * 2 * q * 2 * (1 - q) for q, part in DISCORDANT.items())
    assert math.exp(paired.log) == pytest.approx(by_hand)


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


@pytest.mark.parametrize("weights", [WORSE, SLOWER, WRONG, CALM, DISCORDANT])
def test_the_parts_of_a_bet_are_one_whole(weights: dict[float, float]) -> None:
    """A mean of e-processes is one only when its weights add up to 1."""
    assert sum(weights.values()) == pytest.approx(1.0)


def test_what_reached_its_limit_stays_there() -> None:
    """Whoever looks an hour later must come to the same verdict; below the limit the present value is shown."""
    share, slowness = FailureShare(), Slowness(SLOWER)
    for process in (share, slowness.level):
        for _ in range(6):
            process.add(True, 0.05)
        for _ in range(60):
            process.add(False, 0.05)
    assert share.log < math.log(100) < share.latched(0.01) == share.peak
    assert share.latched(1e-9) == share.log
    assert slowness.log < math.log(100) < slowness.latched(0.01)


def test_a_rare_but_bad_slowness_is_seen_by_the_tail() -> None:
    """One run in twenty five hundred times as slow moves no 90th percentile."""
    slowness = Slowness(SLOWER)
    for number in range(400):
        slowness.level.add(number % 20 == 0, 0.05)
        if number % 10 == 0:
            slowness.tail.add(number % 30 != 0, 0.05)
    assert slowness.level.log < 0
    assert slowness.latched(0.01) > math.log(100)


def test_a_mean_above_its_limit_is_found_and_one_at_it_is_a_fair_bet() -> None:
    """The formula for one number, and what two numbers around the limit give on average."""
    mean = Mean(limit=-0.2, lowest=-1.0)
    mean.add(1.0)
    by_hand = sum(0.2 * (1 + stake / 0.8 * 1.2) for stake in (0.05, 0.1, 0.2, 0.4, 0.8))
    assert math.exp(mean.log) == pytest.approx(by_hand)
    low, high = Mean(0.3, 0.0), Mean(0.3, 0.0)
    low.add(0.0)
    high.add(1.0)
    assert 0.7 * math.exp(low.log) + 0.3 * math.exp(high.log) == pytest.approx(1.0)


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
    """Ready for JSON: the flip table by the reference's class, each slice with its mean distance."""
    compared = Compared(
        flips=(("a", "a", 7), ("a", "b", 2), ("b", "a", 1)),
        slices=(("day=1", Slice(rows=4, disagreements=1, distances=1.0)), ("day=2", Slice(trial_errors=1))),
        distance=0.25,
    )
    counts = figures(compared, GUARDS)["counts"]
    assert counts["flips"] == {"a": {"a": 7, "b": 2}, "b": {"a": 1}}
    assert (counts["slices"]["day=1"]["distance"], counts["slices"]["day=2"]["distance"]) == (0.25, None)
    assert counts["distance"] == 0.25
    assert msgspec.json.decode(msgspec.json.encode(counts)) == counts
