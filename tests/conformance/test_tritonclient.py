"""`tritonclient[http]` against the server, both its sync and its aio client, as their users write it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

sync = pytest.importorskip("tritonclient.http", exc_type=ImportError)
aio = pytest.importorskip("tritonclient.http.aio", exc_type=ImportError)

from tritonclient.utils import InferenceServerException, np_to_triton_dtype  # noqa: E402

ARRAYS: dict[str, Any] = {
    "BOOL": np.array([[True, False]]),
    "UINT8": np.array([[0, 255]], np.uint8),
    "UINT16": np.array([[0, 65535]], np.uint16),
    "UINT32": np.array([[0, 2**32 - 1]], np.uint32),
    "UINT64": np.array([[2**53 + 1, 2**64 - 1]], np.uint64),
    "INT8": np.array([[-128, 127]], np.int8),
    "INT16": np.array([[-(2**15), 2**15 - 1]], np.int16),
    "INT32": np.array([[-(2**31), 2**31 - 1]], np.int32),
    "INT64": np.array([[-(2**63), 2**63 - 1]], np.int64),
    "FP16": np.array([[0.5, -65504.0]], np.float16),
    "FP32": np.array([[0.1, np.nan]], np.float32),
    "FP64": np.array([[0.1, np.inf]], np.float64),
    "BYTES": np.array([["", "grün 東京"]], np.object_),
}


def input_of(client: Any, name: str, array: Any, **options: Any) -> Any:
    tensor = client.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    tensor.set_data_from_numpy(array, **options)
    return tensor


def texts(array: Any) -> Any:
    """tritonclient answers texts as bytes."""
    if array.dtype != np.object_:
        return array
    return np.array([item.decode() if isinstance(item, bytes) else item for item in array.ravel()]).reshape(array.shape)


@pytest.fixture
def client(server: Any) -> Any:
    with sync.InferenceServerClient(server.url.removeprefix("http://")) as opened:
        yield opened


def test_health_and_metadata(client: Any, has: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.get_server_metadata()["name"]
    assert not client.is_model_ready("no_such_model")
    if has("conformance_sums"):
        assert client.is_model_ready("conformance_sums")
        assert client.is_model_ready("conformance_sums", "1")
        assert client.get_model_metadata("conformance_sums")["name"] == "conformance_sums"


@pytest.mark.needs("types")
@pytest.mark.parametrize("is_binary", [True, False], ids=["binary", "json"])
def test_every_datatype_as_the_client_sends_it(client: Any, is_binary: bool) -> None:
    """By default the client sends and asks for binary tensors; it has no JSON form of FP16."""
    kept = {"FP16", "FP32", "FP64"} if not is_binary else set()
    inputs = [
        input_of(sync, f"in_{name.lower()}", array, binary_data=is_binary or name in kept)
        for name, array in ARRAYS.items()
    ]
    wanted = [
        sync.InferRequestedOutput(f"out_{name.lower()}", binary_data=is_binary or name in kept) for name in ARRAYS
    ]
    result = client.infer("conformance_types", inputs, outputs=wanted, request_id="r-1")
    assert result.get_response()["id"] == "r-1"
    for name, array in ARRAYS.items():
        found = texts(result.as_numpy(f"out_{name.lower()}"))
        np.testing.assert_array_equal(found, texts(array), err_msg=name)


@pytest.mark.needs("sums")
@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compressed_requests_and_a_version(client: Any, algorithm: str) -> None:
    array = np.array([[1, 2, 3, 4]], np.int32)
    result = client.infer(
        "conformance_sums",
        [input_of(sync, "a", array), input_of(sync, "b", array)],
        model_version="1",
        request_compression_algorithm=algorithm,
        response_compression_algorithm=algorithm,
    )
    assert result.as_numpy("sum").tolist() == [[2, 4, 6, 8]]
    assert result.as_numpy("difference").tolist() == [[0, 0, 0, 0]]


@pytest.mark.needs("scalar", "free", "nothing")
def test_unusual_shapes(client: Any) -> None:
    scalar = client.infer("conformance_scalar", [input_of(sync, "x", np.array(1.5, np.float32))])
    assert scalar.as_numpy("y").shape == ()
    assert scalar.as_numpy("y") == 3.0
    empty = client.infer("conformance_free", [input_of(sync, "x", np.empty((2, 0, 3), np.float32))])
    assert empty.as_numpy("shape").tolist() == [2, 0, 3]
    assert client.infer("conformance_nothing", []).as_numpy("y").tolist() == [1, 2, 3]


@pytest.mark.needs("sums")
def test_many_requests_side_by_side(client: Any) -> None:
    array = np.array([[1, 2, 3, 4]], np.int32)
    inputs = [input_of(sync, "a", array), input_of(sync, "b", array)]
    waiting = [client.async_infer("conformance_sums", inputs) for _ in range(20)]
    assert all(one.get_result().as_numpy("sum").tolist() == [[2, 4, 6, 8]] for one in waiting)


@pytest.mark.needs("sums")
def test_the_client_reads_the_reason_of_an_error(client: Any) -> None:
    with pytest.raises(InferenceServerException) as caught:
        client.infer("conformance_sums", [input_of(sync, "a", np.zeros((1, 3), np.int32))])
    assert "400" in str(caught.value.status())
    assert "a" in caught.value.message()
    with pytest.raises(InferenceServerException):
        client.infer("no_such_model", [])


@pytest.mark.needs("sums")
def test_statistics_count_what_was_inferred(server: Any, client: Any) -> None:
    if "statistics" not in client.get_server_metadata()["extensions"]:
        pytest.skip("the server does not say that it has statistics")
    array = np.array([[1, 2, 3, 4]], np.int32)
    inputs = [input_of(sync, "a", array), input_of(sync, "b", array)]

    def counted() -> int:
        (one,) = client.get_inference_statistics("conformance_sums", "1")["model_stats"]
        count: int = one["inference_stats"]["success"]["count"]
        return count

    before = counted()
    client.infer("conformance_sums", inputs)
    assert counted() == before + 1
    names = {one["name"] for one in client.get_inference_statistics()["model_stats"]}
    assert "conformance_sums" in names


@pytest.mark.needs("sums")
async def test_the_aio_client(server: Any) -> None:
    array = np.array([[1, 2, 3, 4]], np.int32)
    async with aio.InferenceServerClient(server.url.removeprefix("http://")) as client:
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready("conformance_sums")
        assert (await client.get_model_metadata("conformance_sums"))["inputs"]
        for is_binary in (True, False):
            inputs = [input_of(aio, name, array, binary_data=is_binary) for name in "ab"]
            outputs = [aio.InferRequestedOutput("sum", binary_data=is_binary)]
            result = await client.infer("conformance_sums", inputs, outputs=outputs)
            assert result.as_numpy("sum").tolist() == [[2, 4, 6, 8]]
        with pytest.raises(InferenceServerException):
            await client.infer("no_such_model", [])


@pytest.mark.needs("sums")
def test_model_control(server: Any) -> None:
    """Index, load and unload, where the server has them."""
    with sync.InferenceServerClient(server.admin_url.removeprefix("http://")) as client:
        try:
            index = client.get_model_repository_index(headers=server.admin_headers)
        except InferenceServerException as error:
            pytest.skip(f"the server has no model control: {error.message()}")
        states = {one["name"]: one["state"] for one in index}
        assert states["conformance_sums"] == "READY"
        client.load_model("conformance_sums", headers=server.admin_headers)
        if server.started is None:
            return
        with pytest.raises(InferenceServerException) as caught:
            client.unload_model("conformance_sums", headers=server.admin_headers)
        assert "409" in str(caught.value.status())
        with pytest.raises(InferenceServerException) as caught:
            client.unload_model("conformance_sums")
        assert "401" in str(caught.value.status())
