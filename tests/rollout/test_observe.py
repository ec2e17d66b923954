"""The fold of traffic: what is counted, what is left out, how answers and labels find each other."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from gateway.documents.rollout import Guards, Phase, Rollout, Step
from gateway.journal.record import Entry, Feedback, Place, Prediction, TrafficRecord
from gateway.names import Outcome, Reason, Role
from gateway.registry.manifest import Feature, PredictionSpec
from gateway.rollout import observe
from gateway.rollout.evidence import assess
from gateway.rollout.observe import Observed, Observer, Steps, prediction_reader, probability_reader
from gateway.rollout.run_times import RunTimes
from gateway.rollout.slices import Slice, Slicer

ROLLOUT = Rollout(
    model="m",
    version=2,
    champion=1,
    plan="steps",
    steps=(Step(shadow=100.0), Step(promote="auto")),
    phase=Phase.SHADOW,
    reason="",
    guards=Guards(),
)
READ = prediction_reader({number: PredictionSpec(output="label", kind="class") for number in (1, 2, 3)})


def _record(request: str, version: int, role: Role, **fields: Any) -> Prediction:
    record = Prediction(
        id=request,
        model="m",
        version=version,
        role=role,
        reason=Reason.WEIGHT,
        revision=1,
        outcome=Outcome.OK,
        latency_us=100,
        rows=1,
        contract=1,
        inputs=None,
        outputs={"label": [1]},
    )
    return replace(record, **fields)


def _champion(request: str, **fields: Any) -> Prediction:
    return _record(request, 1, Role.CHAMPION, **fields)


def _shadow(request: str, **fields: Any) -> Prediction:
    return _record(request, 2, Role.SHADOW, **fields)


def _canary(request: str, **fields: Any) -> Prediction:
    return _record(request, 2, Role.CANARY, **({"split": ((2, 1000),)} | fields))


def _fold(*records: TrafficRecord, numeric: bool = False, guards: Guards | None = None) -> Observed:
    observer = Observer(replace(ROLLOUT, guards=guards or Guards()), READ, numeric)
    observer.fold([Entry(record, place, Place("g", 1, place)) for place, record in enumerate(records)])
    return observer.observed()


def test_a_shadow_answer_is_joined_to_the_champions() -> None:
    """By id, whichever comes first."""
    seen = _fold(_champion("a"), _shadow("a"), _shadow("b", outputs={"label": [0]}), _champion("b"), _shadow("c"))
    assert (seen.before.pairs, seen.before.compared, seen.before.disagreements) == (2, 2, 1)
    assert (seen.before.reference.requests, seen.before.shadow.requests) == (2, 3)


def test_a_label_decides_who_was_right() -> None:
    """Only rows where exactly one is right count for or against."""
    seen = _fold(
        _champion("a"),
        _shadow("a", outputs={"label": [0]}),
        Feedback("a", 0, 1),
        _champion("b"),
        _shadow("b", outputs={"label": [0]}),
        Feedback("b", 0, 0),
        _champion("c"),
        _shadow("c"),
        Feedback("c", 0, 0),
    ).before
    assert (seen.labelled, seen.trial_won, seen.reference_won) == (3, 1, 1)


def test_a_label_may_come_between_the_two_answers() -> None:
    """A shadow is allowed to be late."""
    seen = _fold(_champion("a"), Feedback("a", 0, 1), _shadow("a", outputs={"label": [0]}))
    assert seen.before.reference_won == 1


def test_the_first_label_of_a_row_wins() -> None:
    """A repeated label is no second opinion."""
    seen = _fold(
        _champion("a", rows=2, outputs={"label": [1, 1]}),
        _shadow("a", rows=2, outputs={"label": [0, 0]}),
        Feedback("a", 0, 1),
        Feedback("a", 0, 0),
        Feedback("a", 1, None, 3.5),
    )
    assert (seen.before.labelled, seen.before.reference_won) == (1, 1)


def test_rows_of_a_batch_are_compared_one_by_one() -> None:
    """One pair, three rows."""
    seen = _fold(
        _champion("a", rows=3, outputs={"label": [1, 1, 0]}),
        _shadow("a", rows=3, outputs={"label": [[1], [0], [0]]}),
        *(Feedback("a", row, 1) for row in (9, 0, 1, -1, 2)),
    ).before
    assert (seen.pairs, seen.compared, seen.disagreements, seen.labelled, seen.reference_won) == (1, 3, 1, 3, 1)


def test_classes_are_compared_as_people_write_them() -> None:
    """1, 1.0, "1" and True are one class."""
    seen = _fold(
        _champion("a", outputs={"label": [1.0]}), _shadow("a", outputs={"label": ["0"]}), Feedback("a", 0, "1")
    )
    assert seen.before.reference_won == 1


def test_of_two_numbers_the_nearer_one_wins() -> None:
    """Regression: no right and wrong, but nearer."""
    seen = _fold(
        _champion("a", outputs={"label": [2.0]}),
        _shadow("a", outputs={"label": [2.4]}),
        Feedback("a", 0, 3.0),
        _canary("b", outputs={"label": [2.4]}),
        Feedback("b", 0, 3.0),
        numeric=True,
    ).before
    assert (seen.trial_won, seen.disagreements, seen.worse_share) == (1, 0, 0.0)


def test_a_shadow_that_fails_alone_is_evidence_and_one_that_fails_with_the_champion_is_not() -> None:
    """Bad input fails everywhere."""
    failed = {"outcome": Outcome.ERROR, "outputs": {}}
    assert _fold(_champion("a"), _shadow("a", **failed)).before.errors > 0
    assert _fold(_champion("a", **failed), _shadow("a", **failed)).before.errors == 0
    assert _fold(_champion("a"), _shadow("a", flags=("non_finite",))).before.errors > 0


def test_a_canary_counts_with_the_split_of_its_own_request() -> None:
    """Other canaries are not its business: its share is of what it and the champion answer."""
    failed = {"outcome": Outcome.DEADLINE, "outputs": {}}
    alone = _fold(_canary("a", split=((2, 1000),), **failed)).before
    beside = _fold(_canary("a", split=((3, 5000), (2, 500)), **failed)).before
    assert alone.trial.errors == 1
    assert alone.errors == pytest.approx(_fold(_canary("a", split=((3, 1000), (2, 900)), **failed)).before.errors)
    assert beside.errors == pytest.approx(alone.errors)


def test_wrong_answers_of_the_canary_are_weighed_against_the_champions() -> None:
    """In a canary step no row is answered twice, so the split itself is the comparison."""
    split = ((2, 5000),)
    wrong = [record for n in range(9) for record in (_canary(f"t{n}", split=split), Feedback(f"t{n}", 0, 0))]
    assert _fold(*wrong).before.worse_share > 0
    both = [record for n in range(9) for record in (_champion(f"c{n}", split=split), Feedback(f"c{n}", 0, 0))]
    assert _fold(*wrong, *both).before.worse_share < 0


@pytest.mark.parametrize(
    "reason", [Reason.PINNED, Reason.CACHE, Reason.RULE, Reason.FALLBACK_VERSION, Reason.FALLBACK_VALUE]
)
def test_what_no_draw_decided_is_left_out(reason: Reason) -> None:
    """Pinned, ruled and fallback answers are no sample of the traffic."""
    assert _fold(_canary("a", reason=reason, outcome=Outcome.ERROR)) == Observed()


def test_other_models_and_versions_are_left_out() -> None:
    """The stream holds everybody's traffic."""
    assert _fold(_champion("a", model="x"), _record("b", 3, Role.CANARY), _record("c", 1, Role.PREVIOUS)) == Observed()


