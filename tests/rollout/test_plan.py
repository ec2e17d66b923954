"""The decision: the table of transitions, eligibility, and what people are told after a publish."""

from __future__ import annotations

import math
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.documents.lease import Condition
from gateway.documents.policy import Policy
from gateway.documents.rollout import Guards, Phase, Rollout, Step
from gateway.documents.route import Canary, Route, Shadow, with_shadow, with_weights
from gateway.errors import InvalidConfig, NotAllowed
from gateway.names import ModelName
from gateway.registry.manifest import GateReport, Lineage, Manifest
from gateway.rollout.eligibility import choose, eligible, next_step
from gateway.rollout.evidence.observe import Observed, Steps
from gateway.rollout.evidence.verdict import Compared, Tally
from gateway.rollout.plan import plan
from gateway.rollout.transition import TRANSITIONS, Act, Action, next_rollout, next_route

ROUTE = Route(champion=1, salt="s")
SHADOWED = with_shadow(ROUTE, 2, 100)
SPLIT = with_weights(ROUTE, {2: 5})
SHADOW = Rollout(
    model="m",
    version=2,
    champion=1,
    plan="steps",
    steps=(
        Step(shadow=100.0, until_pairs=10, at_most_seconds=60.0),
        Step(canary=5.0),
        Step(promote="auto"),
    ),
    phase=Phase.SHADOW,
    reason="",
    step=0,
    written=7,
    after_promotion_requests=10,
)
CANARY = replace(SHADOW, phase=Phase.CANARY, step=1, weight=5.0)
PROMOTED = replace(SHADOW, phase=Phase.PROMOTED, step=2, guarding=True)
FAILING = Observed(before=Compared(trial=Tally(20, 5, 0, 5)), after=Compared(trial=Tally(20, 5, 0, 5)))


HELD = replace(SHADOW, phase=Phase.HELD)
PAUSED = replace(CANARY, phase=Phase.PAUSED)
APPROVING = replace(CANARY, phase=Phase.APPROVING)
SLOW = replace(SHADOW, steps=(replace(SHADOW.steps[0], hold_seconds=30.0), *SHADOW.steps[1:]))
ASKING = replace(APPROVING, step=2, steps=(*SHADOW.steps[:2], Step(promote="approve", at_most_seconds=50.0)))
OVER = replace(PROMOTED, guarding=False)
FALLEN = replace(SHADOW, phase=Phase.ROLLED_BACK)
THIRD = Route(champion=3, shadows=SHADOWED.shadows)
AFTER = Route(champion=2, previous=1)


def _counts(**counts: int) -> Observed:
    return Observed(by_revision=((7, Steps(**counts)),))


