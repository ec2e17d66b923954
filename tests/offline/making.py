"""A small version over memory stores, and an engine that runs it in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from onnx import TensorProto, helper, numpy_helper

from gateway.clock import ManualClock
from gateway.documents.policy import Policy
from gateway.documents.route import Route
from gateway.documents.store import ABSENT, policy_name, route_name
from gateway.errors import ExecutionError
from gateway.execution.executor import Run
from gateway.execution.session import LoadedVersion, load
from gateway.execution.tensors import Tensors
from gateway.names import ModelName, Outcome
from gateway.offline.engine import Runs
from gateway.registry.manifest import Feature, Lineage, Manifest, PredictionSpec, Tensor
from gateway.registry.package import write_package
from gateway.stores import connect_memory

MODEL = ModelName("m")
FEATURES = (
    Feature(name="a", low=0.0, high=10.0, input="X", position=0),
    Feature(name="b", may_be_missing=True, input="X", position=1),
)


def threshold_model(limit: float) -> bytes:
    """label: 1 where a is above the limit; probabilities: 0.9 for the label, 0.1 for the other."""
    nodes = [
        helper.make_node("Gather", ["X", "first"], ["a"], axis=1),
        helper.make_node("Greater", ["a", "limit"], ["above"]),
        helper.make_node("Cast", ["above"], ["label"], to=TensorProto.INT64),
        helper.make_node("Reshape", ["above", "column"], ["rows"]),
        helper.make_node("Where", ["rows", "yes", "no"], ["probabilities"]),
    ]
    graph = helper.make_graph(
        nodes,
        "threshold",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, [None, 2])],
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, [None]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 2]),
        ],
        [
            numpy_helper.from_array(np.array(0, np.int64), "first"),
            numpy_helper.from_array(np.array(limit, np.float32), "limit"),
            numpy_helper.from_array(np.array([-1, 1], np.int64), "column"),
            numpy_helper.from_array(np.array([[0.1, 0.9]], np.float32), "yes"),
            numpy_helper.from_array(np.array([[0.9, 0.1]], np.float32), "no"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return bytes(model.SerializeToString())


def manifest(joins: bool = True, **fields: Any) -> Manifest:
    """Of a threshold model."""
    given: dict[str, Any] = {
        "model": MODEL,
        "inputs": (Tensor(name="X", datatype="FP32", shape=(-1, 2)),),
        "outputs": (
            Tensor(name="label", datatype="INT64", shape=(-1,)),
            Tensor(name="probabilities", datatype="FP32", shape=(-1, 2)),
        ),
        "features": FEATURES,
        "prediction": PredictionSpec(output="label", kind="class", classes=(0, 1), probabilities="probabilities"),
        "joins": joins,
    }
    return Manifest(**(given | fields))


class InlineRuns:
    """Runs a loaded version here. fails: the model fails on a run with a first column beyond this."""

    def __init__(self, version: LoadedVersion, fails_beyond: float = float("inf")) -> None:
        self._version = version
        self._fails_beyond = fails_beyond
        self.runs: list[int] = []

    async def run(self, tables: Sequence[Tensors]) -> list[Run]:
        return [self._one(table) for table in tables]

    def _one(self, table: Tensors) -> Run:
        self.runs.append(len(table["X"]))
        try:
            if (table["X"][:, 0] > self._fails_beyond).any():
                raise ExecutionError("the model failed on these inputs")
            return Run(self._version.run(table), Outcome.OK, 10)
        except ExecutionError as error:
            return Run(None, Outcome.ERROR, 10, str(error))


@asynccontextmanager
async def inline(manifest: Manifest, directory: Path) -> AsyncIterator[Runs]:
    """In place of `started`."""
    yield InlineRuns(load(manifest, directory, warm_up_rows=1))


@dataclass
class Office:
    """Memory stores with versions of one model."""

    folder: Path
    clock: ManualClock = field(default_factory=ManualClock)

    def __post_init__(self) -> None:
        self.stores = connect_memory(self.clock)

    async def publish(self, limit: float = 5.0, trained_until_ns: int = 0, **fields: Any) -> Manifest:
        """A version that says 1 above the limit."""
        lineage = Lineage(parameters={"trained_until_ns": trained_until_ns})
        package = self.folder / f"package-{limit}-{len(list(self.folder.iterdir()))}"
        write_package(package, threshold_model(limit), manifest(lineage=lineage, **fields))
        version = await self.stores.registry.publish(package)
        every = await self.stores.registry.versions(MODEL)
        return next(one for one in every if one.number == version.number)

    async def serve(self, number: int = 1, **policy: Any) -> None:
        """Make a version the champion, under a policy."""
        await self.stores.config.put(route_name(MODEL), Route(champion=number, salt="s").encode(), ABSENT)
        written = Policy.model_validate({"model": MODEL, **policy})
        await self.stores.config.put(policy_name(MODEL), written.encode(), ABSENT)

    async def put(self, name: str, value: msgspec.Struct) -> None:
        """A document that is not there yet."""
        await self.stores.config.put(name, msgspec.json.encode(value), ABSENT)
