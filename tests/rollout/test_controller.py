"""The controller as a whole: from a started rollout to its end, through restarts, people and freezes."""

from __future__ import annotations

import asyncio

import pytest

from gateway.documents.rollout import Phase
from gateway.documents.store import proposal_name, rollout_name, route_name
from gateway.errors import NotAllowed
from gateway.journal.journal import Offset
from gateway.rollout.controller import READ_ENTRIES
from tests.rollout.conftest import MODEL, World


async def _start(world: World, plan: str = "steps") -> None:
    await world.operations.start_rollout(MODEL, 2, plan, "a test", "ada")
    await world.settle()


async def _to_canary(world: World) -> None:
    await _start(world)
    world.serve_pairs(20)
    await world.settle()


async def _to_promoted(world: World) -> None:
    await _to_canary(world)
    for _ in range(2):
        for _ in range(20):
            world.serve(2)
        await world.settle()


async def test_a_healthy_version_goes_through_every_step(world: World) -> None:
    """The path that every version takes: shadow, each canary weight, champion, guards, done."""
    await _start(world)
    assert (world.rollout.phase, world.route.shadows[0].version) == (Phase.SHADOW, 2)
    world.serve_pairs(20)
    await world.settle()
    assert (world.rollout.phase, world.route.weight_of(2)) == (Phase.CANARY, 5)
    for _ in range(20):
        world.serve(2)
    await world.settle()
    assert world.route.weight_of(2) == 50
    for _ in range(20):
        world.serve(2)
    await world.settle()
    assert (world.rollout.phase, world.route.champion, world.route.previous) == (Phase.PROMOTED, 2, 1)
    assert [shadow.version for shadow in world.route.shadows] == [1]
    world.serve_pairs(30)
    await world.settle()
    assert not world.rollout.guarding
    assert (world.route.shadows, world.route.previous) == ((), 1)
    assert await world.actions() == ["start", "shadow", "canary", "canary", "promote", "finish"]


async def test_the_salt_is_renewed_when_a_rollout_starts(world: World) -> None:
    """The same callers must not be the first to meet every new version."""
    before = world.route.salt
    await _start(world)
    during = world.route.salt
    world.serve_pairs(20)
    await world.settle()
    assert before != during == world.route.salt


async def test_a_step_counts_only_answers_given_under_its_own_route(world: World) -> None:
    """Pairs of an earlier step, or requests still under way, say nothing of the present one."""
    await _start(world)
    world.serve_pairs(60)
    await world.settle()
    assert (world.rollout.phase, world.route.weight_of(2)) == (Phase.CANARY, 5)


async def test_a_failing_canary_is_rolled_back_and_never_starts_again(world: World) -> None:
    """Weight gone, reason named, remembered for good."""
    await _to_canary(world)
    for _ in range(5):
        world.serve(2, failed=True)
        world.serve(1)
    await world.settle()
    assert world.is_in(Phase.ROLLED_BACK)
    assert world.rollout.reason.startswith("hard_stop: 5 of its first 20 answers failed")
    assert world.route.challengers == frozenset()
    assert world.condition(2).rolled_back


async def test_a_shadow_that_is_wrong_more_often_is_rolled_back(world: World) -> None:
    """Nobody was exposed to it: that is what the shadow step is for."""
    await _start(world)
    world.serve_pairs(19, shadow_predicted=0, label=1)
    await world.settle()
    assert (world.rollout.phase, world.rollout.reason.split(":")[0]) == (Phase.ROLLED_BACK, "quality")


