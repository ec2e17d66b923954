"""Hooks beside the controller: asked before steps, told of decisions, and never in the way of guards."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.documents.rollout import Phase
from gateway.rollout.confirm import MAX_ANSWER_BYTES
from gateway.rollout.hooks import ASK_AGAIN_SECONDS, Hooks
from tests.rollout.conftest import MODEL, AskedClock, World

URL = "http://h/asked"
TOLD = "http://h/told"
YES = (200, b'{"answer": "yes"}')
NO = (200, b'{"answer": "no", "reason": "not on a Friday"}')
WAIT = (200, b'{"answer": "wait", "reason": "a build is running"}')
STEPS = [
    {"shadow": 100, "until": {"pairs": 20}},
    {"canary": 5, "until": {"requests": 20}, "at_most": "1h"},
    {"promote": "auto"},
]


async def _policy(world: World, *on: str, **rollout: Any) -> None:
    hook = {"url": URL, "on": on, "confirm": True}
    await world.set_policy(**({"steps": STEPS, "hooks": [hook], "after_promotion": {"requests": 30}} | rollout))


async def _to_canary(world: World) -> None:
    await world.operations.start_rollout(MODEL, 2, "steps", "a test", "ada")
    await world.settle()
    world.serve_pairs(20)
    await world.settle()


async def _to_promotion(world: World) -> None:
    await _to_canary(world)
    for _ in range(20):
        world.serve(2)
    await world.settle()


async def test_a_yes_lets_each_step_happen_and_is_asked_once(world: World) -> None:
    """What is asked is a CloudEvent with what would happen and why."""
    world.replies[URL] = YES
    await _policy(world, "before_step", "before_promotion")
    await _to_promotion(world)
    assert (world.rollout.phase, world.route.champion) == (Phase.PROMOTED, 2)
    kinds = [(post["type"], post["data"]["act"]) for _, post in world.posts]
    assert kinds == [
        ("gateway.rollout.before_step", "shadow"),
        ("gateway.rollout.before_step", "canary"),
        ("gateway.rollout.before_promotion", "promote"),
    ]
    assert len({post["id"] for _, post in world.posts}) == 3
    assert (await world.decisions())[-1].evidence["hooks"] == [{"url": URL, "word": "yes", "reason": ""}]


async def test_a_no_before_a_step_holds_until_a_person_goes_on(world: World) -> None:
    """However much evidence comes; resuming begins the step again, and the hook is asked anew."""
    await _policy(world, "before_step")
    world.replies[URL] = YES
    await world.operations.start_rollout(MODEL, 2, "steps", "a test", "ada")
    await world.settle()
    world.replies[URL] = NO
    world.serve_pairs(20)
    await world.settle()
    assert (world.rollout.phase, world.rollout.refused) == (Phase.HELD, True)
    assert world.rollout.reason == (
        "hook: http://h/asked said no: not on a Friday; go on with: gateway rollout resume m"
    )
    world.replies[URL] = YES
    world.serve_pairs(60)
    await world.settle()
    assert world.is_in(Phase.HELD)
    await world.operations.resume(MODEL, "it is Monday", "ada")
    world.serve_pairs(20)
    await world.settle()
    assert (world.rollout.phase, world.rollout.refused) == (Phase.CANARY, False)


async def test_a_no_before_the_promotion_rolls_back(world: World) -> None:
    """Who says no here says that the version must not become champion."""
    await _policy(world, "before_promotion")
    world.replies[URL] = NO
    await _to_promotion(world)
    assert (world.rollout.phase, world.route.versions) == (Phase.ROLLED_BACK, frozenset({1}))
    assert world.rollout.reason == "hook: http://h/asked said no: not on a Friday"


async def test_a_wait_is_asked_again_after_a_while(world: World) -> None:
    """The step stays, and people see for whom it waits."""
    await _policy(world, "before_promotion")
    world.replies[URL] = WAIT
    await _to_promotion(world)
    for _ in range(3):
        await world.settle()
    assert len(world.posts) == 1
    assert world.is_in(Phase.CANARY)
    assert world.rollout.waits_for == "hook: waits for http://h/asked: a build is running"
    world.replies[URL] = YES
    world.clock.advance(ASK_AGAIN_SECONDS)
    await world.settle()
    assert (world.rollout.phase, world.rollout.waits_for) == (Phase.PROMOTED, "")
    assert len({post["id"] for _, post in world.posts}) == 1, "a repeated question is the same event"


BROKEN = [
    pytest.param((500, b"oops"), "status 500", id="fails"),
    pytest.param((302, b""), "status 302", id="redirects"),
    pytest.param((200, b"<html>yes</html>"), "something else", id="garbage"),
    pytest.param((200, b"x" * (MAX_ANSWER_BYTES + 1)), "more than 65536 bytes", id="too large"),
    pytest.param(OSError("refused"), "can not be reached (OSError)", id="unreachable"),
    pytest.param(None, "is being asked", id="hangs"),
]


@pytest.mark.parametrize(("reply", "said"), BROKEN)
@pytest.mark.parametrize("without_evidence", ["hold", "roll_back"])
async def test_a_hook_that_gives_no_answer_promotes_nobody(
    world: World, reply: Any, said: str, without_evidence: str
) -> None:
    """It counts as wait, with the reason shown; the step's time limit ends it."""
    await _policy(world, "before_promotion", without_evidence=without_evidence)
    world.replies[URL] = reply
    await _to_promotion(world)
    assert world.is_in(Phase.CANARY)
    assert said in world.rollout.waits_for
    world.clock.advance(3601)
    await world.settle()
    expected = Phase.HELD if without_evidence == "hold" else Phase.ROLLED_BACK
    assert (world.rollout.phase, world.route.champion) == (expected, 1)
    assert world.rollout.reason.startswith("not confirmed in time, hook: waits for http://h/asked")


