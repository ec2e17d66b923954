"""The binary tensor extension: golden bytes in and out, mixed with JSON, raw, compressed, and wrong."""

from __future__ import annotations

import gzip
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.needs("binary")

GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.json"))
LENGTH = "Inference-Header-Content-Length"
ROWS = struct.pack("<6f", 1, 2, 3, 4, 5, 6)
NEGATED = struct.pack("<6f", -1, -2, -3, -4, -5, -6)


def split(answer: Any) -> tuple[dict[str, Any], bytes]:
    assert answer.status_code == 200, answer.content[:500]
    assert int(answer.headers["content-length"]) == len(answer.content)
    length = int(answer.headers[LENGTH.lower()])
    return json.loads(answer.content[:length]), answer.content[length:]


def post(server: Any, model: str, header: Any, data: bytes, **headers: str) -> Any:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return server.infer(model, content=text + data, headers={LENGTH: str(len(text)), **headers})


def fixed(**changed: Any) -> dict[str, Any]:
    tensor = {"name": "x", "shape": [3, 2], "datatype": "FP32", "parameters": {"binary_data_size": 24}}
    return {"inputs": [{**tensor, **changed.pop("tensor", {})}], **changed}


@pytest.mark.parametrize("file", GOLDEN, ids=lambda file: file.stem)
def test_golden_bytes(server: Any, has: Any, file: Path) -> None:
    """The request's bytes are fixed, and so are the answer's; a NaN may be any NaN."""
    golden = json.loads(file.read_text())
    if not has(golden["model"]):
        pytest.skip(f"the server does not serve {golden['model']}")
    header, data = split(post(server, golden["model"], golden["header"], bytes.fromhex(golden["request"])))
    found = {}
    for output in header["outputs"]:
        size = output["parameters"]["binary_data_size"]
        assert "data" not in output
        found[output["name"]], data = (output, data[:size]), data[size:]
    assert data == b"", "more data than the header says"
    for wanted, answer in zip(golden["outputs"], golden["answers"], strict=True):
        output, content = found[wanted["name"]]
        assert (output["datatype"], output["shape"]) == (wanted["datatype"], wanted["shape"])
        assert _plain(content, wanted["datatype"]) == _plain(bytes.fromhex(answer), wanted["datatype"]), wanted["name"]


def _plain(content: bytes, datatype: str) -> list[str] | bytes:
    if datatype != "FP32":
        return content
    return [
        "nan" if value != value else struct.pack("<f", value).hex() for (value,) in struct.iter_unpack("<f", content)
    ]


@pytest.mark.needs("fixed")
def test_all_outputs_binary_by_a_parameter_of_the_request(server: Any) -> None:
    header, data = split(post(server, "conformance_fixed", fixed(parameters={"binary_data_output": True}), ROWS))
    assert header["outputs"][0]["parameters"]["binary_data_size"] == 24
    assert data == NEGATED


@pytest.mark.needs("sums")
@pytest.mark.parametrize("default", [True, False])
def test_an_outputs_own_word_wins(server: Any, default: bool) -> None:
    inputs = [{"name": n, "shape": [1, 4], "datatype": "INT32", "data": [4, 3, 2, 1]} for n in "ab"]
    outputs = [
        {"name": "sum", "parameters": {"binary_data": not default}},
        {"name": "difference", "parameters": {"binary_data": default}},
    ]
    sent = {"inputs": inputs, "outputs": outputs, "parameters": {"binary_data_output": default}}
    header, data = split(post(server, "conformance_sums", sent, b""))
    found = {one["name"]: one for one in header["outputs"]}
    assert ("data" in found["sum"], "data" in found["difference"]) == (default, not default)
    assert data == (struct.pack("<4i", 8, 6, 4, 2) if not default else struct.pack("<4i", 0, 0, 0, 0))


