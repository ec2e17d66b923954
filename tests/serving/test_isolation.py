"""Who runs in a process of its own, what a crash does to a version, and who answers while it is away."""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import msgspec
import pytest
import pytest_asyncio

from gateway.clock import ManualClock
from gateway.documents.lease import Condition, Proposal, after_crash
from gateway.documents.route import Canary, Route, Shadow
from gateway.documents.store import condition_name, proposal_name
from gateway.errors import DeadlineExceeded, ExecutionError, Unavailable
from gateway.execution.executor import TOO_LATE, Done, Executor, Run
from gateway.execution.session import LoadedVersion
from gateway.execution.tensors import Tensors
from gateway.names import Outcome, Reason, VersionId
from gateway.registry.manifest import Manifest
from gateway.serving.access import TokenCheck
from gateway.serving.condition import Conditions
from gateway.serving.generation import Slot, is_last_good
from gateway.serving.isolation import RUNNING, Isolation, yielding_threads
from gateway.serving.memory import Memory
from gateway.serving.pickup import Pickup
from gateway.serving.predict import Serving
from gateway.serving.runner import AWAY
from gateway.serving.runner_process import Cause, End
from tests.serving.serving_kit import MODEL, FakeVersion, Kit

LOST = Run(None, Outcome.ERROR, 0, AWAY, is_lost=True)
HALF = Route(champion=1, canaries=(Canary(version=2, weight=100),))


class OnTrial(FakeVersion):
    """A version in a runner, as the executor of these tests knows it."""


class Away:
    """An executor that runs inline what is inline, and answers for every version on trial as the test says."""

    def __init__(self, inside: Executor) -> None:
        self.inside = inside
        self.answer: Run | None = LOST

    def submit(
        self, version: LoadedVersion, tensors: Tensors, done: Done, deadline_seconds: float | None = None
    ) -> None:
        if isinstance(version, OnTrial) and self.answer is not None:
            done(self.answer)
        else:
            self.inside.submit(version, tensors, done, deadline_seconds)

    def at_once(self, version: LoadedVersion) -> int:
        return self.inside.at_once(version)

    def close(self) -> None:
        self.inside.close()


class Trial(Kit):
    """A serving process whose versions on trial run elsewhere."""

    def __init__(self, directory: Path, clock: ManualClock) -> None:
        super().__init__(directory, clock)
        self.away = Away(self.executor)
        config = self.stores.config
        self.serving = Serving(self.tee, self.away, clock, self.shadows, TokenCheck(config, clock))
        self.pickup = Pickup(
            config,
            self.stores.registry,
            self.serving,
            directory / "cache",
            clock,
            self.shelf,
            self._report,
            self._load,
            self._isolate,
        )

    async def _isolate(self, manifest: Manifest, directory: Path, yields: bool) -> LoadedVersion:
        if manifest.number in self.broken:
            raise ExecutionError("its process crashed (SIGSEGV)")
        return cast(LoadedVersion, OnTrial(manifest))

    def places(self) -> dict[int, bool]:
        """Which loaded versions are isolated, by number; a version may be in two places only while it moves."""
        return {slot.version.number: slot.isolated for slot in self.slots()}

    def slots(self) -> list[Slot]:
        """Everything loaded."""
        places = [(False, False), (True, False), (True, True)]
        return [
            slot for n in range(1, 5) for place in places if (slot := Slot(VersionId(MODEL, n), *place)) in self.shelf
        ]

    async def condition(self, number: int) -> Condition:
        found = await Conditions(self.stores.config).of(MODEL, [number])
        return found.get(number, Condition())

    async def mark(self, number: int, condition: Condition) -> None:
        await self.put(condition_name(VersionId(MODEL, number)), msgspec.json.encode(condition))
        await self.pickup.pick_up(MODEL)


@pytest_asyncio.fixture
async def trial(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Trial]:
    made = Trial(tmp_path, clock)
    await made.publish(3)
    yield made
    made.executor.close()


