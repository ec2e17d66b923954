"""Inference with JSON tensors: what goes in comes out as the model says, in every shape and type."""

from __future__ import annotations

import math
from typing import Any

import pytest

JSON_VALUES: dict[str, list[Any]] = {
    "BOOL": [True, False],
    "UINT8": [0, 255],
    "UINT16": [0, 65535],
    "UINT32": [0, 2**32 - 1],
    "UINT64": [2**53 + 1, 2**64 - 1],
    "INT8": [-128, 127],
    "INT16": [-(2**15), 2**15 - 1],
    "INT32": [-(2**31), 2**31 - 1],
    "INT64": [-(2**63), 2**63 - 1],
    "FP16": [0.5, -65504.0],
    "FP32": [0.1, 3.4028234663852886e38],
    "FP64": [0.1, 1.7976931348623157e308],
    "BYTES": ["", 'quote " back \\ line\n grün 東京'],
}


def tensor(name: str, datatype: str, shape: list[int], data: Any) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


def outputs_of(answer: Any) -> dict[str, dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    return {one["name"]: one for one in answer.json()["outputs"]}


def flat(data: Any) -> list[Any]:
    return [leaf for item in data for leaf in flat(item)] if isinstance(data, list) else [data]


def every_type(rows: Any = lambda values: [values]) -> list[dict[str, Any]]:
    return [tensor(f"in_{name.lower()}", name, [1, 2], rows(values)) for name, values in JSON_VALUES.items()]


@pytest.mark.needs("types")
@pytest.mark.parametrize("rows", [lambda values: [values], lambda values: values], ids=["nested", "flat"])
def test_every_datatype_at_its_edges(server: Any, rows: Any) -> None:
    """Whole numbers keep every digit, also beyond 2^53; nested and flat data are the same."""
    found = outputs_of(server.infer("conformance_types", {"inputs": every_type(rows)}))
    for name, values in JSON_VALUES.items():
        output = found[f"out_{name.lower()}"]
        assert (output["datatype"], output["shape"]) == (name, [1, 2])
        wanted = [pytest.approx(value, rel=1e-7) for value in values] if name == "FP32" else values
        assert flat(output["data"]) == wanted, name


@pytest.mark.needs("sums")
def test_inputs_are_told_apart_by_name_and_not_by_order(server: Any) -> None:
    a, b = tensor("a", "INT32", [1, 4], [5, 6, 7, 8]), tensor("b", "INT32", [1, 4], [1, 1, 2, 2])
    for inputs in ([a, b], [b, a]):
        found = outputs_of(server.infer("conformance_sums", {"inputs": inputs}))
        assert flat(found["difference"]["data"]) == [4, 5, 5, 6]
        assert flat(found["sum"]["data"]) == [6, 7, 9, 10]


@pytest.mark.needs("sums")
def test_only_the_outputs_that_were_asked_for_come_back(server: Any) -> None:
    inputs = [tensor(name, "INT32", [1, 4], [1, 2, 3, 4]) for name in "ab"]
    for names in (["sum"], ["difference", "sum"], ["sum", "difference"]):
        answer = server.infer("conformance_sums", {"inputs": inputs, "outputs": [{"name": name} for name in names]})
        assert sorted(outputs_of(answer)) == sorted(names)


@pytest.mark.needs("sums")
def test_the_answer_names_model_and_id(server: Any) -> None:
    inputs = [tensor(name, "INT32", [1, 4], [1, 2, 3, 4]) for name in "ab"]
    answer = server.infer("conformance_sums", {"id": "request-7", "inputs": inputs}).json()
    assert answer["model_name"] == "conformance_sums"
    assert answer["id"] == "request-7"
    assert isinstance(answer.get("model_version", ""), str)
    for value in answer.get("parameters", {}).values():
        assert isinstance(value, (str, int, float, bool)), "parameters are never nested"


@pytest.mark.needs("scalar")
def test_a_tensor_without_dimensions(server: Any) -> None:
    output = outputs_of(server.infer("conformance_scalar", {"inputs": [tensor("x", "FP32", [], [1.25])]}))["y"]
    assert output["shape"] == []
    assert flat(output["data"]) == [2.5]


@pytest.mark.needs("free")
@pytest.mark.parametrize("shape", [[1, 1, 1], [2, 3, 1], [0, 2, 3], [2, 0, 3], [2, 3, 0], [0, 0, 0]])
def test_free_dimensions_may_be_anything_zero_too(server: Any, shape: list[int]) -> None:
    count = math.prod(shape)
    sent = tensor("x", "FP32", shape, [float(n) for n in range(count)])
    found = outputs_of(server.infer("conformance_free", {"inputs": [sent]}))
    assert found["turned"]["shape"] == shape[::-1]
    assert len(flat(found["turned"]["data"])) == count
    assert flat(found["shape"]["data"]) == shape


@pytest.mark.needs("free")
def test_data_is_row_major(server: Any) -> None:
    sent = tensor("x", "FP32", [1, 2, 3], [1, 2, 3, 4, 5, 6])
    assert flat(outputs_of(server.infer("conformance_free", {"inputs": [sent]}))["turned"]["data"]) == [
        1,
        4,
        2,
        5,
        3,
        6,
    ]


@pytest.mark.needs("fixed")
def test_a_fixed_first_dimension_is_no_batch(server: Any) -> None:
    data = [float(n) for n in range(6)]
    output = outputs_of(server.infer("conformance_fixed", {"inputs": [tensor("x", "FP32", [3, 2], data)]}))["y"]
    assert output["shape"] == [3, 2]
    assert flat(output["data"]) == [-value for value in data]
    for shape in ([1, 2], [4, 2], [1, 3, 2]):
        wrong = tensor("x", "FP32", shape, [0.0] * math.prod(shape))
        assert 400 <= server.infer("conformance_fixed", {"inputs": [wrong]}).status_code < 500


@pytest.mark.needs("nothing")
def test_a_model_without_inputs(server: Any) -> None:
    assert flat(outputs_of(server.infer("conformance_nothing", {"inputs": []}))["y"]["data"]) == [1, 2, 3]


@pytest.mark.needs("names")
def test_names_with_slashes_dots_and_colons(server: Any) -> None:
    found = outputs_of(
        server.infer("conformance_names", {"inputs": [tensor("scope/x.1:0", "FP32", [1, 2, 1], [1, 2])]})
    )
    assert flat(found["scope/y-2:0"]["data"]) == [1, 2]


@pytest.mark.needs("reciprocal")
def test_the_answer_is_json_whatever_the_model_computed(server: Any) -> None:
    """JSON has neither NaN nor infinity: an error, or a value in their place, but nothing that no parser reads."""

    def refuse(token: str) -> None:
        raise AssertionError(f"{token} is not JSON")

    answer = server.infer("conformance_reciprocal", {"inputs": [tensor("x", "FP32", [2, 1, 1], [0.0, 4.0])]})
    assert answer.status_code < 500
    if answer.status_code == 200:
        content = answer.json(parse_constant=refuse)
        assert flat(content["outputs"][0]["data"])[1] == 0.25


@pytest.mark.needs("sums")
def test_no_content_type_and_unknown_fields_are_no_obstacle(server: Any) -> None:
    """Stock clients send no Content-Type; extensions add fields."""
    part = '{"name": "%s", "shape": [1, 4], "datatype": "INT32", "data": [1, 2, 3, 4], "x-new": {"a": [1]}}'
    content = '{"x-other": null, "inputs": [' + ", ".join(part % name for name in "ab") + "]}"
    assert server.infer("conformance_sums", content=content.encode()).status_code == 200
