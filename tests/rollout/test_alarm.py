"""The monitor's alerts as a guard: what they say of the version on trial rolls it back, and nothing else does."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from gateway.documents.rollout import Phase
from gateway.names import Role
from gateway.rollout.alarm import READ_ENTRIES, Alarms
from tests.rollout.conftest import MODEL, World


async def _start(world: World) -> None:
    await world.operations.start_rollout(MODEL, 2, "steps", "a test", "ada")
    await world.settle()


@pytest.mark.parametrize("phase", ["shadow", "paused", "approving", "canary"])
async def test_an_alert_on_the_version_on_trial_rolls_it_back(world: World, phase: str) -> None:
    """In every live phase; the reason and the decision record name it."""
    if phase == "approving":
        await world.set_policy(steps=[{"shadow": 100, "until": {"pairs": 20}}, {"promote": "approve"}])
    await _start(world)
    if phase == "paused":
        await world.operations.pause(MODEL, "lunch", "ada")
    elif phase != "shadow":
        world.serve_pairs(20)
    await world.settle()
    assert world.is_in(Phase(phase))
    world.alert(role=Role.CANARY if phase == "canary" else Role.SHADOW)
    await world.settle()
    assert (world.rollout.phase, world.route.challengers) == (Phase.ROLLED_BACK, frozenset())
    assert world.rollout.reason.startswith("alert: alert-1 (data_quality) on it as ")
    assert world.rollout.reason.endswith(": missing values rose")
    assert (await world.decisions())[-1].evidence["alert"]["id"] == "alert-1"


@pytest.mark.parametrize(("verdict", "champion"), [("bad_release", 1), ("concept_drift", 2)])
async def test_a_bad_release_right_after_the_promotion_restores_the_version_before(
    world: World, verdict: str, champion: int
) -> None:
    """It is rolled back, not trained over; where the version before fails too there is nothing to return to."""
    await _start(world)
    await world.operations.promote(MODEL, "it looks good", "ada")
    await world.settle()
    assert (world.route.champion, world.rollout.guarding) == (2, True)
    world.alert(role=Role.CHAMPION, kind="concept_drift", verdict=verdict)
    await world.settle()
    assert world.route.champion == champion


@pytest.mark.parametrize(
    "fields",
    [
        {"version": 1, "role": Role.CHAMPION},
        {"role": Role.CHAMPION},
        {"version": 3},
        {"model": "other"},
        {"kind": "data_drift"},
        {"advisory": True},
        {"verdict": "data_quality", "response": "watch"},
        {"role": Role.CHAMPION, "kind": "concept_drift", "verdict": "concept_drift"},
    ],
    ids=str,
)
async def test_other_alerts_are_not_the_version_s_fault(world: World, fields: dict[str, Any]) -> None:
    """Inputs drift for both; the champion's own trouble is a reason for a rollout, not against it."""
    await _start(world)
    world.alert(**fields)
    await world.settle()
    assert world.is_in(Phase.SHADOW)


async def test_a_release_that_the_monitor_calls_bad_is_taken_back_while_it_is_guarded(world: World) -> None:
    """Drift that the last champion would have too is not the new one's fault; this is."""
    await world.set_policy(steps=[{"promote": "auto"}], after_promotion={"requests": 30})
    await _start(world)
    assert (world.rollout.phase, world.route.champion) == (Phase.PROMOTED, 2)
    world.alert(role=Role.CHAMPION, kind="concept_drift", verdict="concept_drift", response="retrain_since_change")
    await world.settle()
    assert world.route.champion == 2
    world.alert(2, role=Role.CHAMPION, kind="concept_drift", verdict="bad_release", response="roll_back")
    await world.settle()
    assert (world.rollout.phase, world.route.champion) == (Phase.ROLLED_BACK, 1)
    assert world.rollout.reason.startswith("alert: alert-2 (concept_drift) on it as champion")


async def test_the_policy_names_the_kinds_that_count(world: World) -> None:
    """None at all is a choice, too."""
    await world.set_policy(guards={"alerts": ["prediction_drift"]})
    await _start(world)
    world.alert()
    await world.settle()
    assert world.is_in(Phase.SHADOW)
    world.alert(2, kind="prediction_drift")
    await world.settle()
    assert "alert-2 (prediction_drift)" in world.rollout.reason


@pytest.mark.parametrize("knows_offset", [True, False])
async def test_an_alert_of_before_the_rollout_does_not_count(world: World, knows_offset: bool) -> None:
    """Also where the document is of a time without the offset; and a restart finds the same alert again."""
    world.alert()
    world.clock.advance(60)
    await _start(world)
    rollout = world.rollout if knows_offset else replace(world.rollout, control_offset="")
    alarms = Alarms(rollout)
    await alarms.read(world.control)
    assert alarms.first is None
    world.alert(2, kind="performance")
    world.alert(3)
    for fold in (alarms, Alarms(rollout)):
        await fold.read(world.control)
        assert fold.first is not None
        assert fold.first.id == "alert-2"


async def test_all_of_a_long_stream_is_read(world: World) -> None:
    """The alert that counts may stand behind thousands of others."""
    await _start(world)
    for number in range(READ_ENTRIES + 5):
        world.alert(number, version=1, role=Role.CHAMPION)
    world.alert(9999)
    await world.settle()
    assert "alert-9999" in world.rollout.reason
