"""Every challenger beside its champion: also those that people put into the route, and only what came since."""

from __future__ import annotations

from typing import Any

import msgspec
from prometheus_client import REGISTRY

from gateway.documents.comparison import ModelComparison, comparison_name
from gateway.documents.route import Canary, Shadow
from gateway.names import Role
from gateway.rollout.beside_loop import BesideLoop
from tests.rollout.conftest import MODEL, World


def loop_of(world: World) -> BesideLoop:
    return BesideLoop(world.config, world.registry, world.traffic, world.clock)


def shown(world: World) -> dict[str, dict[str, Any]]:
    document = world.config.documents[comparison_name(MODEL)]
    return msgspec.json.decode(document.body, type=ModelComparison).challengers


def gauge(name: str, version: int) -> float | None:
    return REGISTRY.get_sample_value(f"gateway_challenger_{name}", {"model": MODEL, "version": str(version)})


async def two_shadows(world: World) -> BesideLoop:
    for number in (1, 2, 3):
        world.publish(number)
    await world.set_route(champion=1, shadows=(Shadow(version=2), Shadow(version=3, share=50)))
    loop = loop_of(world)
    await loop.look()
    return loop


def answer_all(world: World, request: str, predicted: dict[int, int], failed: int = 0) -> None:
    for version, label in predicted.items():
        role = Role.CHAMPION if version == 1 else Role.SHADOW
        world.write_traffic(world.answer(request, version, role, failed=version == failed, predicted=label))


async def test_shadows_put_there_by_hand_are_compared_each_with_the_champion(world: World) -> None:
    loop = await two_shadows(world)
    answer_all(world, "a", {1: 1, 2: 1, 3: 0})
    answer_all(world, "b", {1: 0, 2: 0}, failed=2)
    await loop.look()
    found = shown(world)
    assert {number: (one["role"], one["pairs"]) for number, one in found.items()} == {
        "2": ("shadow", 2),
        "3": ("shadow", 1),
    }
    assert (found["2"]["disagreements"], found["2"]["compared"], found["2"]["shadow"]["errors"]) == (0, 1, 1)
    assert found["3"]["flips"] == {"1": {"0": 1}}
    assert (gauge("pairs", 2), gauge("failure_ratio", 2), gauge("disagreement_ratio", 3)) == (2.0, 0.5, 1.0)


async def test_what_leaves_the_route_is_forgotten_and_a_new_champion_begins_anew(world: World) -> None:
    loop = await two_shadows(world)
    answer_all(world, "a", {1: 1, 2: 1, 3: 1})
    await loop.look()
    await world.set_route(champion=1, canaries=(Canary(version=2, weight=5),))
    await loop.look()
    assert {number: (one["role"], one["pairs"]) for number, one in shown(world).items()} == {"2": ("canary", 1)}
    assert gauge("pairs", 3) == 0.0
    await world.set_route(champion=3, shadows=(Shadow(version=2),))
    await loop.look()
    assert [one["pairs"] for one in shown(world).values()] == [0]
    await world.set_route(champion=3)
    await loop.look()
    assert shown(world) == {}
    assert gauge("pairs", 2) == 0.0


async def test_what_was_answered_before_it_was_seen_is_not_counted(world: World) -> None:
    """A new control process begins at the journal's end and says since when."""
    loop = await two_shadows(world)
    answer_all(world, "a", {1: 1, 2: 1})
    await loop.look()
    world.clock.advance(60)
    again = loop_of(world)
    await again.look()
    answer_all(world, "b", {1: 1, 2: 1})
    await again.look()
    assert shown(world)["2"]["pairs"] == 1
    assert shown(world)["2"]["since"] == world.clock.now()
