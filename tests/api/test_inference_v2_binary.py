"""The binary tensor extension, raw bodies and compressed requests at the door of infer."""

from __future__ import annotations

import gzip
import json
import struct
import zlib
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest

INFER = "/v2/models/electricity/infer"
ROWS = struct.pack("<4f", 0.25, 0.5, 0.75, 1.0)


def binary(
    *parts: bytes, sent: dict[str, Any] | None = None, headers: dict[str, str] | None = None, **fields: Any
) -> dict[str, Any]:
    """Keyword arguments of a post: JSON, then the parts."""
    tensor = {"name": "X", "shape": [2, 2], "datatype": "FP32", "parameters": {"binary_data_size": 16}}
    text = json.dumps({"inputs": [{**tensor, **fields}], **(sent or {})}).encode()
    length = {"Inference-Header-Content-Length": str(len(text)), **(headers or {})}
    return {"content": b"".join((text, *parts)), "headers": length}


def split(answer: httpx.Response) -> tuple[dict[str, Any], bytes]:
    length = int(answer.headers["inference-header-content-length"])
    return json.loads(answer.content[:length]), answer.content[length:]


async def test_binary_inputs_are_read_exactly(client: httpx.AsyncClient, serving: Any) -> None:
    answer = await client.post(INFER, **binary(ROWS))
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert serving.asked[0].tensors["X"].tolist() == [[0.25, 0.5], [0.75, 1.0]]


async def test_all_outputs_come_back_binary_when_asked(client: httpx.AsyncClient) -> None:
    """Offsets follow the order of the outputs; Content-Length counts everything."""
    answer = await client.post(INFER, **binary(ROWS, sent={"parameters": {"binary_data_output": True}}))
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/octet-stream"
    head, data = split(answer)
    assert head["outputs"] == [
        {"name": "label", "datatype": "INT64", "shape": [2], "parameters": {"binary_data_size": 16}},
        {"name": "probabilities", "datatype": "FP32", "shape": [2, 2], "parameters": {"binary_data_size": 16}},
    ]
    assert data == struct.pack("<2q4f", 1, 1, 0.5, 0.5, 0.5, 0.5)
    assert int(answer.headers["content-length"]) == len(answer.content)


@pytest.mark.parametrize("default", [True, False])
async def test_an_outputs_own_word_wins_over_the_requests(client: httpx.AsyncClient, default: bool) -> None:
    outputs = [
        {"name": "probabilities", "parameters": {"binary_data": True}},
        {"name": "label", "parameters": {"binary_data": False}},
    ]
    sent = {"parameters": {"binary_data_output": default}, "outputs": outputs}
    head, data = split(await client.post(INFER, **binary(ROWS, sent=sent)))
    assert [output["name"] for output in head["outputs"]] == ["probabilities", "label"]
    assert head["outputs"][1]["data"] == [1, 1]
    assert data == struct.pack("<4f", 0.5, 0.5, 0.5, 0.5)


async def test_non_finite_outputs_are_exact_in_binary(client: httpx.AsyncClient, serving: Any) -> None:
    serving.outputs = {"label": np.array([np.nan, -np.inf]), "probabilities": np.array([np.inf])}
    sent = {"outputs": [{"name": "label", "parameters": {"binary_data": True}}, {"name": "probabilities"}]}
    head, data = split(await client.post(INFER, **binary(ROWS, sent=sent)))
    assert data == struct.pack("<2d", np.nan, -np.inf)
    assert head["outputs"][1]["data"] == [None]
    assert head["parameters"]["non_finite"] == 1, "only what JSON could not carry"


async def test_nan_in_a_binary_input_is_let_through_and_flagged(client: httpx.AsyncClient, serving: Any) -> None:
    serving.flags = ("missing", "out_of_range")
    answer = await client.post(INFER, **binary(struct.pack("<4f", np.nan, 0.5, np.inf, 1.0)))
    assert answer.status_code == 200, answer.text
    assert answer.json()["parameters"]["flags"] == "missing,out_of_range"


async def test_a_raw_body_is_the_one_input(client: httpx.AsyncClient, serving: Any) -> None:
    answer = await client.post(INFER, content=ROWS, headers={"Inference-Header-Content-Length": "0"})
    assert answer.status_code == 200, answer.text
    assert serving.asked[0].tensors["X"].tolist() == [[0.25, 0.5], [0.75, 1.0]]
    head, data = split(answer)
    assert [output["parameters"]["binary_data_size"] for output in head["outputs"]] == [16, 16]
    assert len(data) == 32


