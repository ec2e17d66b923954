"""What could go wrong around a rollout: restarts in any state, two controllers, two starts, clocks that jump."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.documents.rollout import Phase
from gateway.documents.store import route_name
from gateway.errors import NotAllowed
from gateway.rollout.wake import StepClock
from tests.rollout.conftest import MODEL, World

DAY = 86_400.0
URL = "http://h/asked"


async def _start(world: World, plan: str = "steps") -> None:
    await world.operations.start_rollout(MODEL, 2, plan, "a test", "ada")
    await world.settle()


async def _reach(world: World, state: str) -> None:
    """Bring the rollout into a state, with the policy that it needs."""
    hooks = [{"url": URL, "on": ["before_promotion" if state == "asking" else "before_step"], "confirm": True}]
    asks = state in {"asking", "refused", "waiting"}
    last = {"promote": "approve" if state == "approving" else "auto"}
    steps: list[Any] = [{"shadow": 100, "until": {"pairs": 20}, "at_most": "1h"}, last]
    if state in {"canary", "refused"}:
        steps.insert(1, {"canary": 5, "until": {"requests": 20}})
    await world.set_policy(steps=steps, after_promotion={"requests": 30}, hooks=hooks if asks else [])
    world.replies[URL] = (200, b'{"answer": "wait"}') if state != "refused" else (200, b'{"answer": "yes"}')
    await _start(world, "blue_green" if state == "promoted" else "steps")
    if state == "refused":
        world.replies[URL] = (200, b'{"answer": "no"}')
    if state in {"canary", "approving", "asking", "refused"}:
        world.serve_pairs(20)
    if state == "paused":
        await world.operations.pause(MODEL, "lunch", "ada")
    if state == "held":
        world.clock.advance(3601)
    if state == "rolled_back":
        await world.operations.roll_back(MODEL, "no", "ada")
    await world.settle()


STATES = {
    "waiting": Phase.WAITING,
    "shadow": Phase.SHADOW,
    "canary": Phase.CANARY,
    "held": Phase.HELD,
    "refused": Phase.HELD,
    "asking": Phase.SHADOW,
    "paused": Phase.PAUSED,
    "approving": Phase.APPROVING,
    "promoted": Phase.PROMOTED,
    "rolled_back": Phase.ROLLED_BACK,
}


@pytest.mark.parametrize("state", STATES)
async def test_a_restart_in_any_state_repeats_nothing_and_forgets_nothing(world: World, state: str) -> None:
    """All that counts is in the stores: the same documents, the same route, no second decision."""
    await _reach(world, state)
    assert world.is_in(STATES[state])
    before, route, decisions = world.rollout, world.config.documents[route_name(MODEL)], await world.decisions()
    world.hooks.forget(MODEL)
    world.restart()
    await world.settle()
    assert (world.rollout.phase, world.rollout.step, world.rollout.reason) == (before.phase, before.step, before.reason)
    assert world.config.documents[route_name(MODEL)] == route
    assert await world.decisions() == decisions


@pytest.mark.parametrize("state", [state for state in STATES if state not in {"waiting", "rolled_back"}])
async def test_guards_act_in_every_live_state_also_after_a_restart(world: World, state: str) -> None:
    """Waits, pauses, approvals and hooks that do not answer included."""
    await _reach(world, state)
    world.restart()
    for _ in range(25):
        if state == "canary":
            world.serve(2, failed=True)
            world.serve(1)
        elif state == "promoted":
            world.serve(2, predicted=0, label=1)
        else:
            world.serve_pairs(1, shadow_failed=True)
    await world.settle()
    assert (world.rollout.phase, world.route.champion) == (Phase.ROLLED_BACK, 1)
    assert world.route.challengers == frozenset()


@pytest.mark.parametrize("state", ["shadow", "asking", "promoted"])
async def test_two_controllers_decide_once(world: World, state: str) -> None:
    """Two processes over one store, each with a memory of its own, looking at the same time all the way."""
    await _reach(world, state)
    world.replies[URL] = (200, b'{"answer": "yes"}')
    world.clock.advance(60)
    elsewhere = world.controller_elsewhere()
    for _ in range(12):
        world.serve_pairs(5)
        await asyncio.gather(world.controller.reconcile(MODEL), elsewhere.reconcile(MODEL))
        await world.settle()
    assert (world.rollout.phase, world.rollout.guarding, world.route.champion) == (Phase.PROMOTED, False, 2)
    decisions = {decision.id: decision.action for decision in await world.decisions()}
    steps = ["start", "promote", "finish"] if state == "promoted" else ["start", "shadow", "promote", "finish"]
    assert list(decisions.values()) == steps
    promotions = [entry for entry in world.config.entries if entry.action == "promote"]
    assert len(promotions) == 1


async def test_of_two_starts_at_once_one_is_refused(world: World) -> None:
    """Overlapping rollouts would read one another's traffic as their own."""
    world.publish(3)
    results = await asyncio.gather(
        world.operations.start_rollout(MODEL, 2, "steps", "", "ada"),
        world.operations.start_rollout(MODEL, 3, "steps", "", "bob"),
        return_exceptions=True,
    )
    assert sorted(type(result).__name__ for result in results) == ["NotAllowed", "Rollout"]
    await world.settle()
    assert world.route.challengers == {world.rollout.version}
    with pytest.raises(NotAllowed, match="is under way"):
        await world.operations.start_rollout(MODEL, 5 - world.rollout.version, "blue_green", "", "ada")


