"""Versions of one small classifier, good and bad ones, and the rows they are asked.

A row has three columns that say something about the label and `unit`, a number from 0 to 300 that says nothing: by it
the bad versions choose whom to fail, and the publish check, which tries zeros and ones, sees nothing of it.
"""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]

FEATURES = ("a", "b", "c", "unit")
UNITS = 300.0
RUN_MICROSECONDS = 400.0
"""What a run of a good version costs: enough that twice of it is more than the gateway's own slack."""

_TRAINING_ROWS = 4_000
_COPIES = 1_024
_SHAPED = numpy_helper.from_array(np.array([-1], np.int64), "rollout_flat")
_PLACE = numpy_helper.from_array(np.array([3], np.int64), "rollout_unit_at")


@dataclass(frozen=True)
class Sample:
    """rows: float32 (rows, 4). labels: the truth, 0 or 1; about one in ten can not be told from the row."""

    rows: Floats
    labels: Labels


def draw(count: int, seed: int) -> Sample:
    """Fresh rows with their labels."""
    random = np.random.default_rng(seed)
    rows = random.normal(size=(count, len(FEATURES)))
    truth = rows[:, :3] @ np.array([1.0, -1.0, 0.5]) + random.normal(scale=0.5, size=count) > 0
    rows[:, 3] = random.random(count) * UNITS
    return Sample(rows.astype(np.float32), truth.astype(np.int64))


def trained(seed: int, shuffled: bool = False) -> onnx.ModelProto:
    """A version trained on a bootstrap sample of the same rows. shuffled: on labels that belong to other rows."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    known = draw(_TRAINING_ROWS, 0)
    random = np.random.default_rng((1, seed))
    picked = random.integers(0, _TRAINING_ROWS, _TRAINING_ROWS)
    rows, labels = known.rows[picked], known.labels[picked]
    if shuffled:
        labels = random.permutation(labels)
    fitted = make_pipeline(StandardScaler(), LogisticRegression()).fit(rows, labels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from skl2onnx import to_onnx

        model: onnx.ModelProto = to_onnx(fitted, rows[:1], options={id(fitted): {"zipmap": False}}, target_opset=21)
    return model


def good(seed: int) -> bytes:
    """A version like the others, at the usual cost."""
    return _bytes(_costing(trained(seed), _repeats()))


def shuffled(seed: int) -> bytes:
    """It learnt nothing."""
    return _bytes(_costing(trained(seed, shuffled=True), _repeats()))


def slow(seed: int) -> bytes:
    """Good answers, twice as late."""
    return _bytes(_costing(trained(seed), 2 * _repeats()))


def failing(seed: int) -> bytes:
    """Its run fails for every third caller: an index that points behind a table of one."""
    model = _costing(trained(seed), _repeats())
    nodes = [
        *_is_unit_above(2.0 * UNITS / 3.0),
        helper.make_node("Cast", ["rollout_beyond"], ["rollout_index"], to=TensorProto.INT64),
        helper.make_node("Gather", ["rollout_table", "rollout_index"], ["rollout_zero"], axis=0),
        helper.make_node("Reshape", ["rollout_zero", "rollout_flat"], ["rollout_zeros"]),
    ]
    constants = [numpy_helper.from_array(np.zeros(1, np.int64), "rollout_table"), _limit(2.0 * UNITS / 3.0), _PLACE]
    return _bytes(_added(model, _label(model), "rollout_zeros", nodes, constants))


def not_a_number(seed: int) -> bytes:
    """Its probabilities are NaN for nine callers in ten."""
    model = _costing(trained(seed), _repeats())
    nodes = [
        *_is_unit_above(UNITS / 10.0),
        helper.make_node("Where", ["rollout_beyond", "rollout_nan", "rollout_none"], ["rollout_spoils"]),
    ]
    constants = [
        numpy_helper.from_array(np.array(np.nan, np.float32), "rollout_nan"),
        numpy_helper.from_array(np.array(0.0, np.float32), "rollout_none"),
        _limit(UNITS / 10.0),
        _PLACE,
    ]
    return _bytes(_added(model, model.graph.output[1].name, "rollout_spoils", nodes, constants))


def numbered(number: int) -> bytes:
    """A cheap version that differs from every other number by its bytes alone."""
    model = onnx.ModelProto()
    model.CopyFrom(_plain())
    extra = numpy_helper.from_array(np.array([0.0 * number], np.float32), "rollout_number")
    spare = [
        helper.make_node("Add", ["rollout_number", "rollout_mark"], ["rollout_sum"]),
        helper.make_node("Mul", ["rollout_sum", "rollout_number"], ["rollout_nothing"]),
    ]
    mark = numpy_helper.from_array(np.array([float(number)], np.float32), "rollout_mark")
    return _bytes(_added(model, model.graph.output[1].name, "rollout_nothing", spare, [extra, mark]))


@cache
def _plain() -> onnx.ModelProto:
    return trained(0)


def _label(model: onnx.ModelProto) -> str:
    name: str = model.graph.output[0].name
    return name


def _input(model: onnx.ModelProto) -> str:
    name: str = model.graph.input[0].name
    return name


def _is_unit_above(limit: float) -> list[onnx.NodeProto]:
    """`rollout_beyond`: (rows, 1), whether the caller's unit is above the limit."""
    return [
        helper.make_node("Gather", ["X", "rollout_unit_at"], ["rollout_unit"], axis=1),
        helper.make_node("Greater", ["rollout_unit", "rollout_limit"], ["rollout_beyond"]),
    ]


