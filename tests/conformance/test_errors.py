"""Wrong requests: a 4xx with the protocol's error, and the server answers the next one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

INPUT: dict[str, Any] = {"name": "x", "shape": [3, 2], "datatype": "FP32", "data": [0.0] * 6}


def one(**changed: Any) -> dict[str, Any]:
    return {"inputs": [{**INPUT, **changed}]}


def without(field: str) -> dict[str, Any]:
    return {"inputs": [{name: value for name, value in INPUT.items() if name != field}]}


WRONG: dict[str, Any] = {
    "no inputs": {},
    "inputs is no list": {"inputs": {}},
    "an input is missing": {"inputs": []},
    "an input too much": {"inputs": [INPUT, {**INPUT, "name": "z"}]},
    "an input twice": {"inputs": [INPUT, INPUT]},
    "another name": one(name="y"),
    "no name": without("name"),
    "no shape": without("shape"),
    "no datatype": without("datatype"),
    "no data": without("data"),
    "another datatype": one(datatype="FP64"),
    "an unknown datatype": one(datatype="FLOAT"),
    "another rank": one(shape=[6]),
    "another size": one(shape=[2, 3]),
    "a negative size": one(shape=[-3, -2]),
    "a size that is no number": one(shape=["3", 2]),
    "a huge shape": one(shape=[2**31, 2**31]),
    "too few elements": one(data=[0.0] * 5),
    "too many elements": one(data=[0.0] * 7),
    "ragged data": one(data=[[0.0, 0.0], [0.0], [0.0, 0.0, 0.0]]),
    "a text among numbers": one(data=["a", 0, 0, 0, 0, 0]),
    "null among numbers": one(data=[None, 0, 0, 0, 0, 0]),
    "an unknown output": {**one(), "outputs": [{"name": "nothing"}]},
    "nested parameters": {**one(), "parameters": {"a": {"b": 1}}},
}
TEXTS: dict[str, bytes] = {
    "empty": b"",
    "no JSON": b"hello",
    "cut off": b'{"inputs": [',
    "a NaN token": b'{"inputs": [{"name": "x", "shape": [3, 2], "datatype": "FP32", "data": [NaN, 0, 0, 0, 0, 0]}]}',
    "a number": b"7",
    "not UTF-8": b'{"inputs": [{"name": "\xff"}]}',
    "very deep": b'{"inputs": ' + b"[" * 100_000,
}


@pytest.fixture(autouse=True)
def _the_server_goes_on(server: Any) -> Iterator[None]:
    yield
    assert server.infer("conformance_fixed", one()).status_code == 200


def check(answer: Any) -> None:
    assert 400 <= answer.status_code < 500, f"{answer.status_code}: {answer.text[:300]}"
    content = answer.json()
    assert isinstance(content.get("error"), str), content
    assert content["error"]
    assert "Traceback" not in content["error"]


@pytest.mark.needs("fixed")
@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_a_wrong_request_is_the_callers_fault(server: Any, wrong: Any) -> None:
    check(server.infer("conformance_fixed", wrong))


@pytest.mark.needs("fixed")
@pytest.mark.parametrize("content", TEXTS.values(), ids=TEXTS)
def test_a_body_that_is_no_request_is_the_callers_fault(server: Any, content: bytes) -> None:
    check(server.infer("conformance_fixed", content=content))


@pytest.mark.needs("fixed")
@pytest.mark.parametrize("version", ["999999", "none", "0", "-1"])
def test_a_version_that_is_not_there(server: Any, version: str) -> None:
    check(server.infer("conformance_fixed", one(), version=version))


@pytest.mark.needs("fixed")
def test_a_model_that_is_not_there(server: Any) -> None:
    check(server.infer("no_such_model", one()))


@pytest.mark.needs("fixed")
def test_infer_takes_post_only(server: Any) -> None:
    check(server.get("/v2/models/conformance_fixed/infer"))