def test_a_reused_id_is_never_joined() -> None:
    """Two requests under one name: nobody knows which one the label means."""
    seen = _fold(
        _champion("a"),
        _champion("a", flags=("duplicate_id",)),
        _shadow("a", outputs={"label": [0]}),
        Feedback("a", 0, 1),
    )
    assert (seen.before.pairs, seen.before.labelled, seen.before.reference.requests) == (0, 0, 2)


def test_after_the_promotion_the_versions_change_sides_but_not_roles_in_the_comparison() -> None:
    """The promoted version stays the one on trial, and the last champion what it is compared with."""
    seen = _fold(
        _champion("a"),
        _record("b", 2, Role.CHAMPION, outputs={"label": [0]}),
        _record("b", 1, Role.SHADOW),
        Feedback("b", 0, 1),
    )
    assert (seen.before.reference.requests, seen.after.trial.requests, seen.after.reference.requests) == (1, 1, 1)
    assert (seen.after.pairs, seen.after.reference_won, seen.before.labelled) == (1, 1, 0)


def test_steps_are_counted_by_route_revision() -> None:
    """So a step can be told from the one before it, whenever the controller looks."""
    seen = _fold(
        _champion("a", revision=5),
        _shadow("a", revision=5),
        _canary("b", revision=7),
        _canary("c", revision=8),
        _record("d", 2, Role.CHAMPION, revision=9),
    )
    assert seen.since(0) == Steps(canary=2, pairs=1, promoted=1)
    assert seen.since(8) == Steps(canary=1, pairs=0, promoted=1)


