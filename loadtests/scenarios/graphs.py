"""ONNX models for the scenarios: with a chosen cost, one that never ends and one that eats memory.

All take X, float32 (rows, 30), the columns of the bench's material, and answer y, float32 (rows, 1).
"""

from __future__ import annotations

import time
from statistics import median

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from loadtests.bench.material import COLUMNS

LIMIT = 1_000_000.0
"""The hostile models behave while the first number is not above this; a publish check tries nothing like it."""

_COPIES = 64


def costing(repeats: int, seed: int) -> bytes:
    """A model whose run takes longer with every repeat; two seeds give models of slightly different weights.

    Its cost is the same for each row, so rows that share a run are not cheaper than rows alone.
    """
    weights = np.random.default_rng(seed).uniform(1e-3, 2e-3, COLUMNS * _COPIES).astype(np.float32)
    nodes = [
        helper.make_node("Concat", ["X"] * _COPIES, ["wide"], axis=1),
        helper.make_node("Mul", ["wide", "weights"], ["step0"]),
        *(helper.make_node("Tanh", [f"step{at}"], [f"step{at + 1}"]) for at in range(repeats)),
        helper.make_node("ReduceMean", [f"step{repeats}", "columns"], ["y"], keepdims=1),
    ]
    columns = numpy_helper.from_array(np.array([1], np.int64), "columns")
    return _model(nodes, [numpy_helper.from_array(weights, "weights"), columns])


def repeats_for(microseconds: float) -> int:
    """How many repeats make a run of one row so long on this core."""
    few, many = 8, 72
    cost = (run_microseconds(costing(many, 0)) - run_microseconds(costing(few, 0))) / (many - few)
    return max(1, round(microseconds / max(cost, 0.01)))


def run_microseconds(model: bytes, runs: int = 50) -> float:
    """Median time of a run of one row."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    row = {"X": np.ones((1, COLUMNS), np.float32)}
    session.run(None, row)
    times = []
    for _ in range(runs):
        before = time.perf_counter()
        session.run(None, row)
        times.append(time.perf_counter() - before)
    return median(times) * 1e6


def never_ending() -> bytes:
    """Ends at once, or never when the first number is above LIMIT."""
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["c2"]), helper.make_node("Identity", ["s"], ["s2"])],
        "body",
        [
            value("i", TensorProto.INT64, []),
            value("c", TensorProto.BOOL, []),
            value("s", TensorProto.FLOAT, None),
        ],
        [value("c2", TensorProto.BOOL, []), value("s2", TensorProto.FLOAT, None)],
    )
    nodes = [
        *_beyond_the_limit(),
        helper.make_node("Loop", ["", "beyond", "first"], ["looped"], body=body),
        helper.make_node("Add", ["mean", "looped"], ["y"]),
    ]
    return _model(nodes, _CONSTANTS)


def memory_eating() -> bytes:
    """Asks for 40 GB when the first number is above LIMIT."""
    one = numpy_helper.from_array(np.ones(1, np.float32))
    sizes = [
        numpy_helper.from_array(np.array([10_000_000_000], np.int64), "many"),
        numpy_helper.from_array(np.array([1], np.int64), "few"),
    ]
    nodes = [
        *_beyond_the_limit(),
        helper.make_node("Where", ["beyond", "many", "few"], ["size"]),
        helper.make_node("ConstantOfShape", ["size"], ["ones"], value=one),
        helper.make_node("ReduceSum", ["ones"], ["sum"], keepdims=0),
        helper.make_node("Add", ["mean", "sum"], ["y"]),
    ]
    return _model(nodes, [*_CONSTANTS, *sizes])


_CONSTANTS = [
    numpy_helper.from_array(np.zeros(1, np.int64), "zeros"),
    numpy_helper.from_array(np.array(LIMIT, np.float32), "limit"),
    numpy_helper.from_array(np.zeros(0, np.int64), "scalar"),
    numpy_helper.from_array(np.array([1], np.int64), "columns"),
]


def _beyond_the_limit() -> list[onnx.NodeProto]:
    """`first`: the first number, a scalar; `beyond`: whether it is above LIMIT; `mean`: one number a row."""
    return [
        helper.make_node("Flatten", ["X"], ["flat"], axis=0),
        helper.make_node("Gather", ["flat", "zeros"], ["first_column"], axis=1),
        helper.make_node("Reshape", ["first_column", "scalar"], ["first"]),
        helper.make_node("Greater", ["first", "limit"], ["beyond"]),
        helper.make_node("ReduceMean", ["X", "columns"], ["mean"], keepdims=1),
    ]


def _model(nodes: list[onnx.NodeProto], initializers: list[onnx.TensorProto]) -> bytes:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [value("X", TensorProto.FLOAT, [None, COLUMNS])],
        [value("y", TensorProto.FLOAT, [None, 1])],
        initializers,
    )
    opsets = [helper.make_opsetid("", 21)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString())
