"""The signature: read from the runtime, completed by the publisher, guessed where that is safe."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.execution.signature import (
    Described,
    Refusal,
    read_features,
    read_inputs,
    read_outputs,
    read_prediction,
    read_zipmap,
)
from gateway.registry.manifest import Feature, PredictionSpec, Tensor

TABLE = (Tensor(name="X", datatype="FP32", shape=(-1, 3)),)
COLUMNS = (
    Tensor(name="price", datatype="FP32", shape=(-1, 1)),
    Tensor(name="city", datatype="BYTES", shape=(-1, 1)),
    Tensor(name="rooms", datatype="INT64", shape=(-1,)),
)
TABLES = (Tensor(name="num", datatype="FP32", shape=(-1, 2)), Tensor(name="cat", datatype="BYTES", shape=(-1, 1)))
LABEL = Tensor(name="label", datatype="INT64", shape=(-1,))
SCORES = Tensor(name="scores", datatype="FP32", shape=(-1, 3))
VALUE = Tensor(name="variable", datatype="FP32", shape=(-1, 1))
MAPS = "seq(map(int64,tensor(float)))"


def names(*features: str) -> tuple[Feature, ...]:
    return tuple(Feature(name=name) for name in features)


def test_inputs_are_protocol_tensors() -> None:
    described = [Described("a", "tensor(float)", [None, 3]), Described("b", "tensor(string)", ["batch"])]
    assert read_inputs(described) == (
        Tensor(name="a", datatype="FP32", shape=(-1, 3)),
        Tensor(name="b", datatype="BYTES", shape=(-1,)),
    )


@pytest.mark.parametrize("kind", ["tensor(bfloat16)", "seq(tensor(float))", "optional(tensor(float))", MAPS])
def test_inputs_that_no_client_can_send_are_refused(kind: str) -> None:
    with pytest.raises(Refusal, match="input a"):
        read_inputs([Described("a", kind, [])])


def test_maps_are_answered_as_probabilities_and_classes() -> None:
    described = [Described("label", "tensor(int64)", [None]), Described("out", MAPS, [])]
    zipmap = read_zipmap(described)
    assert zipmap == {"out": "probabilities"}
    outputs = read_outputs(described, zipmap, {"out": 3}, {"label": 1})
    assert [(tensor.name, tensor.datatype, tensor.shape) for tensor in outputs] == [
        ("label", "INT64", (-1,)),
        ("probabilities", "FP32", (-1, 3)),
        ("classes", "INT64", (3,)),
    ]


def test_names_that_are_taken_are_numbered() -> None:
    """Two maps, and an output that is called `classes` already: no answer may hide another."""
    described = [Described("classes", "tensor(int64)", [None]), Described("a", MAPS, []), Described("b", MAPS, [])]
    assert read_zipmap(described) == {"a": "probabilities_2", "b": "probabilities_3"}


def test_an_output_without_a_shape_has_that_of_a_real_run() -> None:
    outputs = read_outputs([Described("y", "tensor(float)", [])], {}, {}, {"y": 2})
    assert outputs[0].shape == (-1, -1)


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        (TABLE, [("f0", "X", 0), ("f1", "X", 1), ("f2", "X", 2)]),
        (COLUMNS, [("price", "price", -1), ("city", "city", -1), ("rooms", "rooms", -1)]),
        (TABLES, [("num_0", "num", 0), ("num_1", "num", 1), ("cat_0", "cat", 0)]),
        ((Tensor(name="X", datatype="FP32", shape=(-1, 1)),), [("f0", "X", 0)]),
        ((Tensor(name="price", datatype="FP32", shape=(-1, 1)),), [("price", "price", -1)]),
        ((Tensor(name="X", datatype="FP32", shape=(-1, -1)),), []),
        ((Tensor(name="X", datatype="FP32", shape=(7, 3)),), []),
        ((Tensor(name="X", datatype="FP32", shape=(-1, 3, 3)),), []),
        ((), []),
    ],
)
def test_features_without_names_are_named_after_columns(
    inputs: tuple[Tensor, ...], expected: list[tuple[str, str, int]]
) -> None:
    features = read_features((), inputs)
    assert [(feature.name, feature.input, feature.position) for feature in features] == expected


def test_texts_are_categorical() -> None:
    assert [feature.kind for feature in read_features((), COLUMNS)] == ["numeric", "categorical", "numeric"]


def test_given_names_follow_the_columns() -> None:
    features = read_features(names("a", "b", "c"), TABLE)
    assert [(feature.name, feature.position) for feature in features] == [("a", 0), ("b", 1), ("c", 2)]


def test_given_names_that_are_the_inputs_names_keep_the_publishers_order() -> None:
    """A recipe's order of features need not be that of the model's inputs."""
    features = read_features(names("rooms", "price", "city"), COLUMNS)
    assert [(feature.name, feature.input) for feature in features] == [
        ("rooms", "rooms"),
        ("price", "price"),
        ("city", "city"),
    ]


def test_places_that_the_publisher_names_are_kept() -> None:
    given = [Feature(name=name, input="X", position=place) for name, place in (("c", 2), ("a", 0), ("b", 1))]
    assert read_features(given, TABLE) == tuple(given)


def test_the_contract_is_kept() -> None:
    given = (Feature(name="a", low=0.0, high=1.0, may_be_missing=True), *names("b", "c"))
    first = read_features(given, TABLE)[0]
    assert (first.low, first.high, first.may_be_missing) == (0.0, 1.0, True)


@pytest.mark.parametrize(
    ("given", "inputs", "text"),
    [
        (names("a", "b"), TABLE, "2 features are given, the model takes 3"),
        (names("a", "b", "a"), TABLE, "same name"),
        (names("a", "b", ""), TABLE, "name is empty"),
        (names("a", "b", "<script>"), TABLE, "quotes, brackets"),
        (names("a", "b", "x\ny"), TABLE, "line ends"),
        (names("a"), (Tensor(name="X", datatype="FP32", shape=(-1, -1)),), "known number of columns"),
        ((Feature(name="a", kind="ordinal"), *names("b", "c")), TABLE, "numeric and categorical"),
        ((Feature(name="a", low=2.0, high=1.0), *names("b", "c")), TABLE, "low is above high"),
        ((Feature(name="a", categories=("x",)), *names("b", "c")), TABLE, "must be numbers"),
        ((Feature(name="city", low=1.0), *names("price", "rooms")), COLUMNS, "takes a text"),
        ((Feature(name="city", categories=(1,)), *names("price", "rooms")), COLUMNS, "must be texts"),
        ([Feature(name=n, input="X", position=0) for n in "abc"], TABLE, "name each column"),
        ([Feature(name=n, input="Y", position=p) for p, n in enumerate("abc")], TABLE, "name each column"),
    ],
)
def test_features_that_do_not_fit_are_refused(given: Any, inputs: tuple[Tensor, ...], text: str) -> None:
    with pytest.raises(Refusal, match=text):
        read_features(given, inputs)


@pytest.mark.parametrize(
    ("outputs", "classes", "expected"),
    [
        (
            (LABEL, SCORES),
            (0, 1, 2),
            PredictionSpec(output="label", kind="class", classes=(0, 1, 2), probabilities="scores"),
        ),
        ((LABEL, SCORES), (0, 1), PredictionSpec(output="label", kind="class", probabilities="scores")),
        ((LABEL,), ("a", "b"), PredictionSpec(output="label", kind="class", classes=("a", "b"))),
        ((LABEL, VALUE), (), PredictionSpec(output="variable", kind="score")),
        ((VALUE,), (), PredictionSpec(output="variable", kind="value")),
        ((SCORES,), (), None),
        ((VALUE, SCORES), (), None),
        ((), (), None),
    ],
)  # fmt: skip
def test_the_prediction_is_guessed_where_that_is_safe(
    outputs: tuple[Tensor, ...], classes: tuple[str | int, ...], expected: PredictionSpec | None
) -> None:
    assert read_prediction(None, outputs, {}, classes) == expected


def test_the_publishers_word_on_the_prediction_wins() -> None:
    given = PredictionSpec(output="scores", kind="score")
    assert read_prediction(given, (LABEL, SCORES), {}, (0, 1, 2)) == given
    bare = PredictionSpec(output="label", kind="class", probabilities="scores")
    completed = read_prediction(bare, (LABEL, SCORES), {}, (0, 1, 2))
    assert completed is not None
    assert completed.classes == (0, 1, 2)


@pytest.mark.parametrize(
    "given",
    [
        PredictionSpec(output="nothing", kind="class"),
        PredictionSpec(output="label", kind="class", probabilities="nothing"),
        PredictionSpec(output="label", kind="guess"),
    ],
)
def test_a_prediction_that_the_model_does_not_answer_is_refused(given: PredictionSpec) -> None:
    with pytest.raises(Refusal, match="prediction"):
        read_prediction(given, (LABEL, SCORES), {}, ())
