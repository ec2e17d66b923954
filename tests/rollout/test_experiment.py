"""The fold of an experiment's traffic and the verdict on it."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.documents.experiment import Arm, Experiment, Metric, Phase, Terms
from gateway.interval import Moments
from gateway.journal.record import Entry, Feedback, Place, Prediction, TrafficRecord
from gateway.names import Outcome, Reason, Role
from gateway.registry.manifest import PredictionSpec
from gateway.rollout.evidence.observe import prediction_reader
from gateway.rollout.evidence.verdict import Tally
from gateway.rollout.experiment import observe as fold_module
from gateway.rollout.experiment.observe import ArmSeen, ExperimentObserver, Seen
from gateway.rollout.experiment.verdict import failing, judge

READ = prediction_reader({number: PredictionSpec(output="label", kind="class") for number in (1, 2, 3)})


def experiment(metric: Metric = Metric.VALUE, **terms: Any) -> Experiment:
    """Version 1 against 2 (buckets 0..999) and 3 (1000..1999)."""
    given_terms: dict[str, Any] = {"metric": metric, "better": "higher", "minimum_units": 20} | terms
    return Experiment(
        model="m",
        champion=1,
        arms=(
            Arm(version=2, weight=10.0, ranges=((0, 1000),)),
            Arm(version=3, weight=10.0, ranges=((1000, 2000),)),
        ),
        terms=Terms(**given_terms),
        phase=Phase.RUNNING,
        reason="",
        salt="s",
        first=5,
        written=5,
    )


def answer(request: str, version: int, bucket: int, **fields: Any) -> Prediction:
    """One answer of a version to a caller whose key gave this bucket."""
    record = Prediction(
        id=request,
        model="m",
        version=version,
        role=Role.CHAMPION if version == 1 else Role.CANARY,
        reason=Reason.STICKY,
        revision=5,
        outcome=Outcome.OK,
        latency_us=100,
        rows=1,
        contract=1,
        inputs=None,
        outputs={"label": [1]},
        split=((2, 1000), (3, 1000)),
        bucket=bucket,
        keyed=True,
    )
    return replace(record, **fields)


def seen(records: list[TrafficRecord], on: Experiment | None = None, cut: int = 10**9) -> Seen:
    """What the fold makes of the records, read in stretches of `cut`."""
    entries = [Entry(record, place, Place("g", 1, place)) for place, record in enumerate(records)]
    observer = ExperimentObserver(on or experiment(), READ)
    for start in range(0, len(entries), cut):
        observer.fold(entries[start : start + cut])
    return observer.seen()


def test_a_caller_is_one_unit_however_often_it_comes() -> None:
    """Rows of one caller are not independent: they are averaged first."""
    found = seen(
        [
            answer("a", 2, 7),
            answer("b", 2, 7),
            answer("c", 2, 8),
            Feedback("a", 0, value=2.0),
            Feedback("b", 0, value=4.0),
            Feedback("c", 0, value=9.0),
        ]
    ).arms[1]
    assert (found.tally.requests, found.moments.units, found.moments.mean) == (3, 2, 6.0)


def test_without_keys_each_request_is_a_unit_and_its_rows_are_averaged() -> None:
    """Every request was drawn for itself."""
    records: list[TrafficRecord] = [
        answer("a", 2, 7, keyed=False, reason=Reason.WEIGHT, rows=2),
        answer("b", 2, 7, keyed=False, reason=Reason.WEIGHT),
        Feedback("a", 0, value=1.0),
        Feedback("a", 1, value=3.0),
        Feedback("b", 0, value=5.0),
    ]
    assert seen(records).arms[1].moments == Moments(2, 3.5, 4.5)


def test_the_first_word_on_a_row_counts() -> None:
    """A second value for the same row, a row that does not exist, a value without a request: nothing."""
    records: list[TrafficRecord] = [
        answer("a", 2, 7, rows=2),
        Feedback("a", 0, value=1.0),
        Feedback("a", 0, value=50.0),
        Feedback("a", 2, value=50.0),
        Feedback("a", 1, label=1),
        Feedback("z", 0, value=50.0),
        Feedback("a", 1, value=math.nan),
        Feedback("a", 1, value=-math.inf),
        Feedback("a", 1, value=1e200),
    ]
    assert seen(records).arms[1].moments == Moments(1, 1.0, 0.0)


@pytest.mark.parametrize(
    "fields",
    [
        {"revision": 4},
        {"reason": Reason.PINNED},
        {"reason": Reason.CACHE},
        {"role": Role.SHADOW},
        {"model": "other"},
        {"version": 9},
    ],
)
def test_what_no_draw_of_the_experiment_decided_is_left_out(fields: dict[str, Any]) -> None:
    """Older routes, pinned requests, cached answers, shadows, other models and versions say nothing of the arms."""
    found = seen([replace(answer("a", 2, 7), **fields), Feedback("a", 0, value=1.0)])
    assert all(arm.tally.requests == 0 and arm.moments.units == 0 for arm in found.arms)


def test_callers_of_an_arm_that_was_taken_out_do_not_count_for_the_champion() -> None:
    """Else the champion would be compared over other callers and another time than the rest."""
    found = seen([answer("a", 1, 7), answer("b", 1, 5000), Feedback("a", 0, value=9.0), Feedback("b", 0, value=1.0)])
    assert (found.arms[0].tally.requests, found.arms[0].moments.mean) == (1, 1.0)


def test_a_failed_answer_is_a_wrong_one() -> None:
    """Else a version could raise its share of right answers by failing where it is unsure."""
    records: list[TrafficRecord] = [
        answer("a", 2, 1),
        answer("b", 2, 2, outcome=Outcome.ERROR, outputs={}),
        answer("c", 2, 3, outputs={"label": [0]}),
        *(Feedback(name, 0, label=1) for name in "abc"),
    ]
    found = seen(records, experiment(Metric.LABEL)).arms[1]
    assert found.moments.units == 3
    assert found.moments.mean == pytest.approx(1 / 3)


def test_failures_need_no_feedback() -> None:
    """The share of failed answers is known at once."""
    on = experiment(Metric.ERRORS, better="lower")
    found = seen([answer("a", 2, 1, outcome=Outcome.DEADLINE), answer("b", 2, 2)], on).arms[1]
    assert found.moments.mean == 0.5


def test_a_reused_id_is_never_joined() -> None:
    """Nobody knows which of the two the value is of."""
    found = seen([answer("a", 2, 1, flags=("duplicate_id",)), Feedback("a", 0, value=1.0)])
    assert found.arms[1].moments.units == 0


def test_waiting_requests_are_bounded_and_the_drops_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Values that never come must not fill the memory."""
    monkeypatch.setattr(fold_module, "PENDING", 10)
    found = seen([answer(f"a{n}", 2, n) for n in range(15)] + [Feedback("a0", 0, value=1.0)])
    assert (found.dropped, found.arms[1].moments.units) == (5, 0)


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 30), st.booleans(), st.integers(0, 5)), max_size=60))
def test_the_figures_do_not_depend_on_how_the_journal_is_cut(requests: list[tuple[int, int, bool, int]]) -> None:
    """A restart folds again, in other stretches."""
    records: list[TrafficRecord] = []
    for number, (version, place, failed, value) in enumerate(requests):
        bucket = place + {1: 5000, 2: 0, 3: 1000}[version]
        outcome = Outcome.ERROR if failed else Outcome.OK
        records += [
            answer(f"r{number}", version, bucket, outcome=outcome),
            Feedback(f"r{number}", 0, value=float(value)),
        ]
    assert seen(records) == seen(records, cut=1) == seen(records, cut=7)