async def _hold(world: World, **policy: Any) -> None:
    steps = [{"shadow": 100, "until": {"pairs": 20}, "hold": "10m", "at_most": "1h"}, {"promote": "auto"}]
    await world.set_policy(steps=steps, **policy)
    await _start(world)


@pytest.mark.parametrize("without_evidence", ["hold", "roll_back"])
async def test_a_clock_put_forward_a_day_ends_no_step(world: World, without_evidence: str) -> None:
    """Neither is the step late, nor has it held long enough."""
    await _hold(world, without_evidence=without_evidence)
    world.clock.set_wall(DAY)
    await world.settle()
    assert world.is_in(Phase.SHADOW)
    world.serve_pairs(20)
    await world.settle()
    assert world.is_in(Phase.SHADOW)
    world.clock.advance(601)
    await world.settle()
    assert world.is_in(Phase.PROMOTED)


async def test_a_clock_put_back_a_day_keeps_no_step_for_a_day(world: World) -> None:
    """Ten minutes stay ten minutes, and the time limit stays in force."""
    await _hold(world)
    world.clock.set_wall(-DAY)
    world.clock.advance(3601)
    await world.settle()
    assert world.is_in(Phase.HELD)


@pytest.mark.parametrize(("jump", "phase"), [(DAY, Phase.HELD), (-DAY, Phase.SHADOW)])
async def test_a_restart_behind_a_jump_promotes_nobody(world: World, jump: float, phase: Phase) -> None:
    """Without a memory only the wall clock is left: at worst a step is held, and goes on with its evidence."""
    await _hold(world)
    world.clock.set_wall(jump)
    world.restart()
    await world.settle()
    assert world.is_in(phase)
    world.clock.advance(601)
    world.serve_pairs(20)
    await world.settle()
    assert world.is_in(Phase.PROMOTED)


async def test_guards_do_not_look_at_the_clock(world: World) -> None:
    """Whatever the time is said to be."""
    await _start(world)
    for jump in (DAY, -3 * DAY):
        world.clock.set_wall(jump)
        world.serve_pairs(10, shadow_failed=True)
    await world.settle()
    assert world.is_in(Phase.ROLLED_BACK)


async def test_the_clock_of_a_step_begins_again_with_the_step(world: World) -> None:
    """A step that was resumed, and the next one, have their whole time."""
    await _start(world)
    clock, rollout = StepClock(), world.rollout
    at = rollout.step_since
    assert clock.now(rollout, at + 5, 100.0) == at + 5
    assert clock.now(rollout, at + DAY, 107.0) == at + 12
    assert clock.now(replace(rollout, step_since=at + 50), at + 50, 107.0) == at + 50
