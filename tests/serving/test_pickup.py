"""Make before break: a bad route or version never takes the last good one away."""

from __future__ import annotations

import asyncio

import msgspec

from gateway.documents.lease import Proposal
from gateway.documents.route import Canary, Route, Shadow
from gateway.documents.store import proposal_name, route_name
from tests.serving.serving_kit import MODEL, Kit


async def propose(kit: Kit, number: int, route: Route | None) -> None:
    text = route.encode().decode() if route else ""
    await kit.put(proposal_name(MODEL), msgspec.json.encode(Proposal(id=f"p{number}", model=MODEL, route=text)))
    await kit.pickup.pick_up(MODEL)


async def test_a_route_is_installed_and_reported(kit: Kit) -> None:
    """The lease tells others which revision this process serves."""
    await kit.publish(2)
    revision = await kit.route(Route(champion=1, canaries=(Canary(version=2, weight=10),)))
    assert kit.reports[-1].revision == revision
    assert kit.reports[-1].versions == (1, 2)
    assert kit.reports[-1].ready


async def test_a_proposal_is_prepared_without_changing_who_answers(kit: Kit) -> None:
    """Prepared, then committed: loading happens before the change, not in it."""
    await kit.publish(2)
    await kit.route(Route(champion=1))
    await propose(kit, 1, Route(champion=2))
    assert kit.reports[-1].prepared == "p1"
    assert kit.is_loaded(2)
    assert (await kit.ask()).version == 1
    await kit.route(Route(champion=2))
    await propose(kit, 2, None)
    assert (await kit.ask()).version == 2
    assert not kit.is_loaded(1)


async def test_a_withdrawn_proposal_is_unloaded(kit: Kit) -> None:
    """Nothing stays in memory for a change that did not come."""
    await kit.publish(2)
    await kit.route(Route(champion=1))
    await propose(kit, 1, Route(champion=2))
    await propose(kit, 2, None)
    assert not kit.is_loaded(2)
    assert not kit.loaded[2].is_open


async def test_a_proposal_that_can_not_be_loaded_is_refused_with_its_reason(kit: Kit) -> None:
    """The proposer learns which version and why; traffic goes on."""
    await kit.publish(2)
    await kit.route(Route(champion=1))
    kit.broken.add(2)
    await propose(kit, 1, Route(champion=1, canaries=(Canary(version=2, weight=5),)))
    assert kit.reports[-1].refused == "p1"
    assert "m@2: the runtime can not load" in kit.reports[-1].reason
    assert (await kit.ask()).version == 1


async def test_a_route_that_can_not_be_loaded_keeps_the_last_good_generation(kit: Kit) -> None:
    """Invariant 6, also when somebody wrote the route without asking."""
    await kit.publish(2)
    good = await kit.route(Route(champion=1))
    kit.broken.add(2)
    bad = await kit.route(Route(champion=2))
    served = kit.reports[-1]
    assert (served.revision, served.refused_revision) == (good, bad)
    assert (await kit.ask()).version == 1
    assert kit.serving.readiness() == (True, [])


async def test_a_route_is_taken_whole_or_not_at_all(kit: Kit) -> None:
    """The new champion loads, its canary does not: half a route would be one that nobody wrote."""
    await kit.publish(3)
    good = await kit.route(Route(champion=1))
    kit.broken.add(2)
    await kit.route(Route(champion=3, canaries=(Canary(version=2, weight=5),)))
    assert kit.reports[-1].revision == good
    assert (await kit.ask()).version == 1
    assert not kit.is_loaded(3)


async def test_a_fresh_process_serves_what_it_can(kit: Kit) -> None:
    """A challenger that does not load costs the challenger, not the start."""
    await kit.publish(3)
    kit.broken = {2, 3}
    await kit.route(Route(champion=1, canaries=(Canary(version=2, weight=50),), shadows=(Shadow(version=3),)))
    assert {(await kit.ask()).version for _ in range(20)} == {1}
    assert "m@2" in kit.reports[-1].refused_reason


async def test_a_fresh_process_falls_back_to_previous(kit: Kit) -> None:
    """The champion's file is damaged: the last champion answers."""
    await kit.publish(2)
    kit.broken = {2}
    await kit.route(Route(champion=2, previous=1))
    assert (await kit.ask()).version == 1


async def test_without_any_version_the_process_is_not_ready_and_says_why(kit: Kit) -> None:
    """And it tries again when something changes."""
    await kit.publish(1)
    kit.broken = {1}
    await kit.route(Route(champion=1))
    ready, reasons = kit.serving.readiness()
    assert not ready
    assert "m@1" in reasons[0]
    kit.broken = set()
    await kit.pickup.pick_up(MODEL)
    assert kit.serving.readiness() == (True, [])


async def test_requests_in_flight_finish_on_the_generation_they_began_with(kit: Kit) -> None:
    """One answer comes from one version and one revision."""
    await kit.publish(2)
    await kit.route(Route(champion=1))
    generation = kit.serving.generations[MODEL]
    with generation.lease():
        await kit.route(Route(champion=2))
        assert kit.loaded[1].is_open
    assert not kit.loaded[1].is_open


async def test_the_loop_follows_the_store(kit: Kit) -> None:
    """A change by anybody is picked up without being told."""
    await kit.publish(2)
    picked_up = asyncio.Event()
    kit.on_report = picked_up.set
    task = asyncio.create_task(kit.pickup.run())
    await asyncio.sleep(0)
    await kit.put(route_name(MODEL), Route(champion=2).encode())
    await asyncio.wait_for(picked_up.wait(), 5)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert (await kit.ask()).version == 2
