"""Experiments as a whole: started, looked after, stopped; through restarts, people, freezes and lost races."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from gateway.documents.experiment import Experiment, Metric, Phase, Terms, experiment_name
from gateway.documents.rollout import Phase as RolloutPhase
from gateway.documents.route import with_shadow
from gateway.documents.store import condition_name, rollout_name, route_name
from gateway.errors import InvalidConfig, NotAllowed, RouteRefused, VersionNotFound
from gateway.journal.record import Feedback
from gateway.names import Reason, Role, VersionId
from gateway.rollout.experiment import loop as experiment_loop
from gateway.rollout.experiment.loop import PATIENCE_SECONDS, ExperimentLoop
from gateway.rollout.experiment.operation import Experiments
from gateway.routing.split import bucket
from tests.rollout.conftest import MODEL, World

TERMS = Terms(metric=Metric.VALUE, better="higher", minimum_units=20)


class Lab:
    """Experiments over the model of a world: versions 1 (champion), 2 and 3."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.experiments = Experiments(world.config, world.traffic, world.tee, world.operations, world.clock)
        self.restart()

    def restart(self) -> None:
        """A new loop that remembers nothing."""
        world = self.world
        self.loop = ExperimentLoop(world.config, world.traffic, self.experiments, world.clock)

    async def start(self, weights: dict[int, float] | None = None, **terms: Any) -> Experiment:
        """Start with versions 2 and 3 at 20 % each, unless told otherwise."""
        wanted = msgspec.structs.replace(TERMS, **terms)
        return await self.experiments.start(MODEL, weights or {2: 20.0, 3: 20.0}, wanted, "which?", "ada")

    async def settle(self) -> None:
        """Look until nothing is left to do at once."""
        for _ in range(50):
            if await self.loop.look() > 0:
                return
        raise AssertionError("the loop never comes to rest")

    @property
    def experiment(self) -> Experiment:
        return msgspec.json.decode(self.world.config.documents[experiment_name(MODEL)].body, type=Experiment)

    def serve(self, count: int, good: dict[int, int], failing: int = 0) -> None:
        """Requests of as many callers, drawn by the route's own split.

        good: of a version's answers every so-manyth is worth 1, the others 0. failing: the version that never answers.
        """
        world, route = self.world, self.world.route
        answered = dict.fromkeys(route.versions, 0)
        owners = {b: v for v, parts in route.ownership.items() for first, last in parts for b in range(first, last)}
        for _ in range(count):
            world.requests += 1
            request = f"r{world.requests}"
            place = bucket(route.salt, request)
            version = owners.get(place, route.champion)
            role = Role.CHAMPION if version == route.champion else Role.CANARY
            record = world.answer(request, version, role, failed=version == failing)
            world.write_traffic(
                msgspec.structs.replace(record, bucket=place, keyed=False, reason=Reason.WEIGHT),
                Feedback(request, 0, value=float(answered[version] % good.get(version, 10) == 0)),
            )
            answered[version] += 1

    async def audit(self) -> list[str]:
        """What the audit trail says of experiments and rollouts."""
        entries = [f"{entry.actor} {entry.action} {entry.subject}" for entry in self.world.config.entries]
        return [entry for entry in entries if "introduce" not in entry]


@pytest.fixture
async def lab(world: World) -> Lab:
    world.publish(3)
    return Lab(world)


async def test_starting_draws_anew_and_puts_all_arms_into_the_route_at_once(lab: Lab) -> None:
    """One change of the route, audited with its reason; everybody is compared from the same moment."""
    before = lab.world.route.salt
    started = await lab.start({2: 20.0, 3: 0.01})
    route = lab.world.route
    assert [(canary.version, canary.weight) for canary in route.canaries] == [(2, 20.0), (3, 0.01)]
    assert before != route.salt == started.salt
    assert (started.written, started.first, started.pending) == (lab.world.revision, lab.world.revision, 0)
    assert dict(route.ownership) == {arm.version: arm.ranges for arm in started.arms}
    assert await lab.audit() == ["ada experiment.start m@2,3"]
    assert lab.world.config.entries[-1].reason == "which?"
    assert "salt" in lab.world.config.entries[-1].after
    assert [(d.actor, d.action) for d in await lab.world.decisions()] == [("experiment", "start")]