def test_slow_is_above_the_champions_p90_by_more_than_anybody_notices() -> None:
    """50 microseconds are nothing beside a request; the champion's own p90 is the measure."""
    champions = [_champion(f"c{n}", latency_us=100, split=((2, 5000),)) for n in range(200)]
    canaries = [_canary(f"t{n}", latency_us=140, split=((2, 5000),)) for n in range(50)]
    assert _fold(*champions, *canaries).before.trial.slow == 0
    seen = _fold(*champions, *(replace(record, latency_us=200) for record in canaries)).before
    assert seen.trial.slow == 50
    assert seen.slow > 4.6
    assert seen.latency_ratio == pytest.approx(2.0, rel=0.03)


def test_nothing_is_slow_before_the_champion_is_known() -> None:
    """The first requests of a rollout can not be judged."""
    seen = _fold(*(_canary(f"t{n}", latency_us=10**6) for n in range(50)))
    assert (seen.before.trial.slow, seen.before.slow) == (0, 0.0)


def test_run_times_give_quantiles_within_two_percent() -> None:
    """A histogram, not a sample: the same runs give the same limit in any process."""
    times = RunTimes()
    for microseconds in range(1, 10_001):
        times.add(microseconds)
    assert times.quantile(0.5) == pytest.approx(5000, rel=0.02)
    assert times.limits is not None
    assert times.limits == pytest.approx((9000, 9500, 9900), rel=0.02)


def test_waiting_ids_are_bounded_and_the_drops_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels that never come must not fill the memory."""
    monkeypatch.setattr(observe, "PENDING", 10)
    seen = _fold(*(_champion(f"c{n}") for n in range(15)), _shadow("c0"), _shadow("c14"))
    assert (seen.before.pairs, seen.dropped) == (1, 6)


def test_what_is_done_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pair with its label needs no memory: nothing is dropped however long the stream."""
    monkeypatch.setattr(observe, "PENDING", 10)
    records = [r for n in range(100) for r in (_champion(f"c{n}"), _shadow(f"c{n}"), Feedback(f"c{n}", 0, 1))]
    assert _fold(*records).dropped == 0


def test_versions_that_name_no_prediction_are_still_guarded_for_errors() -> None:
    """A bare ONNX file has no prediction output; its failures count all the same."""
    observer = Observer(ROLLOUT, prediction_reader({}))
    observer.fold([Entry(_canary("a", outcome=Outcome.ERROR), 0, Place("g", 1, 0))])
    observer.fold([Entry(Feedback("a", 0, 1), 1, Place("g", 1, 1))])
    assert observer.observed().before.trial.errors == 1


def _keyed(request: str, bucket: int, **fields: Any) -> Prediction:
    failed = {"outcome": Outcome.ERROR, "outputs": {}, "keyed": True, "bucket": bucket, "reason": Reason.STICKY}
    return _canary(request, **(failed | {"split": ((2, 500),)} | fields))


def test_one_caller_with_a_key_is_one_bad_event_while_the_weights_stay() -> None:
    """Ten failures of one caller are one draw of the split, whoever edits the route in between."""
    once = _fold(_keyed("a", 7)).before
    often = _fold(*(_keyed(f"r{n}", 7, revision=n) for n in range(10))).before
    assert often.trial.errors == 10
    assert often.errors == once.errors > 0
    assert _fold(_keyed("a", 7), _keyed("b", 8)).before.errors > once.errors
    assert _fold(*(_keyed(f"r{n}", 7, keyed=False) for n in range(2))).before.errors > once.errors


