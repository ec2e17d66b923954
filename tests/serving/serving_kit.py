"""What the tests of serving share: versions that can be told to fail, and a process over memory stores."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np

from gateway.clock import ManualClock
from gateway.documents.lease import Served
from gateway.documents.policy import Policy
from gateway.documents.route import Route
from gateway.documents.store import ABSENT, policy_name, route_name
from gateway.errors import DocumentNotFound, ExecutionError
from gateway.execution.executor import SessionExecutor
from gateway.execution.session import LoadedVersion
from gateway.execution.tensors import Tensors
from gateway.journal.record import Prediction, TrafficRecord
from gateway.names import ModelName, Revision, VersionId
from gateway.registry.manifest import Feature, Manifest, PredictionSpec, Tensor
from gateway.registry.package import write_package
from gateway.serving.access import TokenCheck
from gateway.serving.generation import Shelf, Slot
from gateway.serving.pickup import Pickup
from gateway.serving.predict import PredictRequest, Serving
from gateway.serving.shadow import Shadows
from gateway.stores import connect_memory

MODEL = ModelName("m")
RECORD = {"a": 1.0, "b": 2.0}


class FakeVersion:
    """Answers its own number as the label of every row; fails when told to."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self.cost_us = 1.0
        self.row_us = 0.0
        self.runs = 0
        self.fails = False
        self.is_open = True

    def run(self, tensors: Tensors) -> Tensors:
        self.runs += 1
        assert self.is_open, "ran after it was unloaded"
        if self.fails:
            raise ExecutionError("the model failed on these inputs")
        rows = len(tensors["X"])
        return {"label": np.full(rows, self.manifest.number), "score": np.full((rows, 1), np.nan)}

    def close(self) -> None:
        self.is_open = False


class Kit:
    """One serving process over memory stores; `loaded` holds the fake versions by number."""

    def __init__(self, directory: Path, clock: ManualClock) -> None:
        self.clock = clock
        self.directory = directory
        self.stores = connect_memory(clock)
        self.tee = self.stores.open_tee("traffic", "w0")
        self.executor = SessionExecutor(1000, 1, clock.monotonic)
        self.shadows = Shadows(self.tee, self.executor, limit=3)
        check = TokenCheck(self.stores.config, clock)
        self.serving = Serving(self.tee, self.executor, clock, self.shadows, check)
        self.loaded: dict[int, FakeVersion] = {}
        self.broken: set[int] = set()
        self.reports: list[Served] = []
        self.on_report: Callable[[], None] = lambda: None
        self.shelf = Shelf(lambda version: version.close())
        self.pickup = Pickup(
            self.stores.config,
            self.stores.registry,
            self.serving,
            directory / "cache",
            clock,
            self.shelf,
            self._report,
            self._load,
        )

    def _report(self, model: ModelName, served: Served) -> None:
        self.reports.append(served)
        self.on_report()

    def _load(self, manifest: Manifest, directory: Path) -> LoadedVersion:
        if manifest.number in self.broken:
            raise ExecutionError("the runtime can not load the model")
        self.loaded[manifest.number] = FakeVersion(manifest)
        return cast(LoadedVersion, self.loaded[manifest.number])

    async def publish(self, count: int = 1, features: str = "ab") -> None:
        for _ in range(count):
            package = self.directory / f"package{len(await self.stores.registry.versions(MODEL)) + 1}"
            draft = Manifest(
                model=MODEL,
                inputs=(Tensor(name="X", datatype="FP32", shape=(-1, 2)),),
                outputs=(Tensor(name="label", datatype="INT64", shape=(-1,)),),
                features=tuple(Feature(name=name, input="X", position=n) for n, name in enumerate(features)),
                prediction=PredictionSpec(output="label", kind="class"),
            )
            write_package(package, package.name.encode(), draft)
            await self.stores.registry.publish(package)

    async def put(self, name: str, body: bytes) -> Revision:
        try:
            revision = (await self.stores.config.get(name)).revision
        except DocumentNotFound:
            revision = ABSENT
        return await self.stores.config.put(name, body, revision)

    async def route(self, route: Route) -> Revision:
        revision = await self.put(route_name(MODEL), route.encode())
        await self.pickup.pick_up(MODEL)
        return revision

    async def policy(self, **fields: Any) -> None:
        await self.put(policy_name(MODEL), Policy.model_validate({"model": MODEL, **fields}).encode())
        await self.pickup.pick_up(MODEL)

    def is_loaded(self, number: int) -> bool:
        return Slot(VersionId(MODEL, number)) in self.shelf

    async def ask(self, **fields: Any) -> Any:
        return await self.serving.predict(PredictRequest(model=MODEL, **{"inputs": RECORD, **fields}))

    async def records(self) -> list[TrafficRecord]:
        return [entry.record for entry in (await self.stores.traffic.read(b"", 10_000)).entries]  # type: ignore[arg-type]

    async def predictions(self) -> list[Prediction]:
        return [record for record in await self.records() if isinstance(record, Prediction)]

    async def shadows_done(self) -> None:
        await self.shadows.drained(5.0)
        await asyncio.sleep(0)