@pytest.mark.parametrize(
    ("weights", "terms", "error", "message"),
    [
        ({2: 60.0, 3: 41.0}, {}, InvalidConfig, "add up to 101"),
        ({2: 60.0, 3: 40.0}, {}, InvalidConfig, "leave at least 0.01 to the champion"),
        ({2: 0.001}, {}, InvalidConfig, "arms: 0 for version 2 is not between 0.01"),
        ({2: float("nan")}, {}, InvalidConfig, "arms: nan"),
        ({1: 10.0}, {}, InvalidConfig, "version 1 is the champion"),
        (dict.fromkeys(range(2, 11), 1.0), {}, InvalidConfig, "1 to 8 challengers"),
        ({9: 10.0}, {}, VersionNotFound, "m@9"),
        ({2: 10.0}, {"alpha": 0.0}, InvalidConfig, "alpha:"),
        ({2: 10.0}, {"margin": 0.0}, InvalidConfig, "margin:"),
        ({2: 10.0}, {"minimum_units": 5}, InvalidConfig, "minimum_units: must be at least 20"),
        ({2: 10.0}, {"until_units": 10}, InvalidConfig, "until_units:"),
        ({2: 10.0}, {"at_most_seconds": 0.0}, InvalidConfig, "at_most:"),
        ({2: 10.0}, {"better": "more"}, InvalidConfig, "better: write higher or lower"),
        ({2: 10.0}, {"metric": Metric.ERRORS}, InvalidConfig, "better: of the metric errors"),
        ({2: 10.0}, {"metric": Metric.LABEL, "better": "lower"}, InvalidConfig, "better: of the metric label"),
        ({2: 10.0}, {"winner": "crown"}, InvalidConfig, "winner: write report or promote"),
        ({2: 10.0}, {"winner": "promote"}, InvalidConfig, "winner: say when"),
        ({2: 10.0}, {"winner": "promote", "until_units": 50, "keep": True}, InvalidConfig, "keep:"),
    ],
)
async def test_what_can_not_be_started_is_refused_and_named(
    lab: Lab, weights: dict[int, float], terms: dict[str, Any], error: type[Exception], message: str
) -> None:
    revision = lab.world.revision
    with pytest.raises(error, match=message):
        await lab.start(weights, **terms)
    assert lab.world.revision == revision
    assert experiment_name(MODEL) not in lab.world.config.documents


async def test_no_experiment_beside_anything_else_that_moves_the_weights(lab: Lab) -> None:
    """Another experiment, a rollout, a canary by hand, a freeze, a quarantine, a model without a champion."""
    world = lab.world
    await world.operations.set_weights(MODEL, {3: 5.0}, "look", "ada")
    with pytest.raises(NotAllowed, match="version 3 is a canary already"):
        await lab.start({2: 10.0})
    await lab.start()
    with pytest.raises(NotAllowed, match=r"with versions 2, 3 is under way.*gateway experiment stop m"):
        await lab.start()
    with pytest.raises(NotAllowed, match="gateway experiment stop m"):
        await world.operations.start_rollout(MODEL, 2, "steps", "", "ada")
    await lab.experiments.stop(MODEL, "", "ada")
    await world.operations.start_rollout(MODEL, 2, "steps", "", "ada")
    with pytest.raises(NotAllowed, match=r"rollout of m@2 is under way \(waiting\)"):
        await lab.start()
    await world.operations.roll_back(MODEL, "", "ada")
    await world.operations.freeze(MODEL, "holiday", "ada")
    with pytest.raises(NotAllowed, match="holiday"):
        await lab.start()
    await world.operations.unfreeze(MODEL, "", "ada")
    await world.write(condition_name(VersionId(MODEL, 3)), b'{"quarantined": true, "reason": "crashed twice"}')
    with pytest.raises(NotAllowed, match="gateway versions m --release 3"):
        await lab.start()
    empty = Lab(World())
    empty.world.publish(1)
    with pytest.raises(NotAllowed, match="no champion yet"):
        await empty.start()


async def test_right_and_wrong_need_versions_that_predict_a_class(lab: Lab) -> None:
    lab.world.registry.manifests[3] = msgspec.structs.replace(lab.world.registry.manifests[3], prediction=None)
    with pytest.raises(InvalidConfig, match="metric: version 3 predicts no class"):
        await lab.start(metric=Metric.LABEL)


async def test_a_version_that_can_not_be_loaded_starts_nothing(lab: Lab) -> None:
    """A serving process refuses: nothing changed, and the next start is free to try."""
    process = asyncio.create_task(lab.world.serving_process("g", refuses="out of memory"))
    before = lab.world.route
    with pytest.raises(RouteRefused, match="out of memory"):
        await lab.start()
    process.cancel()
    assert lab.world.route == before
    assert lab.experiment.phase is Phase.ENDED
    assert "out of memory" in lab.experiment.reason
    lab.world.clock.advance(60)
    assert (await lab.start()).number == 2


