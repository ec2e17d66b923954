"""Loading checks, warms up and measures; running gives tensors or a text of the catalogue."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import msgspec
import numpy as np
import pytest

from gateway.errors import CorruptPackage, ExecutionError
from gateway.execution.session import (
    CAN_NOT_LOAD,
    CAN_NOT_RUN,
    NOT_LOADED,
    WRONG_INPUTS,
    classes_of_maps,
    columns_of_maps,
    load,
    release_memory,
)
from gateway.registry.manifest import Example, Feature, Manifest, PredictionSpec, Tensor
from gateway.registry.package import write_package
from tests.execution import graphs

TWO_COLUMNS = Manifest(
    model="m",
    inputs=(Tensor(name="x", datatype="FP32", shape=(-1, 2)),),
    outputs=(Tensor(name="y", datatype="FP32", shape=(-1, 2)),),
    features=(Feature(name="a", input="x", position=0), Feature(name="b", input="x", position=1)),
)
TABLE = Manifest(
    model="m",
    inputs=(Tensor(name="i", datatype="INT64", shape=(-1, 1)),),
    outputs=(Tensor(name="y", datatype="FP32", shape=(-1, 1)),),
    features=(Feature(name="i", input="i"),),
)


def packaged(directory: Path, model: bytes, manifest: Manifest, reference: bytes | None = None) -> Manifest:
    return write_package(directory / "p", model, manifest, reference)


def test_a_loaded_version_answers_by_output_name(tmp_path: Path) -> None:
    manifest = packaged(tmp_path, graphs.identity().SerializeToString(), TWO_COLUMNS)
    version = load(manifest, tmp_path / "p")
    rows = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)
    assert np.array_equal(version.run({"x": rows})["y"], rows)
    assert version.manifest is manifest
    assert version.version == manifest.version


def test_the_cost_is_the_median_run_of_the_warm_up(tmp_path: Path) -> None:
    """The executor's choice of loop or thread hangs on it; one slow run must not decide."""
    manifest = packaged(tmp_path, graphs.identity().SerializeToString(), TWO_COLUMNS)

    def ticks() -> Iterator[int]:
        now = 0
        for number in count():
            # start, then (before, after) of each run: 7 us each, but one of them 900 ms
            now += 0 if number % 2 else 900_000_000 if number == 6 else 7_000
            yield now

    clock = ticks()
    assert load(manifest, tmp_path / "p", 31, lambda: next(clock)).cost_us == 7.0


def test_a_slow_model_is_not_run_so_often(tmp_path: Path) -> None:
    """32 runs of half a second would hold up the pick-up for 16 seconds."""
    manifest = packaged(tmp_path, graphs.identity().SerializeToString(), TWO_COLUMNS)
    calls = count()
    version = load(manifest, tmp_path / "p", 32, lambda: next(calls) * 600_000_000)
    assert version.cost_us == 600_000
    assert next(calls) < 8


def test_the_rows_of_the_reference_warm_a_version_up(tmp_path: Path) -> None:
    """Rows that the model can not run show that they were used: index 9 is outside the table of 4."""
    model = graphs.gathers().SerializeToString()
    good = packaged(tmp_path / "good", model, TABLE, b'{"rows": 2, "warmup": [[1], [3]]}')
    assert load(good, tmp_path / "good" / "p").run({"i": np.array([[3]])})["y"].tolist() == [[3.0]]
    bad = packaged(tmp_path / "bad", model, TABLE, b'{"rows": 1, "warmup": [[9]]}')
    with pytest.raises(ExecutionError, match=CAN_NOT_RUN):
        load(bad, tmp_path / "bad" / "p")


@pytest.mark.parametrize("reference", [b"{", b'{"warmup": 3}', b'{"warmup": [["x"]]}', b'{"warmup": [[]]}'])
def test_warm_up_rows_that_do_not_fit_are_corrupt(tmp_path: Path, reference: bytes) -> None:
    manifest = packaged(tmp_path, graphs.gathers().SerializeToString(), TABLE, reference)
    with pytest.raises(CorruptPackage):
        load(manifest, tmp_path / "p")


def test_another_package_than_the_registry_named_is_refused(tmp_path: Path) -> None:
    """A cache that mixes two versions up must not serve the wrong one."""
    manifest = packaged(tmp_path, graphs.identity().SerializeToString(), TWO_COLUMNS)
    with pytest.raises(CorruptPackage, match="another package"):
        load(msgspec.structs.replace(manifest, digest="0" * 64), tmp_path / "p")


def test_a_damaged_model_is_refused(tmp_path: Path) -> None:
    manifest = packaged(tmp_path, graphs.identity().SerializeToString(), TWO_COLUMNS)
    (tmp_path / "p" / "model.onnx").write_bytes(b"x")
    with pytest.raises(CorruptPackage, match=r"model\.onnx"):
        load(manifest, tmp_path / "p")


def test_what_the_runtime_can_not_load_is_an_execution_error(tmp_path: Path) -> None:
    manifest = packaged(tmp_path, b"no model at all", TWO_COLUMNS)
    with pytest.raises(ExecutionError, match=CAN_NOT_LOAD):
        load(manifest, tmp_path / "p")


