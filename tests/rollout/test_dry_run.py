"""Dry runs: a rollout that tells what it would do with the traffic that people give the version, and moves nothing."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from gateway.documents.policy import Policy
from gateway.documents.rollout import Phase
from gateway.documents.route import Route
from gateway.documents.store import route_name
from gateway.errors import NotAllowed
from gateway.rollout.eligibility import choose
from gateway.rollout.transition import DRY_TRANSITIONS, Act, Action, next_rollout
from tests.rollout.conftest import MODEL, World

STEPS = [
    {"shadow": 100, "until": {"pairs": 20}},
    {"canary": 5, "until": {"requests": 20}},
    {"canary": 50, "until": {"requests": 20}},
    {"promote": "auto"},
]


async def _start(world: World) -> None:
    await world.operations.start_rollout(MODEL, 2, "steps", "a rehearsal", "ada", dry_run=True)
    await world.settle()


async def _by_hand(world: World, **fields: object) -> None:
    """A person sets the route, as the admin API does it."""
    route = Route.model_validate({"champion": 1} | fields)
    await world.operations.put_route(MODEL, route, "by hand", "ada", world.revision)
    await world.settle()


async def test_every_step_is_told_once_and_none_is_taken(world: World) -> None:
    """The whole plan, on a canary of 5 % that a person set and that nobody moves."""
    await _start(world)
    await _by_hand(world, shadows=[{"version": 2}])
    world.serve_pairs(20)
    await world.settle()
    await _by_hand(world, canaries=[{"version": 2, "weight": 5}])
    writes = world.config.puts.count(route_name(MODEL))
    for _ in range(60):
        world.serve(2)
        await world.settle()
    assert world.config.puts.count(route_name(MODEL)) == writes
    assert (world.route.weight_of(2), world.route.champion) == (5, 1)
    told = ["start", "would_shadow", "would_canary", "would_canary", "would_promote"]
    assert await world.actions() == told
    assert [entry.action for entry in world.config.entries if "would" in entry.action] == told[1:]
    assert len({decision.id for decision in await world.decisions()}) == len(told)
    assert world.rollout.would == "promote"
    assert world.rollout.is_live
    assert "20 canary answers" in world.rollout.reason


async def test_each_step_counts_its_own_answers(world: World) -> None:
    """One route for all steps: what the last step counted is not counted again."""
    await _by_hand(world, canaries=[{"version": 2, "weight": 5}])
    await world.set_policy(steps=STEPS[1:])
    await _start(world)
    for _ in range(39):
        world.serve(2)
    await world.settle()
    assert world.rollout.step == 1
    world.serve(2)
    await world.settle()
    assert world.rollout.would == "canary", "39 were folded at once: the second step began with the last of them"


async def test_a_failing_guard_is_told_once_and_condemns_nobody(world: World) -> None:
    """The version stays where people put it, and may be started for real later."""
    await _by_hand(world, canaries=[{"version": 2, "weight": 5}])
    await _start(world)
    for _ in range(8):
        world.serve(2, failed=True)
        await world.settle()
    assert (world.rollout.verdict, world.rollout.would, world.route.weight_of(2)) == ("fail", "roll_back", 5)
    assert world.rollout.reason.startswith("errors: 4 of 4 runs failed")
    assert (await world.actions()).count("would_roll_back") == 1
    assert not world.condition(2).rolled_back


async def test_it_goes_on_watching_after_a_promotion_that_would_have_been(world: World) -> None:
    """A rehearsal of weeks finds what came too late for its own plan."""
    await world.set_policy(steps=[{"promote": "auto"}])
    await _by_hand(world, shadows=[{"version": 2}])
    await _start(world)
    assert (world.rollout.would, world.route.champion) == ("promote", 1)
    world.serve_pairs(19, shadow_predicted=0, label=1)
    await world.settle()
    assert (await world.actions())[-2:] == ["would_promote", "would_roll_back"]


async def test_a_deadline_is_told_once_and_the_rehearsal_goes_on(world: World) -> None:
    """Evidence that comes late is evidence."""
    await world.set_policy(steps=[{"shadow": 100, "until": {"pairs": 20}, "at_most": "1h"}, {"promote": "auto"}])
    await _by_hand(world, shadows=[{"version": 2}])
    await _start(world)
    world.clock.advance(3601)
    await world.settle()
    await world.settle()
    world.serve_pairs(20)
    await world.settle()
    assert await world.actions() == ["start", "would_shadow", "would_hold", "would_promote"]


@pytest.mark.parametrize(
    ("end", "phase", "said"),
    [
        ("stop", Phase.ROLLED_BACK, "enough seen"),
        ("left", Phase.ROLLED_BACK, "it left the route"),
        ("weight 0", Phase.ROLLED_BACK, "enough seen"),
        ("champion", Phase.PROMOTED, "it became champion"),
    ],
)
async def test_how_a_dry_run_ends(world: World, end: str, phase: Phase, said: str) -> None:
    """By a person's stop, or with the version's time as a challenger; the route stays as it is."""
    await _by_hand(world, canaries=[{"version": 2, "weight": 5}])
    await _start(world)
    world.serve(2)
    await world.settle()
    if end == "stop":
        await world.operations.roll_back(MODEL, "enough seen", "ada")
        assert world.route.weight_of(2) == 5
        assert not world.condition(2).rolled_back
    elif end == "weight 0":
        await world.operations.set_weights(MODEL, {2: 0}, "enough seen", "ada")
    else:
        await world.set_route(champion=2 if end == "champion" else 1)
    await world.settle()
    assert (world.rollout.phase, world.rollout.is_live) == (phase, False)
    assert said in world.rollout.reason
    assert (await world.actions())[-1] == ("end" if end == "champion" else "stop")


async def test_a_restart_repeats_nothing(world: World) -> None:
    """What was told is in the document."""
    await _by_hand(world, canaries=[{"version": 2, "weight": 5}])
    await world.set_policy(steps=STEPS[1:])
    await _start(world)
    for _ in range(30):
        world.serve(2)
    await world.settle()
    before = await world.decisions()
    world.restart()
    await world.settle()
    assert await world.decisions() == before


async def test_people_are_told_that_it_can_not_be_steered(world: World) -> None:
    """Pause, resume and promote need something that moves."""
    await _start(world)
    for act in (world.operations.pause, world.operations.resume, world.operations.promote):
        with pytest.raises(NotAllowed, match=r"dry run, which moves nothing.*gateway rollout roll-back m"):
            await act(MODEL, "", "ada")
    with pytest.raises(NotAllowed, match="m@2 is under way"):
        await world.operations.start_rollout(MODEL, 2, "steps", "", "ada")


async def test_without_a_champion_there_is_nothing_to_rehearse() -> None:
    """A dry run takes no version into service."""
    world = World()
    world.publish(1)
    with pytest.raises(NotAllowed, match="no champion yet"):
        await world.operations.start_rollout(MODEL, 1, "steps", "", "ada", dry_run=True)


async def test_a_policy_of_dry_runs_rehearses_each_version_once(world: World) -> None:
    """`start: auto` with `dry_run`: the newest version takes the place of the one before; none begins again."""
    await world.set_policy(start="auto", steps=STEPS, dry_run=True)
    await world.settle()
    assert (world.rollout.version, world.rollout.dry_run, world.route.challengers) == (2, True, frozenset())
    world.publish(3)
    await world.settle()
    assert (world.rollout.version, world.rollout.number) == (3, 2)
    assert not world.condition(2).rolled_back
    await world.operations.roll_back(MODEL, "enough", "ada")
    await world.settle()
    assert (world.rollout.version, world.rollout.number, world.rollout.is_live) == (3, 2, False)


async def test_a_rehearsed_version_starts_for_real_when_the_policy_says_so(world: World) -> None:
    """Only the rehearsal is not repeated."""
    await _start(world)
    over = replace(world.rollout, phase=Phase.ROLLED_BACK)
    manifests = world.registry.manifests
    for dry_run, starts in ((True, False), (False, True)):
        policy = Policy.model_validate({"model": MODEL, "rollout": {"start": "auto", "dry_run": dry_run}})
        assert (choose(policy, world.route, over, manifests, {}) is not None) is starts


@pytest.mark.parametrize("act", [act for act in Act if act not in {Act.NOTHING, Act.WRITE, Act.ADOPT}])
@pytest.mark.parametrize("phase", list(Phase))
async def test_a_dry_run_has_a_table_of_its_own(world: World, phase: Phase, act: Act) -> None:
    """No act of a dry run ever announces a change of the route."""
    await _start(world)
    rollout = replace(world.rollout, phase=phase)
    if act in DRY_TRANSITIONS.get(phase, {}):
        after = next_rollout(rollout, Action(act, step=0), 0, 7)
        assert (after.phase, after.pending, after.weight) == (DRY_TRANSITIONS[phase][act], 0, 0.0)
    else:
        with pytest.raises(NotAllowed, match="dry run"):
            next_rollout(rollout, Action(act, step=0), 0, 7)