async def test_challengers_are_isolated_until_they_have_been_champion(trial: Trial) -> None:
    """Proven means: has answered as champion. It stays so, as the shadow after its successor's promotion."""
    await trial.route(Route(champion=1, canaries=(Canary(version=2, weight=5),), shadows=(Shadow(version=3),)))
    assert trial.places() == {1: False, 2: True, 3: True}
    assert (await trial.condition(1)).proven
    assert not (await trial.condition(2)).proven
    await trial.route(Route(champion=2, previous=1))
    assert trial.places() == {1: False, 2: False}
    await trial.route(Route(champion=1, canaries=(Canary(version=2, weight=5),)))
    assert trial.places() == {1: False, 2: False}


async def test_a_shadow_gives_way_until_callers_wait_for_it(trial: Trial) -> None:
    """A process can not take back a low priority, so the canary gets a process of its own, loaded before the switch."""
    await trial.route(Route(champion=1, shadows=(Shadow(version=2),)))
    assert [slot.is_shadow for slot in trial.slots()] == [False, True]
    await trial.route(Route(champion=1, canaries=(Canary(version=2, weight=5),)))
    assert [slot.is_shadow for slot in trial.slots()] == [False, False]


async def test_a_version_that_fails_inline_is_not_promoted(trial: Trial) -> None:
    """The load at promotion may fail (memory, a damaged file): the old champion and the canary go on."""
    good = await trial.route(HALF)
    trial.broken = {2}
    refused = await trial.route(Route(champion=2, previous=1))
    assert (trial.reports[-1].revision, trial.reports[-1].refused_revision) == (good, refused)
    assert trial.places() == {1: False, 2: True}


async def test_the_champion_answers_while_a_canarys_process_is_away(trial: Trial) -> None:
    """A challenger can never fail a champion's answer, with no fallback in the policy; the journal tells both."""
    await trial.route(HALF)
    answer = await trial.ask()
    assert (answer.version, answer.reason) == (1, Reason.FALLBACK_VERSION)
    first, second = await trial.predictions()
    assert (first.version, first.outcome, first.error) == (2, Outcome.ERROR, AWAY)
    assert (second.version, second.outcome) == (1, Outcome.OK)


async def test_the_policys_fallback_comes_before_the_champion(trial: Trial) -> None:
    await trial.policy(fallback=[{"value": {"label": 0}}])
    await trial.route(HALF)
    assert (await trial.ask()).reason is Reason.FALLBACK_VALUE


async def test_a_model_that_fails_by_itself_is_not_rescued(trial: Trial) -> None:
    """What the version says about these inputs is its answer; the policy decides what follows, nobody else."""
    await trial.route(HALF)
    trial.away.answer = Run(None, Outcome.ERROR, 10, "the model failed on these inputs")
    with pytest.raises(ExecutionError, match="failed on these inputs"):
        await trial.ask()


async def test_a_passed_deadline_and_a_pinned_version_are_not_rescued(trial: Trial) -> None:
    """No time is left for the one; the other's caller wants that version and no other."""
    await trial.route(HALF)
    with pytest.raises(Unavailable, match="away"):
        await trial.ask(pinned=2)
    trial.away.answer = Run(None, Outcome.DEADLINE, 0, TOO_LATE, is_lost=True)
    with pytest.raises(DeadlineExceeded):
        await trial.ask()


async def test_a_failing_champion_is_asked_once(trial: Trial) -> None:
    """The rescue fails as well: an error, not a circle."""
    await trial.route(HALF)
    trial.loaded[1].fails = True
    with pytest.raises(ExecutionError):
        await trial.ask()
    assert trial.loaded[1].runs == 1


async def test_a_quarantined_version_leaves_at_once_and_comes_back_when_released(trial: Trial) -> None:
    """Without a rollout, without a person: the route still names it, this process does not serve it."""
    trial.away.answer = None
    await trial.route(HALF)
    assert (await trial.ask()).version == 2
    await trial.mark(2, Condition(quarantined=True, reason="crashed twice"))
    assert (await trial.ask()).version == 1
    assert trial.places() == {1: False}
    assert trial.reports[-1].left_out == (2,)
    assert "quarantined (crashed twice)" in trial.reports[-1].refused_reason
    await trial.mark(2, Condition())
    assert (await trial.ask()).version == 2
    assert trial.reports[-1].refused_reason == ""