@pytest.mark.needs("sums")
def test_binary_and_json_inputs_in_one_request(server: Any) -> None:
    """The answer is JSON, for binary outputs were not asked for."""
    inputs = [
        {"name": "a", "shape": [1, 4], "datatype": "INT32", "data": [9, 9, 9, 9]},
        {"name": "b", "shape": [1, 4], "datatype": "INT32", "parameters": {"binary_data_size": 16}},
    ]
    answer = post(server, "conformance_sums", {"inputs": inputs}, struct.pack("<4i", 1, 2, 3, 4))
    assert answer.status_code == 200, answer.text
    found = {one["name"]: one["data"] for one in answer.json()["outputs"]}
    (row,) = found["difference"] if isinstance(found["difference"][0], list) else [found["difference"]]
    assert row == [8, 7, 6, 5]


@pytest.mark.needs("fixed")
@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_the_header_length_counts_the_inflated_json(server: Any, encoding: str, pack: Any) -> None:
    text = json.dumps(fixed(parameters={"binary_data_output": True})).encode()
    headers = {LENGTH: str(len(text)), "Content-Encoding": encoding}
    _, data = split(server.infer("conformance_fixed", content=pack(text + ROWS), headers=headers))
    assert data == NEGATED


@pytest.mark.needs("fixed")
def test_a_raw_body_of_numbers(server: Any) -> None:
    _, data = split(server.infer("conformance_fixed", content=ROWS, headers={LENGTH: "0"}))
    assert data == NEGATED


@pytest.mark.needs("text")
def test_a_raw_body_of_text_is_one_element(server: Any) -> None:
    _, data = split(server.infer("conformance_text", content="grün".encode(), headers={LENGTH: "0"}))
    assert data == struct.pack("<I", 5) + "grün".encode()


@pytest.mark.needs("sums")
def test_a_raw_body_can_not_be_two_inputs(server: Any) -> None:
    assert 400 <= server.infer("conformance_sums", content=bytes(32), headers={LENGTH: "0"}).status_code < 500


WRONG: dict[str, tuple[Any, bytes, dict[str, str]]] = {
    "too few bytes": (fixed(), ROWS[:-1], {}),
    "too many bytes": (fixed(), ROWS + b"x", {}),
    "a size that is not the shape's": (fixed(tensor={"parameters": {"binary_data_size": 20}}), ROWS[:20], {}),
    "a negative size": (fixed(tensor={"parameters": {"binary_data_size": -24}}), ROWS, {}),
    "a size that is no number": (fixed(tensor={"parameters": {"binary_data_size": "24"}}), ROWS, {}),
    "a huge size": (fixed(tensor={"parameters": {"binary_data_size": 2**63}}), ROWS, {}),
    "a huge shape": (fixed(tensor={"shape": [2**31, 2**31]}), ROWS, {}),
    "a header longer than the body": (fixed(), ROWS, {LENGTH: "99999"}),
    "a negative header length": (fixed(), ROWS, {LENGTH: "-5"}),
    "a header length that is no number": (fixed(), ROWS, {LENGTH: "all"}),
    "a header length amid the JSON": (fixed(), ROWS, {LENGTH: "7"}),
    "gzip that is none": (fixed(), ROWS, {"Content-Encoding": "gzip"}),
}


@pytest.mark.needs("fixed")
@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_wrong_bytes_are_the_callers_fault(server: Any, wrong: tuple[Any, bytes, dict[str, str]]) -> None:
    header, data, headers = wrong
    answer = post(server, "conformance_fixed", header, data, **headers)
    assert 400 <= answer.status_code < 500, answer.text
    assert isinstance(answer.json()["error"], str)


@pytest.mark.needs("types")
@pytest.mark.parametrize("data", [b"\xff\xff\xff\xff", b"\x01\x00\x00\x00", b"\x01\x00\x00\x00ab", b"\x01"])
def test_lengths_of_texts_that_lead_out_of_the_body(server: Any, data: bytes) -> None:
    parameters = {"binary_data_size": len(data)}
    sent = {"inputs": [{"name": "x", "shape": [1], "datatype": "BYTES", "parameters": parameters}]}
    assert 400 <= post(server, "conformance_text", sent, data).status_code < 500
