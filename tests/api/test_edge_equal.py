"""The fast lane answers as the application does, byte for byte: both on real sockets, over one list of requests."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.app.serving_process import serving_server
from gateway.clock import ManualClock
from gateway.documents.route import Canary, Route
from gateway.errors import Unavailable
from gateway.serving.identity import RequestIds
from gateway.settings import Settings
from tests.serving.serving_kit import Kit

EDGES = ("fast", "asgi")


@asynccontextmanager
async def serving(directory: Path, edge: str, **settings: Any) -> AsyncIterator[tuple[int, Kit]]:
    """The port of a server over memory stores with two versions, champion and canary."""
    directory.mkdir(parents=True)  # noqa: ASYNC240
    kit = Kit(directory, ManualClock())
    kit.serving._ids = RequestIds(kit.clock, b"fixed")  # requests without a key are drawn alike
    await kit.publish(2)
    await kit.route(Route(champion=1, canaries=(Canary(version=2, weight=50),), salt="s"))
    listening = socket.create_server(("127.0.0.1", 0))
    server = serving_server(kit.serving, Settings.model_validate({"edge": edge, **settings}))
    task = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        while not server.started:  # noqa: ASYNC110
            await asyncio.sleep(0)
        yield listening.getsockname()[1], kit
    finally:
        server.should_exit = True
        await task
        listening.close()
        kit.executor.close()


def post(body: object, *headers: str, path: str = "/predict", version: str = "1.1") -> bytes:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"POST {path} HTTP/{version}", "Host: gateway", f"Content-Length: {len(content)}", *headers]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + content


CLOSE = "Connection: close"
RECORD = {"a": 1.0, "b": 2.0}


def infer(
    *headers: str, path: str = "/v2/models/m/infer", tensor: dict[str, object] | None = None, **more: object
) -> bytes:
    """A request of the protocol with one row, or with what is said of its tensor."""
    sent = {"name": "X", "shape": [1, 2], "datatype": "FP32", "data": [1, 2], **(tensor or {})}
    key = {"parameters": {"routing_key": "k"}}
    return post({"inputs": [sent], **key, **more}, CLOSE, *headers, path=path)


def binary_infer(length: int | None = None) -> bytes:
    """The same with its tensor behind the JSON. length: what the header says instead."""
    tensor = {"name": "X", "shape": [1, 2], "datatype": "FP32", "parameters": {"binary_data_size": 8}}
    head = json.dumps({"inputs": [tensor], "id": "b1", "parameters": {"binary_data_output": True}}).encode()
    told = f"Inference-Header-Content-Length: {len(head) if length is None else length}"
    return post(head + struct.pack("<2f", 1, 2), told, CLOSE, path="/v2/models/m/infer")


INFER: dict[str, bytes] = {
    "infer": infer(id="v1"),
    "infer by a version": infer(path="/v2/models/m/versions/1/infer", id="v2"),
    "infer by the header's version": infer("X-Model-Version: 2", id="v3"),
    "infer without an id": infer(),
    "infer, outputs by name": infer(id="v4", outputs=[{"name": "probabilities"}]),
    "infer, one output binary": infer(id="v5", outputs=[{"name": "label", "parameters": {"binary_data": True}}]),
    "infer, an output that is none": infer(outputs=[{"name": "other"}]),
    "infer, binary": binary_infer(),
    "infer, a length beyond the body": binary_infer(9999),
    "infer, a length that is none": binary_infer(-1),
    "infer, a raw body": post(
        struct.pack("<2f", 1, 2), "Inference-Header-Content-Length: 0", CLOSE, path="/v2/models/m/infer"
    ),
    "infer, a wrong type": infer(tensor={"datatype": "FP64"}),
    "infer, a wrong shape": infer(tensor={"shape": [2, 2]}),
    "infer, a text": infer(tensor={"data": ["x", 1]}),
    "infer, too large a number": infer(tensor={"data": [1e39, 1]}),
    "infer, another tensor": infer(tensor={"name": "Y"}),
    "infer, a tensor twice": post(
        {"inputs": [{"name": "X", "shape": [1], "datatype": "FP32", "data": [1]}] * 2}, CLOSE
    ),
    "infer, no JSON": post(b"{", CLOSE, path="/v2/models/m/infer"),
    "infer, no model": infer(path="/v2/models/other/infer"),
    "infer, no such version": infer(path="/v2/models/m/versions/9/infer"),
    "infer, a version that is none": infer(path="/v2/models/m/versions/x/infer"),
    "infer, an escape in the path": infer(path="/v2/models/%6D/infer", id="v6"),
    "infer, a query": infer(path="/v2/models/m/infer?x=1", id="v7"),
    "infer, a model with odd signs": infer(path="/v2/models/m~/infer"),
    "infer, a slash too many": infer(path="/v2/models/m/infer/"),
    "infer, compressed": post(
        gzip.compress(infer(id="v8").partition(b"\r\n\r\n")[2]),
        "Content-Encoding: gzip",
        CLOSE,
        path="/v2/models/m/infer",
    ),
    "infer, another method": b"GET /v2/models/m/infer HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n",
    "infer kept alive": infer(id="v9").replace(CLOSE.encode(), b"X: y") + infer(path="/v2/models/other/infer"),
}
REQUESTS: dict[str, bytes] = {
    "a record": post({"model": "m", "inputs": RECORD, "key": "k", "id": "i1"}, CLOSE),
    "rows": post({"inputs": [[1, 2], [3, 4]], "key": "k2", "id": "i2"}, CLOSE),
    "records": post({"inputs": [RECORD, RECORD], "key": "k3", "id": "i3"}, CLOSE),
    "id and key in headers": post({"inputs": RECORD}, "X-Request-Id: h1", "X-Routing-Key: k", CLOSE),
    "a pinned version": post({"inputs": RECORD, "id": "i4"}, "X-Model-Version: 2", CLOSE),
    "a version that is not loaded": post({"inputs": RECORD, "id": "i5"}, "X-Model-Version: 9", CLOSE),
    "a bad version": post({"inputs": RECORD}, "X-Model-Version: x", CLOSE),
    "a bad id": post({"inputs": RECORD}, "X-Request-Id: a b", CLOSE),
    "a bad deadline": post({"inputs": RECORD}, "X-Request-Timeout-Ms: soon", CLOSE),
    "a trace": post({"inputs": RECORD, "id": "i6"}, "traceparent: 00-" + "a" * 32 + "-" + "b" * 16 + "-01", CLOSE),
    "an id twice": post({"inputs": RECORD, "key": "k", "id": "i1"}, CLOSE),
    "another model": post({"model": "other", "inputs": RECORD}, CLOSE),
    "no body": post(b"", CLOSE),
    "no JSON": post(b"{", CLOSE),
    "NaN": post(b'{"inputs": {"a": NaN, "b": 1}}', CLOSE),
    "a key twice": post(b'{"inputs": {"a": 1, "a": 2, "b": 1}}', CLOSE),
    "no inputs": post({}, CLOSE),
    "a missing feature": post({"inputs": {"a": 1.0}}, CLOSE),
    "a text for a number": post({"inputs": {"a": "x", "b": 1}}, CLOSE),
    "an unknown field": post({"inputs": RECORD, "more": 1}, CLOSE),
    "a key that is too long": post({"inputs": RECORD, "key": "k" * 2000}, CLOSE),
    "nesting": post(b'{"inputs": ' + b"[" * 100 + b"]" * 100 + b"}", CLOSE),
    "not UTF-8": post(b'{"inputs": {"\xff": 1}}', CLOSE),
    "HTTP/1.0": post({"inputs": RECORD, "key": "k", "id": "i7"}, version="1.0"),
    "a query": post({"inputs": RECORD, "key": "k", "id": "i8"}, CLOSE, path="/predict?x=1"),
    "a slash too many": post({"inputs": RECORD}, CLOSE, path="/predict/"),
    "compressed": post(b"\x1f\x8b", "Content-Encoding: gzip", CLOSE),
    "identity": post({"inputs": RECORD, "key": "k", "id": "i9"}, "Content-Encoding: identity", CLOSE),
    "expect": post({"inputs": RECORD, "key": "k", "id": "i10"}, "Expect: 100-continue", CLOSE),
    "chunked": b"POST /predict HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    b'1f\r\n{"inputs":{"a":1,"b":2},"id":"c\r\n3\r\n1"}\r\n0\r\n\r\n',
    "too large": post(b"x" * 3000, CLOSE),
    "another method": b"GET /predict HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n",
    "another path": b"GET /nothing HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n",
    **INFER,
    "kept alive": post({"inputs": RECORD, "key": "k", "id": "i11"})
    + post({"inputs": {"a": 1.0}})
    + b"GET /livez HTTP/1.1\r\nHost: g\r\n\r\n"
    + post({"inputs": RECORD, "key": "k", "id": "i12"}, CLOSE),
}


async def exchange(port: int, request: bytes) -> bytes:
    """Everything that comes back until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    async with asyncio.timeout(20):
        answer = await reader.read()
    writer.close()
    return without_chance(answer)