@pytest.mark.parametrize(
    ("rollout", "observed", "route", "revision", "now", "act"),
    [
        pytest.param(replace(SHADOW, phase=Phase.WAITING, step=-1), Observed(), ROUTE, 7, 0, Act.SHADOW, id="begin"),
        pytest.param(SHADOW, _counts(pairs=9), SHADOWED, 7, 0, Act.NOTHING, id="too few pairs"),
        pytest.param(SHADOW, _counts(pairs=10), SHADOWED, 7, 0, Act.CANARY, id="pairs"),
        pytest.param(SHADOW, _counts(), SHADOWED, 7, 61, Act.HOLD, id="deadline"),
        pytest.param(
            replace(SHADOW, without_evidence="roll_back"), _counts(), SHADOWED, 7, 61, Act.ROLL_BACK, id="impatient"
        ),
        pytest.param(SHADOW, FAILING, SHADOWED, 7, 0, Act.ROLL_BACK, id="guard in shadow"),
        pytest.param(SHADOW, _counts(), with_shadow(ROUTE, 2, 10), 8, 0, Act.PAUSE, id="share moved"),
        pytest.param(SHADOW, _counts(), SPLIT, 8, 0, Act.PAUSE, id="role moved"),
        pytest.param(SHADOW, _counts(), THIRD, 8, 0, Act.PAUSE, id="new champion"),
        pytest.param(SHADOW, _counts(), SHADOWED, 8, 0, Act.NOTHING, id="another edit"),
        pytest.param(SHADOW, _counts(), ROUTE, 8, 0, Act.ROLL_BACK, id="taken out"),
        pytest.param(SHADOW, _counts(), Route(champion=2), 8, 0, Act.END, id="made champion"),
        pytest.param(CANARY, _counts(canary=9999), SPLIT, 7, 9e9, Act.NOTHING, id="no evidence, no promotion"),
        pytest.param(CANARY, FAILING, SPLIT, 7, 0, Act.ROLL_BACK, id="guard in canary"),
        pytest.param(replace(CANARY, phase=Phase.HELD), FAILING, SPLIT, 7, 0, Act.ROLL_BACK, id="guard while held"),
        pytest.param(PAUSED, FAILING, SPLIT, 9, 0, Act.ROLL_BACK, id="guard in pause"),
        pytest.param(APPROVING, FAILING, SPLIT, 7, 0, Act.ROLL_BACK, id="guard at the gate"),
        pytest.param(PAUSED, _counts(), SHADOWED, 9, 0, Act.NOTHING, id="paused"),
        pytest.param(HELD, _counts(pairs=10), SHADOWED, 7, 99, Act.CANARY, id="held, then not"),
        pytest.param(HELD, _counts(), SHADOWED, 7, 99, Act.NOTHING, id="held"),
        pytest.param(SLOW, _counts(pairs=10), SHADOWED, 7, 29, Act.NOTHING, id="enough, but too early"),
        pytest.param(SLOW, _counts(pairs=10), SHADOWED, 7, 30, Act.CANARY, id="enough and late enough"),
        pytest.param(SLOW, _counts(pairs=10), SHADOWED, 7, -9e4, Act.NOTHING, id="the clock went back a day"),
        pytest.param(SLOW, FAILING, SHADOWED, 7, 1, Act.ROLL_BACK, id="guard while it must hold"),
        pytest.param(ASKING, _counts(), SPLIT, 7, 50, Act.NOTHING, id="asked"),
        pytest.param(ASKING, _counts(), SPLIT, 7, 51, Act.ROLL_BACK, id="nobody said yes"),
        pytest.param(PROMOTED, FAILING, AFTER, 7, 0, Act.RESTORE, id="fall"),
        pytest.param(PROMOTED, FAILING, Route(champion=2), 7, 0, Act.NOTHING, id="nothing to restore"),
        pytest.param(PROMOTED, _counts(promoted=9), AFTER, 7, 0, Act.NOTHING, id="guarding"),
        pytest.param(PROMOTED, _counts(promoted=10), AFTER, 7, 0, Act.FINISH, id="guarded"),
        pytest.param(PROMOTED, FAILING, Route(champion=3, previous=2), 9, 0, Act.END, id="a third champion"),
        pytest.param(OVER, FAILING, AFTER, 7, 0, Act.NOTHING, id="over"),
        pytest.param(FALLEN, FAILING, ROUTE, 7, 0, Act.NOTHING, id="rolled back"),
        pytest.param(replace(SHADOW, pending=7), Observed(), ROUTE, 7, 0, Act.WRITE, id="not written yet"),
        pytest.param(replace(SHADOW, pending=7), Observed(), SHADOWED, 8, 0, Act.ADOPT, id="written, not confirmed"),
        pytest.param(replace(SHADOW, pending=7), Observed(), SPLIT, 8, 0, Act.PAUSE, id="a person was faster"),
        pytest.param(
            replace(SHADOW, phase=Phase.ROLLED_BACK, pending=7), Observed(), SPLIT, 8, 0, Act.WRITE, id="out it goes"
        ),
        pytest.param(replace(PROMOTED, pending=7), Observed(), SPLIT, 8, 0, Act.PAUSE, id="promotion overtaken"),
    ],
)  # fmt: skip
def test_what_comes_next(
    rollout: Rollout, observed: Observed, route: Route, revision: int, now: float, act: Act
) -> None:
    """One row for each situation."""
    action = plan(rollout, observed, route, revision, now)
    assert action.act is act
    assert plan(rollout, observed, route, revision, now, frozen=True).act is Act.NOTHING
    if act not in {Act.NOTHING, Act.WRITE, Act.ADOPT}:
        assert act in TRANSITIONS[rollout.phase]
        assert next_rollout(rollout, action, now, revision).phase is TRANSITIONS[rollout.phase][act]


def test_a_crash_is_the_reason_and_the_failures_it_made_are_its_effect() -> None:
    action = plan(CANARY, FAILING, SPLIT, 7, 0, crashed="its process crashed (SIGSEGV)")
    assert action.act is Act.ROLL_BACK
    assert action.reason.startswith("hard_stop: its process crashed (SIGSEGV); hard_stop: 5 of its first 20 answers")
    assert plan(CANARY, _counts(), SPLIT, 7, 0, crashed="it crashed").act is Act.NOTHING
    wrong = Observed(before=Compared(worse_pairs=math.log(1e6)))
    assert plan(CANARY, wrong, SPLIT, 7, 0, crashed="it crashed").reason.startswith("quality: ")


