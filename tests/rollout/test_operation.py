"""The acts of people: each says clearly why not, is audited, and leaves a valid route."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.documents.lease import Condition
from gateway.documents.rollout import Phase
from gateway.documents.route import Canary, Route, Shadow
from gateway.documents.store import condition_name, route_name
from gateway.errors import InvalidConfig, NotAllowed, RevisionConflict, VersionNotFound
from gateway.names import Revision, VersionId
from gateway.rollout.change import Changed
from gateway.rollout.start import steps_of, was_champion
from tests.rollout.conftest import MODEL, World


async def _quarantine(world: World, number: int) -> None:
    body = b'{"quarantined": true, "reason": "crashed twice"}'
    await world.write(condition_name(VersionId(MODEL, number)), body)


async def test_a_second_introduction_is_refused(world: World) -> None:
    """Only the first version gets in without a comparison."""
    with pytest.raises(NotAllowed, match="has the champion 1"):
        await world.operations.introduce(MODEL, 2, "please", "ada")


async def test_starting_without_a_champion_takes_it_into_service() -> None:
    """`first_version: hold` waits for exactly this."""
    world = World()
    world.publish(1)
    rollout = await world.operations.start_rollout(MODEL, 1, "steps", "go", "ada")
    assert (rollout.phase, world.route.champion) == (Phase.PROMOTED, 1)


async def test_what_can_not_be_started_is_refused_with_its_reason(world: World) -> None:
    """Unknown, already champion, quarantined, under way, no such plan."""
    start = world.operations.start_rollout
    with pytest.raises(VersionNotFound, match="m@9"):
        await start(MODEL, 9, "steps", "", "ada")
    with pytest.raises(NotAllowed, match="champion already"):
        await start(MODEL, 1, "steps", "", "ada")
    with pytest.raises(InvalidConfig, match="write steps, expedited or blue_green"):
        await start(MODEL, 2, "fast", "", "ada")
    world.publish(3)
    await _quarantine(world, 3)
    with pytest.raises(NotAllowed, match=r"crashed twice.*gateway versions m --release 3"):
        await start(MODEL, 3, "steps", "", "ada")
    await start(MODEL, 2, "steps", "", "ada")
    world.publish(4)
    with pytest.raises(NotAllowed, match="m@2 is under way"):
        await start(MODEL, 4, "steps", "", "ada")


def test_a_plan_that_can_never_end_is_refused() -> None:
    """A canary answers alone: there are no pairs to wait for."""
    from gateway.documents.policy import Policy

    steps = [{"canary": 5, "until": {"pairs": 10}}, {"promote": "auto"}]
    policy = Policy.model_validate({"model": "m", "rollout": {"steps": steps}})
    with pytest.raises(InvalidConfig, match="would never end"):
        steps_of(policy, "steps")


async def test_steering_needs_a_rollout_under_way(world: World) -> None:
    """Each act says what is missing."""
    for act in (world.operations.pause, world.operations.resume, world.operations.promote):
        with pytest.raises(NotAllowed, match="no rollout under way"):
            await act(MODEL, "", "ada")
    with pytest.raises(NotAllowed, match="no previous champion"):
        await world.operations.roll_back(MODEL, "", "ada")


async def test_a_paused_rollout_goes_on_where_it_stopped(world: World) -> None:
    """Pausing before the first step is allowed, too."""
    await world.operations.start_rollout(MODEL, 2, "steps", "", "ada")
    await world.operations.pause(MODEL, "not yet", "ada")
    await world.settle()
    assert world.is_in(Phase.PAUSED)
    await world.operations.resume(MODEL, "", "ada")
    await world.settle()
    assert world.is_in(Phase.SHADOW)
    with pytest.raises(NotAllowed, match="not paused or held"):
        await world.operations.resume(MODEL, "", "ada")


async def test_resuming_after_a_new_champion_compares_with_it(world: World) -> None:
    """Counts against a version that is not champion any more decide nothing."""
    world.publish(3)
    await world.operations.start_rollout(MODEL, 2, "steps", "", "ada")
    await world.settle()
    world.serve_pairs(10)
    await world.settle()
    await world.set_route(champion=3, previous=1, shadows=[{"version": 2}])
    await world.settle()
    assert world.rollout.reason == "a person changed the champion from 1 to 3"
    await world.operations.resume(MODEL, "", "ada")
    world.serve_pairs(10)
    await world.settle()
    assert (world.rollout.champion, world.rollout.phase) == (3, Phase.SHADOW)
    world.serve_pairs(10)
    await world.settle()
    assert world.is_in(Phase.CANARY)


async def test_promoting_by_hand_skips_the_steps_and_keeps_the_guards(world: World) -> None:
    """A person's yes is enough; protection goes on."""
    await world.operations.start_rollout(MODEL, 2, "steps", "", "ada")
    await world.settle()
    rollout = await world.operations.promote(MODEL, "known good", "ada")
    assert (world.route.champion, rollout.guarding) == (2, True)
    with pytest.raises(NotAllowed, match="promoted already"):
        await world.operations.promote(MODEL, "", "ada")
    rolled = await world.operations.roll_back(MODEL, "not good", "ada")
    assert rolled is not None
    assert (rolled.phase, world.route.champion) == (Phase.ROLLED_BACK, 1)