@pytest.mark.parametrize("reply", [None, WAIT])
async def test_guards_go_on_while_a_hook_hangs(world: World, reply: Any) -> None:
    """Nobody is waited for where callers are hurt."""
    await _policy(world, "before_promotion")
    world.replies[URL] = reply
    await _to_promotion(world)
    for _ in range(40):
        world.serve(2, failed=True)
        world.serve(1)
    await world.settle()
    assert (world.rollout.phase, world.route.challengers) == (Phase.ROLLED_BACK, frozenset())
    assert not world.rollout.reason.startswith("hook")


async def test_a_hook_that_hangs_is_given_up_after_its_time_and_asked_again(world: World) -> None:
    """One lost connection must not cost a rollout."""
    await _policy(world, "before_promotion")
    world.replies[URL] = None
    await _to_promotion(world)
    world.clock.advance(5.0)
    await world.settle()
    world.clock.advance(1.0)
    await world.settle()
    assert world.rollout.waits_for.endswith("did not answer within 5 s")
    world.replies[URL] = YES
    world.clock.advance(ASK_AGAIN_SECONDS)
    await world.settle()
    assert world.is_in(Phase.PROMOTED)


async def test_held_before_the_first_step_can_be_resumed(world: World) -> None:
    """The first step's time limit counts from the start."""
    await _policy(world, "before_step", steps=[{"shadow": 100, "until": {"pairs": 20}, "at_most": "1h"}, *STEPS[2:]])
    world.replies[URL] = WAIT
    await world.operations.start_rollout(MODEL, 2, "steps", "a test", "ada")
    await world.settle()
    assert world.is_in(Phase.WAITING)
    world.clock.advance(3601)
    await world.settle()
    assert (world.rollout.phase, world.route.challengers) == (Phase.HELD, frozenset())
    world.replies[URL] = YES
    await world.operations.resume(MODEL, "", "ada")
    await world.settle()
    assert world.is_in(Phase.SHADOW)


async def test_held_for_a_silent_hook_goes_on_when_it_says_yes(world: World) -> None:
    """As it does when missing evidence comes late."""
    await _policy(world, "before_promotion")
    world.replies[URL] = WAIT
    await _to_promotion(world)
    world.clock.advance(3601)
    await world.settle()
    assert world.is_in(Phase.HELD)
    world.replies[URL] = YES
    world.clock.advance(ASK_AGAIN_SECONDS)
    await world.settle()
    assert world.is_in(Phase.PROMOTED)


async def test_blue_green_is_asked_before_it_switches(world: World) -> None:
    """The switch is the promotion."""
    await _policy(world, "before_promotion")
    world.replies[URL] = WAIT
    await world.operations.start_rollout(MODEL, 2, "blue_green", "a test", "ada")
    await world.settle()
    assert (world.rollout.phase, world.route.champion) == (Phase.WAITING, 1)
    world.replies[URL] = YES
    world.clock.advance(ASK_AGAIN_SECONDS)
    await world.settle()
    assert world.route.champion == 2


