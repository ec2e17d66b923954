"""Valid bodies, broken in every way that Hypothesis thinks of, at /predict and at infer, JSON and binary.

Real models behind the real request path, without a server: whatever comes in, the answer is never a 5xx but 503, has
the right form, and names the place of what is wrong. The models answer whatever fits their signature.
"""

from __future__ import annotations

import asyncio
import copy
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from starlette.types import Message

from gateway.api.serving_app import build_serving_app
from gateway.clock import ManualClock
from gateway.documents.route import Route
from gateway.documents.store import route_name
from gateway.execution.session import LoadedVersion, load
from gateway.names import ModelName
from gateway.registry.manifest import Example, Feature, Manifest, Tensor
from gateway.registry.package import write_package
from gateway.settings import Settings
from tests.execution.graphs import gathers, graph_model, reshapes
from tests.serving.serving_kit import Kit

Headers = list[tuple[bytes, bytes]]

TYPES = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "INT64": TensorProto.INT64,
    "UINT64": TensorProto.UINT64,
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
}
HOUSES = (
    Tensor(name="X", datatype="FP32", shape=(-1, 2)),
    Tensor(name="rooms", datatype="INT64", shape=(-1, 1)),
    Tensor(name="town", datatype="BYTES", shape=(-1, 1)),
)
FEATURES = (
    Feature(name="price", low=0.0, high=1.0, input="X", position=0),
    Feature(name="a/b~c", low=-5.0, high=5.0, may_be_missing=True, input="X", position=1),
    Feature(name="rooms", low=1.0, high=9.0, categories=(1, 2, 3, 9), input="rooms", position=0),
    Feature(name="town", categories=("Bern", "Zürich"), input="town", position=0),
)
FREE = (
    Tensor(name="grid", datatype="FP32", shape=(-1, -1, -1)),
    Tensor(name="ids", datatype="UINT64", shape=(-1,)),
    Tensor(name="half", datatype="FP16", shape=(2, -1)),
    Tensor(name="bytes", datatype="UINT8", shape=(-1, 3)),
    Tensor(name="sure", datatype="BOOL", shape=()),
    Tensor(name="exact", datatype="FP64", shape=(1,)),
)
TEXTS = (Tensor(name="text", datatype="BYTES", shape=(-1,)),)
MODELS: dict[str, tuple[tuple[Tensor, ...], tuple[Feature, ...]]] = {
    "houses": (HOUSES, FEATURES),
    "free": (FREE, ()),
    "texts": (TEXTS, ()),
}
RECORD = {"price": 0.5, "a/b~c": -1, "rooms": 2, "town": "Zürich"}
TENSORS = {
    "grid": [[[0.5, 1.5], [2, 3]]],
    "ids": [2**64 - 1, 0],
    "half": [[1.5], [2]],
    "bytes": [[0, 1, 255]],
    "sure": True,
    "exact": [1e300],
}
PREDICT: list[dict[str, Any]] = [
    {"model": "houses", "inputs": RECORD, "key": "k", "id": "i"},
    {"model": "houses", "inputs": [RECORD, RECORD]},
    {"model": "houses", "inputs": [[0.5, None, 2, "Bern"], [0.25, 1, 9, "Zürich"]]},
    {"model": "free", "inputs": TENSORS},
    {"model": "texts", "inputs": {"text": ["a", "", "\U0001f600"]}},
]
PACKED = {
    "X": struct.pack("<4f", 0.5, 1, 0.25, -1),
    "rooms": struct.pack("<2q", 1, 9),
    "town": struct.pack("<I4sI7s", 4, b"Bern", 7, "Zürich".encode()),
    "grid": struct.pack("<4f", 0.5, 1, float("nan"), float("inf")),
    "ids": struct.pack("<2Q", 0, 2**64 - 1),
    "half": struct.pack("<2e", 1, 2),
    "bytes": bytes([0, 1, 255]),
    "sure": b"\1",
    "exact": struct.pack("<d", 1e300),
    "text": struct.pack("<I1sI", 1, b"a", 0),
}
SHAPES = {"X": [2, 2], "rooms": [2, 1], "town": [2, 1], "grid": [1, 2, 2], "ids": [2], "half": [2, 1]}
SHAPES |= {"bytes": [1, 3], "sure": [], "exact": [1], "text": [2]}
LISTS: dict[str, Any] = {"X": [0.5, 1, 0.25, -1], "rooms": [[1], [9]], "town": ["Bern", "Zürich"], "text": ["a", ""]}
LISTS |= TENSORS