# Guards.


def test_an_arm_whose_answers_fail_is_rejected_with_its_counts() -> None:
    """Whatever the metric: an experiment is no licence to fail callers."""
    records: list[TrafficRecord] = [answer(f"c{n}", 1, 2000 + n) for n in range(200)]
    records += [answer(f"x{n}", 3, 1000 + n, outcome=Outcome.ERROR) for n in range(5)]
    found = failing(experiment(), seen(records))
    assert found == (3, "hard_stop: 5 of its first 20 answers failed")


def test_the_failures_of_one_caller_are_one_event() -> None:
    """A caller with a broken input that comes again and again is one piece of evidence, not thirty."""
    healthy: list[TrafficRecord] = [answer(f"h{n}", 2, 100 + n) for n in range(30)]
    healthy += [answer(f"c{n}", 1, 2000 + n) for n in range(200)]
    one = seen([*healthy, *(answer(f"x{n}", 2, 7, outcome=Outcome.ERROR) for n in range(30))])
    many = seen([*healthy, *(answer(f"x{n}", 2, n, outcome=Outcome.ERROR) for n in range(30))])
    assert failing(experiment(), one) is None
    found = failing(experiment(), many)
    assert found is not None
    assert found[1].startswith("errors: 30 of 60 answers failed, against 0 of 200 (evidence ")


def test_a_slow_arm_is_rejected() -> None:
    """Above the champion's 95th percentile by more than anybody notices."""
    records: list[TrafficRecord] = [answer(f"c{n}", 1, 2000 + n) for n in range(200)]
    records += [answer(f"x{n}", 2, n, latency_us=400) for n in range(60)]
    before = failing(experiment(), seen(records[:99] + records[200:]))
    found = failing(experiment(), seen(records))
    assert before is None, "nothing is slow before 100 runs of the champion were timed"
    assert found is not None
    assert found[1].startswith("slow: 60 of 60 answers were slow, against 0 of 200")


def test_the_champions_failures_reject_nobody() -> None:
    """What hits the champion speaks for every challenger."""
    records: list[TrafficRecord] = [answer(f"c{n}", 1, 2000 + n, outcome=Outcome.ERROR) for n in range(200)]
    found = seen(records + [answer(f"x{n}", 2, n) for n in range(60)])
    assert failing(experiment(), found) is None
    assert (found.arms[1].errors, found.arms[2].errors) == (0.0, 0.0)