def without_chance(answer: bytes) -> bytes:
    """Without the date and without ids that the server made."""
    answer = re.sub(rb"date: [^\r]+\r\n", b"", answer)
    return re.sub(rb"[0-9a-f]{30}", b"MADE", answer)


@pytest.fixture
async def ports(tmp_path: Path) -> AsyncIterator[dict[str, int]]:
    async with (
        serving(tmp_path / "fast", "fast", max_body_bytes=2048) as (fast, _),
        serving(tmp_path / "asgi", "asgi", max_body_bytes=2048) as (asgi, _),
    ):
        yield {"fast": fast, "asgi": asgi}


async def test_both_edges_answer_alike(ports: dict[str, int]) -> None:
    """Status, headers and body, for good and bad requests, in one order on both."""
    different: dict[str, tuple[bytes, bytes]] = {}
    statuses: set[bytes] = set()
    for name, request in REQUESTS.items():
        fast, asgi = [await exchange(ports[edge], request) for edge in EDGES]
        statuses |= set(re.findall(rb"HTTP/1.1 (\d+)", fast))
        if fast != asgi or not fast:
            different[name] = (fast, asgi)
    assert different == {}
    assert statuses >= {b"200", b"400", b"404", b"405", b"413", b"415"}


@pytest.mark.parametrize("kind", ["fails", "refuses", "unexpected"])
async def test_failures_are_answered_alike(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = []
    for edge in EDGES:
        async with serving(tmp_path / edge, edge) as (port, kit):
            if kind == "fails":
                kit.loaded[1].fails = kit.loaded[2].fails = True
            else:
                failure: Exception = Unavailable("later", 3.0) if kind == "refuses" else RuntimeError("inside")
                monkeypatch.setattr(kit.serving, "_generation", _raising(failure))
            answer = await exchange(port, post({"inputs": RECORD, "key": "k", "id": "f1"}, CLOSE))
            answers.append(re.sub(rb"[0-9a-f]{16}", b"NUMBER", answer))
    assert answers[0] == answers[1]
    assert answers[0].startswith({"fails": b"HTTP/1.1 500", "refuses": b"HTTP/1.1 503"}.get(kind, b"HTTP/1.1 500"))
    assert b"inside" not in answers[0]


def _raising(failure: Exception) -> Callable[..., Any]:
    def refuse(*_: object) -> Any:
        raise failure

    return refuse


@pytest.mark.parametrize("edge", EDGES)
async def test_the_lane_is_taken_only_when_it_is_asked_for(
    tmp_path: Path, edge: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(tmp_path / "one", edge) as (port, kit):
        asked: list[object] = []
        predict = kit.serving.predict

        async def counting(request: Any) -> Any:
            asked.append(request)
            return await predict(request)

        monkeypatch.setattr(kit.serving, "predict", counting)
        for request in (post({"inputs": RECORD}, CLOSE), infer(), binary_infer()):
            assert b"200 OK" in await exchange(port, request)
        assert len(asked) == (3 if edge == "asgi" else 0)


async def test_callers_without_a_token_are_refused_where_tokens_are_needed(tmp_path: Path) -> None:
    async with serving(tmp_path / "one", "fast", client_auth=True) as (port, _):
        assert b"401 Unauthorized" in await exchange(port, post({"inputs": RECORD}, CLOSE))