class Sent(NamedTuple):
    """One request."""

    path: str
    body: bytes
    headers: Headers


class Got(NamedTuple):
    """One answer."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes


class RealKit(Kit):
    """A serving process whose versions are real ones."""

    def _load(self, manifest: Manifest, directory: Path) -> LoadedVersion:
        return load(manifest, directory, warm_up_rows=1)


class Gateway:
    """The serving API over memory stores, in this process, in an event loop of its own."""

    def __init__(self, directory: Path) -> None:
        self._runner = asyncio.Runner()
        self._directory = directory
        self._runner.run(self._start())

    async def _start(self) -> None:
        self._kit = RealKit(self._directory, ManualClock())
        for name, (inputs, features) in MODELS.items():
            outputs = tuple(Tensor(name=f"same_{one.name}", datatype=one.datatype, shape=one.shape) for one in inputs)
            await self._publish(_same(inputs), Manifest(model=name, inputs=inputs, outputs=outputs, features=features))
        index = Tensor(name="i", datatype="INT64", shape=(-1, 1))
        await self._publish(gathers().SerializeToString(), Manifest(model="gathers", inputs=(index,)))
        shape = Tensor(name="to", datatype="INT64", shape=(3,))
        given = Example(name="x", datatype="FP32", shape=(2, 3), data=[0] * 6)
        to = Example(name="to", datatype="INT64", shape=(3,), data=[3, 2, 1])
        inputs = (Tensor(name="x", datatype="FP32", shape=(2, 3)), shape)
        await self._publish(
            reshapes().SerializeToString(), Manifest(model="reshapes", inputs=inputs, example=(given, to))
        )
        self._app = build_serving_app(self._kit.serving, Settings(max_body_bytes=20_000))

    async def _publish(self, model: bytes, manifest: Manifest) -> None:
        name = ModelName(manifest.model)
        write_package(self._directory / name, model, manifest)
        await self._kit.stores.registry.publish(self._directory / name)
        await self._kit.put(route_name(name), Route(champion=1, salt="s").encode())
        await self._kit.pickup.pick_up(name)

    def ask(self, sent: Sent) -> Got:
        return self._runner.run(self._ask(sent))

    async def _ask(self, sent: Sent) -> Got:
        scope = {"type": "http", "method": "POST", "path": sent.path, "query_string": b"", "headers": sent.headers}
        parts: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": sent.body}

        async def send(message: Message) -> None:
            parts.append(message)

        await self._app(scope, receive, send)
        return Got(parts[0]["status"], dict(parts[0]["headers"]), b"".join(part["body"] for part in parts[1:]))

    def close(self) -> None:
        self._kit.executor.close()
        self._runner.close()


def _same(inputs: tuple[Tensor, ...]) -> bytes:
    """A model that answers its inputs."""
    nodes = [helper.make_node("Identity", [one.name], [f"same_{one.name}"]) for one in inputs]

    def value(name: str, one: Tensor) -> Any:
        return helper.make_tensor_value_info(name, TYPES[one.datatype], [s if s >= 0 else None for s in one.shape])

    model = graph_model(
        nodes, [value(one.name, one) for one in inputs], [value(f"same_{one.name}", one) for one in inputs]
    )
    return cast(bytes, model.SerializeToString())


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    made = Gateway(tmp_path_factory.mktemp("gateway"))
    yield made
    made.close()


def infer_body(model: str, binary: frozenset[str]) -> tuple[dict[str, Any], bytes]:
    """The JSON, and the data of the inputs that are binary."""
    inputs: list[dict[str, Any]] = []
    data = b""
    for tensor in MODELS[model][0]:
        sent: dict[str, Any] = {"name": tensor.name, "shape": SHAPES[tensor.name], "datatype": tensor.datatype}
        if tensor.name in binary:
            sent["parameters"] = {"binary_data_size": len(PACKED[tensor.name])}
            data += PACKED[tensor.name]
        else:
            sent["data"] = LISTS[tensor.name]
        inputs.append(sent)
    wanted = [{"name": f"same_{one.name}", "parameters": {"binary_data": bool(binary)}} for one in MODELS[model][0]]
    return {"id": "i", "inputs": inputs, "outputs": wanted, "parameters": {"routing_key": "k"}}, data


ODD_NUMBERS = [0, -1, 1, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64, 10**19, 10**30, 1e308, 1e-320, -0.0, 0.1, 1.5]
ODD_TEXTS = ["", "x", "\x00", "\ud800", "../..", "a\r\nb", "ÿ", "\u202e", "NaN", "1", "X", "BYTES", "houses", "é" * 200]
ODD: list[Any] = [None, True, False, [], {}, [[]], [None], [[[[1]]]], {"": 0}, float("nan"), float("-inf")]
VALUES = st.one_of(
    st.sampled_from(ODD_NUMBERS),
    st.sampled_from(ODD_TEXTS),
    st.sampled_from(ODD),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.lists(st.one_of(st.integers(-2, 2), st.text(max_size=2), st.none()), max_size=4),
).map(copy.deepcopy)  # the odd ones are changed further
KEYS = st.one_of(
    st.sampled_from(["inputs", "outputs", "name", "shape", "datatype", "data", "parameters", "binary_data_size"]),
    st.sampled_from(["binary_data", "binary_data_output", "routing_key", "id", "model", "key", "price", "a/b~c"]),
    st.sampled_from(["shared_memory_region", "classification", "priority", "", "~", "/"]),
    st.text(max_size=3),
)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) in a tree."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    found = [(value, key) for key in keys]
    for key in keys:
        found += places(value[key])
    return found


@st.composite
def mutated(draw: st.DrawFn, body: dict[str, Any]) -> dict[str, Any]:
    """The body with up to three changes of its tree."""
    tree = copy.deepcopy(body)
    for _ in range(draw(st.integers(0, 3))):
        there = places(tree)
        if not there:
            break
        container, key = draw(st.sampled_from(there))
        what = draw(st.sampled_from(["put", "remove", "add", "rename", "repeat", "swap"]))
        if what == "put":
            container[key] = draw(VALUES)
        elif what == "remove":
            del container[key]
        elif what == "swap":
            other, place = draw(st.sampled_from(there))
            container[key] = copy.deepcopy(other[place])
        elif isinstance(container, list):
            container.insert(key, copy.deepcopy(container[key]) if what == "repeat" else draw(VALUES))
        elif what == "add":
            container[draw(KEYS)] = draw(VALUES)
        else:
            container[draw(KEYS)] = container[key] if what == "repeat" else container.pop(key)
    return tree


@st.composite
def broken(draw: st.DrawFn, text: bytes) -> bytes:
    """The bytes with up to two changes; mostly none."""
    for _ in range(draw(st.sampled_from([0, 0, 0, 0, 1, 2]))):
        at = draw(st.integers(0, len(text)))
        what = draw(st.sampled_from(["cut", "insert", "remove", "flip"]))
        if what == "cut":
            text = text[:at]
        elif what == "insert":
            odd = [b'"', b"{", b"]", b",", b":", b"NaN", b"-Infinity", b"\xff", b"\xef\xbb\xbf", b"\\", b"0" * 40]
            text = text[:at] + draw(st.sampled_from(odd)) + text[at:]
        elif what == "remove":
            text = text[:at] + text[at + draw(st.integers(1, 9)) :]
        elif at < len(text):
            text = text[:at] + bytes([text[at] ^ draw(st.sampled_from([1, 32, 128]))]) + text[at + 1 :]
    return text


ODD_HEADERS: list[tuple[bytes, bytes]] = [
    (b"x-request-id", b"caf\xe9"),
    (b"x-request-id", b""),
    (b"x-routing-key", b"\xff" * 3000),
    (b"x-model-version", b"1"),
    (b"x-model-version", b"\xb2"),
    (b"x-request-timeout-ms", b"99999999999"),
    (b"traceparent", b"\xff"),
    (b"content-encoding", b"gzip"),
    (b"content-encoding", b"br"),
    (b"inference-header-content-length", b"0"),
    (b"inference-header-content-length", b"-1"),
    (b"inference-header-content-length", b"\xb2"),
    (b"content-type", b"text/plain; charset=utf-16"),
]
SOME_HEADERS: st.SearchStrategy[Headers] = st.lists(st.sampled_from(ODD_HEADERS), max_size=1)


@st.composite
def predict_requests(draw: st.DrawFn) -> Sent:
    """Something like a request to /predict."""
    tree = draw(mutated(draw(st.sampled_from(PREDICT))))
    return Sent("/predict", draw(broken(json.dumps(tree).encode())), draw(SOME_HEADERS))


@st.composite
def infer_requests(draw: st.DrawFn) -> Sent:
    """Something like a request to infer, with none, some or all of the inputs binary."""
    model = draw(st.sampled_from(list(MODELS)))
    names = [tensor.name for tensor in MODELS[model][0]]
    body, data = infer_body(model, draw(st.frozensets(st.sampled_from(names))))
    text = draw(broken(json.dumps(draw(mutated(body))).encode()))
    headers = list(draw(SOME_HEADERS))
    if data:
        length = draw(st.sampled_from([len(text)] * 6 + [len(text) - 1, len(text) + 1, 0, len(text + data) + 1]))
        headers.append((b"inference-header-content-length", str(length).encode()))
    version = draw(st.sampled_from([""] * 8 + ["/versions/1", "/versions/2", "/versions/x"]))
    return Sent(f"/v2/models/{model}{version}/infer", text + draw(broken(data)), headers)


def raw(model: str, body: bytes) -> Sent:
    return Sent(f"/v2/models/{model}/infer", body, [(b"inference-header-content-length", b"0")])


def checked_json(got: Got, content: bytes) -> Any:
    """Strict JSON: a NaN in an answer breaks every client but Python's."""

    def refuse(token: str) -> Any:
        raise AssertionError(f"{token} in an answer")

    assert b"Traceback" not in content
    return json.loads(content, parse_constant=refuse)