async def test_all_traffic_is_looked_at_before_anything_is_decided(world: World) -> None:
    """Behind a long absence the counts of the first chunk are enough for the step, and the failures come later."""
    await _start(world)
    world.serve_pairs(READ_ENTRIES // 2 + 10)
    world.serve_pairs(19, shadow_predicted=0, label=1)
    await world.settle()
    assert world.is_in(Phase.ROLLED_BACK)
    assert "canary" not in await world.actions()


async def test_a_fall_after_the_promotion_restores_the_last_champion(world: World) -> None:
    """Guards go on: `previous` sees the same requests as a shadow, so only a difference counts."""
    await _to_promoted(world)
    for _ in range(25):
        world.serve(2, predicted=0, label=1)
    await world.settle()
    assert (world.route.champion, world.route.challengers, world.rollout.phase) == (1, frozenset(), Phase.ROLLED_BACK)
    assert world.rollout.reason.startswith("quality")
    assert (await world.actions())[-1] == "restore"


async def test_what_hits_both_after_the_promotion_changes_nothing(world: World) -> None:
    """Drift makes the promoted version and `previous` wrong on the same rows: restoring would not help."""
    await _to_promoted(world)
    for _ in range(25):
        world.serve(2, predicted=1, label=0)
    await world.settle()
    assert world.route.champion == 2


@pytest.mark.parametrize("moment", ["shadow", "canary", "promoted"])
async def test_a_restart_in_any_phase_changes_nothing(world: World, moment: str) -> None:
    """All state is in the stores: counts so far are folded again from the rollout's offset."""
    await {"shadow": _start, "canary": _to_canary, "promoted": _to_promoted}[moment](world)
    for _ in range(2):
        if moment == "canary":
            for _ in range(10):
                world.serve(2)
        else:
            world.serve_pairs(15 if moment == "promoted" else 10)
        world.restart()
        await world.settle()
    after = {
        "shadow": ("canary", 5.0),
        "canary": ("canary", 50.0),
        "promoted": ("promoted", 100.0),
    }
    assert (world.rollout.phase, world.rollout.weight) == after[moment]
    assert not world.rollout.guarding


@pytest.mark.parametrize("written", [rollout_name(MODEL), route_name(MODEL)])
@pytest.mark.parametrize("step", ["shadow", "canary", "roll_back", "promote"])
async def test_a_controller_that_dies_within_a_change_is_continued(world: World, written: str, step: str) -> None:
    """Announced but not written, or written but not confirmed: the next one ends up at the same place."""
    ready = {"shadow": _start, "canary": _start, "roll_back": _to_canary, "promote": _to_canary}[step]
    if step == "shadow":
        await world.operations.start_rollout(MODEL, 2, "steps", "a test", "ada")
    else:
        await ready(world)
    if step == "canary":
        world.serve_pairs(20)
    if step == "roll_back":
        for _ in range(5):
            world.serve(2, failed=True)
    if step == "promote":
        for _ in range(20):
            world.serve(2)
        await world.settle()
        for _ in range(20):
            world.serve(2)
    world.config.dies_after = written
    with pytest.raises(KeyboardInterrupt):
        await world.settle()
    world.restart()
    await world.settle()
    expected = {
        "shadow": Phase.SHADOW,
        "canary": Phase.CANARY,
        "roll_back": Phase.ROLLED_BACK,
        "promote": Phase.PROMOTED,
    }
    assert (world.rollout.phase, world.rollout.pending) == (expected[step], 0)
    assert world.rollout.written == world.revision
    decisions = [decision.id for decision in await world.decisions()]
    assert len(set(decisions)) == len(decisions)


async def test_reconciling_twice_is_reconciling_once(world: World) -> None:
    """Level-triggered: what is done is not done again."""
    await _to_canary(world)
    for _ in range(3):
        world.serve(2)
    await world.settle()
    puts, decisions = list(world.config.puts), await world.decisions()
    await world.settle()
    await world.controller.reconcile(MODEL)
    assert (world.config.puts, await world.decisions()) == (puts, decisions)


async def test_a_person_who_moves_the_weight_pauses_the_rollout(world: World) -> None:
    """Two hands on one wheel: the person keeps it, and is told so."""
    await _to_canary(world)
    await world.operations.set_weights(MODEL, {2: 20}, "more, faster", "ada")
    await world.settle()
    assert world.is_in(Phase.PAUSED)
    assert world.rollout.reason == "a person moved version 2 from canary at 5 % to canary at 20 %"
    assert world.route.weight_of(2) == 20
    for _ in range(50):
        world.serve(2)
    await world.settle()
    assert world.is_in(Phase.PAUSED)


async def test_guards_go_on_while_paused(world: World) -> None:
    """A pause stops promotion, not protection."""
    await _to_canary(world)
    await world.operations.pause(MODEL, "lunch", "ada")
    for _ in range(5):
        world.serve(2, failed=True)
    await world.settle()
    assert world.is_in(Phase.ROLLED_BACK)


async def test_resume_begins_the_step_again(world: World) -> None:
    """Back to the plan's weight, with counts from now on."""
    await _to_canary(world)
    await world.operations.set_weights(MODEL, {2: 20}, "more, faster", "ada")
    await world.settle()
    await world.operations.resume(MODEL, "go on", "ada")
    await world.settle()
    assert (world.rollout.phase, world.route.weight_of(2)) == (Phase.CANARY, 5)
    for _ in range(20):
        world.serve(2)
    await world.settle()
    assert world.route.weight_of(2) == 50


async def test_a_route_edit_that_concerns_another_version_pauses_nothing(world: World) -> None:
    """A second shadow, put there by a person, is no reason to stop."""
    await _to_canary(world)
    world.publish(3)
    route = world.route.model_dump() | {"shadows": [{"version": 3, "share": 10}]}
    await world.set_route(**route)
    await world.settle()
    assert world.is_in(Phase.CANARY)


async def test_a_weight_of_zero_is_a_roll_back(world: World) -> None:
    """Whoever takes a canary out does not want it back by itself."""
    await _to_canary(world)
    await world.operations.set_weights(MODEL, {2: 0}, "complaints", "ada")
    assert (world.rollout.phase, world.rollout.reason) == (Phase.ROLLED_BACK, "complaints")
    assert world.condition(2).rolled_back
    await world.settle()
    assert world.route.challengers == frozenset()


async def test_a_route_written_behind_our_back_ends_the_rollout_too(world: World) -> None:
    """Not every editor is the admin API: what counts is the route."""
    await _to_canary(world)
    await world.set_route(champion=1)
    await world.settle()
    assert (world.rollout.phase, world.rollout.reason) == (Phase.ROLLED_BACK, "a person took it out of the route")


async def test_a_person_who_makes_it_champion_ends_the_rollout(world: World) -> None:
    """Promoted by hand: nothing is left to do."""
    await _to_canary(world)
    await world.set_route(champion=2, previous=1)
    await world.settle()
    assert (world.rollout.phase, world.rollout.guarding) == (Phase.PROMOTED, False)


async def test_a_frozen_model_is_not_moved_by_anything(world: World) -> None:
    """Freeze stops every automatic act, roll-backs included, until somebody lifts it."""
    await _to_canary(world)
    await world.operations.freeze(MODEL, "audit", "ada")
    for _ in range(5):
        world.serve(2, failed=True)
    before = list(world.config.puts)
    await world.settle()
    assert world.config.puts == before
    await world.operations.unfreeze(MODEL, "over", "ada")
    await world.settle()
    assert world.is_in(Phase.ROLLED_BACK)


async def test_a_frozen_model_starts_nothing_by_itself(world: World) -> None:
    """An alert's answer waits as well."""
    await world.set_policy(start="auto")
    world.publish(3, alert="a1")
    await world.operations.freeze(MODEL, "audit", "ada")
    await world.settle()
    assert rollout_name(MODEL) not in world.config.documents
    with pytest.raises(NotAllowed, match="frozen"):
        await world.operations.start_rollout(MODEL, 3, "steps", "now", "ada")


async def test_without_evidence_it_holds_and_goes_on_when_evidence_comes(world: World) -> None:
    """No traffic is no reason to promote, and no failure either."""
    await world.set_policy(
        steps=[{"shadow": 100, "until": {"pairs": 20}, "at_most": "1h"}, {"canary": 5}, {"promote": "auto"}]
    )
    await _start(world)
    world.clock.advance(3601)
    await world.settle()
    assert world.is_in(Phase.HELD)
    assert world.rollout.reason.startswith("not enough evidence within 3600 s")
    assert world.route.shadows
    world.serve_pairs(20)
    await world.settle()
    assert world.is_in(Phase.CANARY)


async def test_without_evidence_it_is_rolled_back_where_the_policy_says_so(world: World) -> None:
    """`without_evidence: roll_back`."""
    await world.set_policy(
        steps=[{"shadow": 100, "until": {"pairs": 20}, "at_most": "1h"}, {"promote": "auto"}],
        without_evidence="roll_back",
    )
    await _start(world)
    world.clock.advance(3601)
    await world.settle()
    assert world.is_in(Phase.ROLLED_BACK)


async def test_a_step_without_counts_never_ends_without_evidence(world: World) -> None:
    """Traffic without a single bad event proves nothing about a ratio of bad events."""
    await world.set_policy(steps=[{"canary": 5}, {"promote": "auto"}])
    await _start(world)
    for _ in range(1000):
        world.serve(2)
    await world.settle()
    assert (world.rollout.phase, world.rollout.verdict) == (Phase.CANARY, "inconclusive")


async def test_a_step_without_counts_ends_on_promotion_evidence(world: World) -> None:
    """The champion fails now and then, the canary does not: that is evidence, and 500 answers are enough of it."""
    await world.set_policy(steps=[{"canary": 50}, {"promote": "auto"}])
    await _start(world)
    for number in range(520):
        world.serve(2)
        world.serve(1, failed=number % 20 == 0)
    await world.settle()
    assert (world.rollout.phase, world.route.champion) == (Phase.PROMOTED, 2)


async def test_approval_waits_for_a_person_under_guard(world: World) -> None:
    """`promote: approve`: everything is ready and nothing happens until somebody says yes."""
    await world.set_policy(steps=[{"shadow": 100, "until": {"pairs": 20}}, {"promote": "approve"}])
    await _start(world)
    world.serve_pairs(20)
    await world.settle()
    assert (world.rollout.phase, world.route.champion) == (Phase.APPROVING, 1)
    assert "gateway rollout promote m" in world.rollout.reason
    await world.operations.promote(MODEL, "looks good", "ada")
    assert (world.rollout.phase, world.route.champion) == (Phase.PROMOTED, 2)


async def test_a_version_that_passed_its_gate_starts_by_itself(world: World) -> None:
    """`start: auto`, on the standard plan."""
    await world.set_policy(start="auto")
    await world.settle()
    assert (world.rollout.version, world.rollout.plan, world.rollout.phase) == (2, "steps", Phase.SHADOW)


async def test_an_answer_to_an_alert_takes_the_expedited_plan_and_ends_on_counts(world: World) -> None:
    """The champion is known to fail: 50 pairs, 50 requests, champion, with the gate's result as the evidence."""
    await world.set_policy(start="auto")
    world.publish(3, alert="alert-7")
    await world.settle()
    assert (world.rollout.version, world.rollout.plan, world.rollout.answers) == (3, "expedited", "alert-7")
    world.serve_pairs(50)
    await world.settle()
    for _ in range(50):
        world.serve(3)
    await world.settle()
    assert world.route.champion == 3
    assert world.config.entries[-1].action == "promoted_on_gate"
    assert world.rollout.evidence["gate"] == {"accuracy": 0.8}


async def test_only_an_answer_to_an_alert_comes_before_a_rollout_under_way(world: World) -> None:
    """Otherwise a busy publisher would keep every version from ever being promoted."""
    await world.set_policy(start="auto")
    await world.settle()
    world.publish(3)
    await world.settle()
    assert world.rollout.version == 2
    world.publish(4, alert="alert-7")
    await world.settle()
    assert (world.rollout.version, world.rollout.number) == (4, 2)
    assert world.condition(2).reason == "superseded by m@4, which answers alert alert-7"
    assert world.route.challengers == {4}


async def test_a_rolled_back_version_is_passed_over(world: World) -> None:
    """It never restarts by itself; a person may start it."""
    await world.set_policy(start="auto")
    await world.settle()
    await world.operations.roll_back(MODEL, "no", "ada")
    await world.settle()
    assert (world.rollout.number, world.rollout.phase) == (1, Phase.ROLLED_BACK)
    rollout = await world.operations.start_rollout(MODEL, 2, "steps", "once more", "ada")
    assert rollout.number == 2


async def test_the_first_version_is_taken_into_service() -> None:
    """`first_version: serve`, the default."""
    world = World()
    world.publish(1)
    world.publish(2)
    await world.settle()
    assert world.route.champion == 1


async def test_a_version_that_no_process_can_load_is_rolled_back_before_it_gets_traffic(world: World) -> None:
    """A load failure is a hard stop; the route in force stays as it is."""
    await world.operations.start_rollout(MODEL, 2, "steps", "a test", "ada")
    process = asyncio.create_task(world.serving_process("g1", refuses="m@2: out of memory"))
    await world.settle()
    process.cancel()
    assert world.is_in(Phase.ROLLED_BACK)
    assert "hard_stop" in world.rollout.reason
    assert "g1: m@2: out of memory" in world.rollout.reason
    assert world.route.versions == {1}


async def test_two_controllers_do_what_one_does(world: World) -> None:
    """Compare-and-swap: the second one finds the work done."""
    await _start(world)
    world.serve_pairs(20)
    first = world.controller
    world.restart()
    second = world.controller
    for _ in range(5):
        await asyncio.gather(first.reconcile(MODEL), second.reconcile(MODEL))
    assert (world.rollout.phase, world.route.weight_of(2)) == (Phase.CANARY, 5)
    assert await world.actions() == ["start", "shadow", "canary"]


async def test_an_old_champion_is_unloaded_after_its_time(world: World) -> None:
    """`previous` is kept a day, not for ever."""
    await _to_promoted(world)
    world.serve_pairs(30)
    await world.settle()
    world.clock.advance(86_401)
    await world.settle()
    assert world.route.previous is None


async def test_weights_that_do_not_fit_beside_other_canaries_pause_the_rollout(world: World) -> None:
    """A person gave 98 % to another version: 5 % more is not possible."""
    world.publish(3)
    await _start(world)
    await world.set_route(**(world.route.model_dump() | {"canaries": [{"version": 3, "weight": 98}]}))
    world.serve_pairs(20)
    await world.settle()
    assert world.is_in(Phase.PAUSED)
    assert "more than 100" in world.rollout.reason


async def test_the_loop_wakes_on_traffic_and_versions(world: World) -> None:
    """`run` needs no timer to see a publish, to move on with the traffic, and to stop."""
    world.registry.manifests.clear()
    await world.set_policy(start="auto", steps=[{"shadow": 100, "until": {"pairs": 5}}, {"promote": "auto"}])
    stop = asyncio.Event()
    running = asyncio.create_task(world.controller.run(stop))
    world.publish(1)
    world.publish(2)
    await world.until(lambda: bool(world.route.shadows))
    world.serve_pairs(5)
    await world.until(lambda: world.route.champion == 2)
    stop.set()
    await running


async def test_a_decision_holds_what_is_needed_to_compute_it_again(world: World) -> None:
    """Counts, evidence, limits, rule version, and the stretch of the journal."""
    await _to_canary(world)
    decision = (await world.decisions())[-1]
    assert decision.action == "canary"
    assert decision.rule == decision.evidence["rule"] == "rollout-3"
    assert decision.evidence["counts"]["pairs"] == 20
    assert decision.evidence["values"]["errors"] == 1.0
    stretch = await world.traffic.read(Offset(bytes.fromhex(decision.evidence["from"])), 1000)
    assert (len(stretch.entries), stretch.offset.hex()) == (40, decision.evidence["until"])


async def test_the_clock_of_a_step_starts_when_its_route_is_acknowledged(world: World) -> None:
    """A process that takes its time must not eat up the time limit of the step."""
    await world.operations.start_rollout(MODEL, 2, "steps", "a test", "ada")
    process = asyncio.create_task(world.serving_process("g1", late_seconds=6.0))
    announced = world.clock.now()
    await world.settle()
    process.cancel()
    assert world.is_in(Phase.SHADOW)
    assert world.rollout.since - announced < 1.0
    assert world.rollout.step_since - world.rollout.since >= 6.0


async def test_a_change_that_another_process_confirms_is_acknowledged_first(world: World) -> None:
    """The one who wrote the route died: whoever goes on asks the serving processes as well."""
    await world.operations.start_rollout(MODEL, 2, "steps", "a test", "ada")
    process = asyncio.create_task(world.serving_process("g1", late_seconds=6.0))
    world.config.dies_after = route_name(MODEL)
    with pytest.raises(KeyboardInterrupt):
        await world.settle()
    died = world.clock.now()
    world.restart()
    await world.settle()
    process.cancel()
    assert (world.rollout.phase, world.rollout.pending) == (Phase.SHADOW, 0)
    assert world.rollout.step_since - died >= 5.0


async def test_a_step_holds_as_long_as_the_policy_says(world: World) -> None:
    """Enough evidence in a quiet minute is not enough: a day has other hours."""
    await world.set_policy(steps=[{"shadow": 100, "until": {"pairs": 20}, "hold": "10m"}, {"promote": "auto"}])
    await _start(world)
    world.serve_pairs(40)
    await world.settle()
    assert world.is_in(Phase.SHADOW)
    world.clock.advance(601)
    await world.settle()
    assert world.is_in(Phase.PROMOTED)


async def test_an_approval_has_a_deadline(world: World) -> None:
    """`promote: approve, at_most`: no answer is no."""
    steps = [{"shadow": 100, "until": {"pairs": 20}}, {"promote": "approve", "at_most": "2d"}]
    await world.set_policy(steps=steps)
    await _start(world)
    world.serve_pairs(20)
    await world.settle()
    assert world.is_in(Phase.APPROVING)
    world.clock.advance(2 * 86_400 + 1)
    await world.settle()
    assert (world.rollout.phase, world.rollout.reason) == (Phase.ROLLED_BACK, "nobody said yes within 172800 s")


async def test_blue_green_loads_everywhere_and_then_switches_at_once(world: World) -> None:
    """No callers are moved in parts, and nothing is served before every process has it loaded and warm."""
    await world.operations.start_rollout(MODEL, 2, "blue_green", "a test", "ada")
    process = asyncio.create_task(world.serving_process("g1"))
    await world.settle()
    process.cancel()
    assert (world.rollout.phase, world.rollout.plan, world.rollout.guarding) == (Phase.PROMOTED, "blue_green", True)
    assert (world.route.champion, world.route.previous, world.route.canaries) == (2, 1, ())
    assert proposal_name(MODEL) in world.config.puts
    assert await world.actions() == ["start", "promote"]


async def test_blue_green_switches_nowhere_when_one_process_can_not_load_it(world: World) -> None:
    """Check before the switch: the route in force stays as it is."""
    await world.operations.start_rollout(MODEL, 2, "blue_green", "a test", "ada")
    processes = [
        asyncio.create_task(world.serving_process("g1")),
        asyncio.create_task(world.serving_process("g2", refuses="m@2: warm-up failed")),
    ]
    await world.settle()
    for process in processes:
        process.cancel()
    assert (world.rollout.phase, world.route.versions) == (Phase.ROLLED_BACK, frozenset({1}))
    assert "g2: m@2: warm-up failed" in world.rollout.reason


@pytest.mark.parametrize("who", ["a person", "a guard"])
async def test_the_way_back_from_blue_green_needs_no_load(world: World, who: str) -> None:
    """The last champion stays loaded: nothing is proposed, the route is simply written."""
    await _start(world, "blue_green")
    process = asyncio.create_task(world.serving_process("g1"))
    world.config.puts.clear()
    if who == "a person":
        await world.operations.roll_back(MODEL, "bad day", "ada")
    else:
        for _ in range(25):
            world.serve(2, predicted=0, label=1)
        await world.settle()
    process.cancel()
    assert (world.route.champion, world.rollout.phase) == (1, Phase.ROLLED_BACK)
    assert proposal_name(MODEL) not in world.config.puts
