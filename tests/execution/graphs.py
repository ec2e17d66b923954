"""Small ONNX models for tests, by hand and as sklearn users export them; some of them are hostile."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

X_IN = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 2])
Y_OUT = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 2])


def graph_model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto] = (X_IN,),
    outputs: Sequence[onnx.ValueInfoProto] = (Y_OUT,),
    initializers: Sequence[onnx.TensorProto] = (),
    domains: Sequence[tuple[str, int]] = (),
    functions: Sequence[onnx.FunctionProto] = (),
    opset: int = 21,
) -> onnx.ModelProto:
    """A model with one graph, IR 10."""
    graph = helper.make_graph(list(nodes), "g", list(inputs), list(outputs), list(initializers))
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(*domain) for domain in domains)]
    return helper.make_model(graph, opset_imports=opsets, functions=list(functions), ir_version=10)


def identity() -> onnx.ModelProto:
    """y = x, two columns."""
    return graph_model([helper.make_node("Identity", ["x"], ["y"])])


def external_tensor() -> onnx.TensorProto:
    """A weight that lies in a file beside the model."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "weights.bin"
    return tensor


def endless_loop() -> onnx.ModelProto:
    """A Loop whose condition stays true: loads at once and never ends."""
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
    true = numpy_helper.from_array(np.array(True), "t")
    return graph_model([helper.make_node("Loop", ["", "t", "x"], ["y"], body=body)], initializers=[true])


def huge_allocation() -> onnx.ModelProto:
    """Asks for 32 GiB when it runs."""
    count = numpy_helper.from_array(np.array([2**33], np.int64), "n")
    return graph_model(
        [
            helper.make_node("ConstantOfShape", ["n"], ["z"]),
            helper.make_node("ReduceSum", ["z"], ["total"], keepdims=0),
            helper.make_node("Add", ["x", "total"], ["y"]),
        ],
        initializers=[count],
    )


def divides() -> onnx.ModelProto:
    """A whole number divided by the input: outputs 1/x as floats, so zero gives an infinite answer."""
    one = numpy_helper.from_array(np.array([1.0, 1.0], np.float32), "one")
    return graph_model([helper.make_node("Div", ["one", "x"], ["y"])], initializers=[one])


def gathers() -> onnx.ModelProto:
    """Takes column i of a fixed table: indices outside it make the run fail."""
    table = numpy_helper.from_array(np.arange(4, dtype=np.float32), "table")
    return graph_model(
        [helper.make_node("Gather", ["table", "i"], ["y"], axis=0)],
        inputs=[helper.make_tensor_value_info("i", TensorProto.INT64, [None, 1])],
        outputs=[helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 1])],
        initializers=[table],
    )


def reshapes() -> onnx.ModelProto:
    """A 2x3 table in the shape that the second input names: zeros and ones are no shape of six numbers."""
    return graph_model(
        [helper.make_node("Reshape", ["x", "to"], ["y"])],
        inputs=[
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3]),
            helper.make_tensor_value_info("to", TensorProto.INT64, [3]),
        ],
        outputs=[helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, None, None])],
    )


def iris_like() -> tuple[np.ndarray, np.ndarray]:
    """120 rows of 4 numbers and three classes that can be told apart."""
    random = np.random.default_rng(3)
    classes = np.arange(120) % 3
    return random.normal(size=(120, 4)) + classes[:, None], classes


def exported(estimator: Any, x: np.ndarray, y: np.ndarray) -> bytes:
    """What a user gets from `skl2onnx.to_onnx(estimator.fit(x, y), x)`, with no option at all."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from skl2onnx import to_onnx

        model: bytes = to_onnx(estimator.fit(x, y), x[:1]).SerializeToString()
    return model


def mixed_columns(*, ignore_unknown: bool) -> bytes:
    """A pipeline over named columns, one input each, as skl2onnx makes it of a data frame: city is a text."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from skl2onnx import to_onnx
        from skl2onnx.common.data_types import FloatTensorType, Int64TensorType, StringTensorType
        from sklearn.compose import ColumnTransformer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import OneHotEncoder

        table = np.array([[1.0, "ulm", 1], [2.0, "bonn", 2], [3.0, "ulm", 3], [4.0, "kiel", 4]], dtype=object)
        encoder = OneHotEncoder(handle_unknown="ignore" if ignore_unknown else "error")
        columns = ColumnTransformer([("texts", encoder, [1]), ("numbers", "passthrough", [0, 2])])
        pipeline = make_pipeline(columns, LogisticRegression()).fit(table, ["no", "yes", "no", "yes"])
        types = [
            ("price", FloatTensorType([None, 1])),
            ("city", StringTensorType([None, 1])),
            ("rooms", Int64TensorType([None, 1])),
        ]
        model: bytes = to_onnx(pipeline, initial_types=types).SerializeToString()
    return model


def loops_beyond_a_thousand() -> onnx.ModelProto:
    """y = x; never ends when the first number is larger than 1,000, which no publish check tries."""
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
    zeros = numpy_helper.from_array(np.zeros(1, np.int64), "zeros")
    limit = numpy_helper.from_array(np.array(1000.0, np.float32), "limit")
    scalar = numpy_helper.from_array(np.zeros(0, np.int64), "scalar")
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"], axis=0),
        helper.make_node("Gather", ["flat", "zeros"], ["first_column"], axis=1),
        helper.make_node("Reshape", ["first_column", "scalar"], ["first"]),
        helper.make_node("Greater", ["first", "limit"], ["beyond"]),
        helper.make_node("Loop", ["", "beyond", "x"], ["y"], body=body),
    ]
    return graph_model(nodes, initializers=[zeros, limit, scalar])


def allocates_its_inputs() -> onnx.ModelProto:
    """y = x + the sum of a matrix of ones, as many rows and columns as the one row of x says."""
    one = numpy_helper.from_array(np.ones(1, np.float32))
    flat = numpy_helper.from_array(np.array([-1], np.int64), "flat")
    nodes = [
        helper.make_node("Abs", ["x"], ["positive"]),
        helper.make_node("Cast", ["positive"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Reshape", ["whole", "flat"], ["sizes"]),
        helper.make_node("ConstantOfShape", ["sizes"], ["ones"], value=one),
        helper.make_node("ReduceSum", ["ones"], ["sum"], keepdims=0),
        helper.make_node("Add", ["x", "sum"], ["y"]),
    ]
    return graph_model(nodes, initializers=[flat])
