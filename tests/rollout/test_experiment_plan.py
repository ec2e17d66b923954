"""What an experiment does next: one thing, done once, and never over a person's head."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.documents.experiment import Arm, Experiment, Metric, Phase, Terms
from gateway.documents.policy import Policy
from gateway.documents.route import Route, with_shadow, with_weights
from gateway.rollout.experiment.plan import (
    Act,
    Move,
    check_terms,
    next_experiment,
    plan,
    wanted_route,
)
from gateway.rollout.experiment.verdict import Judged

UNDECIDED = Judged("undecided", 0, "not yet", {})
NOW = 1000.0

TERMS = st.builds(
    Terms,
    metric=st.just(Metric.VALUE),
    better=st.just("higher"),
    until_units=st.sampled_from([None, 500]),
    at_most_seconds=st.sampled_from([None, 10.0, 1e6]),
    until_decided=st.booleans(),
    winner=st.sampled_from(["report", "promote"]),
    keep=st.booleans(),
)
OUTS = st.lists(st.sampled_from(["", "errors: too many"]), min_size=2, max_size=2)


def _experiment(terms: Terms, outs: list[str]) -> Experiment:
    arms = tuple(Arm(version=n, weight=20.0, out=out) for n, out in zip((2, 3), outs, strict=True))
    return Experiment(
        model="m",
        champion=1,
        arms=arms,
        terms=terms,
        phase=Phase.RUNNING,
        reason="why not",
        salt="fresh",
        first=3,
        written=3,
    )


def _judged(verdict: str, units: int) -> Judged:
    arms = [{"version": version, "units": units} for version in (1, 2, 3)]
    return Judged(verdict, 3 if verdict == "winner" else 0, "so it seems", {"arms": arms})


@given(
    TERMS,
    OUTS,
    st.sampled_from(["winner", "no_difference", "undecided"]),
    st.integers(0, 1000),
    st.sampled_from([None, (2, "errors: x"), (3, "slow: y")]),
    st.booleans(),
)
def test_a_move_that_is_done_is_not_done_again(
    terms: Terms, outs: list[str], verdict: str, units: int, failing: tuple[int, str] | None, dies: bool
) -> None:
    """Whatever the state: each look does one thing, and after a few looks there is nothing left to do.

    dies: each process dies behind its announcement, and the next one brings the route to what was announced.
    """
    experiment, judged = _experiment(terms, outs), _judged(verdict, units)
    route, revision = wanted_route(experiment, Route(champion=1, salt="old")), 3
    for _ in range(12):
        gone = {arm.version for arm in experiment.arms if arm.out}
        rejected = failing if failing and failing[0] not in gone else None
        move = plan(experiment, judged, rejected, route, revision, NOW)
        if move.act is Act.NOTHING:
            break
        after = next_experiment(experiment, move, judged, NOW, revision)
        if move.act is Act.WRITE or (after.pending and not dies):
            route, revision = wanted_route(after, route), revision + 1
            after = replace(after, pending=0, written=revision)
        assert after != experiment
        experiment = after
    else:
        raise AssertionError("it never comes to rest")
    assert not experiment.is_live or experiment.phase is Phase.RUNNING
    held = {canary.version: canary.weight for canary in route.canaries}
    if experiment.phase is Phase.RUNNING:
        assert held == {arm.version: 20.0 for arm in experiment.taking_part}
    elif not experiment.terms.keep:
        assert held == {}
    assert route.champion == 1


@given(TERMS, st.sampled_from([5.0, 0.0, 30.0]), st.integers(0, 1000))
def test_an_arm_that_a_person_moved_is_never_moved_back(terms: Terms, weight: float, units: int) -> None:
    """It ends, and the route is not written."""
    experiment = _experiment(terms, ["", ""])
    route = with_weights(wanted_route(experiment, Route(champion=1, salt="old")), {2: weight})
    move = plan(experiment, _judged("winner", units), (2, "errors: x"), route, 4, NOW)
    assert move.act is Act.YIELD
    after = next_experiment(experiment, move, UNDECIDED, NOW, 4)
    assert (after.phase, after.pending, after.promoting) == (Phase.ENDED, 0, 0)


@given(st.integers(1, 40), st.integers(1, 40))
def test_taking_an_arm_out_moves_nobody_else(first: int, second: int) -> None:
    """Callers of the other arm stay where they are; those of the arm that left go to the champion."""
    arms = (Arm(version=2, weight=float(first)), Arm(version=3, weight=float(second)))
    experiment = replace(_experiment(Terms(metric=Metric.VALUE, better="higher"), ["", ""]), arms=arms)
    route = wanted_route(experiment, Route(champion=1, salt="old"))
    after = next_experiment(experiment, Move(Act.TAKE_OUT, "bad", 2), UNDECIDED, NOW, 3)
    assert wanted_route(after, route).ownership == {3: route.ownership[3]}


def test_everything_else_in_the_route_stays() -> None:
    """Shadows and the last champion are not the experiment's."""
    experiment = _experiment(Terms(metric=Metric.VALUE, better="higher"), ["", ""])
    before = with_shadow(Route(champion=1, previous=9, salt="old"), 5, 50.0)
    running = wanted_route(experiment, before)
    ended = wanted_route(replace(experiment, phase=Phase.ENDED), running)
    for route in (running, ended):
        assert (route.shadows, route.previous) == (before.shadows, 9)


def test_what_the_policy_may_say_can_be_agreed_on() -> None:
    usual = Policy(model="m").rollout.experiment
    terms = Terms(metric=Metric.VALUE, better="higher", alpha=usual.alpha, minimum_units=usual.minimum_units)
    check_terms(replace(terms, winner=usual.winner))
