"""What answers, pairs and labels add to the evidence: slowness, callers, rows of a request, values."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from gateway.documents.rollout import Guards
from gateway.journal.record import Entry, Feedback, Place, TrafficRecord
from gateway.names import Outcome, Role
from gateway.registry.manifest import Feature, PredictionSpec
from gateway.rollout.evidence.observe import Observed, Observer, probability_reader
from gateway.rollout.evidence.run_times import RunTimes
from gateway.rollout.evidence.slices import Slice, Slicer
from gateway.rollout.evidence.verdict import assess
from tests.rollout.making import READ, ROLLOUT, batch, canary, champion, fold, keyed, shadow


def test_one_caller_with_a_key_is_one_bad_event_while_the_weights_stay() -> None:
    """Ten failures of one caller are one draw of the split, whoever edits the route in between."""
    once = fold(keyed("a", 7)).before
    often = fold(*(keyed(f"r{n}", 7, revision=n) for n in range(10))).before
    assert often.trial.errors == 10
    assert often.errors == once.errors > 0
    assert fold(keyed("a", 7), keyed("b", 8)).before.errors > once.errors
    assert fold(*(keyed(f"r{n}", 7, keyed=False) for n in range(2))).before.errors > once.errors


def test_a_caller_that_went_over_to_the_canary_counts_with_the_chance_of_going_over() -> None:
    """5 -> 20 %: of the champion's callers 15 in 95 move; the canary's own stay, which is no news."""
    before = replace(keyed("a", 7), version=1, role=Role.CHAMPION)
    stayed = fold(keyed("a", 7), keyed("b", 7, split=((2, 2000),))).before
    assert stayed.errors == fold(keyed("a", 7)).before.errors
    moved = fold(before, keyed("b", 7, split=((2, 2000),))).before
    by_hand = fold(before, keyed("b", 8, split=((2, 1579),))).before
    assert moved.errors == pytest.approx(by_hand.errors, rel=1e-3)


def test_a_run_that_never_began_says_nothing_of_the_version() -> None:
    """It waited until its deadline had passed: that is the queue's doing. One that hangs has begun."""
    waited = {"outcome": Outcome.DEADLINE, "latency_us": 0, "outputs": {}}
    seen = fold(canary("a", **waited), champion("b"), shadow("b", **waited), champion("c", **waited)).before
    assert (seen.trial.requests, seen.trial.waited, seen.shadow.waited, seen.reference.waited) == (0, 1, 1, 1)
    assert (seen.errors, seen.pairs) == (0, 0)
    hung = fold(canary("a", **(waited | {"latency_us": 900})))
    assert (hung.before.trial.errors, hung.before.trial.slow) == (1, 0)
    assert hung.before.errors > 0


def test_the_rows_of_one_request_are_one_unit_of_evidence() -> None:
    """Rows sent together resemble one another: a batch of four wrong rows weighs as one wrong row alone."""
    alone, together = fold(*batch("a", 1, rows=1)).before, fold(*batch("a", 4)).before
    assert together.worse_pairs == alone.worse_pairs > 0
    assert (together.labelled, together.reference_won) == (4, 4)
    assert fold(*batch("a", 1)).before.worse_pairs == alone.worse_pairs


def test_not_worse_is_shown_by_pairs_without_a_loser_too() -> None:
    """Against a margin every labelled pair counts, and each request by the mean of its rows."""
    guards = Guards(quality_margin=0.05)
    same = [record for n in range(400) for record in batch(f"a{n}", 0, rows=1)]
    assert fold(*same, guards=guards).before.not_worse > math.log(20)
    assert fold(*same).before.not_worse == 0.0
    one, half = fold(*batch("a", 1, rows=1), guards=guards), fold(*batch("a", 2), guards=guards)
    assert one.before.not_worse < half.before.not_worse < 0


def test_many_wrong_rows_of_one_canary_answer_are_one_wrong_answer() -> None:
    """They went to one version by one draw."""
    rows: list[TrafficRecord] = [Feedback("a", row, 0) for row in range(3)]
    split = ((2, 5000),)
    one = fold(canary("a", split=split), Feedback("a", 0, 0)).before
    many = fold(canary("a", split=split, rows=3, outputs={"label": [1, 1, 1]}), *rows).before
    assert many.worse_share == one.worse_share > 0


def test_a_canary_whose_answers_are_worth_less_fails_by_name() -> None:
    """With both means and counts, and only once per caller with a key."""
    split = ((2, 5000),)

    def told(**fields: Any) -> Observed:
        records: list[TrafficRecord] = []
        for n in range(60):
            records += [champion(f"c{n}", split=split, **fields), Feedback(f"c{n}", 0, 1, 10.0 + n % 2)]
            records += [canary(f"t{n}", split=split, **fields), Feedback(f"t{n}", 0, 1, 6.0)]
        return fold(*records)

    verdict = assess(told().before, Guards())
    assert (verdict.result, verdict.guard) == ("fail", "value")
    assert verdict.reason.startswith("value: mean value 6.0 of 60 answers, against 10.5 of 60, higher is better (evid")
    assert assess(told(keyed=True, bucket=3).before, Guards()).result == "inconclusive"


