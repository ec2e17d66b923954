"""A route change takes effect everywhere or nowhere."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from gateway.documents.lease import LEASE_SECONDS, Proposal
from gateway.documents.route import Route, with_shadow, with_weights
from gateway.documents.store import AuditEntry, proposal_name, route_name
from gateway.errors import RevisionConflict, RouteRefused
from gateway.names import Revision
from gateway.rollout.change import PREPARE_SECONDS
from tests.rollout.conftest import MODEL, World

AUDIT = AuditEntry(actor="ada", action="test", subject="m@2")


def _proposed(world: World) -> Proposal:
    return msgspec.json.decode(world.config.documents[proposal_name(MODEL)].body, type=Proposal)


async def test_without_a_live_process_it_is_written_at_once(world: World) -> None:
    """Nobody serves: nobody has to agree."""
    await world.renew("dead")
    world.clock.advance(LEASE_SECONDS + 0.1)
    done = await world.writer.change(MODEL, world.revision, with_shadow(world.route, 2, 100), AUDIT)
    assert (done.revision, done.accepted) == (world.revision, [])
    assert proposal_name(MODEL) not in world.config.documents
    assert (world.config.entries[-1].actor, world.config.entries[-1].action) == ("ada", "test")


async def test_every_live_process_prepares_and_then_reports_the_revision(world: World) -> None:
    """The reply names who accepted; the proposal is withdrawn."""
    processes = [asyncio.create_task(world.serving_process(name)) for name in ("g1", "g2")]
    await world.renew("g1")
    await world.renew("g2")
    done = await world.writer.change(MODEL, world.revision, with_shadow(world.route, 2, 100), AUDIT)
    for process in processes:
        process.cancel()
    assert done.accepted == ["g1", "g2"]
    assert world.route.challengers == {2}
    assert _proposed(world).route == ""


async def test_one_refusal_leaves_the_route_as_it_is(world: World) -> None:
    """Who and why is said; the other process keeps nothing."""
    before = world.config.documents[route_name(MODEL)]
    good = asyncio.create_task(world.serving_process("g1"))
    bad = asyncio.create_task(world.serving_process("g2", refuses="m@2: digest differs"))
    await world.renew("g1")
    await world.renew("g2")
    with pytest.raises(RouteRefused, match="g2: m@2: digest differs") as caught:
        await world.writer.change(MODEL, world.revision, with_shadow(world.route, 2, 100), AUDIT)
    good.cancel()
    bad.cancel()
    assert caught.value.refusals == {"g2": "m@2: digest differs"}
    assert world.config.documents[route_name(MODEL)] == before
    assert _proposed(world).route == ""
    assert [entry.action for entry in world.config.entries] == ["introduce"]


async def test_a_process_that_never_answers_is_named(world: World) -> None:
    """Alive but stuck: after 30 seconds the change is given up."""

    async def stuck() -> None:
        while True:
            await world.renew("g1")
            await asyncio.sleep(0)

    await world.renew("g1")
    process = asyncio.create_task(stuck())
    started = world.clock.now()
    with pytest.raises(RouteRefused, match="g1: not prepared within 30 s"):
        await world.writer.change(MODEL, world.revision, with_shadow(world.route, 2, 100), AUDIT)
    process.cancel()
    assert PREPARE_SECONDS <= world.clock.now() - started < PREPARE_SECONDS + 1


async def test_a_process_that_dies_while_it_prepares_is_not_waited_for(world: World) -> None:
    """Its lease runs out: the others decide."""
    await world.renew("g1")
    done = await world.writer.change(MODEL, world.revision, with_shadow(world.route, 2, 100), AUDIT)
    assert done.accepted == []


async def test_a_change_among_loaded_versions_is_not_prepared(world: World) -> None:
    """A roll-back must not wait for anything but the acknowledgement."""
    await world.set_route(**with_weights(world.route, {2: 5}).model_dump())
    process = asyncio.create_task(world.serving_process("g1", refuses="everything"))
    await world.renew("g1")
    done = await world.writer.change(MODEL, world.revision, with_weights(world.route, {2: 0}), AUDIT)
    process.cancel()
    assert done.accepted == ["g1"]
    assert proposal_name(MODEL) not in world.config.documents


async def test_a_roll_back_is_acknowledged_when_the_last_live_process_reports_it(world: World) -> None:
    """Invariant 7: until then it may still send requests to the version that goes."""
    await world.set_route(**with_weights(world.route, {2: 5}).model_dump())
    before = world.revision
    await world.renew("g1", revision=before)
    change = asyncio.create_task(world.writer.change(MODEL, before, with_weights(world.route, {2: 0}), AUDIT))
    for _ in range(20):
        await world.renew("g1", revision=before)
        await asyncio.sleep(0)
    assert world.revision > before
    assert not change.done()
    await world.renew("g1", revision=world.revision)
    assert (await change).accepted == ["g1"]


async def test_the_acknowledgement_ends_with_the_lease_of_a_silent_process(world: World) -> None:
    """One second: then it serves no challengers any more, by its own rule."""
    await world.set_route(**with_weights(world.route, {2: 5}).model_dump())
    await world.renew("g1", revision=0)
    started = world.clock.now()
    done = await world.writer.change(MODEL, world.revision, with_weights(world.route, {2: 0}), AUDIT)
    assert done.accepted == []
    assert world.clock.now() - started <= LEASE_SECONDS + 0.1


async def test_a_stale_revision_is_refused_before_anything_is_proposed(world: World) -> None:
    """Compare-and-swap from the first step on."""
    with pytest.raises(RevisionConflict):
        await world.writer.change(MODEL, Revision(99), with_shadow(world.route, 2, 100), AUDIT)
    assert proposal_name(MODEL) not in world.config.documents


async def test_of_two_writers_on_one_revision_one_wins(world: World) -> None:
    """Prepared or not, only one of them finds the revision it read."""
    process = asyncio.create_task(world.serving_process("g1"))
    await world.renew("g1")
    world.publish(3)
    revision, route = world.revision, world.route
    results = await asyncio.gather(
        world.writer.change(MODEL, revision, with_shadow(route, 2, 100), AUDIT),
        world.writer.change(MODEL, revision, with_shadow(route, 3, 100), AUDIT),
        return_exceptions=True,
    )
    process.cancel()
    assert [isinstance(result, RevisionConflict) for result in results].count(True) == 1
    assert len(world.route.challengers) == 1


async def test_a_proposal_gives_way_as_soon_as_the_route_has_moved_on(world: World) -> None:
    """A roll-back during a slow load wins at once."""

    async def stuck() -> None:
        while True:
            await world.renew("g1", revision=world.revision)
            await asyncio.sleep(0)

    await world.renew("g1")
    process = asyncio.create_task(stuck())
    revision = world.revision
    slow = asyncio.create_task(world.writer.change(MODEL, revision, with_shadow(world.route, 2, 100), AUDIT))
    await world.until(lambda: proposal_name(MODEL) in world.config.documents)
    await world.writer.change(MODEL, revision, Route(champion=1, salt="other"), AUDIT)
    with pytest.raises(RevisionConflict):
        await slow
    process.cancel()
    assert (world.route.salt, world.route.challengers) == ("other", frozenset())


async def test_processes_that_are_leaving_are_not_asked(world: World) -> None:
    """A draining process takes no new requests."""
    await world.renew("g1")
    name = "gateways/g1"
    lease = msgspec.json.decode(world.config.documents[name].body)
    await world.write(name, msgspec.json.encode(lease | {"draining": True}))
    assert await world.writer.live() == {}