def _limit(value: float) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(value, np.float32), "rollout_limit")


def _costing(model: onnx.ModelProto, repeats: int) -> onnx.ModelProto:
    """The model with work added whose result changes nothing."""
    source = _input(model)
    nodes = [
        helper.make_node("Tile", [source, "work_copies"], ["work0"]),
        *(helper.make_node("Tanh", [f"work{at}"], [f"work{at + 1}"]) for at in range(repeats)),
        helper.make_node("ReduceMin", [f"work{repeats}", "work_columns"], ["work_least"], keepdims=0),
        helper.make_node("Mul", ["work_least", "work_zero"], ["work_nothing"]),
        helper.make_node("Cast", ["work_nothing"], ["work_zeros"], to=TensorProto.INT64),
    ]
    constants = [
        numpy_helper.from_array(np.array([1, _COPIES], np.int64), "work_copies"),
        numpy_helper.from_array(np.array([1], np.int64), "work_columns"),
        numpy_helper.from_array(np.array(0.0, np.float32), "work_zero"),
    ]
    return _added(model, _label(model), "work_zeros", nodes, constants)


def _added(
    model: onnx.ModelProto, output: str, term: str, nodes: list[onnx.NodeProto], constants: list[onnx.TensorProto]
) -> onnx.ModelProto:
    """The model whose output has a term more, which these nodes make."""
    graph, inner = model.graph, f"{output}_before_{term}"
    for node in graph.node:
        for place, name in enumerate(node.output):
            if name == output:
                node.output[place] = inner
        for place, name in enumerate(node.input):
            if name == output:
                node.input[place] = inner
    graph.node.extend([*nodes, helper.make_node("Add", [inner, term], [output])])
    graph.initializer.extend([*constants, *([_SHAPED] if term == "rollout_zeros" else [])])
    return model


@cache
def _repeats() -> int:
    """How many repeats make a run of one row as long as wanted on this machine."""
    few, many = 5, 45
    cost = (_run_microseconds(_costing(trained(0), many)) - _run_microseconds(_costing(trained(0), few))) / (many - few)
    return max(1, round(RUN_MICROSECONDS / max(cost, 0.1)))


def _run_microseconds(model: onnx.ModelProto, runs: int = 100) -> float:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session: Any = onnxruntime.InferenceSession(_bytes(model), options, providers=["CPUExecutionProvider"])
    row = {"X": np.ones((1, len(FEATURES)), np.float32)}
    times = []
    for _ in range(runs):
        before = time.perf_counter()
        session.run(None, row)
        times.append(time.perf_counter() - before)
    return min(times) * 1e6


def _bytes(model: onnx.ModelProto) -> bytes:
    return bytes(model.SerializeToString())