def test_pairs_are_scored_without_labels() -> None:
    """How often they differ, how far, from which class to which, and in which slice."""
    slicer = Slicer(["day"], {1: (Feature(name="day", kind="categorical"),)})
    specs = {number: PredictionSpec(output="label", kind="class", classes=("no", "yes")) for number in (1, 2)}
    observer = Observer(ROLLOUT, READ, False, probability_reader(dict(specs)), slicer)
    records: list[TrafficRecord] = []
    for n in range(4):
        own = {"label": ["no"], "probabilities": [[0.6, 0.4]]}
        other = {"label": ["yes"], "probabilities": [[0.1, 0.9]]} if n else own
        records.append(champion(f"a{n}", inputs=[[n % 2]], outputs=own, latency_us=100))
        records.append(shadow(f"a{n}", outputs=other, latency_us=100 if n % 2 else 300))
        records += [Feedback(f"a{n}", 0, "yes")]
    records += [champion("f", inputs=[[1]]), shadow("f", outcome=Outcome.ERROR, outputs={})]
    observer.fold([Entry(record, place, Place("g", 1, place)) for place, record in enumerate(records)])
    seen = observer.observed().before
    assert (seen.compared, seen.disagreements, seen.distance) == (4, 3, 0.375)
    assert seen.flips == (("no", "no", 1), ("no", "yes", 3))
    slices = dict(seen.slices)
    assert [slices[name].latency_ratio for name in ("day=0", "day=1")] == [3.0, 1.0]
    tripled = 2 * math.log(3)
    assert slices == {
        "day=0": Slice(rows=2, disagreements=1, distances=0.5, labelled=2, trial_won=1, timed=2, log_ratios=tripled),
        "day=1": Slice(rows=2, disagreements=2, distances=1.0, trial_errors=1, labelled=2, trial_won=2, timed=2),
    }


def test_much_disagreement_is_evidence_only_where_somebody_set_a_limit() -> None:
    """By request: a batch whose rows differ in half is half a difference."""
    records = [r for n in range(60) for r in (champion(f"a{n}"), shadow(f"a{n}", outputs={"label": [n % 2]}))]
    assert fold(*records, guards=Guards(disagreement_at_most=0.1)).before.disagree > math.log(100)
    assert fold(*records, guards=Guards(disagreement_at_most=0.6)).before.disagree < 0
    assert fold(*records).before.disagree == 0.0
    half = fold(*batch("a", 2), guards=Guards(disagreement_at_most=0.5)).before
    assert half.disagree == 0.0


def _callers_that_always_fail(rng: np.random.Generator, is_keyed: bool) -> bool:
    """True when a healthy canary is rolled back because ten callers of a thousand send what no version takes."""
    order, buckets = rng.permutation(10_000), rng.integers(0, 10_000, 1000)
    shares = rng.pareto(1.2, 1000) + 1.0
    records: list[TrafficRecord] = []
    for place, caller in enumerate(rng.choice(1000, 30_000, p=shares / shares.sum()).tolist()):
        if caller < 10:
            weight = (500, 2500, 5000)[place // 10_000]
            failed = keyed(f"r{place}", int(buckets[caller]), split=((2, weight),), keyed=is_keyed)
            is_canary = order[buckets[caller]] < weight
            records.append(failed if is_canary else replace(failed, version=1, role=Role.CHAMPION))
    return fold(*records).before.errors >= math.log(100)


def test_a_healthy_canary_is_not_blamed_for_callers_that_fail_everywhere() -> None:
    """One caller in a hundred is broken: counted one by one, their requests roll back healthy canaries."""
    assert sum(_callers_that_always_fail(np.random.default_rng(seed), True) for seed in range(25)) <= 1
    assert sum(_callers_that_always_fail(np.random.default_rng(seed), False) for seed in range(25)) >= 4


def test_slow_is_above_the_champions_p90_by_more_than_anybody_notices() -> None:
    """50 microseconds are nothing beside a request; the champion's own p90 is the measure."""
    champions = [champion(f"c{n}", latency_us=100, split=((2, 5000),)) for n in range(200)]
    canaries = [canary(f"t{n}", latency_us=140, split=((2, 5000),)) for n in range(50)]
    assert fold(*champions, *canaries).before.trial.slow == 0
    seen = fold(*champions, *(replace(record, latency_us=200) for record in canaries)).before
    assert seen.trial.slow == 50
    assert seen.slow > 4.6
    assert seen.latency_ratio == pytest.approx(2.0, rel=0.03)


def test_nothing_is_slow_before_the_champion_is_known() -> None:
    """The first requests of a rollout can not be judged."""
    seen = fold(*(canary(f"t{n}", latency_us=10**6) for n in range(50)))
    assert (seen.before.trial.slow, seen.before.slow) == (0, 0.0)


def test_run_times_give_quantiles_within_two_percent() -> None:
    """A histogram, not a sample: the same runs give the same limit in any process."""
    times = RunTimes()
    for microseconds in range(1, 10_001):
        times.add(microseconds)
    assert times.quantile(0.5) == pytest.approx(5000, rel=0.02)
    assert times.limits is not None
    assert times.limits == pytest.approx((9000, 9500, 9900), rel=0.02)