@pytest.mark.parametrize(
    ("tensors", "text"),
    [
        ({"i": np.array([[9]])}, CAN_NOT_RUN),
        ({"i": np.array([[1.0]])}, WRONG_INPUTS),
        ({"i": np.array([1, 2])}, WRONG_INPUTS),
        ({"j": np.array([[1]])}, WRONG_INPUTS),
        ({}, WRONG_INPUTS),
    ],
)
def test_failures_have_a_text_of_the_catalogue(tmp_path: Path, tensors: dict[str, np.ndarray], text: str) -> None:
    """The runtime's own words (paths, node names, shapes) have leaked secrets elsewhere."""
    manifest = packaged(tmp_path, graphs.gathers().SerializeToString(), TABLE)
    version = load(manifest, tmp_path / "p")
    with pytest.raises(ExecutionError) as caught:
        version.run(tensors)
    assert str(caught.value) == text


def test_a_closed_version_does_not_run(tmp_path: Path) -> None:
    version = load(packaged(tmp_path, graphs.identity().SerializeToString(), TWO_COLUMNS), tmp_path / "p")
    version.close()
    version.close()
    release_memory()
    with pytest.raises(ExecutionError, match=NOT_LOADED):
        version.run({"x": np.zeros((1, 2), np.float32)})


def test_a_model_that_can_not_run_zeros_is_warmed_up_with_ones(tmp_path: Path) -> None:
    """Only where no rows came with it: here the column of a table that begins at 1 would fail with zeros."""
    from onnx import helper, numpy_helper

    minus = numpy_helper.from_array(np.array(-5, np.int64), "five")
    table = numpy_helper.from_array(np.arange(4, dtype=np.float32), "table")
    scale = numpy_helper.from_array(np.array(5, np.int64), "scale")
    nodes = [
        helper.make_node("Mul", ["i", "scale"], ["m"]),
        helper.make_node("Add", ["m", "five"], ["index"]),
        helper.make_node("Gather", ["table", "index"], ["y"]),
    ]
    whole = helper.make_tensor_value_info("i", 7, [None, 1])
    answer = helper.make_tensor_value_info("y", 1, [None, 1])
    model = graphs.graph_model(nodes, [whole], [answer], [minus, table, scale])
    version = load(packaged(tmp_path, model.SerializeToString(), TABLE), tmp_path / "p")
    assert version.run({"i": np.array([[1]])})["y"].tolist() == [[0.0]]


def test_the_example_of_the_manifest_warms_a_version_up(tmp_path: Path) -> None:
    """A model that runs on nothing made up, and has no rows."""
    example = (
        Example(name="x", datatype="FP32", shape=(2, 3), data=[[1, 2, 3], [4, 5, 6]]),
        Example(name="to", datatype="INT64", shape=(3,), data=[3, 2, 1]),
    )
    inputs = tuple(Tensor(name=one.name, datatype=one.datatype, shape=one.shape) for one in example)
    draft = Manifest(model="m", inputs=inputs, outputs=(Tensor(name="y", datatype="FP32", shape=(-1, -1, -1)),))
    model = graphs.reshapes().SerializeToString()
    manifest = packaged(tmp_path, model, msgspec.structs.replace(draft, example=example))
    assert load(manifest, tmp_path / "p").cost_us > 0
    broken = (example[0], msgspec.structs.replace(example[1], data=[3]))
    manifest = write_package(tmp_path / "q", model, msgspec.structs.replace(draft, example=broken))
    with pytest.raises(CorruptPackage, match="example"):
        load(manifest, tmp_path / "q")


def test_maps_become_columns() -> None:
    """A ZipMap answers a list of maps; all of them are in the same order."""
    rows = [{"a": 0.25, "b": 0.75}, {"a": 1.0, "b": 0.0}]
    assert columns_of_maps(rows, 2).tolist() == [[0.25, 0.75], [1.0, 0.0]]
    assert columns_of_maps(rows, 2).dtype == np.float32
    assert columns_of_maps([], 2).shape == (0, 2)
    assert classes_of_maps(rows).tolist() == ["a", "b"]
    assert classes_of_maps([{0: 0.5, 1: 0.5}]).dtype == np.int64


def test_the_probabilities_of_a_plain_export_are_columns_of_named_classes(tmp_path: Path) -> None:
    from sklearn.linear_model import LogisticRegression

    x, y = graphs.iris_like()
    texts = np.array(["setosa", "versicolor", "virginica"])[y]
    x32 = x.astype(np.float32)
    estimator = LogisticRegression()
    model = graphs.exported(estimator, x32, texts)
    manifest = Manifest(
        model="iris",
        inputs=(Tensor(name="X", datatype="FP32", shape=(-1, 4)),),
        features=tuple(Feature(name=name, input="X", position=place) for place, name in enumerate("abcd")),
        prediction=PredictionSpec(output="output_label", kind="class", probabilities="probabilities"),
        zipmap={"output_probability": "probabilities"},
    )
    version = load(packaged(tmp_path, model, manifest), tmp_path / "p")
    outputs = version.run({"X": x32})
    assert list(outputs) == ["output_label", "probabilities", "classes"]
    assert outputs["classes"].tolist() == ["setosa", "versicolor", "virginica"]
    assert not outputs["classes"].flags.writeable
    assert np.allclose(outputs["probabilities"], estimator.predict_proba(x32), atol=1e-5)
    assert outputs["output_label"].tolist() == estimator.predict(x32).tolist()
