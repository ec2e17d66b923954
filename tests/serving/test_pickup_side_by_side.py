"""Models are picked up side by side: whoever needs no load waits for none."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

import msgspec
import pytest
import pytest_asyncio

from gateway.clock import ManualClock
from gateway.documents.lease import Proposal, Served
from gateway.documents.route import Canary, Route
from gateway.documents.store import proposal_name, route_name
from gateway.execution.session import LoadedVersion
from gateway.names import ModelName
from gateway.registry.manifest import Feature, Manifest, PredictionSpec, Tensor
from gateway.registry.package import write_package
from gateway.serving.lane import Lane
from gateway.serving.pickup import Pickup
from tests.serving.serving_kit import FakeVersion, Kit

QUICK, SLOW = ModelName("quick"), ModelName("slow")


class Slow(Kit):
    """A process whose loads end when the test says so; all loads take the way of versions on trial."""

    def __init__(self, directory: Path, clock: ManualClock) -> None:
        super().__init__(directory, clock)
        self.stuck: set[tuple[str, int]] = set()
        self.go = asyncio.Event()
        self.under_way: Counter[str] = Counter()
        self.most_under_way = 0
        self.begun: list[str] = []
        self.told: dict[ModelName, list[Served]] = {}
        self.changed = asyncio.Event()
        self.threads = ThreadPoolExecutor(1)
        self.pickup = Pickup(
            self.stores.config,
            self.stores.registry,
            self.serving,
            directory / "cache",
            clock,
            self.shelf,
            self._told,
            self._load,
            self._load_slowly,
            self.threads,
        )

    def _told(self, model: ModelName, served: Served) -> None:
        self.told.setdefault(model, []).append(served)
        self.changed.set()

    async def _load_slowly(self, manifest: Manifest, directory: Path, yields: bool) -> LoadedVersion:
        self.begun.append(str(manifest.version))
        self.under_way[manifest.model] += 1
        self.most_under_way = max(self.most_under_way, self.under_way.total())
        self.changed.set()
        if (manifest.model, manifest.number) in self.stuck:
            await self.go.wait()
        else:
            await asyncio.sleep(0)
        self.under_way[manifest.model] -= 1
        return cast(LoadedVersion, FakeVersion(manifest))

    async def publish_as(self, model: ModelName, count: int) -> None:
        for _ in range(count):
            package = self.directory / f"{model}{len(await self.stores.registry.versions(model)) + 1}"
            draft = Manifest(
                model=model,
                inputs=(Tensor(name="X", datatype="FP32", shape=(-1, 1)),),
                features=(Feature(name="a", input="X", position=0),),
                prediction=PredictionSpec(output="label", kind="class"),
            )
            write_package(package, package.name.encode(), draft)
            await self.stores.registry.publish(package)

    async def until(self, model: ModelName, **fields: object) -> None:
        """Wait until the newest report of the model says so."""

        def says() -> bool:
            newest = self.told.get(model, [Served()])[-1]
            return all(getattr(newest, name) == value for name, value in fields.items())

        await self.when(says)

    async def when(self, says: Callable[[], bool]) -> None:
        """Wait until something that the process did makes this true."""
        async with asyncio.timeout(10):
            while not says():
                self.changed.clear()
                await self.changed.wait()


@pytest_asyncio.fixture
async def slow(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Slow]:
    made = Slow(tmp_path, clock)
    for model in (QUICK, SLOW):
        await made.publish_as(model, 3)
        await made.put(route_name(model), Route(champion=1).encode())
    await made.pickup.pick_up_all()
    following = asyncio.create_task(made.pickup.run())
    await asyncio.sleep(0)
    yield made
    made.go.set()
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    made.executor.close()
    made.threads.shutdown()


def canary(version: int) -> Route:
    return Route(champion=1, canaries=(Canary(version=version, weight=5),))


async def propose(slow: Slow, model: ModelName, name: str, route: Route | None) -> None:
    text = route.encode().decode() if route is not None else ""
    await slow.put(proposal_name(model), msgspec.json.encode(Proposal(id=name, model=model, route=text)))


async def test_a_slow_load_of_one_model_holds_up_no_other(slow: Slow) -> None:
    """Peers' control loops go from model to model; here each has its own way."""
    slow.stuck = {(SLOW, 2)}
    await slow.put(route_name(SLOW), canary(2).encode())
    await slow.put(route_name(QUICK), canary(2).encode())
    await slow.until(QUICK, versions=(1, 2))
    await slow.put(route_name(QUICK), Route(champion=1).encode())
    await slow.until(QUICK, versions=(1,))
    assert slow.told[SLOW][-1].versions == (1,)
    slow.go.set()
    await slow.until(SLOW, versions=(1, 2))