def test_a_run_that_never_began_says_nothing_of_its_version() -> None:
    """The deadline passed while it waited for others; the caller's answer failed all the same."""
    late = [answer(f"x{n}", 2, n, outcome=Outcome.DEADLINE, latency_us=0) for n in range(30)]
    found = seen(list(late), experiment(Metric.ERRORS, better="lower"))
    assert (found.arms[1].tally.requests, found.arms[1].moments.mean) == (0, 1.0)
    assert failing(experiment(), found) is None


def test_evidence_that_was_there_stays() -> None:
    """A verdict must not hang on when one looks: a replay in one stretch takes out the same arm."""
    bad: list[TrafficRecord] = [answer(f"x{n}", 2, n, outcome=Outcome.ERROR) for n in range(4)]
    bad += [answer(f"h{n}", 2, 100 + n) for n in range(30)]
    bad += [answer(f"y{n}", 2, 200 + n, outcome=Outcome.ERROR) for n in range(3)]
    later = [*bad, *(answer(f"c{n}", 1, 2000 + n, outcome=Outcome.ERROR) for n in range(300))]
    assert failing(experiment(), seen(bad)) is not None
    assert failing(experiment(), seen(later)) is not None


# The verdict.


def arms(*rates: float, units: int = 5000) -> Seen:
    """Arms 1, 2, 3 with these shares."""
    made = [
        ArmSeen(version, Tally(units), Moments(units, rate, units * rate * (1 - rate)))
        for version, rate in zip((1, 2, 3), rates, strict=True)
    ]
    return Seen(tuple(made))


def test_the_winner_is_better_than_every_other() -> None:
    found = judge(experiment(), arms(0.10, 0.10, 0.20))
    assert (found.verdict, found.winner) == ("winner", 3)
    assert found.report["arms"][2]["better_than"] == [1, 2]
    low, high = found.report["arms"][2]["difference_interval"]
    assert 0.0 < low < 0.1 < high
    assert found.reason.startswith("version 3 is better than every other arm")


def test_the_champion_may_win() -> None:
    assert judge(experiment(), arms(0.2, 0.1, 0.1)).winner == 1


def test_of_costs_the_lower_one_wins() -> None:
    assert judge(experiment(better="lower"), arms(0.2, 0.1, 0.2)).winner == 2


def test_being_better_than_the_champion_alone_is_not_enough() -> None:
    """Two good arms: nobody knows which one to promote."""
    found = judge(experiment(), arms(0.1, 0.2, 0.2))
    assert (found.verdict, found.winner) == ("undecided", 0)


def test_no_difference_needs_a_margin_and_every_pair_within_it() -> None:
    """That nothing was found is not that nothing is there."""
    assert judge(experiment(), arms(0.1, 0.1, 0.1)).verdict == "undecided"
    assert judge(experiment(margin=0.01), arms(0.1, 0.1, 0.1)).verdict == "undecided"
    found = judge(experiment(margin=0.05), arms(0.1, 0.1, 0.1))
    assert (found.verdict, found.winner) == ("no_difference", 0)
    assert judge(experiment(margin=0.05), arms(0.1, 0.1, 0.16)).verdict != "no_difference"


def test_nothing_is_said_before_each_arm_has_its_units() -> None:
    """The first few units decide nothing, however far apart they are."""
    found = judge(experiment(minimum_units=100), arms(0.0, 0.0, 1.0, units=99))
    assert found.reason == "version 1 has 99 of the 100 units that each arm needs"
    assert found.report["arms"][0]["interval"] is None
    assert found.report["arms"][2]["difference_interval"] is None


def test_an_arm_that_was_taken_out_neither_wins_nor_hinders() -> None:
    """It is shown, and compared with nobody; its part of alpha is not given to the others."""
    on = experiment()
    without = replace(on, arms=(replace(on.arms[0], out="errors"), on.arms[1]))
    assert judge(without, arms(0.1, 0.5, 0.2)).winner == 3
    alphas = [judge(one, arms(0.1, 0.5, 0.2)).report["alpha"]["of_a_difference"] for one in (on, without)]
    assert alphas == [0.025, 0.025]
    gone = replace(on, arms=tuple(replace(arm, out="errors") for arm in on.arms))
    assert judge(gone, arms(0.1, 0.5, 0.2)).reason == "no challenger takes part any more"


@given(st.lists(st.floats(0.0, 1.0), min_size=3, max_size=3), st.integers(20, 20_000))
def test_a_verdict_never_contradicts_the_means(rates: list[float], units: int) -> None:
    """The winner has the best mean; all intervals hold their own mean and stay within what is possible."""
    found = judge(experiment(Metric.LABEL, margin=0.02), arms(*rates, units=units))
    if found.verdict == "winner":
        assert rates[found.winner - 1] == max(rates)
    for arm in found.report["arms"]:
        low, high = arm["interval"]
        assert 0.0 <= low <= arm["mean"] + 1e-9
        assert arm["mean"] - 1e-9 <= high <= 1.0