def test_a_caller_that_went_over_to_the_canary_counts_with_the_chance_of_going_over() -> None:
    """5 -> 20 %: of the champion's callers 15 in 95 move; the canary's own stay, which is no news."""
    before = replace(_keyed("a", 7), version=1, role=Role.CHAMPION)
    stayed = _fold(_keyed("a", 7), _keyed("b", 7, split=((2, 2000),))).before
    assert stayed.errors == _fold(_keyed("a", 7)).before.errors
    moved = _fold(before, _keyed("b", 7, split=((2, 2000),))).before
    by_hand = _fold(before, _keyed("b", 8, split=((2, 1579),))).before
    assert moved.errors == pytest.approx(by_hand.errors, rel=1e-3)


def test_a_run_that_never_began_says_nothing_of_the_version() -> None:
    """It waited until its deadline had passed: that is the queue's doing. One that hangs has begun."""
    waited = {"outcome": Outcome.DEADLINE, "latency_us": 0, "outputs": {}}
    seen = _fold(_canary("a", **waited), _champion("b"), _shadow("b", **waited), _champion("c", **waited)).before
    assert (seen.trial.requests, seen.trial.waited, seen.shadow.waited, seen.reference.waited) == (0, 1, 1, 1)
    assert (seen.errors, seen.pairs) == (0, 0)
    hung = _fold(_canary("a", **(waited | {"latency_us": 900})))
    assert (hung.before.trial.errors, hung.before.trial.slow) == (1, 0)
    assert hung.before.errors > 0


def _batch(request: str, wrong: int, rows: int = 4) -> list[TrafficRecord]:
    """A request whose champion is right in every row and whose shadow is wrong in the first `wrong`."""
    labels = [1] * rows
    told = [0] * wrong + [1] * (rows - wrong)
    answers = [
        _champion(request, rows=rows, outputs={"label": labels}),
        _shadow(request, rows=rows, outputs={"label": told}),
    ]
    return [*answers, *(Feedback(request, row, 1) for row in range(rows))]


def test_the_rows_of_one_request_are_one_unit_of_evidence() -> None:
    """Rows sent together resemble one another: a batch of four wrong rows weighs as one wrong row alone."""
    alone, batch = _fold(*_batch("a", 1, rows=1)).before, _fold(*_batch("a", 4)).before
    assert batch.worse_pairs == alone.worse_pairs > 0
    assert (batch.labelled, batch.reference_won) == (4, 4)
    assert _fold(*_batch("a", 1)).before.worse_pairs == alone.worse_pairs


def test_not_worse_is_shown_by_pairs_without_a_loser_too() -> None:
    """Against a margin every labelled pair counts, and each request by the mean of its rows."""
    guards = Guards(quality_margin=0.05)
    same = [record for n in range(400) for record in _batch(f"a{n}", 0, rows=1)]
    assert _fold(*same, guards=guards).before.not_worse > math.log(20)
    assert _fold(*same).before.not_worse == 0.0
    one, half = _fold(*_batch("a", 1, rows=1), guards=guards), _fold(*_batch("a", 2), guards=guards)
    assert one.before.not_worse < half.before.not_worse < 0


def test_a_request_whose_other_labels_do_not_come_counts_without_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """After so many entries, not after so long: a replay must come to the same."""
    monkeypatch.setattr(observe, "OPEN_ENTRIES", 10)
    *most, last = _batch("a", 4)
    waiting = [_champion(f"x{n}", model="other") for n in range(6)]
    assert _fold(*most, *waiting).before.worse_pairs == 0
    seen = _fold(*most, *waiting, *waiting, last).before
    assert seen.worse_pairs == _fold(*_batch("a", 4)).before.worse_pairs
    assert seen.labelled == 4


def test_many_wrong_rows_of_one_canary_answer_are_one_wrong_answer() -> None:
    """They went to one version by one draw."""
    rows: list[TrafficRecord] = [Feedback("a", row, 0) for row in range(3)]
    split = ((2, 5000),)
    one = _fold(_canary("a", split=split), Feedback("a", 0, 0)).before
    many = _fold(_canary("a", split=split, rows=3, outputs={"label": [1, 1, 1]}), *rows).before
    assert many.worse_share == one.worse_share > 0