async def test_a_roll_back_does_not_wait_for_a_load_of_its_own_model(slow: Slow) -> None:
    """The canary goes wrong just while the next candidate is being prepared."""
    await slow.put(route_name(SLOW), canary(2).encode())
    await slow.until(SLOW, versions=(1, 2))
    slow.stuck = {(SLOW, 3)}
    await propose(slow, SLOW, "p1", canary(3))
    await slow.when(lambda: "slow@3" in slow.begun)
    await slow.put(route_name(SLOW), Route(champion=1).encode())
    await slow.until(SLOW, versions=(1,), prepared="")
    slow.go.set()
    await slow.until(SLOW, versions=(1,), prepared="p1")


async def test_a_roll_back_does_not_stand_in_line_for_a_thread_that_loads(slow: Slow) -> None:
    """All threads that load are taken: what needs no load is installed all the same."""
    await slow.put(route_name(QUICK), canary(2).encode())
    await slow.until(QUICK, versions=(1, 2))
    is_over = threading.Event()
    slow.threads.submit(is_over.wait)
    try:
        revision = await slow.put(route_name(QUICK), Route(champion=1).encode())
        await slow.until(QUICK, revision=revision, versions=(1,))
    finally:
        is_over.set()


async def test_what_was_prepared_is_installed_without_a_second_load(slow: Slow) -> None:
    """Route committed and proposal withdrawn come together: the version must not be dropped in between."""
    await propose(slow, SLOW, "p1", canary(2))
    await slow.until(SLOW, prepared="p1")
    await slow.put(route_name(SLOW), canary(2).encode())
    await propose(slow, SLOW, "p2", None)
    await slow.until(SLOW, versions=(1, 2))
    assert slow.begun.count("slow@2") == 1


async def test_changes_of_one_model_keep_their_order(slow: Slow) -> None:
    """However many come during a load, the newest is what counts in the end."""
    slow.stuck = {(SLOW, 2)}
    await slow.put(route_name(SLOW), canary(2).encode())
    await slow.when(lambda: "slow@2" in slow.begun)
    await slow.put(route_name(SLOW), canary(3).encode())
    newest = await slow.put(route_name(SLOW), Route(champion=1).encode())
    slow.go.set()
    await slow.until(SLOW, revision=newest)
    revisions = [served.revision for served in slow.told[SLOW]]
    assert revisions == sorted(revisions)


async def test_only_so_many_loads_are_under_way(slow: Slow) -> None:
    """A start with a hundred models must not load a hundred at once; a version that two want is loaded once."""
    models = [ModelName(f"m{number}") for number in range(12)]
    for model in models:
        await slow.publish_as(model, 2)
        slow.stuck.add((model, 2))
        await propose(slow, model, "p1", canary(2))
        await slow.put(route_name(model), canary(2).encode())
    await slow.when(lambda: slow.most_under_way == 4)
    slow.go.set()
    for model in models:
        await slow.until(model, versions=(1, 2))
    assert slow.most_under_way == 4
    assert max(Counter(slow.begun).values()) == 1


async def test_a_failing_pass_is_repeated_and_disturbs_nobody(clock: ManualClock) -> None:
    """A store that does not answer for one document is no reason to stop following the others."""
    seen: Counter[str] = Counter()
    done = asyncio.Event()

    async def work(model: ModelName) -> None:
        seen[model] += 1
        if model == SLOW and seen[model] < 3:
            raise OSError("the store is away")
        if seen[SLOW] == 3:
            done.set()

    lane = Lane(work, clock)
    lane.hint(SLOW)
    lane.hint(QUICK)
    await asyncio.wait_for(done.wait(), 10)
    await lane.close()
    assert seen == {SLOW: 3, QUICK: 1}


async def test_closing_ends_what_is_under_way(clock: ManualClock) -> None:
    ended = asyncio.Event()

    async def work(model: ModelName) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    lane = Lane(work, clock)
    lane.hint(SLOW)
    await asyncio.sleep(0)
    await lane.close()
    assert ended.is_set()


@pytest.mark.parametrize("number", [1, 3])
async def test_nothing_stays_on_the_shelf_that_nobody_holds(slow: Slow, number: int) -> None:
    """Loads that were held while a decision was made are given back, used or not."""
    await slow.put(route_name(SLOW), canary(2).encode())
    await slow.until(SLOW, versions=(1, 2))
    await slow.put(route_name(SLOW), Route(champion=number).encode())
    await slow.until(SLOW, versions=(number,))
    await asyncio.sleep(0)
    assert len(slow.shelf) == 2  # the champions of both models
