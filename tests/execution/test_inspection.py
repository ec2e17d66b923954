"""What is refused before the runtime sees a model, wherever in the file it hides."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from gateway.execution.inspection import class_labels, known_texts, parse, reasons_against, repaired
from tests.execution import graphs


def in_initializer() -> onnx.ModelProto:
    add = helper.make_node("Add", ["x", "w"], ["y"])
    return graphs.graph_model([add], initializers=[graphs.external_tensor()])


def in_attribute() -> onnx.ModelProto:
    constant = helper.make_node("Constant", [], ["w"], value=graphs.external_tensor())
    return graphs.graph_model([constant, helper.make_node("Add", ["x", "w"], ["y"])])


def in_subgraph() -> onnx.ModelProto:
    branch = helper.make_graph(
        [helper.make_node("Identity", ["w"], ["z"])],
        "branch",
        [],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, [2])],
        [graphs.external_tensor()],
    )
    condition = numpy_helper.from_array(np.array(True), "c")
    chosen = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    return graphs.graph_model([chosen], initializers=[condition])


def in_function() -> onnx.ModelProto:
    body = [
        helper.make_node("Constant", [], ["w"], value=graphs.external_tensor()),
        helper.make_node("Add", ["a", "w"], ["b"]),
    ]
    function = helper.make_function("local", "F", ["a"], ["b"], body, [helper.make_opsetid("", 21)])
    call = helper.make_node("F", ["x"], ["y"], domain="local")
    return graphs.graph_model([call], domains=[("local", 1)], functions=[function])


def in_sparse_tensor() -> onnx.ModelProto:
    model = graphs.identity()
    sparse = onnx.SparseTensorProto(dims=[2])
    sparse.values.CopyFrom(graphs.external_tensor())
    model.graph.sparse_initializer.append(sparse)
    return model


def in_training_graph() -> onnx.ModelProto:
    model = graphs.identity()
    model.training_info.add().initialization.initializer.append(graphs.external_tensor())
    return model


def without_location() -> onnx.ModelProto:
    """Not marked as external, but with a place: some readers look at one, some at the other."""
    model = in_initializer()
    model.graph.initializer[0].data_location = TensorProto.DEFAULT
    return model


@pytest.mark.parametrize(
    "build",
    [in_initializer, in_attribute, in_subgraph, in_function, in_sparse_tensor, in_training_graph, without_location],
)
def test_external_data_is_refused_wherever_it_hides(build: object) -> None:
    """Path checks were bypassed several times elsewhere; a package is one file."""
    assert callable(build)
    assert any("external data" in reason for reason in reasons_against(build()))


def test_a_plain_model_has_nothing_against_it() -> None:
    assert reasons_against(graphs.identity()) == []
    assert reasons_against(graphs.endless_loop()) == []  # its graph is in order: only running it shows


@pytest.mark.parametrize(
    ("domain", "operator", "is_allowed"),
    [
        ("", "Relu", True),
        ("ai.onnx", "Relu", True),
        ("ai.onnx.ml", "Scaler", True),
        ("com.microsoft", "Gelu", True),
        ("com.microsoft", "PyOp", False),
        ("ai.onnx.preview.training", "Adam", False),
        ("evil.ops", "Run", False),
    ],
)
def test_operators_are_those_of_known_domains(domain: str, operator: str, is_allowed: bool) -> None:
    model = graphs.graph_model([helper.make_node(operator, ["x"], ["y"], domain=domain)])
    assert (reasons_against(model) == []) is is_allowed


def test_a_models_own_functions_are_known() -> None:
    body = [helper.make_node("Neg", ["a"], ["b"])]
    function = helper.make_function("local", "F", ["a"], ["b"], body, [helper.make_opsetid("", 21)])
    call = helper.make_node("F", ["x"], ["y"], domain="local")
    assert reasons_against(graphs.graph_model([call], functions=[function])) == []
    other = helper.make_node("G", ["x"], ["y"], domain="local")
    assert any("local::G" in reason for reason in reasons_against(graphs.graph_model([other], functions=[function])))


def test_functions_that_call_each_other_in_a_circle_are_refused() -> None:
    """Inlining them has overflowed the stack of a runtime."""

    def calls(name: str, other: str) -> onnx.FunctionProto:
        body = [helper.make_node(other, ["a"], ["b"], domain="local")]
        return helper.make_function("local", name, ["a"], ["b"], body, [helper.make_opsetid("", 21)])

    model = graphs.graph_model([helper.make_node("F", ["x"], ["y"], domain="local")])
    model.functions.extend([calls("F", "G"), calls("G", "F")])
    assert any("circle" in reason for reason in reasons_against(model))


@pytest.mark.parametrize("name", ["x\ny", 'x"y', "<script>", "x y", "", "x" * 201, "ü"])
def test_names_that_could_break_a_log_or_a_page_are_refused(name: str) -> None:
    """Names reach metrics, logs and pages through the model file."""
    outside = helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 2])
    for model in (graphs.graph_model([], inputs=[outside]), graphs.graph_model([], outputs=[outside])):
        reasons = reasons_against(model)
        assert any("has a name" in reason for reason in reasons)
        assert all(reason.isascii() and reason.isprintable() and not set(reason) & set('"<>') for reason in reasons)


def test_an_input_without_a_shape_is_refused() -> None:
    unshaped = helper.make_tensor_value_info("x", TensorProto.FLOAT, None)
    assert any("no shape" in reason for reason in reasons_against(graphs.graph_model([], inputs=[unshaped])))


def test_at_most_twenty_reasons_are_given() -> None:
    nodes = [helper.make_node(f"Op{number}", ["x"], ["y"], domain="evil") for number in range(100)]
    assert len(reasons_against(graphs.graph_model(nodes))) == 20


@pytest.mark.parametrize("body", [b"", b"hello", b"\x00" * 100, graphs.identity().SerializeToString()[:30]])
def test_what_is_no_model_is_not_parsed(body: bytes) -> None:
    assert parse(body) is None


def test_class_labels_are_those_of_the_last_ml_operator() -> None:
    first = helper.make_node("LinearClassifier", ["x"], ["a"], domain="ai.onnx.ml", classlabels_ints=[7, 8])
    last = helper.make_node("ZipMap", ["a"], ["y"], domain="ai.onnx.ml", classlabels_strings=["no", "yes"])
    assert class_labels(graphs.graph_model([first, last])) == ("no", "yes")
    assert class_labels(graphs.graph_model([first])) == (7, 8)


def test_class_labels_may_be_a_constant() -> None:
    """Networks and neighbours pick their label from a list of classes."""
    numbers = numpy_helper.from_array(np.array([3, 5], np.int64), "classes")
    texts = numpy_helper.from_array(np.array(["a", "b"], dtype=object), "classes1")
    assert class_labels(graphs.graph_model([], initializers=[numbers])) == (3, 5)
    assert class_labels(graphs.graph_model([], initializers=[texts])) == ("a", "b")
    assert class_labels(graphs.identity()) == ()


def test_known_texts_are_the_first_categories_of_each_encoder() -> None:
    nodes = [
        helper.make_node("OneHotEncoder", ["x"], ["a"], domain="ai.onnx.ml", cats_strings=["ulm", "bonn"]),
        helper.make_node("OneHotEncoder", ["x"], ["b"], domain="ai.onnx.ml", cats_int64s=[1, 2]),
        helper.make_node("OneHotEncoder", ["x"], ["y"], domain="ai.onnx.ml", cats_strings=["red"]),
    ]
    assert known_texts(graphs.graph_model(nodes)) == ["ulm", "red"]


def test_a_model_with_nothing_to_set_right_is_not_changed() -> None:
    assert repaired(graphs.identity()) is None
