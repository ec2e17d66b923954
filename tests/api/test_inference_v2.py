"""The v2 protocol in JSON: its shapes, its errors, the router behind the unversioned infer."""

from __future__ import annotations

from typing import Any

import httpx
import numpy as np
import pytest

INFER = "/v2/models/electricity/infer"


def body(data: Any = ((0.1, 0.2), (0.3, 0.4)), **fields: Any) -> dict[str, Any]:
    tensor = {"name": "X", "shape": [2, 2], "datatype": "FP32", "data": data, **fields}
    return {"inputs": [tensor]}


async def test_infer_goes_through_the_router_and_says_why(client: httpx.AsyncClient, serving: Any) -> None:
    sent = {**body(), "id": "v2-1", "parameters": {"routing_key": "site-17"}}
    answer = await client.post(INFER, json=sent)
    assert answer.status_code == 200
    assert answer.json() == {
        "model_name": "electricity",
        "model_version": "3",
        "id": "v2-1",
        "parameters": {"role": "champion", "reason": "weight", "prediction_id": "v2-1"},
        "outputs": [
            {"name": "label", "datatype": "INT64", "shape": [2], "data": [1, 1]},
            {"name": "probabilities", "datatype": "FP32", "shape": [2, 2], "data": [0.5, 0.5, 0.5, 0.5]},
        ],
    }
    assert answer.headers["x-model-version"] == "3"
    assert serving.asked[0].key == "site-17"
    assert serving.asked[0].pinned is None


async def test_flat_data_and_no_content_type_are_legal(client: httpx.AsyncClient, serving: Any) -> None:
    """Stock clients send both."""
    content = b'{"inputs": [{"name": "X", "shape": [2, 2], "datatype": "FP32", "data": [0.1, 0.2, 0.3, 0.4]}]}'
    assert (await client.post(INFER, content=content)).status_code == 200
    assert serving.asked[0].tensors["X"].tolist() == np.array([[0.1, 0.2], [0.3, 0.4]], np.float32).tolist()


async def test_a_version_in_the_path_is_pinned(client: httpx.AsyncClient, serving: Any) -> None:
    answer = await client.post("/v2/models/electricity/versions/4/infer", json=body())
    assert answer.json()["model_version"] == "4"
    assert serving.asked[0].pinned == 4


async def test_only_the_outputs_asked_for_come_back(client: httpx.AsyncClient) -> None:
    answer = await client.post(INFER, json={**body(), "outputs": [{"name": "label"}]})
    assert [output["name"] for output in answer.json()["outputs"]] == ["label"]
    answer = await client.post(INFER, json={**body(), "outputs": [{"name": "lable"}]})
    assert answer.status_code == 400
    assert "lable" in answer.json()["error"]


async def test_non_finite_outputs_are_null_and_counted(client: httpx.AsyncClient, serving: Any) -> None:
    serving.outputs = {"score": np.array([[np.nan, 1.0], [np.inf, 2.0]])}
    answer = (await client.post(INFER, json=body())).json()
    assert answer["outputs"][0]["data"] == [None, 1.0, None, 2.0]
    assert answer["parameters"]["non_finite"] == 2


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        ({}, "inputs"),
        ({"inputs": []}, ""),
        ({"inputs": [{"name": "X"}]}, "/inputs/0/shape"),
        (body(datatype="FP33"), "/inputs/0/datatype"),
        (body(shape=[2, 3]), "/inputs/0"),
        (body(shape=[-1, 2]), "/inputs/0/shape"),
        (body(shape=[2**62, 2**62]), "/inputs/0"),
        (body([[0.1, 0.2], [0.3]]), "/inputs/0/data"),
        (body([[0.1, 0.2], [0.3, "x"]]), "/inputs/0/data"),
        (body([[0.1, 0.2], [0.3, None]]), "/inputs/0/data"),
        (body(name="Y"), "/inputs/0/name"),
        ({"inputs": [*body()["inputs"], *body()["inputs"]]}, "/inputs/1/name"),
        ({**body(), "id": "a b"}, "id"),
        ({**body(), "parameters": {"nested": {}}}, "parameters"),
    ],
)
async def test_errors_have_the_protocols_shape_and_name_the_tensor(
    client: httpx.AsyncClient, sent: Any, text: str
) -> None:
    answer = await client.post(INFER, json=sent)
    assert answer.status_code == 400, answer.text
    assert list(answer.json()) == ["error"]
    assert text in answer.json()["error"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v2/models/gas", 404),
        ("/v2/models/gas/ready", 404),
        ("/v2/models/electricity/versions/9", 404),
        ("/v2/models/electricity/versions/9/ready", 404),
        ("/v2/models/electricity/versions/none", 400),
        ("/v2/nowhere", 404),
    ],
)
async def test_unknown_things_are_errors_in_the_protocols_shape(
    client: httpx.AsyncClient, path: str, status: int
) -> None:
    answer = await client.get(path)
    assert answer.status_code == status
    assert list(answer.json()) == ["error"]


async def test_infer_by_get_is_405_in_the_protocols_shape(client: httpx.AsyncClient) -> None:
    answer = await client.get(INFER)
    assert answer.status_code == 405
    assert list(answer.json()) == ["error"]


async def test_server_metadata_with_and_without_a_slash(client: httpx.AsyncClient) -> None:
    for path in ("/v2", "/v2/"):
        assert (await client.get(path)).json()["name"] == "gateway"


async def test_model_metadata_is_the_signature(client: httpx.AsyncClient) -> None:
    for path in ("/v2/models/electricity", "/v2/models/electricity/versions/3"):
        found = (await client.get(path)).json()
        assert found["inputs"] == [{"name": "X", "datatype": "FP32", "shape": [-1, 2]}]
        assert found["platform"] == "onnx_onnxv1"
        assert found["versions"] == ["3", "4"]


async def test_health_carries_the_keys_that_clients_read(client: httpx.AsyncClient, serving: Any) -> None:
    assert (await client.get("/v2/health/live")).json()["live"] is True
    assert (await client.get("/v2/health/ready")).json()["ready"] is True
    assert (await client.get("/v2/models/electricity/ready")).status_code == 200
    serving.reasons = ["electricity: no version could be loaded"]
    assert (await client.get("/v2/health/ready")).status_code == 503
    assert (await client.get("/v2/health/live")).status_code == 200


async def test_the_server_says_which_extensions_it_has(client: httpx.AsyncClient) -> None:
    assert "binary_tensor_data" in (await client.get("/v2")).json()["extensions"]