async def test_a_person_who_promotes_is_not_kept_waiting(world: World) -> None:
    """Hooks confirm what would happen by itself."""
    await _policy(world, "before_promotion")
    world.replies[URL] = NO
    await _to_canary(world)
    await world.operations.promote(MODEL, "known good", "ada")
    assert world.route.champion == 2
    assert not world.posts


async def test_a_hook_taken_out_of_the_policy_is_not_waited_for(world: World) -> None:
    """The present policy counts, so that a broken hook can be got rid of."""
    await _policy(world, "before_promotion")
    world.replies[URL] = OSError("gone")
    await _to_promotion(world)
    assert world.is_in(Phase.CANARY)
    await world.set_policy(steps=STEPS)
    await world.settle()
    assert world.is_in(Phase.PROMOTED)


async def test_a_restarted_controller_asks_again_with_the_same_id(world: World) -> None:
    """What a hook said is not stored; who is asked twice can see it."""
    await _policy(world, "before_promotion")
    world.replies[URL] = WAIT
    await _to_promotion(world)
    world.hooks.forget(MODEL)
    world.restart()
    world.replies[URL] = YES
    await world.settle()
    assert world.is_in(Phase.PROMOTED)
    assert len(world.posts) == 2
    assert world.posts[0][1]["id"] == world.posts[1][1]["id"]


async def _told(world: World, *on: str) -> None:
    await world.set_policy(steps=STEPS, hooks=[{"url": TOLD, "on": on}])
    await world.settle()


@pytest.mark.parametrize("reply", [YES, None, OSError("gone")])
async def test_who_is_only_told_never_delays_anything(world: World, reply: Any) -> None:
    """Each moment once, even by a hook that hangs."""
    await _told(world, "before_step", "before_promotion", "event")
    world.replies[TOLD] = reply
    await _to_promotion(world)
    assert world.is_in(Phase.PROMOTED)
    told = [(post["type"].rpartition(".")[2], post["data"]["act"]) for _, post in world.posts]
    assert told[:3] == [("event", "start"), ("before_step", "shadow"), ("event", "shadow")]
    assert told[-2:] == [("before_promotion", "promote"), ("event", "promote")]
    assert len(told) == 7


@pytest.mark.parametrize("who", ["a guard", "a person"])
async def test_a_roll_back_is_told_with_its_reason(world: World, who: str) -> None:
    """Whoever it was."""
    await _told(world, "after_roll_back")
    world.replies[TOLD] = YES
    await _to_canary(world)
    if who == "a guard":
        for _ in range(5):
            world.serve(2, failed=True)
            world.serve(1)
    else:
        await world.operations.roll_back(MODEL, "complaints", "ada")
    await world.settle()
    assert [post["type"] for _, post in world.posts] == ["gateway.rollout.after_roll_back"]
    assert world.posts[0][1]["data"]["reason"] == world.rollout.reason


async def test_an_event_that_is_not_taken_is_posted_three_times(world: World) -> None:
    """And then given up: the decision is in the journal."""
    await _told(world, "after_roll_back")
    world.replies[TOLD] = (503, b"")
    await _to_canary(world)
    await world.operations.roll_back(MODEL, "complaints", "ada")
    for _ in range(6):
        await world.settle()
        world.clock.advance(3.0)
    assert len(world.posts) == 3
    assert len({post["id"] for _, post in world.posts}) == 1


async def test_a_dry_run_asks_nobody(world: World) -> None:
    """Nothing is going to happen; its decisions are told as events."""
    hooks = [{"url": URL, "on": ["before_step"], "confirm": True}, {"url": TOLD, "on": ["event"]}]
    await world.set_policy(steps=STEPS, hooks=hooks, dry_run=True)
    world.replies[URL] = NO
    await world.operations.start_rollout(MODEL, 2, "steps", "a test", "ada")
    await world.settle()
    assert [(url, post["data"]["act"]) for url, post in world.posts][-1] == (TOLD, "would_shadow")
    assert {url for url, _ in world.posts} == {TOLD}


async def test_without_a_client_nothing_is_confirmed(world: World) -> None:
    """A gateway that can not ask does not take silence for yes."""
    from gateway.documents.hook import Hook

    hooks = Hooks(None, AskedClock(world.clock))
    hook = Hook(url=URL, on=("before_step",), confirm=True)
    hooks.answers(MODEL, 1, [hook], b"{}")
    for _ in range(5):
        await world.settle()
    answer = hooks.answers(MODEL, 1, [hook], b"{}")[0]
    await hooks.close()
    assert answer.word == "wait"