async def test_roll_back_with_none_under_way_restores_the_last_champion(world: World) -> None:
    """The same button, whatever the state; and the fallen one does not come back by itself."""
    await world.operations.put_route(MODEL, Route(champion=2), "by hand", "ada", world.revision)
    assert (world.route.champion, world.route.previous) == (2, 1)
    assert await world.operations.roll_back(MODEL, "bad day", "ada") is None
    assert world.route.versions == {1}
    assert world.condition(2).rolled_back
    assert world.config.entries[-1].action == "restore"


async def test_every_write_is_audited_with_before_and_after(world: World) -> None:
    """Who, what, why, from what, to what."""
    await world.operations.set_weights(MODEL, {2: 10}, "try it", "ada")
    entry = world.config.entries[-1]
    assert (entry.actor, entry.action, entry.subject, entry.reason) == ("ada", "weights", "m@2", "try it")
    assert '"canaries":[]' in entry.before
    assert '"weight":10.0' in entry.after


async def test_weights_that_make_no_sense_change_nothing(world: World) -> None:
    """The live route stays valid."""
    before = world.route
    weights = world.operations.set_weights
    for wrong in ({2: 101.0}, {2: -1.0}, {2: float("nan")}, {1: 10.0}):
        with pytest.raises(InvalidConfig):
            await weights(MODEL, wrong, "", "ada")
    world.publish(3)
    with pytest.raises(InvalidConfig, match="more than 100"):
        await weights(MODEL, {2: 60, 3: 50}, "", "ada")
    with pytest.raises(VersionNotFound):
        await weights(MODEL, {9: 10}, "", "ada")
    await _quarantine(world, 3)
    with pytest.raises(NotAllowed, match="quarantined"):
        await weights(MODEL, {3: 10}, "", "ada")
    with pytest.raises(NotAllowed, match="no champion yet"):
        await weights("other", {2: 10}, "", "ada")  # type: ignore[arg-type]
    assert world.route == before


async def test_a_stale_expectation_is_a_conflict_and_none_is_not(world: World) -> None:
    """`If-Match` is optional for weights and required for a whole route."""
    stale = world.revision
    await world.operations.set_weights(MODEL, {2: 10}, "", "ada")
    with pytest.raises(RevisionConflict):
        await world.operations.set_weights(MODEL, {2: 20}, "", "ada", stale)
    with pytest.raises(RevisionConflict):
        await world.operations.put_route(MODEL, Route(champion=1), "", "ada", stale)
    await world.operations.set_weights(MODEL, {2: 20}, "", "ada")
    assert world.route.weight_of(2) == 20


async def test_of_many_writers_on_one_revision_exactly_one_wins(world: World) -> None:
    """Compare-and-swap, all the way from the caller."""
    revision = world.revision
    results = await asyncio.gather(
        *(world.operations.set_weights(MODEL, {2: n}, "", "ada", revision) for n in range(1, 9)),
        return_exceptions=True,
    )
    assert sum(not isinstance(result, RevisionConflict) for result in results) == 1


