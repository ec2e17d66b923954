"""Decisions recomputed from the journal: whole rollouts agree with their records, and a changed record shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from gateway.documents.lease import Condition
from gateway.documents.rollout import Phase
from gateway.documents.store import condition_name
from gateway.errors import DocumentNotFound
from gateway.journal.record import Decision
from gateway.names import VersionId
from gateway.rollout.refold import Replay, replay
from gateway.rollout.replay import State
from gateway.stores.memory.connect import connect_memory
from tests.rollout.conftest import MODEL, World


async def _start(world: World, version: int = 2) -> None:
    await world.operations.start_rollout(MODEL, version, "steps", "a test", "ada")
    await world.settle()


async def _to_canary(world: World) -> None:
    await _start(world)
    world.serve_pairs(20)
    await world.settle()


async def _to_rolled_back(world: World) -> None:
    await _to_canary(world)
    for _ in range(9):
        world.serve(2, failed=True)
    await world.settle()
    assert world.is_in(Phase.ROLLED_BACK)


async def _replay(world: World, number: int | None = None) -> Replay:
    return await replay(world.control, world.traffic, world.registry, MODEL, number)


async def _replay_with(world: World, change: Callable[[Decision], Decision]) -> Replay:
    """The replay over a control stream whose last decision was changed."""
    decisions = await world.decisions()
    stores = connect_memory(world.clock)
    tee = stores.open_tee("control", "control")
    for decision in (*decisions[:-1], change(decisions[-1])):
        tee.offer(decision)
    tee.flush()
    return await replay(stores.control, world.traffic, world.registry, MODEL)


def _states(done: Replay) -> list[tuple[str, State]]:
    return [(one.decision.action, one.state) for one in done.decisions]


async def test_every_decision_of_a_healthy_rollout_is_recomputed_equal(world: World) -> None:
    """Steps on pairs, on answers, and the guards after the promotion; the start rests on nothing."""
    await _to_canary(world)
    for _ in range(2):
        for _ in range(20):
            world.serve(2)
            world.serve(1)
        await world.settle()
    world.serve_pairs(30)
    await world.settle()
    done = await _replay(world)
    assert _states(done) == [
        ("start", State.AS_RECORDED),
        ("shadow", State.EQUAL),
        ("canary", State.EQUAL),
        ("canary", State.EQUAL),
        ("promote", State.EQUAL),
        ("finish", State.EQUAL),
    ]
    finish = done.decisions[-1]
    assert finish.recomputed["counts"]["pairs"] == 30
    assert not done.differs


async def test_a_roll_back_is_recomputed_with_its_guard(world: World) -> None:
    """Through a restart in the middle: how the traffic was cut into looks does not matter."""
    await _to_canary(world)
    for number in range(9):
        if number == 4:
            world.restart()
        world.serve(2, failed=True)
        await world.settle()
    done = await _replay(world)
    last = done.decisions[-1]
    assert (last.decision.action, last.state, last.differences) == ("roll_back", State.EQUAL, ())
    assert (last.recomputed["result"], last.recomputed["guard"]) == ("fail", last.recorded["guard"])
    assert last.decision.reason.startswith(f"{last.recomputed['guard']}: ")


async def test_a_rollout_is_chosen_by_its_number(world: World) -> None:
    """The newest by default; the document holds only the last, the journal all."""
    await _to_rolled_back(world)
    world.publish(3)
    await _start(world, 3)
    assert (await _replay(world)).number == 2
    first = await _replay(world, 1)
    assert {one.decision.version for one in first.decisions} == {2}
    assert first.decisions[-1].decision.action == "roll_back"
    with pytest.raises(DocumentNotFound, match="rollout 7"):
        await _replay(world, 7)


async def test_what_people_did_is_shown_beside_the_figures_of_that_moment(world: World) -> None:
    """A person needs no evidence; the figures in the record are compared all the same."""
    await _to_canary(world)
    for _ in range(7):
        world.serve(2)
    await world.settle()
    await world.operations.pause(MODEL, "lunch", "ada")
    await world.operations.resume(MODEL, "back", "ada")
    await world.operations.promote(MODEL, "errors: there are none", "ada")
    done = await _replay(world)
    assert [state for _, state in _states(done)[1:]] == [State.EQUAL] * 5
    assert [one.decision.evidence["by"] for one in done.decisions[-3:]] == ["ada"] * 3


async def test_a_champion_that_changed_under_way_starts_another_comparison(world: World) -> None:
    """The record of the resumed rollout still holds the figures against the old champion, and says so."""
    world.publish(3)
    await _to_canary(world)
    for _ in range(5):
        world.serve(2)
        world.serve(1)
    await world.settle()
    await world.operations.put_route(MODEL, world.route.model_copy(update={"champion": 3}), "", "ada", world.revision)
    await world.settle()
    assert world.is_in(Phase.PAUSED)
    await world.operations.resume(MODEL, "go on", "ada")
    for _ in range(9):
        world.serve(3)
        world.serve(2, failed=True)
    await world.settle()
    assert world.is_in(Phase.ROLLED_BACK)
    done = await _replay(world)
    assert all(one.state is State.EQUAL for one in done.decisions[1:]), _states(done)


async def test_a_quarantine_is_shown_as_recorded(world: World) -> None:
    """Its reason lies outside the traffic; nothing is claimed of it."""
    await _to_canary(world)
    name = condition_name(VersionId(MODEL, 2))
    await world.write(name, msgspec.json.encode(Condition(quarantined=True, reason="crashed twice")))
    await world.settle()
    assert world.is_in(Phase.ROLLED_BACK)
    last = (await _replay(world)).decisions[-1]
    assert (last.state, last.recorded["result"]) == (State.EQUAL, "fail")
    assert "not come from traffic" in last.why


def _edited(*path: str, value: Any) -> Callable[[Decision], Decision]:
    """Another value somewhere in the evidence."""

    def edit(decision: Decision) -> Decision:
        evidence = msgspec.json.decode(msgspec.json.encode(decision.evidence))
        within = evidence
        for name in path[:-1]:
            within = within[name]
        assert within.get(path[-1]) != value
        within[path[-1]] = value
        return replace(decision, evidence=evidence)

    return edit


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (_edited("values", "errors", value=1.0), "values.errors"),
        (_edited("counts", "trial", "errors", value=0), "counts.trial.errors"),
        (_edited("counts", "made_up", value=1), "counts.made_up"),
        (_edited("limits", "errors", value=1e9), "limits.errors"),
        (_edited("judged", "result", value="inconclusive"), "result"),
        (_edited("judged", "guard", value="slow"), "guard"),
        (_edited("rollout", "guards", "errors_alpha", value=0.5), "limits.errors"),
        (_edited("judged", "champion", value=2), "counts.reference.requests"),
        (lambda decision: replace(decision, reason="hard_stop: 3 of its first 20 answers failed"), "reason"),
    ],
    ids=("value", "count", "extra", "limit", "result", "guard", "guards", "champion", "reason"),
)
async def test_a_changed_record_differs_and_the_place_is_named(
    world: World, change: Callable[[Decision], Decision], place: str
) -> None:
    """Nobody can explain a roll-back with figures that the traffic does not give."""
    await _to_rolled_back(world)
    assert not (await _replay_with(world, lambda decision: decision)).differs
    done = await _replay_with(world, change)
    assert done.differs
    last = done.decisions[-1]
    assert place in [difference.place for difference in last.differences]
    assert all(one.state is not State.DIFFERS for one in done.decisions[:-1])


async def test_another_stretch_of_the_journal_differs(world: World) -> None:
    """A shorter one gives other counts; one that is none is said to be none."""
    await _to_canary(world)
    early = (await world.decisions())[-1].evidence["until"]
    for _ in range(9):
        world.serve(2, failed=True)
    await world.settle()
    shorter = await _replay_with(world, _edited("until", value=early))
    assert "counts.trial.requests" in [difference.place for difference in shorter.decisions[-1].differences]
    for value in ("no hex", "c0ffee", 7):
        assert (await _replay_with(world, _edited("until", value=value))).decisions[-1].state is State.DIFFERS
    longer = await world.traffic.end()
    world.serve(1)
    assert not (await _replay(world)).differs, "what came later is not looked at"
    assert longer.hex() == (await world.decisions())[-1].evidence["until"]


async def test_traffic_that_is_gone_is_said_to_be_gone(world: World) -> None:
    """Retention is no forgery: the record can not be checked any more, which is neither equal nor different."""
    await _to_rolled_back(world)
    await world.traffic.trim(await world.traffic.end())
    done = await _replay(world)
    assert not done.differs
    last = done.decisions[-1]
    assert last.state is State.NOT_REPLAYABLE
    assert "49 records of its traffic are no longer" in last.why


async def test_records_of_other_rules_and_of_before_are_not_replayable(world: World) -> None:
    """New rules give other figures; that says nothing of the old decision."""
    await _to_rolled_back(world)
    other = await _replay_with(world, lambda decision: replace(decision, rule="rollout-0"))
    assert (other.decisions[-1].state, "rollout-0" in other.decisions[-1].why) == (State.NOT_REPLAYABLE, True)

    def without(decision: Decision) -> Decision:
        evidence = {name: value for name, value in decision.evidence.items() if name not in {"judged", "rollout"}}
        return replace(decision, evidence=evidence)

    before = await _replay_with(world, without)
    assert (before.decisions[-1].state, before.differs) == (State.NOT_REPLAYABLE, False)


async def test_a_version_that_left_the_registry_is_named(world: World) -> None:
    """What it predicted can not be read without its manifest."""
    await _to_rolled_back(world)
    del world.registry.manifests[1]
    last = (await _replay(world)).decisions[-1]
    assert (last.state, "version 1" in last.why) == (State.NOT_REPLAYABLE, True)


async def test_a_record_that_a_restart_wrote_twice_is_shown_once(world: World) -> None:
    """At least once is the promise of records; a table with doubles would not be read."""
    await _to_rolled_back(world)
    before = _states(await _replay(world))
    world.tee.offer((await world.decisions())[-1])
    world.tee.flush()
    assert _states(await _replay(world)) == before


async def test_the_content_is_json_with_every_place(world: World) -> None:
    """The command and the admin API give the same."""
    await _to_rolled_back(world)
    done = await _replay_with(world, _edited("values", "slow", value=7.0))
    content = msgspec.json.decode(msgspec.json.encode(done.content()))
    assert (content["rollout"], content["differs"], content["states"]["differs"]) == (1, True, 1)
    [difference] = content["decisions"][-1]["differences"]
    assert difference == {"place": "values.slow", "recorded": 7.0, "recomputed": 1.0}