async def test_a_quarantined_version_is_refused_when_proposed(trial: Trial) -> None:
    """With its reason, before anything is loaded."""
    await trial.route(Route(champion=1))
    await trial.mark(2, Condition(quarantined=True, reason="crashed twice"))
    proposal = Proposal(id="p1", model=MODEL, route=HALF.encode().decode())
    await trial.put(proposal_name(MODEL), msgspec.json.encode(proposal))
    await trial.pickup.pick_up(MODEL)
    assert trial.reports[-1].refused == "p1"
    assert "m@2: it is quarantined (crashed twice)" in trial.reports[-1].reason
    assert trial.places() == {1: False}


async def test_a_version_that_does_not_fit_is_refused_and_unloaded(trial: Trial) -> None:
    """By measured cost: each loaded version takes ten bytes here. The reason holds the figures."""
    trial.pickup._loading._memory = Memory(15, lambda: 10 * len(trial.shelf), lambda: 0)
    good = await trial.route(Route(champion=1))
    await trial.route(HALF)
    served = trial.reports[-1]
    assert served.revision == good
    assert "would hold 20 bytes, the setting memory_bytes allows 15" in served.refused_reason
    assert trial.places() == {1: False}
    assert (await trial.ask()).version == 1


async def test_the_only_champion_is_served_whatever_it_takes(trial: Trial) -> None:
    """While one good version exists, something answers; its challengers stay out."""
    trial.pickup._loading._memory = Memory(5, lambda: 10 * len(trial.shelf), lambda: 0)
    await trial.route(HALF)
    assert (await trial.ask()).version == 1
    assert "m@2: it does not fit" in trial.reports[-1].refused_reason


def test_the_first_crash_is_a_suspicion_the_second_a_quarantine() -> None:
    first = after_crash(Condition(proven=True), "its process crashed (SIGSEGV)", 1.0)
    assert first == Condition(proven=True, suspect=True, reason="its process crashed (SIGSEGV)", since=1.0)
    second = after_crash(first, "its process crashed (SIGABRT)", 2.0)
    assert second.quarantined
    assert "SIGABRT" in second.reason
    assert "SIGSEGV" in second.reason
    assert after_crash(second, "again", 3.0) is second


@pytest.mark.parametrize(
    ("causes", "may_start", "suspect", "quarantined"),
    [
        ([Cause.KILLED, Cause.HUNG, Cause.KILLED, Cause.NONSENSE, Cause.ENDED], True, False, False),
        ([Cause.CRASHED], True, True, False),
        ([Cause.CRASHED, Cause.KILLED], True, True, False),
        ([Cause.CRASHED, Cause.HUNG, Cause.CRASHED], False, True, True),
    ],
)
async def test_only_crashes_count_against_a_version(
    trial: Trial, causes: list[Cause], may_start: bool, suspect: bool, quarantined: bool
) -> None:
    """kill -9 and the want of memory are not its fault; the audit trail holds each crash."""
    threads = yielding_threads("runner", RUNNING)
    conditions = Conditions(trial.stores.config)
    isolation = Isolation(trial.executor, conditions, trial.clock, threads, 1 << 30)
    said = [await isolation._ended(VersionId(MODEL, 2), End(cause, f"it {cause}")) for cause in causes]
    assert said[-1] is may_start
    found = await trial.condition(2)
    assert (found.suspect, found.quarantined) == (suspect, quarantined)
    threads.shutdown()


def test_threads_that_load_yield_to_all_others() -> None:
    """A load must not take a core away from answers; processes started here inherit it."""

    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    threads = yielding_threads("runner", RUNNING)
    assert threads.submit(niceness).result() > niceness()
    threads.shutdown()