async def test_the_report_grows_and_the_winner_is_named(lab: Lab) -> None:
    """Figures of each arm, each with its interval, noted for people."""
    await lab.start()
    lab.serve(200, {})
    await lab.settle()
    assert lab.experiment.verdict == "undecided"
    assert [arm["answers"] > 20 for arm in lab.experiment.report["arms"]] == [True, True, True]
    lab.world.clock.advance(2)
    lab.serve(3000, {3: 2})
    await lab.settle()
    found = lab.experiment
    assert (found.phase, found.verdict, found.winner) == (Phase.RUNNING, "winner", 3)
    assert found.report["arms"][2]["better_than"] == [1, 2]
    assert sum(arm["answers"] for arm in found.report["arms"]) == 3200


async def test_it_ends_when_each_arm_has_its_units(lab: Lab) -> None:
    """The canaries leave, the shadows of a person stay, the winner is reported."""
    await lab.start(until_units=500)
    lab.serve(3500, {3: 2})
    await lab.settle()
    found = lab.experiment
    assert (found.phase, found.verdict, found.winner, found.promoting) == (Phase.ENDED, "winner", 3, 0)
    assert found.reason.startswith("each arm has 500 units: version 3 is better")
    assert lab.world.route.challengers == frozenset()
    assert await lab.audit() == ["ada experiment.start m@2,3", "experiment experiment.end m@2,3"]
    decision = (await lab.world.decisions())[-1]
    assert (decision.action, decision.version, decision.rule) == ("end", 3, "experiment-1")
    assert decision.evidence["arms"][2]["interval"]
    assert decision.evidence["alpha"] == {"of_all": 0.05, "of_a_mean": 0.0166667, "of_a_difference": 0.025}
    assert await lab.loop.look() > 0
    assert len(await lab.audit()) == 2


async def test_it_ends_when_its_time_is_over_without_a_winner(lab: Lab) -> None:
    """Nothing is promoted that did not win."""
    await lab.start(at_most_seconds=3600.0, winner="promote")
    lab.serve(500, {})
    await lab.settle()
    lab.world.clock.advance(3601)
    await lab.settle()
    assert (lab.experiment.phase, lab.experiment.promoting) == (Phase.ENDED, 0)
    assert lab.experiment.reason.startswith("its time of 3600 s is over: no arm is better")
    assert (lab.world.route.champion, lab.world.route.challengers) == (1, frozenset())


async def test_a_winner_is_promoted_where_that_was_agreed(lab: Lab) -> None:
    """Callers have tried it already: it is switched at once, and the guards after a promotion go on."""
    await lab.start(until_decided=True, winner="promote")
    lab.serve(3000, {3: 2})
    await lab.settle()
    rollout = lab.world.rollout
    assert (rollout.version, rollout.phase, rollout.plan, rollout.actor) == (
        3,
        RolloutPhase.WAITING,
        "blue_green",
        "experiment",
    )
    assert rollout.reason.startswith("won experiment 1: version 3 is better")
    assert lab.experiment.promoting == 0
    assert not lab.experiment.is_live


async def test_a_rollout_that_is_refused_is_written_down(lab: Lab) -> None:
    """A person was faster: the winner waits, and the report says why."""
    world = lab.world
    await lab.start(until_decided=True, winner="promote")
    lab.serve(3000, {3: 2})
    while lab.experiment.phase is Phase.RUNNING:
        await lab.loop.look()
    await world.operations.start_rollout(MODEL, 2, "steps", "mine first", "ada")
    await lab.settle()
    assert world.rollout.version == 2
    assert "its rollout did not start: m@2 is under way" in lab.experiment.reason


async def test_a_champion_that_wins_stays(lab: Lab) -> None:
    await lab.start(until_decided=True, winner="promote")
    lab.serve(3000, {1: 2})
    await lab.settle()
    assert (lab.experiment.winner, lab.experiment.promoting, lab.world.route.champion) == (1, 0, 1)


async def test_keep_leaves_the_canaries(lab: Lab) -> None:
    await lab.start(keep=True)
    await lab.experiments.stop(MODEL, "seen enough", "ada")
    assert lab.world.route.challengers == {2, 3}
    assert (lab.experiment.phase, lab.experiment.reason) == (Phase.ENDED, "seen enough")
    with pytest.raises(NotAllowed, match="no experiment under way"):
        await lab.experiments.stop(MODEL, "", "ada")


