"""What holds for every rollout, whatever the traffic and however it is cut."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.documents.rollout import Guards, Phase, Rollout, Step
from gateway.documents.route import Canary, Route, Shadow
from gateway.journal.record import Entry, Feedback, Place, Prediction, TrafficRecord
from gateway.names import Outcome, Reason, Role
from gateway.registry.manifest import Feature, PredictionSpec
from gateway.rollout.evidence.betting import Mean
from gateway.rollout.evidence.observe import Observed, Observer, Steps, prediction_reader
from gateway.rollout.evidence.slices import Slicer
from gateway.rollout.evidence.unit import Units
from gateway.rollout.evidence.verdict import Compared, FailureShare, Paired, Tally, assess
from gateway.rollout.plan import plan
from gateway.rollout.transition import DRY_TRANSITIONS, MOVES_ROUTE, TRANSITIONS, Act, next_rollout, next_route

_READ = prediction_reader({number: PredictionSpec(output="label", kind="class") for number in (1, 2)})
_STEPS = (
    Step(shadow=50.0, until_pairs=5, at_most_seconds=10.0),
    Step(canary=5.0),
    Step(canary=40.0, until_requests=5),
    Step(promote="auto"),
)


@st.composite
def _records(draw: Any) -> TrafficRecord:
    request = f"r{draw(st.integers(0, 8))}"
    if draw(st.booleans()):
        value = draw(st.sampled_from([None, 1.0, 2.5, math.inf]))
        return Feedback(request, draw(st.integers(0, 2)), draw(st.sampled_from([0, 1, None])), value)
    failed = draw(st.booleans())
    return Prediction(
        id=request,
        model="m",
        version=draw(st.sampled_from([1, 2, 3])),
        role=draw(st.sampled_from(list(Role))),
        reason=draw(st.sampled_from(list(Reason))),
        revision=draw(st.integers(1, 3)),
        outcome=Outcome.ERROR if failed else Outcome.OK,
        latency_us=draw(st.integers(0, 10**6)),
        rows=2,
        contract=1,
        inputs=draw(st.sampled_from([None, [[0], ["a"]], {"x": [1]}])),
        bucket=draw(st.integers(-1, 3)),
        keyed=draw(st.booleans()),
        outputs={} if failed else {"label": draw(st.lists(st.integers(0, 1), min_size=2, max_size=2))},
        split=draw(st.sampled_from([(), ((2, 500),), ((2, 500), (3, 9500)), ((2, 10_000),)])),
        flags=draw(st.sampled_from([(), ("duplicate_id",), ("non_finite",)])),
    )


_ROUTES = st.builds(
    Route,
    champion=st.just(1),
    canaries=st.sampled_from([(), (Canary(version=2, weight=5),), (Canary(version=3, weight=97),)]),
    shadows=st.sampled_from([(), (Shadow(version=4),)]),
) | st.builds(Route, champion=st.sampled_from([2, 3]), previous=st.sampled_from([None, 1]))


_PLACES = {
    Phase.WAITING: [-1],
    Phase.SHADOW: [0],
    Phase.CANARY: [1, 2],
    Phase.HELD: [0, 1, 2],
    Phase.PAUSED: [-1, 0, 1, 2, 3],
    Phase.APPROVING: [3],
    Phase.PROMOTED: [3],
    Phase.ROLLED_BACK: [-1, 0, 1, 2, 3],
}


@st.composite
def _rollouts(draw: Any) -> Rollout:
    phase = draw(st.sampled_from(list(Phase)))
    return Rollout(
        model="m",
        version=2,
        champion=1,
        plan="steps",
        steps=_STEPS,
        phase=phase,
        reason="",
        step=draw(st.sampled_from(_PLACES[phase])),
        written=draw(st.integers(1, 3)),
        guarding=phase is Phase.PROMOTED and draw(st.booleans()),
        without_evidence=draw(st.sampled_from(["hold", "roll_back"])),
        pending=draw(st.sampled_from([0, 0, 2])),
    )


_logs = st.floats(-20, 20)
_tallies = st.builds(Tally, st.integers(0, 2000), st.integers(0, 20), st.integers(0, 20), st.integers(0, 8))
_compared = st.builds(
    Compared,
    trial=_tallies,
    shadow=_tallies,
    reference=_tallies,
    errors=_logs,
    slow=_logs,
    worse_pairs=_logs,
    worse_share=_logs,
    calm=_logs,
    calm_shadow=_logs,
)
_observed = st.builds(
    Observed,
    before=_compared,
    after=_compared,
    by_revision=st.just(()) | st.builds(lambda steps: ((2, steps),), st.builds(Steps, *[st.integers(0, 2000)] * 3)),
)


@given(st.lists(_records(), max_size=60), st.data())
def test_the_fold_does_not_see_how_the_stream_was_cut(records: list[TrafficRecord], data: st.DataObject) -> None:
    """A restart, a slow reader and a fast one must come to the same decision."""
    guards = Guards(quality_margin=0.1, disagreement_at_most=0.3)
    rollout = Rollout(
        model="m", version=2, champion=1, plan="steps", steps=_STEPS, phase=Phase.SHADOW, reason="", guards=guards
    )
    entries = [Entry(record, place, Place("g", 1, place)) for place, record in enumerate(records)]
    features = {1: (Feature(name="day", kind="categorical"),)}
    whole, cut = (Observer(rollout, _READ, slicer=Slicer(["day"], features)) for _ in range(2))
    whole.fold(entries)
    while entries:
        size = data.draw(st.integers(1, len(entries)))
        cut.fold(entries[:size])
        entries = entries[size:]
    assert whole.observed() == cut.observed()


@given(_rollouts(), _observed, _ROUTES, st.integers(1, 4), st.floats(0, 100))
def test_every_action_is_in_the_table_and_leads_to_a_valid_route(
    rollout: Rollout, observed: Observed, route: Route, revision: int, now: float
) -> None:
    """Whatever was observed and whatever people did to the route."""
    action = plan(rollout, observed, route, revision, now)
    after = next_rollout(rollout, action, now, revision)
    if action.act not in {Act.NOTHING, Act.WRITE, Act.ADOPT}:
        assert after.phase is TRANSITIONS[rollout.phase][action.act]
    fits = sum(canary.weight for canary in route.canaries if canary.version != 2) <= 60
    if action.act in MOVES_ROUTE and fits and not (route.champion == 2 and after.phase not in _ENDED):
        moved = next_route(after, route, "salt")
        assert Route.model_validate(dict(moved)) == moved


_ENDED = {Phase.PROMOTED, Phase.ROLLED_BACK}


@given(_rollouts(), _observed, _ROUTES, st.integers(1, 4), st.floats(0, 100))
def test_a_failing_version_is_never_given_more(
    rollout: Rollout, observed: Observed, route: Route, revision: int, now: float
) -> None:
    """No phase, wait or pause lets a version on that a guard has rejected."""
    action = plan(rollout, observed, route, revision, now)
    if action.verdict.result == "fail":
        assert action.act not in {Act.SHADOW, Act.CANARY, Act.PROMOTE, Act.APPROVE, Act.FINISH, Act.HOLD}


@given(_rollouts(), _observed, _ROUTES, st.integers(1, 4), st.floats(-1e6, 1e6), st.floats(0, 50))
def test_no_step_ends_without_a_pass_or_its_counts_nor_before_its_time(
    rollout: Rollout, observed: Observed, route: Route, revision: int, now: float, hold: float
) -> None:
    """Missing evidence, an impatient plan and a clock that jumps promote nobody."""
    steps = tuple(replace(step, hold_seconds=hold) for step in rollout.steps)
    rollout = replace(rollout, steps=steps)
    action = plan(rollout, observed, route, revision, now)
    if action.act not in {Act.SHADOW, Act.CANARY, Act.APPROVE, Act.PROMOTE} or rollout.phase is Phase.WAITING:
        return
    step, counts = rollout.steps[rollout.step], observed.since(rollout.written)
    counted = counts.pairs if step.shadow is not None else counts.canary
    needed = step.until_pairs or step.until_requests
    assert action.step == rollout.step + 1
    assert now - rollout.step_since >= hold
    assert action.verdict.result != "fail"
    assert counted >= needed if needed else action.verdict.result == "pass" and counted >= 500


@given(_rollouts(), _observed, st.integers(1, 4), st.floats(-1e6, 1e6), st.booleans())
def test_a_guard_that_fails_acts_in_every_live_phase(
    rollout: Rollout, observed: Observed, revision: int, now: float, is_quarantined: bool
) -> None:
    """Whatever the phase waits for, and whatever the clock says; only a freeze or an unfinished write comes before."""
    rollout = replace(rollout, pending=0)
    held = {"shadows": (Shadow(version=2),)} if rollout.step == 0 else {"canaries": (Canary(version=2, weight=5),)}
    is_over = rollout.phase is Phase.PROMOTED
    route = Route(champion=2, previous=1) if is_over else Route.model_validate({"champion": 1, **held})
    action = plan(rollout, observed, route, revision, now, quarantined="crashed twice" if is_quarantined else "")
    if rollout.is_live and action.verdict.result == "fail":
        assert action.act is (Act.RESTORE if is_over else Act.ROLL_BACK)


@given(_rollouts(), _observed, _ROUTES, st.integers(1, 4), st.floats(-1e6, 1e6), st.sampled_from([*Act]))
def test_a_dry_run_never_announces_a_change_of_the_route(
    rollout: Rollout, observed: Observed, route: Route, revision: int, now: float, would: Act
) -> None:
    """Whatever it would do; and every act of it is in its own table."""
    if rollout.phase not in DRY_TRANSITIONS:
        return
    rollout = replace(rollout, dry_run=True, pending=0, would=would)
    action = plan(rollout, observed, route, revision, now)
    after = next_rollout(rollout, action, now, revision)
    assert (after.pending, after.written) == (0, rollout.written)
    if action.act is not Act.NOTHING:
        assert after.phase is DRY_TRANSITIONS[rollout.phase][action.act]


@given(_rollouts(), _observed, _ROUTES, st.integers(1, 4))
def test_an_action_once_done_is_not_asked_for_again(
    rollout: Rollout, observed: Observed, route: Route, revision: int
) -> None:
    """Reconciling twice is reconciling once: no evidence newer than the action, nothing to do."""
    action = plan(rollout, observed, route, revision, 5.0)
    fits = sum(canary.weight for canary in route.canaries if canary.version != 2) <= 60
    if action.act not in MOVES_ROUTE or not fits or (route.champion == 2 and rollout.phase not in _ENDED):
        return
    after = next_rollout(rollout, action, 5.0, revision)
    moved = next_route(after, route, "salt")
    written = replace(after, pending=0, written=revision + 10)
    if action.verdict.result != "fail" and written.phase is not Phase.WAITING:
        assert plan(written, replace_counts(observed), moved, revision + 10, 5.0).act is not action.act


def replace_counts(observed: Observed) -> Observed:
    """What was observed, with no answers under the new revision."""
    return Observed(before=observed.before, after=observed.after)


@given(st.lists(st.tuples(st.booleans(), st.floats(0.01, 0.99)), max_size=200))
def test_evidence_is_a_fair_bet(events: list[tuple[bool, float]]) -> None:
    """Whatever came before, the next event changes the evidence by 1 on average under the null hypothesis."""
    share, weight = FailureShare(), 0.3
    for is_canary, at in events:
        share.add(is_canary, at)
    expected = 0.0
    for is_canary, chance in ((True, weight), (False, 1 - weight)):
        after = FailureShare()
        for past, at in events:
            after.add(past, at)
        after.add(is_canary, weight)
        expected += chance * 2.718281828459045 ** (after.log - share.log)
    assert abs(expected - 1) < 1e-9


@given(st.lists(st.floats(-1, 1), max_size=100), st.floats(0.01, 0.9))
def test_a_bet_on_a_mean_is_fair_and_never_ruins(values: list[float], margin: float) -> None:
    """Whatever came before, numbers whose mean is the limit change the evidence by 1 on average."""
    process = Mean(-margin, -1.0)
    for value in values:
        process.add(value)
    before = process.log
    expected = 0.0
    for value, chance in ((-1.0, (1 + margin) / 2), (1.0, (1 - margin) / 2)):
        after = Mean(-margin, -1.0)
        for past in (*values, value):
            after.add(past)
        expected += chance * math.exp(after.log - before)
    assert abs(expected - 1) < 1e-9


@given(st.lists(st.tuples(st.integers(0, 2), st.booleans(), st.sampled_from([0.05, 0.2, 0.5])), max_size=50))
def test_a_caller_is_never_counted_twice_under_the_same_weights(events: list[tuple[int, bool, float]]) -> None:
    """And what it is counted with is a share."""
    units, last = Units(), dict[int, float]()
    for bucket, is_trial, weight in events:
        found = units.weight("failed", bucket, is_trial, weight)
        assert found is None or 0.0 < found < 1.0
        assert (found is None) if last.get(bucket) == weight else True
        last[bucket] = weight


@given(st.lists(st.booleans(), max_size=300))
def test_no_order_of_pairs_makes_both_versions_worse(wins: list[bool]) -> None:
    """Evidence that each is worse than the other can not both reach its limit."""
    worse, better = Paired(), Paired()
    for won in wins:
        worse.add(won)
        better.add(not won)
    assert min(worse.log, better.log) < 3.0


@given(_compared)
def test_the_verdict_is_pass_only_without_any_failing_guard(compared: Compared) -> None:
    """Fail wins over pass, always."""
    verdict = assess(compared, Guards())
    if verdict.result == "pass":
        assert max(compared.errors, compared.slow) < 4.7
        assert compared.quality < 3.0