@pytest.mark.parametrize(
    ("rollout", "route", "act"),
    [
        (SHADOW, SHADOWED, Act.ROLL_BACK),
        (CANARY, SPLIT, Act.ROLL_BACK),
        (PAUSED, SPLIT, Act.ROLL_BACK),
        (APPROVING, SPLIT, Act.ROLL_BACK),
        (PROMOTED, AFTER, Act.RESTORE),
        (FALLEN, ROUTE, Act.NOTHING),
    ],
)
def test_a_quarantined_version_is_rolled_back_from_every_live_phase(rollout: Rollout, route: Route, act: Act) -> None:
    """A version that keeps crashing its process needs no statistics, and says why it went."""
    action = plan(rollout, _counts(), route, 7, 0, quarantined="crashed twice")
    assert action.act is act
    assert act is Act.NOTHING or "quarantined (crashed twice)" in action.reason


@pytest.mark.parametrize("phase", list(Phase))
@pytest.mark.parametrize("act", [act for act in Act if act not in {Act.NOTHING, Act.WRITE, Act.ADOPT}])
def test_no_transition_exists_beside_the_table(phase: Phase, act: Act) -> None:
    """A step that nobody wrote down is refused, and nothing at all leaves an ended rollout."""
    rollout = replace(SHADOW, phase=phase, guarding=phase is Phase.PROMOTED)
    if act in TRANSITIONS[phase]:
        assert next_rollout(rollout, Action(act, step=0), 0, 7).phase is TRANSITIONS[phase][act]
    else:
        with pytest.raises(NotAllowed, match=phase.value):
            next_rollout(rollout, Action(act, step=0), 0, 7)


def test_an_ended_rollout_moves_no_more() -> None:
    """Guards over: nothing restores by itself any longer."""
    with pytest.raises(NotAllowed):
        next_rollout(replace(PROMOTED, guarding=False), Action(Act.RESTORE), 0, 7)


def test_the_route_of_each_phase() -> None:
    """What the table of phases means for callers."""
    assert next_route(SHADOW, ROUTE, "new").shadows == SHADOWED.shadows
    assert next_route(SHADOW, ROUTE, "new").salt == "new"
    assert next_route(CANARY, SHADOWED, "new") == with_weights(SHADOWED, {2: 5})
    guarded = next_route(PROMOTED, SPLIT, "new")
    assert (guarded.champion, guarded.previous, [s.version for s in guarded.shadows]) == (2, 1, [1])
    unguarded = next_route(replace(PROMOTED, guarding=False), SPLIT, "new")
    assert (unguarded.champion, unguarded.previous, unguarded.shadows) == (2, 1, ())
    assert next_route(replace(PROMOTED, guarding=False), guarded, "new") == unguarded
    fallen = next_route(replace(SHADOW, phase=Phase.ROLLED_BACK), guarded, "new")
    assert (fallen.champion, fallen.challengers, fallen.previous) == (1, frozenset(), None)
    assert next_route(replace(SHADOW, phase=Phase.ROLLED_BACK), SPLIT, "new") == ROUTE


def test_other_challengers_stay_where_people_put_them() -> None:
    """A rollout moves its own version only."""
    route = Route(champion=1, canaries=(Canary(version=9, weight=10),), shadows=(Shadow(version=8),), salt="s")
    promoted = next_route(PROMOTED, with_weights(route, {2: 5}), "new")
    assert {9, 8} <= promoted.challengers
    with pytest.raises(InvalidConfig):
        next_route(CANARY, Route(champion=1, canaries=(Canary(version=9, weight=98),)), "new")


def _manifest(number: int, **fields: Any) -> Manifest:
    lineage = Lineage(source="job", data_digest="d", alert=fields.pop("alert", ""))
    made = Manifest(model="m", number=number, lineage=lineage, gate=GateReport(passed=True))
    return replace(made, **fields)


@pytest.mark.parametrize(
    ("manifest", "condition", "said"),
    [
        (_manifest(2), Condition(), ""),
        (_manifest(1), Condition(), "older"),
        (_manifest(2), Condition(quarantined=True, reason="crashed"), "quarantined"),
        (_manifest(2), Condition(rolled_back=True, reason="slow"), "rolled back"),
        (_manifest(2, lineage=Lineage(source="file", data_digest="d")), Condition(), "retraining job"),
        (_manifest(2, lineage=Lineage(source="job")), Condition(), "data are unknown"),
        (_manifest(2, gate=GateReport(passed=False)), Condition(), "did not pass"),
        (_manifest(2, gate=GateReport()), Condition(), "never met"),
    ],
)
def test_only_gated_versions_with_known_data_start_by_themselves(
    manifest: Manifest, condition: Condition, said: str
) -> None:
    """Each obstacle has its own words."""
    found = eligible(manifest, condition, champion=1)
    assert (said in found) if said else not found


AUTO = Policy.model_validate({"model": "m", "rollout": {"start": "auto"}})


