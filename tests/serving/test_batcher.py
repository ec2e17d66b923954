"""Requests of one turn share a run; each gets its own rows, its own time, its own failure."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
from msgspec.structs import replace

from gateway.documents.policy import Policy
from gateway.documents.route import Route
from gateway.errors import ExecutionError, InvalidInput
from gateway.execution.executor import Run
from gateway.execution.session import LoadedVersion
from gateway.execution.tensors import Tensors
from gateway.names import Outcome, Reason, Role
from gateway.registry.manifest import MOST_JOINED_ROWS, Feature, Manifest, Tensor
from gateway.routing.decide import Decision, Facts
from gateway.routing.snapshot import compile_route
from gateway.serving.arm import Arm
from gateway.serving.batcher import GATHER_SECONDS, Batcher
from gateway.serving.call import Attempt, Call
from gateway.serving.generation import Generation
from gateway.serving.measure import Measures
from gateway.serving.pressure import Pressure
from gateway.serving.request import PredictRequest


class Version:
    """Doubles its input; fails for rows that hold 13."""

    def __init__(self, joins: bool = True) -> None:
        self.manifest = Manifest(
            model="m",
            joins=joins,
            inputs=(Tensor(name="X", datatype="FP32", shape=(-1, 1)),),
            features=(Feature(name="a", input="X", position=0),),
        )
        self.cost_us = 10.0
        self.row_us = 1.0
        self.heights: list[int] = []

    def run(self, tensors: Tensors) -> Tensors:
        self.heights.append(len(tensors["X"]))
        if (tensors["X"] == 13).any():
            raise ExecutionError("the model failed on these inputs")
        return {"y": tensors["X"] * 2, "classes": np.array([0, 1])}


SNAPSHOT = compile_route(Policy(model="m"), Route(champion=1), 1)
DECISION = Decision(1, Role.CHAMPION, Reason.FIRST, 0, False, ())


class Inline:
    """Runs at once and takes 24 us; `later` keeps the answers back instead."""

    def __init__(self) -> None:
        self.deadlines: list[float | None] = []
        self.kept: list[Callable[[], None]] = []
        self.later = False
        self.lost = False
        self.most = 1

    def at_once(self, version: LoadedVersion) -> int:
        return self.most

    def submit(
        self, version: LoadedVersion, tensors: Tensors, done: Any, deadline_seconds: float | None = None
    ) -> None:
        self.deadlines.append(deadline_seconds)
        if self.lost:
            done(Run(None, Outcome.ERROR, 0, "gone", is_lost=True))
            return
        try:
            run = Run(version.run(tensors), Outcome.OK, 24)
        except ExecutionError as error:
            run = Run(None, Outcome.ERROR, 24, str(error))
        if self.later:
            self.kept.append(lambda: done(run))
        else:
            done(run)

    def close(self) -> None:
        """Nothing to stop."""


class Kit:
    def __init__(self) -> None:
        self.executor = Inline()
        self.wakes = 0
        self.is_due = False
        self.stopped: float | None = None
        self.batcher = Batcher(self.executor, self.monotonic, self.on_end, self.on_refusal, self.wake)
        self.ended: dict[str, Run] = {}
        self.refused: dict[str, Exception] = {}
        self.arms: dict[int, Arm] = {}

    def monotonic(self) -> float:
        return time.monotonic() if self.stopped is None else self.stopped

    def wake(self) -> None:
        self.wakes += 1
        if not self.is_due:
            self.is_due = True
            asyncio.get_running_loop().call_soon(self.end_turn)

    def end_turn(self) -> None:
        self.batcher.flush()
        self.is_due = False
        if self.batcher.has_waiting:
            self.wake()

    def on_end(self, attempt: Attempt, run: Run) -> None:
        name = str(attempt.call.request.id)
        assert name not in self.ended, "ended twice"
        self.ended[name] = run

    def on_refusal(self, attempt: Attempt, error: Exception) -> None:
        self.refused[str(attempt.call.request.id)] = error

    def add(self, version: Version, name: str, *values: Any, deadline: float = 1.0) -> None:
        arm = self.arms.get(id(version))
        if arm is None:
            tally = Measures().of("m", 1, Role.CHAMPION)
            arm = self.arms[id(version)] = Arm(cast(LoadedVersion, version), SNAPSHOT, tally, Pressure(1e9))
        request = PredictRequest(model="m", inputs=[[value] for value in values], id=name)
        generation = cast(Generation, None)  # nobody asks for it here
        now = self.monotonic()
        call = Call(request, generation, Facts(name, name), (), DECISION, arm, now, now + deadline, lambda _: None, [])
        self.batcher.add(Attempt(call, arm, DECISION))

    def answer(self, name: str) -> list[float]:
        outputs = self.ended[name].outputs
        assert outputs is not None
        return cast(list[float], outputs["y"].ravel().tolist())


@pytest.fixture
def kit() -> Kit:
    return Kit()


async def turn() -> None:
    await asyncio.sleep(0)


async def test_requests_of_one_turn_share_one_run_and_get_their_own_rows(kit: Kit) -> None:
    version = Version()
    kit.add(version, "a", 1)
    kit.add(version, "b", 2, 3)
    kit.add(version, "c", 4)
    assert kit.ended == {}
    await turn()
    assert version.heights == [4]
    assert (kit.answer("a"), kit.answer("b"), kit.answer("c")) == ([2], [4, 6], [8])
    assert kit.wakes == 1


async def test_classes_of_a_zipmap_are_everybodys(kit: Kit) -> None:
    version = Version()
    version.manifest = replace(version.manifest, zipmap={"maps": "probabilities"})
    kit.add(version, "a", 1)
    kit.add(version, "b", 2)
    await turn()
    for name in "ab":
        outputs = kit.ended[name].outputs
        assert outputs is not None
        assert outputs["classes"].tolist() == [0, 1]


async def test_a_version_that_may_not_be_joined_runs_singly(kit: Kit) -> None:
    version = Version(joins=False)
    kit.add(version, "a", 1)
    kit.add(version, "b", 2)
    await turn()
    assert version.heights == [1, 1]


async def test_versions_never_share_a_run(kit: Kit) -> None:
    one, other = Version(), Version()
    kit.add(one, "a", 1)
    kit.add(other, "b", 2)
    kit.add(one, "c", 3)
    await turn()
    assert (one.heights, other.heights) == ([2], [1])


async def test_a_bad_row_fails_only_its_own_request(kit: Kit) -> None:
    version = Version()
    kit.add(version, "a", 1)
    kit.add(version, "bad", 13)
    kit.add(version, "c", 3)
    await turn()
    assert version.heights == [3, 1, 1, 1]
    assert (kit.answer("a"), kit.answer("c")) == ([2], [6])
    assert kit.ended["bad"].outcome is Outcome.ERROR


async def test_a_run_that_was_lost_is_not_repeated(kit: Kit) -> None:
    kit.executor.lost = True
    version = Version()
    kit.add(version, "a", 1)
    kit.add(version, "b", 2)
    await turn()
    assert len(kit.executor.deadlines) == 1
    assert {run.outcome for run in kit.ended.values()} == {Outcome.ERROR}


async def test_large_turns_are_cut(kit: Kit) -> None:
    kit.stopped = 1.0
    version = Version()
    for number in range(MOST_JOINED_ROWS + 3):
        kit.add(version, str(number), 20 + number)
    kit.add(version, "large", *range(100, 100 + MOST_JOINED_ROWS + 1))
    await turn()
    assert version.heights == [MOST_JOINED_ROWS, 3, MOST_JOINED_ROWS + 1]
    assert kit.answer("1") == [42]


async def test_a_joined_run_is_charged_as_if_run_alone(kit: Kit) -> None:
    """24 us for 3 rows where a run costs 10 and a further row 1: twice what it should be, so 20 for one row."""
    version = Version()
    kit.add(version, "a", 1)
    kit.add(version, "b", 2, 3)
    await turn()
    assert (kit.ended["a"].latency_us, kit.ended["b"].latency_us) == (20, 22)


async def test_each_request_keeps_its_own_deadline(kit: Kit) -> None:
    """A joined run may go on as long as the most patient of them allows; an impatient one is answered before."""
    kit.executor.later = True
    version = Version()
    kit.add(version, "patient", 1, deadline=30.0)
    kit.add(version, "impatient", 2, deadline=0.01)
    await turn()
    assert kit.executor.deadlines == [pytest.approx(30.0, abs=1.0)]
    while not kit.ended:
        await turn()
    assert kit.ended["impatient"].outcome is Outcome.DEADLINE
    for answer in kit.executor.kept:
        answer()
    assert kit.answer("patient") == [2]
    assert kit.ended["impatient"].outcome is Outcome.DEADLINE


async def test_an_answer_that_took_too_long_is_a_missed_deadline(kit: Kit) -> None:
    kit.add(Version(), "a", 1, deadline=0.00001)
    await turn()
    assert kit.ended["a"].outcome is Outcome.DEADLINE


async def test_bad_inputs_are_refused_and_the_others_run(kit: Kit) -> None:
    version = Version()
    kit.add(version, "a", 1)
    kit.add(version, "bad", "x")
    kit.add(version, "b", 2)
    await turn()
    assert version.heights == [2]
    assert (kit.answer("a"), kit.answer("b")) == ([2], [4])
    assert isinstance(kit.refused["bad"], InvalidInput)
    assert "bad" not in kit.ended


async def test_while_a_run_is_elsewhere_later_requests_wait_and_go_together(kit: Kit) -> None:
    kit.executor.later = True
    version = Version()
    kit.add(version, "a", 1)
    await turn()
    for name, value in {"b": 2, "c": 3}.items():
        kit.add(version, name, value)
        await turn()
    assert version.heights == [1]
    kit.executor.kept.pop()()
    await turn()
    assert version.heights == [1, 2]
    kit.executor.kept.pop()()
    assert (kit.answer("b"), kit.answer("c")) == ([4], [6])


async def test_two_runs_at_once_where_two_are_of_use(kit: Kit) -> None:
    kit.executor.later, kit.executor.most = True, 2
    version = Version()
    for name in "abc":
        kit.add(version, name, 1)
        await turn()
    assert version.heights == [1, 1]


async def test_a_request_that_waits_too_long_is_answered_and_never_run(kit: Kit) -> None:
    kit.executor.later = True
    version = Version()
    kit.add(version, "a", 1)
    await turn()
    kit.add(version, "impatient", 2, deadline=0.01)
    while not kit.ended:
        await turn()
    assert kit.ended["impatient"].outcome is Outcome.DEADLINE
    kit.executor.kept.pop()()
    await turn()
    assert version.heights == [1]


async def test_nobody_waits_for_a_run_that_is_late(kit: Kit) -> None:
    """It may hang: what comes then is handed on at once, and the executor says what it makes of it."""
    kit.executor.later = True
    version = Version()
    kit.add(version, "hangs", 1, deadline=0.001)
    await turn()
    while not kit.ended:
        await turn()
    kit.add(version, "next", 2)
    await turn()
    assert version.heights == [1, 1]


async def test_a_busy_loop_keeps_what_goes_elsewhere_for_company(kit: Kit) -> None:
    kit.stopped = 1.0
    champion, canary = Version(), Version()
    for name in "abcd":
        kit.add(champion, name, 1)
    kit.add(canary, "first", 2)
    await turn()
    assert (champion.heights, canary.heights) == ([4], [])
    for name in "efgh":
        kit.add(champion, name, 1)
    kit.add(canary, "second", 3)
    await turn()
    assert (champion.heights, canary.heights) == ([4, 4], [])
    await turn()  # nothing came in: nobody is kept waiting in an idle loop
    assert canary.heights == [2]
    assert (kit.answer("first"), kit.answer("second")) == ([4], [6])


async def test_nobody_is_kept_for_company_longer_than_a_moment(kit: Kit) -> None:
    kit.stopped = 1.0
    champion, canary = Version(), Version()
    for name in "abcd":
        kit.add(champion, name, 1)
    kit.add(canary, "kept", 2)
    await turn()
    assert canary.heights == []
    kit.stopped += GATHER_SECONDS * 1.01
    for name in "efgh":
        kit.add(champion, name, 1)
    await turn()
    assert canary.heights == [1]


@pytest.mark.parametrize("most", [0, 2])
async def test_what_runs_in_the_loop_or_in_threads_is_not_kept(kit: Kit, most: int) -> None:
    kit.executor.most = most
    champion, other = Version(), Version()
    for name in "abcd":
        kit.add(champion, name, 1)
    kit.add(other, "other", 2)
    await turn()
    assert other.heights == [1]