def is_there(body: bytes, pointer: str) -> bool:
    """Whether the place, or what should hold it, is in the body; true where the body is not plain JSON."""
    try:
        value = json.loads(body, object_pairs_hook=unique)
    except (ValueError, RecursionError):
        return True
    *parents, last = [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]] or [""]
    for part in parents:
        if isinstance(value, list) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        elif isinstance(value, dict) and part in value:
            value = value[part]
        else:
            return False
    return isinstance(value, (dict, list)) or not last


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a key twice")
    return dict(pairs)


def check_predict(sent: Sent, got: Got) -> None:
    content = checked_json(got, got.body)
    if got.status == 200:
        assert set(content) >= {"id", "model", "version", "role", "reason", "outputs"}
        return
    assert 400 <= got.status < 500 or got.status == 503, (got.status, content)
    assert got.headers[b"content-type"] == b"application/problem+json"
    assert content["status"] == got.status
    assert content["type"].startswith("urn:gateway:problem:")
    assert content["title"]
    assert content["detail"]
    if got.status == 400:
        assert content["errors"], content
        for fault in content["errors"]:
            place = fault["pointer"]
            assert fault["detail"]
            assert place.startswith(("/", "header ")) or place == "", place
            assert place.startswith("header ") or is_there(sent.body, place), (place, sent.body)