def test_the_newest_eligible_version_is_chosen() -> None:
    """Rolled-back ones are passed over; a policy of `manual` chooses nothing."""
    manifests = {number: _manifest(number) for number in (1, 2, 3, 4)}
    conditions = {4: Condition(rolled_back=True)}
    chosen = choose(AUTO, ROUTE, None, manifests, conditions)
    assert chosen is not None
    assert chosen.number == 3
    assert choose(Policy(model="m"), ROUTE, None, manifests, conditions) is None


@pytest.mark.parametrize(
    ("rollout", "alert", "starts"),
    [
        (CANARY, "", False),
        (CANARY, "a", True),
        (PROMOTED, "", False),
        (PROMOTED, "a", True),
        (replace(PROMOTED, guarding=False), "", True),
        (replace(CANARY, phase=Phase.ROLLED_BACK), "", True),
        (replace(CANARY, phase=Phase.PAUSED), "a", False),
        (replace(CANARY, version=3), "a", False),
    ],
)
def test_what_may_come_before_a_rollout_under_way(rollout: Rollout, alert: str, starts: bool) -> None:
    """An answer to an alert, if newer, and if no person holds the wheel."""
    assert (choose(AUTO, ROUTE, rollout, {3: _manifest(3, alert=alert)}, {}) is not None) is starts


@pytest.mark.parametrize(
    ("policy", "route", "manifest", "condition", "said"),
    [
        (Policy(model="m"), ROUTE, _manifest(2), Condition(), "start it with: gateway rollout start m 2"),
        (Policy(model="m"), None, _manifest(1), Condition(), "taken into service"),
        (Policy(model="m", first_version="hold"), None, _manifest(1), Condition(), "gateway rollout start m 1"),
        (AUTO, ROUTE, _manifest(2), Condition(), "by itself, on the plan `steps`"),
        (AUTO, ROUTE, _manifest(2, alert="a"), Condition(), "by itself, on the plan `expedited`"),
        (AUTO, ROUTE, _manifest(2, gate=GateReport()), Condition(), "never met the gate; start it with"),
        (AUTO, ROUTE, _manifest(2), Condition(quarantined=True, reason="x"), "gateway versions m --release 2"),
        (AUTO, ROUTE, _manifest(1), Condition(), "champion already"),
        (AUTO, SPLIT, _manifest(2), Condition(), "in the route already, at 5 %"),
    ],
)
def test_publish_says_what_happens_next(
    policy: Policy, route: Route | None, manifest: Manifest, condition: Condition, said: str
) -> None:
    """Publishing alone never changes a route: whoever publishes is told what would."""
    text = next_step(policy, route, manifest, condition)
    assert text.startswith(str(manifest.version))
    assert said in text
    assert ModelName("m") in text


@pytest.mark.parametrize(
    ("wanted", "better", "not_worse", "act"),
    [
        ("better", 3.5, 9.0, Act.CANARY),
        ("better", 2.5, 9.0, Act.NOTHING),
        ("not_worse", 0.0, 3.5, Act.CANARY),
        ("not_worse", 0.0, 2.5, Act.NOTHING),
    ],
)
def test_a_step_may_ask_for_quality(wanted: str, better: float, not_worse: float, act: Act) -> None:
    """Then counts alone do not end it, and no promotion evidence is asked besides."""
    compared = Compared(better=better, not_worse=not_worse)
    counted = Observed(before=compared, by_revision=((7, Steps(pairs=10)),))
    step = Step(shadow=100.0, until_quality=wanted)
    alone = replace(SHADOW, steps=(step, *SHADOW.steps[1:]))
    both = replace(SHADOW, steps=(replace(step, until_pairs=11), *SHADOW.steps[1:]))
    assert plan(alone, counted, SHADOWED, 7, 0).act is act
    assert plan(both, counted, SHADOWED, 7, 0).act is Act.NOTHING
    if act is Act.CANARY:
        assert f"quality {wanted}" in plan(alone, counted, SHADOWED, 7, 0).reason


def test_a_question_holds_the_rollout_until_a_person_answers() -> None:
    """It neither rolls back nor goes on, and asks once; a guard that fails still comes first."""
    guards = Guards(disagreement_at_most=0.3)
    asked = replace(SHADOW, guards=guards)
    counts = _counts(pairs=10)
    much = Observed(before=Compared(disagree=9.0), by_revision=counts.by_revision)
    action = plan(asked, much, SHADOWED, 7, 0)
    assert (action.act, action.reason.partition(":")[0]) == (Act.HOLD, "disagreement")
    held = next_rollout(asked, action, 0, 7)
    assert plan(held, much, SHADOWED, 7, 9e9).act is Act.NOTHING
    assert plan(SHADOW, much, SHADOWED, 7, 0).act is Act.CANARY
    failing = Observed(before=Compared(disagree=9.0, errors=9.0), by_revision=counts.by_revision)
    assert plan(asked, failing, SHADOWED, 7, 0).act is Act.ROLL_BACK
