"""The check of a model, in this process: findings for models that do no harm."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from onnx import helper, numpy_helper

from gateway.execution.examine import examine
from gateway.execution.finding import Findings
from gateway.registry.manifest import Example, Feature, Manifest
from tests.execution import graphs

DRAFT = Manifest(model="m")
IDENTITY = graphs.identity().SerializeToString()


def refused(model: bytes, reference: bytes | None = None, draft: Manifest = DRAFT) -> str:
    findings = examine(model, draft, reference)
    assert findings.manifest is None
    return "; ".join(findings.reasons)


def test_findings_are_the_draft_with_its_signature() -> None:
    findings = examine(IDENTITY, DRAFT, None)
    assert findings.reasons == ()
    assert findings.manifest is not None
    assert [feature.name for feature in findings.manifest.features] == ["f0", "f1"]
    assert (findings.model, findings.warmup) == (None, [])


def test_findings_survive_the_way_through_the_pipe() -> None:
    """They are made in the child and read in the gateway."""
    findings = examine(graphs.mixed_columns(ignore_unknown=False), DRAFT, None)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(findings), type=Findings) == findings


def test_declared_doubles_are_set_right_and_only_they() -> None:
    """What 64-bit data makes of a plain export; the same file with 32-bit data is left as it is."""
    from sklearn.linear_model import LogisticRegression

    x, y = graphs.iris_like()
    broken = graphs.exported(LogisticRegression(), x, y)
    findings = examine(broken, DRAFT, None)
    assert findings.model not in (None, broken)
    assert examine(broken, DRAFT, None).model == findings.model, "the same file twice is the same version"
    assert examine(graphs.exported(LogisticRegression(), x.astype(np.float32), y), DRAFT, None).model is None


RESHAPES = graphs.reshapes().SerializeToString()
TABLE = Example(name="x", datatype="FP32", shape=(2, 3), data=[1, 2, 3, 4, 5, 6])
TO = Example(name="to", datatype="INT64", shape=(3,), data=[3, -1, 1])


def test_a_model_without_rows_is_tried_on_the_manifests_example() -> None:
    """Nobody can guess inputs that fit one another."""
    assert "`example`" in refused(RESHAPES)
    findings = examine(RESHAPES, msgspec.structs.replace(DRAFT, example=(TO, TABLE)), None)
    assert findings.manifest is not None
    assert findings.manifest.features == ()


@pytest.mark.parametrize(
    ("example", "told"),
    [
        ((TABLE,), "does not run on the manifest's example"),
        ((TABLE, msgspec.structs.replace(TO, data=[4, 2, 1])), "does not run on the manifest's example"),
        ((TABLE, msgspec.structs.replace(TO, data=[3])), "/example/1/data has 1 elements"),
        ((TABLE, msgspec.structs.replace(TO, datatype="INT65")), "/example/1/datatype"),
        ((msgspec.structs.replace(TABLE, shape=(200, 300)), TO), "more than 10000 elements"),
    ],
)
def test_an_example_that_does_not_run_is_refused_with_the_reason(example: tuple[Example, ...], told: str) -> None:
    assert told in refused(RESHAPES, draft=msgspec.structs.replace(DRAFT, example=example))


def test_the_row_that_a_strict_encoder_needs_is_found_in_the_model() -> None:
    findings = examine(graphs.mixed_columns(ignore_unknown=False), DRAFT, None)
    assert findings.warmup == [[0, "bonn", 0]]
    assert examine(graphs.mixed_columns(ignore_unknown=True), DRAFT, None).warmup == []


def test_a_model_that_fails_on_everything_made_up_needs_a_sample() -> None:
    """Index i + 2: zeros and ones are inside a table of 2 only when i is negative."""
    two = numpy_helper.from_array(np.array(2, np.int64), "two")
    table = numpy_helper.from_array(np.array([1.0, 2.0], np.float32), "table")
    nodes = [helper.make_node("Add", ["i", "two"], ["k"]), helper.make_node("Gather", ["table", "k"], ["y"])]
    whole = helper.make_tensor_value_info("i", 7, [None, 1])
    model = graphs.graph_model(
        nodes, [whole], [helper.make_tensor_value_info("y", 1, [None, 1])], [two, table]
    ).SerializeToString()
    assert "reference sample" in refused(model)
    findings = examine(model, DRAFT, b'{"warmup": [[-1]]}')
    assert findings.manifest is not None


@pytest.mark.parametrize(
    ("model", "reference", "text"),
    [
        (b"junk", None, "not an ONNX model"),
        (graphs.graph_model([helper.make_node("Nope", ["x"], ["y"])]).SerializeToString(), None, "can not load"),
        (graphs.graph_model([helper.make_node("Run", ["x"], ["y"], domain="e")]).SerializeToString(), None, "e::Run"),
        (IDENTITY, b"{", "reference.json"),
        (IDENTITY, b'{"warmup": [["x", 1]]}', "row 0 of the reference does not fit the columns f0, f1"),
        (graphs.gathers().SerializeToString(), b'{"warmup": [[9]]}', "does not run on warm-up row 0"),
    ],
)
def test_what_is_wrong_is_said(model: bytes, reference: bytes | None, text: str) -> None:
    assert text in refused(model, reference)


def test_features_that_do_not_fit_are_refused() -> None:
    draft = msgspec.structs.replace(DRAFT, features=(Feature(name="a"),))
    assert "the model takes 2 columns" in refused(IDENTITY, draft=draft)


def test_a_width_that_only_a_run_shows_counts_for_the_guess() -> None:
    """A label and a table of free width: three columns in the run, so three classes."""
    weights = numpy_helper.from_array(np.ones((2, 3), np.float32), "w")
    classes = numpy_helper.from_array(np.array([4, 5, 6], np.int64), "classes")
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["p"]),
        helper.make_node("ArgMax", ["p"], ["l"], axis=1, keepdims=0),
    ]
    outputs = [helper.make_tensor_value_info("l", 7, [None]), helper.make_tensor_value_info("p", 1, [None, None])]
    model = graphs.graph_model(nodes, outputs=outputs, initializers=[weights, classes])
    findings = examine(model.SerializeToString(), DRAFT, None)
    assert findings.manifest is not None
    assert findings.manifest.prediction is not None
    assert findings.manifest.prediction.classes == (4, 5, 6)
