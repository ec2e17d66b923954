"""Answers that are given again: of the same version, the same policy and the same inputs, for a while."""

from __future__ import annotations

import numpy as np
import pytest

from gateway import metrics
from gateway.clock import ManualClock
from gateway.documents.route import Canary, Route
from gateway.execution.contract import Prepared
from gateway.execution.executor import Run
from gateway.names import Lookup, Outcome, Reason, Role
from gateway.serving.cache import MOST_KEY_BYTES, ResponseCache, key_of
from gateway.serving.request import PredictRequest
from tests.serving.serving_kit import MODEL, Kit


def answer(value: float) -> Run:
    return Run({"y": np.array([value])}, Outcome.OK, 7)


PREPARED = Prepared({"X": np.zeros((1, 1))}, 1, [[0.0]])


def test_an_answer_is_kept_for_its_time() -> None:
    cache = ResponseCache(seconds=2.0)
    cache.put(b"k", PREPARED, answer(1.0), now=10.0)
    kept = cache.get(b"k", now=12.0)
    assert kept is not None
    assert kept.run.outputs == {"y": np.array([1.0])}
    assert kept.run.latency_us == 0
    assert cache.get(b"k", now=12.1) is None
    assert cache.get(b"other", now=10.0) is None


def test_the_oldest_answer_leaves_first() -> None:
    cache = ResponseCache(seconds=9.0, most=2)
    for name in (b"a", b"b", b"c"):
        cache.put(name, PREPARED, answer(1.0), now=0.0)
    assert [cache.get(name, 0.0) is not None for name in (b"a", b"b", b"c")] == [False, True, True]


def test_a_failure_is_never_kept() -> None:
    cache = ResponseCache(seconds=9.0)
    cache.put(b"k", PREPARED, Run(None, Outcome.ERROR, 7, "no"), now=0.0)
    assert cache.get(b"k", 0.0) is None


def test_what_is_kept_does_not_hold_the_joined_run() -> None:
    table = np.arange(1000.0)
    cache = ResponseCache(seconds=9.0)
    cache.put(b"k", PREPARED, Run({"y": table}, Outcome.OK, 7, start=3, behind=4), now=0.0)
    kept = cache.get(b"k", 0.0)
    assert kept is not None
    assert kept.run.whole is not None
    assert kept.run.whole["y"].tolist() == [3.0]
    assert kept.run.whole["y"].base is None


def test_keys_tell_inputs_apart() -> None:
    same = [key_of(PredictRequest("m", {"a": 1.0, "b": 2.0})) for _ in range(2)]
    assert same[0] == same[1] is not None
    different = [
        PredictRequest("m", {"a": 1.0, "b": 3.0}),
        PredictRequest("m", [[1.0, 2.0]]),
        PredictRequest("m", tensors={"X": np.array([1.0, 2.0])}),
        PredictRequest("m", tensors={"X": np.array([1.0, 2.0], np.float32)}),
        PredictRequest("m", tensors={"X": np.array([[1.0, 2.0]])}),
        PredictRequest("m", tensors={"X": np.array(["1", "2"], np.object_)}),
    ]
    keys = {key_of(request) for request in different} | {same[0]}
    assert len(keys) == 7


def test_large_inputs_are_not_looked_up() -> None:
    assert key_of(PredictRequest("m", [[0.5] * MOST_KEY_BYTES])) is None
    assert key_of(PredictRequest("m", tensors={"X": np.zeros(MOST_KEY_BYTES)})) is None
    assert key_of(PredictRequest("m", [[2**70]])) is None


async def started(kit: Kit, **policy: object) -> None:
    await kit.publish(2)
    await kit.policy(cache={"seconds": 60}, **policy)
    await kit.route(Route(champion=1, salt="s"))


async def test_the_second_answer_comes_from_the_cache_and_is_written_down(kit: Kit) -> None:
    await started(kit)
    first, second = await kit.ask(), await kit.ask()
    assert kit.loaded[1].runs == 1
    assert first.listed == second.listed
    assert first.id != second.id
    assert (first.reason, second.reason) == (Reason.FIRST, Reason.CACHE)
    records = await kit.predictions()
    assert [record.inputs for record in records] == [[[1.0, 2.0]], [[1.0, 2.0]]]
    assert records[1].latency_us == 0


async def test_an_answer_that_is_too_old_is_made_anew(kit: Kit, clock: ManualClock) -> None:
    await started(kit)
    await kit.ask()
    clock.advance(61)
    assert (await kit.ask()).reason is Reason.FIRST
    assert kit.loaded[1].runs == 2


async def test_a_new_champion_answers_for_itself(kit: Kit) -> None:
    await started(kit)
    await kit.ask()
    await kit.route(Route(champion=2, previous=1, salt="s"))
    assert (await kit.ask()).listed["label"] == [2]


async def test_whoever_pins_a_version_wants_it_to_run(kit: Kit) -> None:
    await started(kit)
    await kit.ask()
    assert (await kit.ask(pinned=1)).reason is Reason.PINNED
    assert kit.loaded[1].runs == 2


async def test_shadows_get_copies_of_cached_answers_too(kit: Kit) -> None:
    await started(kit)
    await kit.route(Route.model_validate({"champion": 1, "shadows": [{"version": 2, "share": 100}], "salt": "s"}))
    await kit.ask()
    await kit.ask()
    await kit.shadows_done()
    shadows = [record for record in await kit.predictions() if record.role is Role.SHADOW]
    assert len(shadows) == 2


async def test_each_answered_request_is_a_hit_a_miss_or_a_bypass(kit: Kit) -> None:
    await started(kit)
    await kit.route(Route(champion=1, canaries=(Canary(version=2, weight=50),), salt="s"))
    for number in range(20):
        await kit.ask(inputs={"a": float(number % 5), "b": 1.0}, key=f"k{number}")
    await kit.ask(pinned=2)
    kit.serving._measures.hand_over()
    counts = {result: counted(result) for result in Lookup}
    assert sum(counts.values()) == 21
    assert counts[Lookup.BYPASS] == 1
    assert counts[Lookup.HIT] == 21 - 1 - counts[Lookup.MISS] > 0


def counted(result: str) -> float:
    return sum(
        sample.value
        for family in metrics.cache_lookups.collect()
        for sample in family.samples
        if sample.name.endswith("_total") and sample.labels["result"] == result and sample.labels["model"] == MODEL
    )


@pytest.fixture(autouse=True)
def no_counts_of_others() -> None:
    metrics.cache_lookups.clear()