async def test_a_person_stops_it_also_while_it_is_frozen(lab: Lab) -> None:
    """Freezing stops what happens by itself, not people."""
    await lab.start(until_units=20)
    await lab.world.operations.freeze(MODEL, "holiday", "ada")
    lab.serve(1000, {}, failing=2)
    await lab.settle()
    assert lab.experiment.phase is Phase.RUNNING
    assert lab.world.route.challengers == {2, 3}
    await lab.experiments.stop(MODEL, "", "ada")
    assert lab.world.route.challengers == frozenset()
    assert (await lab.audit())[-1] == "ada experiment.end m@2,3"


async def test_a_failing_arm_is_taken_out_and_the_others_go_on(lab: Lab) -> None:
    """Weight to nothing, marked, audited; callers of the others notice nothing."""
    await lab.start(until_units=500)
    before = lab.world.route.ownership[3]
    lab.serve(200, {}, failing=2)
    await lab.settle()
    assert lab.world.route.challengers == {3}
    assert lab.world.route.ownership[3] == before
    assert lab.world.condition(2).rolled_back
    found = lab.experiment
    assert (found.phase, found.arms[0].out) == (Phase.RUNNING, "hard_stop: 20 of its first 20 answers failed")
    assert (await lab.audit())[-1] == "experiment experiment.take_out m@2"
    lab.serve(3000, {3: 2})
    await lab.settle()
    assert (lab.experiment.phase, lab.experiment.winner) == (Phase.ENDED, 3)
    assert [d.action for d in await lab.world.decisions()] == ["start", "take_out", "end"]


async def test_a_quarantined_arm_is_taken_out(lab: Lab) -> None:
    await lab.start({2: 20.0})
    await lab.world.write(condition_name(VersionId(MODEL, 2)), b'{"quarantined": true, "reason": "crashed twice"}')
    lab.world.clock.advance(2)
    await lab.settle()
    assert lab.experiment.arms[0].out == "it is quarantined (crashed twice)"
    assert (lab.experiment.phase, lab.experiment.reason) == (Phase.ENDED, "no challenger takes part any more")


async def test_a_person_who_moves_an_arm_ends_it_and_the_route_stays(lab: Lab) -> None:
    """Figures of arms that somebody moves mean nothing; the person's route is the person's."""
    await lab.start()
    await lab.world.operations.set_weights(MODEL, {3: 30.0}, "more", "ada")
    route, revision = lab.world.route, lab.world.revision
    await lab.settle()
    assert lab.experiment.phase is Phase.ENDED
    assert lab.experiment.reason == "a person moved version 3 from 20 % to 30 %"
    assert (lab.world.route, lab.world.revision) == (route, revision)


async def test_a_new_champion_ends_it(lab: Lab) -> None:
    await lab.start()
    await lab.world.set_route(champion=2, canaries=[{"version": 3, "weight": 20}], salt=lab.world.route.salt)
    await lab.settle()
    assert lab.experiment.reason == "a person changed the champion from 1 to 2"


async def test_other_changes_of_the_route_do_not_matter(lab: Lab) -> None:
    """A shadow beside the arms disturbs nobody."""
    lab.world.publish(4)
    await lab.start()
    route = lab.world.route
    await lab.world.write(route_name(MODEL), with_shadow(route, 4, 100.0).encode())
    await lab.settle()
    assert lab.experiment.phase is Phase.RUNNING


# Restarts and races.


async def test_a_new_process_goes_on_with_the_same_figures(lab: Lab) -> None:
    """Nothing is remembered but the offset: the journal is folded again."""
    await lab.start()
    lab.serve(700, {})
    await lab.settle()
    noted = lab.experiment.report
    lab.restart()
    await lab.settle()
    assert lab.experiment.report == noted
    lab.restart()
    lab.world.clock.advance(2)
    lab.serve(300, {})
    await lab.settle()
    assert sum(arm["answers"] for arm in lab.experiment.report["arms"]) == 1000