def check_infer(sent: Sent, got: Got) -> None:
    if got.headers[b"content-type"] == b"application/octet-stream":
        assert got.status == 200
        length = int(got.headers[b"inference-header-content-length"])
        content = checked_json(got, got.body[:length])
        sizes = [one.get("parameters", {}).get("binary_data_size", 0) for one in content["outputs"]]
        assert length + sum(sizes) == len(got.body) == int(got.headers[b"content-length"])
        return
    assert got.headers[b"content-type"] == b"application/json"
    content = checked_json(got, got.body)
    if got.status == 200:
        assert set(content) >= {"id", "model_name", "outputs", "parameters"}
        return
    assert 400 <= got.status < 500 or got.status == 503, (got.status, content)
    assert set(content) == {"error"}
    assert content["error"]
    if got.status == 400:
        named = ("/", "the body", "the raw body", "the version in the path", "header ")
        assert content["error"].startswith(named) or " (/" in content["error"], content["error"]


BOUNDED = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@example(sent=Sent("/predict", json.dumps({"model": "free", "inputs": {**TENSORS, "sure": "yes"}}).encode(), []))
@given(sent=predict_requests())
@BOUNDED
def test_whatever_comes_to_predict_is_answered_rightly(gateway: Gateway, sent: Sent) -> None:
    check_predict(sent, gateway.ask(sent))