def test_values_belong_to_the_answers_that_callers_saw() -> None:
    """Drawn answers of the split, the first value of each; shadows, pinned answers and reused ids have none."""
    split = ((2, 5000),)
    seen = _fold(
        _champion("a", split=split),
        _champion("a2", split=split),
        _canary("b", split=split, rows=2, outputs={"label": [1, 1]}),
        _shadow("s"),
        _canary("p", split=split, reason=Reason.PINNED),
        _canary("d", split=split),
        _champion("d", split=split, flags=("duplicate_id",)),
        *(Feedback(request, 0, None, 3.0) for request in ("a", "b", "s", "p", "d", "unknown")),
        Feedback("b", 1, None, 9.0),
        *(Feedback("a2", 0, None, value) for value in (float("inf"), float("nan"), 1e300)),
    ).before
    assert (seen.trial_values, seen.trial_value, seen.reference_values, seen.reference_value) == (1, 3.0, 1, 3.0)


def test_a_canary_whose_answers_are_worth_less_fails_by_name() -> None:
    """With both means and counts, and only once per caller with a key."""
    split = ((2, 5000),)

    def told(**fields: Any) -> Observed:
        records: list[TrafficRecord] = []
        for n in range(60):
            records += [_champion(f"c{n}", split=split, **fields), Feedback(f"c{n}", 0, 1, 10.0 + n % 2)]
            records += [_canary(f"t{n}", split=split, **fields), Feedback(f"t{n}", 0, 1, 6.0)]
        return _fold(*records)

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
        records += [_champion(f"a{n}", inputs=[[n % 2]], outputs=own), _shadow(f"a{n}", outputs=other)]
        records += [Feedback(f"a{n}", 0, "yes")]
    records += [_champion("f", inputs=[[1]]), _shadow("f", outcome=Outcome.ERROR, outputs={})]
    observer.fold([Entry(record, place, Place("g", 1, place)) for place, record in enumerate(records)])
    seen = observer.observed().before
    assert (seen.compared, seen.disagreements, seen.distance) == (4, 3, 0.375)
    assert seen.flips == (("no", "no", 1), ("no", "yes", 3))
    assert dict(seen.slices) == {
        "day=0": Slice(rows=2, disagreements=1, distances=0.5, labelled=2, trial_won=1),
        "day=1": Slice(rows=2, disagreements=2, distances=1.0, trial_errors=1, labelled=2, trial_won=2),
    }


def test_much_disagreement_is_evidence_only_where_somebody_set_a_limit() -> None:
    """By request: a batch whose rows differ in half is half a difference."""
    records = [r for n in range(60) for r in (_champion(f"a{n}"), _shadow(f"a{n}", outputs={"label": [n % 2]}))]
    assert _fold(*records, guards=Guards(disagreement_at_most=0.1)).before.disagree > math.log(100)
    assert _fold(*records, guards=Guards(disagreement_at_most=0.6)).before.disagree < 0
    assert _fold(*records).before.disagree == 0.0
    half = _fold(*_batch("a", 2), guards=Guards(disagreement_at_most=0.5)).before
    assert half.disagree == 0.0


def _callers_that_always_fail(rng: np.random.Generator, keyed: bool) -> bool:
    """True when a healthy canary is rolled back because ten callers of a thousand send what no version takes."""
    order, buckets = rng.permutation(10_000), rng.integers(0, 10_000, 1000)
    shares = rng.pareto(1.2, 1000) + 1.0
    records: list[TrafficRecord] = []
    for place, caller in enumerate(rng.choice(1000, 30_000, p=shares / shares.sum()).tolist()):
        if caller < 10:
            weight = (500, 2500, 5000)[place // 10_000]
            record = _keyed(f"r{place}", int(buckets[caller]), split=((2, weight),), keyed=keyed)
            is_canary = order[buckets[caller]] < weight
            records.append(record if is_canary else replace(record, version=1, role=Role.CHAMPION))
    return _fold(*records).before.errors >= math.log(100)


def test_a_healthy_canary_is_not_blamed_for_callers_that_fail_everywhere() -> None:
    """One caller in a hundred is broken: counted one by one, their requests roll back healthy canaries."""
    assert sum(_callers_that_always_fail(np.random.default_rng(seed), True) for seed in range(25)) <= 1
    assert sum(_callers_that_always_fail(np.random.default_rng(seed), False) for seed in range(25)) >= 4