@pytest.mark.parametrize("document", [experiment_name(MODEL), route_name(MODEL)])
@pytest.mark.parametrize("act", ["start", "take_out", "end"])
async def test_a_process_that_dies_in_the_middle_is_continued(lab: Lab, act: str, document: str) -> None:
    """Announced but not written, or written but not confirmed: the next process brings it to its end."""
    world = lab.world
    if act != "start":
        await lab.start(until_units=20 if act == "end" else None)
        lab.serve(300, {}, failing=0 if act == "end" else 2)
    world.config.dies_after = document
    with pytest.raises(KeyboardInterrupt):
        await (lab.start() if act == "start" else lab.loop.look())
    lab.restart()
    world.clock.advance(PATIENCE_SECONDS + 1)
    await lab.settle()
    found = lab.experiment
    assert found.pending == 0
    assert found.phase is (Phase.ENDED if act == "end" else Phase.RUNNING)
    assert world.route.challengers == {"start": {2, 3}, "take_out": {3}, "end": set()}[act]
    assert found.written == world.revision
    assert [d.action for d in await world.decisions()] == (["start"] if act == "start" else ["start", act])


async def test_what_another_process_announced_just_now_is_left_to_it(lab: Lab) -> None:
    """It may only be waiting for a serving process to load."""
    lab.world.config.dies_after = experiment_name(MODEL)
    with pytest.raises(KeyboardInterrupt):
        await lab.start()
    await lab.loop.look()
    assert lab.experiment.pending > 0
    assert lab.world.route.challengers == frozenset()


async def test_a_person_who_is_faster_than_the_start_is_not_overwritten(lab: Lab) -> None:
    """The route moved between announcement and write."""
    lab.world.config.dies_after = experiment_name(MODEL)
    with pytest.raises(KeyboardInterrupt):
        await lab.start()
    await lab.world.operations.set_weights(MODEL, {3: 7.0}, "mine", "ada")
    lab.world.clock.advance(PATIENCE_SECONDS + 1)
    await lab.settle()
    assert lab.experiment.reason == "a person changed the route at the same time"
    assert lab.world.route.weight_of(3) == 7.0


async def test_two_loops_do_everything_once(lab: Lab) -> None:
    """Two control processes share nothing but the stores."""
    await lab.start(until_units=20)
    lab.serve(400, {})
    other = Lab(lab.world)
    for _ in range(10):
        await asyncio.gather(lab.loop.look(), other.loop.look())
    assert lab.experiment.phase is Phase.ENDED
    assert lab.world.route.challengers == frozenset()
    assert (await lab.audit()).count("experiment experiment.end m@2,3") == 1
    assert {d.action for d in await lab.world.decisions()} == {"start", "end"}


async def test_of_two_starts_at_once_one_wins(lab: Lab) -> None:
    done = await asyncio.gather(lab.start({2: 20.0}), Lab(lab.world).start({3: 30.0}), return_exceptions=True)
    refused = [result for result in done if isinstance(result, NotAllowed)]
    assert len(refused) == 1
    started = next(result for result in done if isinstance(result, Experiment))
    assert lab.world.route.challengers == {arm.version for arm in started.arms}


async def test_trouble_with_one_model_does_not_end_the_loop(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looked at again a little later."""
    await lab.start()

    async def refuse(model: str) -> float:
        raise NotAllowed("no")

    monkeypatch.setattr(lab.loop, "reconcile", refuse)
    assert await lab.loop.look() == experiment_loop.LIVE_SECONDS


async def test_the_loop_runs_until_it_is_stopped(lab: Lab) -> None:
    await lab.start(until_units=20)
    lab.serve(400, {})
    stop = asyncio.Event()
    task = asyncio.create_task(lab.loop.run(stop))
    await lab.world.until(lambda: lab.experiment.phase is Phase.ENDED and not lab.experiment.pending)
    stop.set()
    await task
    assert lab.world.route.challengers == frozenset()


async def test_a_version_that_would_start_by_itself_waits_and_the_log_says_so_once(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    """Its rollout starts when the experiment is over."""
    caplog.set_level("INFO", "gateway.rollout.controller")
    world = lab.world
    await world.set_policy(start="auto")
    await lab.start({2: 20.0})
    stop = asyncio.Event()
    running = asyncio.create_task(world.controller.run(stop))
    await world.until(lambda: bool(caplog.records))
    for _ in range(5):  # a document that changes makes it look again
        await world.set_policy(start="auto")
        for _ in range(50):
            await asyncio.sleep(0)
    told = [record.message for record in caplog.records if "gateway experiment stop" in record.message]
    assert len(told) == 1, told
    await lab.experiments.stop(MODEL, "enough", "ada")
    await world.until(lambda: rollout_name(MODEL) in world.config.documents)
    assert world.rollout.version == 3
    stop.set()
    await running