async def test_binary_and_json_inputs_may_be_mixed(client: httpx.AsyncClient, serving: Any) -> None:
    """The header may also be given when nothing is binary."""
    answer = await client.post(INFER, **binary(data=[0.25, 0.5, 0.75, 1.0], parameters={}))
    assert answer.status_code == 200, answer.text
    assert serving.asked[0].tensors["X"].ravel().tolist() == [0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize(
    ("encoding", "pack"), [("gzip", gzip.compress), ("GZIP", gzip.compress), ("deflate", zlib.compress)]
)
async def test_a_compressed_body_is_inflated_before_it_is_split(
    client: httpx.AsyncClient, serving: Any, encoding: str, pack: Callable[[bytes], bytes]
) -> None:
    """The length in the header is that of the plain JSON."""
    sent = binary(ROWS, headers={"Content-Encoding": encoding})
    answer = await client.post(INFER, content=pack(sent["content"]), headers=sent["headers"])
    assert answer.status_code == 200, answer.text
    assert serving.asked[0].tensors["X"].ravel().tolist() == [0.25, 0.5, 0.75, 1.0]


async def test_a_body_of_several_gzip_members_is_read_whole(client: httpx.AsyncClient, serving: Any) -> None:
    sent = binary(ROWS, headers={"Content-Encoding": "gzip"})
    packed = gzip.compress(sent["content"][:20]) + gzip.compress(sent["content"][20:])
    assert (await client.post(INFER, content=packed, headers=sent["headers"])).status_code == 200


@pytest.mark.parametrize(
    ("content", "encoding", "status"),
    [
        (gzip.compress(bytes(50_000_000)), "gzip", 413),
        (gzip.compress(b"") * 10 + gzip.compress(bytes(2000)), "gzip", 413),
        (gzip.compress(b"{}", mtime=0)[:-9], "gzip", 400),
        (gzip.compress(b"{}", mtime=0) + b"junk", "gzip", 400),
        (zlib.compress(b"{}") + b"junk", "deflate", 400),
        (zlib.compress(b"{}"), "gzip", 400),
        (b"", "gzip", 400),
        (b"{}", "gzip", 400),
        (b"{}", "br", 415),
        (b"{}", "gzip, gzip", 415),
    ],
)
async def test_a_bad_compression_is_the_callers_fault(
    open_client: Callable[..., httpx.AsyncClient], content: bytes, encoding: str, status: int
) -> None:
    """The bomb is refused by the limit of the plain body, long before it is large."""
    client = open_client(max_body_bytes=1024 if status == 413 and len(content) < 1000 else 100_000)
    answer = await client.post(INFER, content=content, headers={"Content-Encoding": encoding})
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ["error"]


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (binary(ROWS[:-1]), "binary_data_size is 16, the body has 15"),
        (binary(ROWS, b"x"), "1 bytes of binary data that no input takes"),
        (binary(ROWS, shape=[2, 3]), "/inputs/0 has 16 bytes"),
        (binary(ROWS, shape=[4]), "/inputs/0/shape"),
        (binary(ROWS, data=[1.0]), "binary_data_size"),
        (binary(ROWS, parameters={"binary_data_size": True}), "binary_data_size"),
        (binary(ROWS, parameters={"binary_data_size": -1}), "binary_data_size"),
        (binary(ROWS, parameters={"binary_data_size": 2**70}), "binary_data_size"),
        (binary(parameters={}), "/inputs/0/data"),
        (binary(parameters={"shared_memory_region": "r"}), "shared_memory_region"),
        (binary(ROWS, sent={"outputs": [{"name": "label", "parameters": {"binary_data": 1}}]}), "binary_data"),
        (binary(ROWS, sent={"outputs": [{"name": "label", "parameters": {"classification": 2}}]}), "classification"),
        (binary(ROWS, sent={"outputs": [{"name": "label"}, {"name": "label"}]}), "/outputs/1/name"),
        (binary(ROWS, sent={"parameters": {"binary_data_output": "yes"}}), "binary_data_output"),
        (binary(ROWS, headers={"Inference-Header-Content-Length": "9999"}), "Inference-Header-Content-Length"),
        (binary(ROWS, headers={"Inference-Header-Content-Length": "-1"}), "Inference-Header-Content-Length"),
        (binary(ROWS, headers={"Inference-Header-Content-Length": "1e1"}), "Inference-Header-Content-Length"),
        (binary(ROWS, headers={"Inference-Header-Content-Length": "10"}), ""),
        ({"content": b"123", "headers": {"Inference-Header-Content-Length": "0"}}, "3 raw bytes"),
        ({"content": binary(ROWS)["content"]}, ""),
    ],
)
async def test_bad_binary_is_refused_and_named(
    client: httpx.AsyncClient, serving: Any, sent: dict[str, Any], told: str
) -> None:
    answer = await client.post(INFER, **sent)
    assert answer.status_code == 400, answer.text
    assert list(answer.json()) == ["error"]
    assert told in answer.json()["error"]
    assert not serving.asked or "shape" in told, "refused before a version was asked"


async def test_an_unknown_output_is_refused_before_a_version_runs(client: httpx.AsyncClient, serving: Any) -> None:
    answer = await client.post(INFER, **binary(ROWS, sent={"outputs": [{"name": "lable"}]}))
    assert answer.status_code == 400
    assert "lable" in answer.json()["error"]
    assert not serving.asked