async def test_a_suspect_champion_runs_alone_and_goes_on_answering(trial: Trial) -> None:
    """It was running when a serving process died: its next crash must be its own. Released, it moves back."""
    trial.away.answer = None
    await trial.route(Route(champion=2, previous=1))
    assert trial.places() == {1: False, 2: False}
    await trial.mark(2, Condition(proven=True, suspect=True, reason="a serving process crashed"))
    assert trial.places() == {1: False, 2: True}
    assert trial.reports[-1].isolated == (2,)
    assert (await trial.ask()).version == 2
    await trial.mark(2, Condition(proven=True))
    assert trial.places() == {1: False, 2: False}


async def test_a_suspect_that_can_not_be_loaded_alone_stays_where_it_is(trial: Trial) -> None:
    """The last good generation goes on, and is not tried again and again."""
    await trial.route(Route(champion=2))
    trial.broken = {2}
    await trial.mark(2, Condition(suspect=True))
    assert (await trial.ask()).version == 2
    assert "m@2: its process crashed" in trial.reports[-1].refused_reason
    reports = len(trial.reports)
    await trial.pickup.pick_up(MODEL)
    assert len(trial.reports) == reports


async def test_previous_answers_for_a_quarantined_champion(trial: Trial) -> None:
    """Until somebody releases it, or routes something else."""
    await trial.route(Route(champion=2, previous=1))
    await trial.mark(2, Condition(quarantined=True, reason="crashed twice"))
    assert (await trial.ask()).version == 1
    assert trial.places() == {1: False}
    assert trial.reports[-1].left_out == (2,)
    assert trial.serving.readiness() == (True, [])
    await trial.mark(2, Condition(proven=True))
    assert (await trial.ask()).version == 2


async def test_a_quarantined_champion_without_previous_is_unavailable_with_its_reason(trial: Trial) -> None:
    """503 and why, instead of a loop of crashes; also for what it answered until now."""
    await trial.route(Route(champion=2))
    await trial.mark(2, Condition(quarantined=True, reason="crashed twice"))
    with pytest.raises(Unavailable, match=r"m@2: it is quarantined \(crashed twice\)"):
        await trial.ask()
    assert trial.places() == {}
    assert "crashed twice" in trial.serving.readiness()[1][0]
    await trial.mark(2, Condition(proven=True))
    assert (await trial.ask()).version == 2


async def test_what_took_a_quarantined_champions_place_is_not_taken_away(trial: Trial) -> None:
    """The last champion is dropped from routes after a day: here it is the one good version, so it goes on."""
    await trial.route(Route(champion=2, previous=1))
    await trial.mark(2, Condition(quarantined=True, reason="crashed twice"))
    await trial.route(Route(champion=2))
    assert (await trial.ask()).version == 1
    assert "crashed twice" in trial.reports[-1].refused_reason


async def test_a_champion_that_is_away_is_unavailable_not_wrong(trial: Trial) -> None:
    """503: the caller may try again, and nothing was wrong with the inputs."""
    await trial.route(Route(champion=1))
    await trial.mark(1, Condition(suspect=True))
    with pytest.raises(Unavailable, match="away"):
        await trial.ask()


async def test_the_last_good_version_is_not_quarantined(trial: Trial) -> None:
    """It is started again after each crash: now and then an answer is better than none. Suspect it stays."""
    threads = yielding_threads("runner", RUNNING)
    await trial.route(Route(champion=1))
    isolation = Isolation(
        trial.executor,
        Conditions(trial.stores.config),
        trial.clock,
        threads,
        1 << 30,
        lambda version: is_last_good(trial.serving.generations.get(version.model), version.number),
    )
    crash = End(Cause.CRASHED, "it crashed")
    assert [await isolation._ended(VersionId(MODEL, 1), crash) for _ in range(3)] == [True, True, True]
    assert (await trial.condition(1)).suspect
    await trial.route(Route(champion=1, previous=2))
    assert not await isolation._ended(VersionId(MODEL, 1), crash)
    assert (await trial.condition(1)).quarantined
    threads.shutdown()
