"""The small models that the conformance suite asks, as ONNX files that any server can load.

    python tests/conformance/models.py FOLDER        writes FOLDER/<name>/1/model.onnx

Opset 17 and IR 8, so that servers of many ages take them. What each computes is said beside it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import onnx
from onnx import TensorProto, helper

FREE = None

TYPES: dict[str, int] = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
}
"""Every datatype of the protocol."""

Shape = Sequence[int | None]


def _tensor(name: str, kind: str, shape: Shape) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TYPES[kind], list(shape))


def _model(
    nodes: Sequence[onnx.NodeProto], inputs: Sequence[onnx.ValueInfoProto], outputs: Sequence[onnx.ValueInfoProto]
) -> bytes:
    graph = helper.make_graph(list(nodes), "conformance", list(inputs), list(outputs))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


def types() -> bytes:
    """One input and one equal output for each datatype: in_fp32 -> out_fp32, shape [free, 2]."""
    names = [name.lower() for name in TYPES]
    return _model(
        [helper.make_node("Identity", [f"in_{name}"], [f"out_{name}"]) for name in names],
        [_tensor(f"in_{name.lower()}", name, (FREE, 2)) for name in TYPES],
        [_tensor(f"out_{name.lower()}", name, (FREE, 2)) for name in TYPES],
    )


def sums() -> bytes:
    """Two inputs, two outputs, all fixed [1, 4]: sum and difference of INT32."""
    return _model(
        [helper.make_node("Add", ["a", "b"], ["sum"]), helper.make_node("Sub", ["a", "b"], ["difference"])],
        [_tensor("a", "INT32", (1, 4)), _tensor("b", "INT32", (1, 4))],
        [_tensor("sum", "INT32", (1, 4)), _tensor("difference", "INT32", (1, 4))],
    )


def scalar() -> bytes:
    """Rank 0: y = x + x."""
    return _model([helper.make_node("Add", ["x", "x"], ["y"])], [_tensor("x", "FP32", ())], [_tensor("y", "FP32", ())])


def free() -> bytes:
    """Three free dimensions, zero allowed: the transposed tensor [c, b, a] and its own shape."""
    return _model(
        [helper.make_node("Transpose", ["x"], ["turned"]), helper.make_node("Shape", ["x"], ["shape"])],
        [_tensor("x", "FP32", (FREE, FREE, FREE))],
        [_tensor("turned", "FP32", (FREE, FREE, FREE)), _tensor("shape", "INT64", (3,))],
    )


def fixed() -> bytes:
    """A fixed first dimension that is no batch: y = -x for FP32 [3, 2]."""
    return _model(
        [helper.make_node("Neg", ["x"], ["y"])], [_tensor("x", "FP32", (3, 2))], [_tensor("y", "FP32", (3, 2))]
    )


def nothing() -> bytes:
    """No input at all: y = [1, 2, 3]."""
    value = helper.make_tensor("v", TensorProto.INT64, [3], [1, 2, 3])
    return _model([helper.make_node("Constant", [], ["y"], value=value)], [], [_tensor("y", "INT64", (3,))])


def reciprocal() -> bytes:
    """y = 1 / x for FP32 [free, 1, 1]: zero gives an infinite answer."""
    return _model(
        [helper.make_node("Reciprocal", ["x"], ["y"])],
        [_tensor("x", "FP32", (FREE, 1, 1))],
        [_tensor("y", "FP32", (FREE, 1, 1))],
    )


def text() -> bytes:
    """One text in, the same text out, shape [1]."""
    return _model(
        [helper.make_node("Identity", ["x"], ["y"])], [_tensor("x", "BYTES", (1,))], [_tensor("y", "BYTES", (1,))]
    )


def names() -> bytes:
    """Names that need care in texts and paths."""
    return _model(
        [helper.make_node("Identity", ["scope/x.1:0"], ["scope/y-2:0"])],
        [_tensor("scope/x.1:0", "FP32", (FREE, 2, 1))],
        [_tensor("scope/y-2:0", "FP32", (FREE, 2, 1))],
    )


MODELS: dict[str, Callable[[], bytes]] = {
    f"conformance_{make.__name__}": make
    for make in (types, sums, scalar, free, fixed, nothing, reciprocal, text, names)
}


def write_models(folder: Path) -> None:
    """Every model as FOLDER/<name>/1/model.onnx."""
    for name, make in MODELS.items():
        directory = folder / name / "1"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "model.onnx").write_bytes(make())


if __name__ == "__main__":
    write_models(Path(sys.argv[1]))