async def test_writers_without_an_expectation_all_get_through(world: World) -> None:
    """A lost race is decided again on the new state: no update is lost."""
    for number in (3, 4, 5):
        world.publish(number)
    await asyncio.gather(*(world.operations.set_weights(MODEL, {n: 10}, "", "ada") for n in (2, 3, 4, 5)))
    assert {c.version: c.weight for c in world.route.canaries} == {2: 10, 3: 10, 4: 10, 5: 10}


async def test_a_whole_route_keeps_salt_and_previous_when_they_are_left_out(world: World) -> None:
    """People edit champions, canaries and shadows; the rest follows."""
    salt = world.route.salt
    world.publish(3)
    route = Route(champion=2, canaries=(Canary(version=3, weight=5),), shadows=(Shadow(version=1),))
    await world.operations.put_route(MODEL, route, "new order", "ada", world.revision)
    assert (world.route.salt, world.route.previous) == (salt, 1)
    assert world.route.challengers == {1, 3}
    with pytest.raises(VersionNotFound):
        await world.operations.put_route(MODEL, Route(champion=9), "", "ada", world.revision)


async def test_going_back_by_a_whole_route_keeps_the_fallen_ones_from_starting_again(world: World) -> None:
    """With `start: auto` the newer versions would otherwise return within a second."""
    await world.set_policy(start="auto")
    world.publish(3)
    await world.operations.put_route(MODEL, Route(champion=3), "up", "ada", world.revision)
    await world.operations.put_route(MODEL, Route(champion=1), "and down again", "ada", world.revision)
    await world.settle()
    assert world.route.versions == {1, 3}
    assert world.condition(2).rolled_back
    assert world.condition(3).reason == "and down again"


async def test_a_first_route_may_be_written_whole() -> None:
    """Revision 0: there is none yet."""
    world = World()
    world.publish(1)
    await world.operations.put_route(MODEL, Route(champion=1), "first", "ada", Revision(0))
    assert world.route.champion == 1
    assert world.route.salt


async def test_a_release_lifts_what_was_held_against_a_version(world: World) -> None:
    """Quarantine and roll-back alike; audited; refused where there is nothing to lift."""
    await _quarantine(world, 2)
    assert await world.operations.release(VersionId(MODEL, 2), "fixed the driver", "ada") == world.condition(2)
    assert world.condition(2) == Condition(reason="fixed the driver", since=world.clock.now())
    assert world.config.entries[-1].action == "release"
    with pytest.raises(NotAllowed, match="neither quarantined nor rolled back"):
        await world.operations.release(VersionId(MODEL, 2), "", "ada")
    with pytest.raises(VersionNotFound):
        await world.operations.release(VersionId(MODEL, 9), "", "ada")


async def test_freezing_is_audited_and_lifted(world: World) -> None:
    """Who froze it and why stands in the document and in the trail."""
    frozen = await world.operations.freeze(MODEL, "audit", "ada")
    assert (frozen.frozen, frozen.actor, frozen.reason) == (True, "ada", "audit")
    lifted = await world.operations.unfreeze(MODEL, "done", "ada")
    assert not lifted.frozen
    assert [entry.action for entry in world.config.entries[-2:]] == ["freeze", "unfreeze"]