def with_shape(shape: list[int], **fields: Any) -> Sent:
    sent = {"inputs": [{"name": "grid", "datatype": "FP32", "shape": shape, "data": [], **fields}]}
    return Sent("/v2/models/free/infer", json.dumps(sent).encode(), [])


# Found by reading on: no numbers, and no array that numpy could make; and a product too long to be shown.
@example(sent=with_shape([0, 2**62, 2**62]))
@example(sent=with_shape([0, 10**30, 1]))
@example(sent=with_shape([10**4000, 10**4000, 1]))
@given(sent=infer_requests() | st.builds(raw, st.sampled_from(list(MODELS)), st.binary(max_size=40)))
@BOUNDED
def test_whatever_comes_to_infer_is_answered_rightly(gateway: Gateway, sent: Sent) -> None:
    check_infer(sent, gateway.ask(sent))


@pytest.mark.parametrize("body", PREDICT, ids=["record", "records", "rows", "tensors", "texts"])
def test_the_bodies_that_are_broken_here_are_right_themselves(gateway: Gateway, body: dict[str, Any]) -> None:
    """Else nothing behind the first check would ever be reached."""
    got = gateway.ask(Sent("/predict", json.dumps(body).encode(), []))
    assert got.status == 200, got.body


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("is_binary", [False, True])
def test_the_inferences_that_are_broken_here_are_right_themselves(
    gateway: Gateway, model: str, is_binary: bool
) -> None:
    names = frozenset(tensor.name for tensor in MODELS[model][0]) if is_binary else frozenset()
    body, data = infer_body(model, names)
    text = json.dumps(body).encode()
    headers = [(b"inference-header-content-length", str(len(text)).encode())] if is_binary else []
    got = gateway.ask(Sent(f"/v2/models/{model}/infer", text + data, headers))
    assert got.status == 200, got.body
    check_infer(Sent("", b"", []), got)


FAILING: list[tuple[str, dict[str, Any]]] = [
    ("gathers", {"i": [[9]]}),
    ("reshapes", {"x": [[1, 2, 3], [4, 5, 6]], "to": [5, 5, 5]}),
]


@pytest.mark.parametrize(("model", "inputs"), FAILING, ids=["no such index", "no such shape"])
def test_inputs_that_fit_but_make_the_model_fail_are_told_plainly(
    gateway: Gateway, model: str, inputs: dict[str, Any]
) -> None:
    """The signature allows them, so it is the version that fails: 500, counted against it, after its fallbacks.

    The text is the catalogue's: the runtime's own names nodes and files.
    """
    got = gateway.ask(Sent("/predict", json.dumps({"model": model, "inputs": inputs}).encode(), []))
    assert (got.status, got.headers[b"content-type"]) == (500, b"application/problem+json"), got.body
    assert json.loads(got.body) == {
        "type": "urn:gateway:problem:execution-failed",
        "title": "The model failed",
        "status": 500,
        "detail": "the model failed on these inputs",
    }
    shapes = {"i": [1, 1], "x": [2, 3], "to": [3]}
    types = {"i": "INT64", "x": "FP32", "to": "INT64"}
    tensors = [{"name": n, "shape": shapes[n], "datatype": types[n], "data": data} for n, data in inputs.items()]
    got = gateway.ask(Sent(f"/v2/models/{model}/infer", json.dumps({"inputs": tensors}).encode(), []))
    assert (got.status, json.loads(got.body)) == (500, {"error": "the model failed on these inputs"})
