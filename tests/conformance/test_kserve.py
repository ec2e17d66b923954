"""KServe's `InferenceRESTClient` against the server, as its users write it."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of its own dependencies, while it is imported
    kserve = pytest.importorskip("kserve", reason="`make conformance` installs kserve", exc_type=ImportError)
    codec = pytest.importorskip("kserve.utils.numpy_codec")


def request_of(model: str, inputs: list[Any], *, is_binary: bool, **options: Any) -> Any:
    parameters = {"binary_data_output": True} if is_binary else None
    return kserve.InferRequest(model_name=model, infer_inputs=inputs, parameters=parameters, **options)


def input_of(name: str, array: Any, datatype: str, *, is_binary: bool) -> Any:
    tensor = kserve.InferInput(name, list(array.shape), datatype)
    tensor.set_data_from_numpy(array, binary_data=is_binary)
    return tensor


def numbers(response: Any, name: str) -> Any:
    return next(output for output in response.outputs if output.name == name).as_numpy()


async def infer(client: Any, server: Any, request: Any) -> Any:
    return await client.infer(server.url, request, model_name=request.model_name)


@pytest.fixture
async def client() -> Any:
    config = kserve.RESTConfig(protocol="v2", retries=1, timeout=30)
    opened = kserve.InferenceRESTClient(config)
    yield opened
    await opened.close()


async def test_health(server: Any, client: Any, has: Any) -> None:
    """It reads the keys `live` and `ready` of JSON answers."""
    assert await client.is_server_live(server.url)
    assert await client.is_server_ready(server.url)
    assert not await client.is_model_ready(server.url, "no_such_model")
    if has("conformance_sums"):
        assert await client.is_model_ready(server.url, "conformance_sums")


@pytest.mark.needs("sums")
@pytest.mark.parametrize("is_binary", [False, True], ids=["json", "binary"])
async def test_several_inputs_and_outputs(server: Any, client: Any, is_binary: bool) -> None:
    array = np.array([[1, 2, 3, 4]], np.int32)
    inputs = [input_of(name, array, "INT32", is_binary=is_binary) for name in "ab"]
    response = await infer(client, server, request_of("conformance_sums", inputs, is_binary=is_binary))
    assert response.model_name == "conformance_sums"
    assert numbers(response, "sum").tolist() == [[2, 4, 6, 8]]
    assert numbers(response, "difference").tolist() == [[0, 0, 0, 0]]


@pytest.mark.needs("types")
async def test_half_floats_and_texts_in_binary(server: Any, client: Any) -> None:
    types = server.get("/v2/models/conformance_types").json()["inputs"]
    arrays = {one["name"]: np.array([[0, 1]], codec.to_np_dtype(one["datatype"])) for one in types}
    arrays["in_bytes"] = np.array([["", "grün"]], np.object_)
    arrays["in_fp32"] = np.array([[np.nan, np.inf]], np.float32)
    inputs = [input_of(one["name"], arrays[one["name"]], one["datatype"], is_binary=True) for one in types]
    response = await infer(client, server, request_of("conformance_types", inputs, is_binary=True))
    for one in types:
        found = numbers(response, one["name"].replace("in_", "out_"))
        if one["datatype"] == "BYTES":
            found = np.array([item.decode() if isinstance(item, bytes) else item for item in found.ravel()], np.object_)
        np.testing.assert_array_equal(found.ravel(), arrays[one["name"]].ravel(), err_msg=one["name"])


@pytest.mark.needs("sums")
async def test_an_error_keeps_its_reason(server: Any, client: Any) -> None:
    wrong = [input_of("a", np.zeros((1, 3), np.int32), "INT32", is_binary=False)]
    with pytest.raises(Exception, match="400"):
        await infer(client, server, request_of("conformance_sums", wrong, is_binary=False))