@pytest.mark.parametrize("place", ["here", "elsewhere"])
async def test_a_controller_that_looks_during_a_persons_act_does_not_make_it_fail(
    world: World, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """In this process it keeps out; in another it may confirm the change first, and the person is told it was done."""
    await world.operations.start_rollout(MODEL, 2, "steps", "", "ada")
    await world.settle()
    controller = world.controller if place == "here" else world.controller_elsewhere()
    change = world.writer.change

    async def change_slowly(*arguments: Any) -> Changed:
        done = await change(*arguments)
        await controller.reconcile(MODEL)  # while the person's call waits for the acknowledgement
        return done

    monkeypatch.setattr(world.writer, "change", change_slowly)
    rolled = await world.operations.roll_back(MODEL, "bad day", "ada")
    assert rolled is not None
    assert (rolled.phase, rolled.pending) == (Phase.ROLLED_BACK, 0)
    assert world.route.challengers == frozenset()
    assert [entry.actor for entry in world.config.entries if entry.action == "roll_back"] == ["ada"]
    assert (await world.actions()).count("roll_back") == (1 if place == "here" else 2)
    assert len({decision.id for decision in await world.decisions()}) == 3


async def test_two_processes_that_write_the_same_act_do_it_once(world: World) -> None:
    """The controller elsewhere sees the announcement before the route is written: one of both writes it."""
    await world.operations.start_rollout(MODEL, 2, "steps", "", "ada")
    await world.settle()
    elsewhere = world.controller_elsewhere()
    revision = world.revision
    rolled, *_ = await asyncio.gather(
        world.operations.roll_back(MODEL, "bad day", "ada"),
        elsewhere.reconcile(MODEL),
        elsewhere.reconcile(MODEL),
        elsewhere.reconcile(MODEL),
    )
    assert rolled is not None
    assert world.is_in(Phase.ROLLED_BACK)
    assert len([entry for entry in world.config.entries if entry.action == "roll_back"]) == 1
    assert world.revision > revision


async def _replace_champion(world: World) -> None:
    """Version 2 takes the place of version 1, by its rollout, and stays."""
    await world.operations.start_rollout(MODEL, 2, "blue_green", "", "ada")
    await world.settle()
    world.serve_pairs(30)
    await world.settle()
    assert (world.route.champion, world.rollout.guarding) == (2, False)


@pytest.mark.parametrize(("hours", "phase"), [(0, Phase.PROMOTED), (23, Phase.PROMOTED), (25, Phase.SHADOW)])
async def test_a_return_to_a_recent_champion_skips_the_steps(world: World, hours: int, phase: Phase) -> None:
    """It has proven itself a moment ago; after a day the world is another one."""
    await _replace_champion(world)
    world.clock.advance(hours * 3600)
    await world.operations.start_rollout(MODEL, 1, "steps", "complaints", "ada")
    await world.settle()
    assert (world.rollout.version, world.rollout.phase) == (1, phase)
    says = "complaints: it was champion until" in world.rollout.reason and "steps are skipped" in world.rollout.reason
    assert says is (phase is Phase.PROMOTED)
    assert world.rollout.guarding is (phase is Phase.PROMOTED)


async def test_a_champion_that_a_person_replaced_may_return_as_well(world: World) -> None:
    """Whoever changed the route: what counts is that it was champion."""
    await world.operations.put_route(MODEL, Route(champion=2), "by hand", "ada", world.revision)
    await world.operations.start_rollout(MODEL, 1, "steps", "", "ada")
    await world.settle()
    assert (world.route.champion, world.rollout.phase) == (1, Phase.PROMOTED)


@pytest.mark.parametrize("fault", ["rolled back", "quarantined", "crashed", "the policy says so", "clock went back"])
async def test_what_fell_or_lies_in_doubt_never_skips_a_step(world: World, fault: str) -> None:
    """A window is for versions that nothing is held against."""
    await _replace_champion(world)
    version = VersionId(MODEL, 1)
    marks: dict[str, dict[str, Any]] = {
        "rolled back": {"rolled_back": True},
        "quarantined": {"quarantined": True},
        "crashed": {"suspect": True},
        "clock went back": {"champion_until": world.clock.now() + 3600},
    }
    if fault == "the policy says so":
        await world.set_policy(rollback_window=0)
    else:
        await world.operations.rollouts.set_condition(version, lambda before: replace(before, **marks[fault]))
    present = await world.operations.rollouts.present(MODEL)
    assert not was_champion(present, 1, world.clock.now() + 1)


async def test_a_controller_that_died_at_the_promotion_leaves_the_return_open(world: World) -> None:
    """The route was written and nothing else: the next one remembers who was champion."""
    await world.operations.start_rollout(MODEL, 2, "blue_green", "", "ada")
    world.config.dies_after = route_name(MODEL)
    with pytest.raises(KeyboardInterrupt):
        await world.settle()
    assert not world.condition(1).champion_until
    world.restart()
    await world.settle()
    assert world.condition(1).champion_until == world.clock.now()
