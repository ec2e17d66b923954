"""POST /predict: what is right is answered, what is wrong is a 4xx that names the field."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any, cast

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.door import read_head
from gateway.api.predict import read_predict
from gateway.api.serving_app import build_serving_app
from gateway.errors import DeadlineExceeded, ExecutionError, InvalidInput, Unavailable
from gateway.settings import Settings

RECORD = {"nswprice": 0.06, "nswdemand": 0.44}
GOOD = {"model": "electricity", "inputs": RECORD}


async def post(client: httpx.AsyncClient, body: Any, **options: Any) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await client.post("/predict", content=content, **options)


async def test_a_record_is_answered_with_the_version_and_why(client: httpx.AsyncClient, serving: Any) -> None:
    """The README's first call."""
    answer = await post(client, {**GOOD, "key": "site-17", "id": "r-1"})
    assert answer.status_code == 200
    assert answer.json() == {
        "id": "r-1",
        "model": "electricity",
        "version": 3,
        "role": "champion",
        "reason": "weight",
        "outputs": {"label": [1], "probabilities": [[0.5, 0.5]]},
    }
    assert answer.headers["x-request-id"] == "r-1"
    assert answer.headers["x-model-version"] == "3"
    assert answer.headers["x-route-role"] == "champion"
    assert answer.headers["x-journal"] == "process"
    assert serving.asked[0].key == "site-17"


@pytest.mark.parametrize("inputs", [RECORD, [RECORD, RECORD], [[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]]])
async def test_records_and_rows_are_taken(client: httpx.AsyncClient, inputs: Any) -> None:
    answer = await post(client, {"inputs": inputs})
    assert answer.status_code == 200
    assert len(answer.json()["outputs"]["label"]) == (len(inputs) if isinstance(inputs, list) else 1)


CELLS = st.one_of(
    st.integers(-(2**70), 2**70), st.floats(allow_nan=False, allow_infinity=False), st.booleans(), st.none(), st.text()
)


@given(rows=st.lists(st.lists(CELLS, max_size=4), min_size=1, max_size=4))
def test_rows_are_read_alike_however_they_are_spaced(rows: list[list[Any]]) -> None:
    """Rows of numbers have a way of their own, found by their first two brackets."""
    text = json.dumps({"inputs": rows})
    near, far = [read_or_refuse(body.encode()) for body in (text, text.replace("[[", "[ [", 1))]
    assert near == far
    if isinstance(near, list):
        assert [list(map(type, row)) for row in near] == [list(map(type, row)) for row in rows]


def read_or_refuse(body: bytes) -> Any:
    try:
        request = read_predict(read_head([]), body)
    except InvalidInput as error:
        return [(fault.pointer, fault.detail) for fault in error.faults], str(error)
    if request.are_numbers:
        assert {type(value) for row in cast(list[list[object]], request.inputs) for value in row} <= {int, float}
    return request.inputs


async def test_headers_stand_in_for_the_body_and_the_body_wins(client: httpx.AsyncClient, serving: Any) -> None:
    headers = {
        "X-Request-Id": "from-header",
        "X-Routing-Key": "key-header",
        "X-Model-Version": "4",
        "X-Request-Timeout-Ms": "50",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "X-Tier": "beta",
    }
    assert (await post(client, GOOD, headers=headers)).json()["version"] == 4
    assert (await post(client, {**GOOD, "id": "from-body", "key": "key-body"}, headers=headers)).status_code == 200
    first, second = serving.asked
    assert (first.id, first.key, first.pinned, first.deadline_ms) == ("from-header", "key-header", 4, 50.0)
    assert first.trace.startswith("00-0af7")
    assert first.headers["x-tier"] == "beta"
    assert (second.id, second.key) == ("from-body", "key-body")


async def test_a_traceparent_that_is_none_is_left_out(client: httpx.AsyncClient, serving: Any) -> None:
    """A wrong trace header is no reason to refuse a prediction."""
    assert (await post(client, GOOD, headers={"traceparent": "nonsense"})).status_code == 200
    assert serving.asked[0].trace == ""


async def test_flags_are_shown_only_when_there_are_any(client: httpx.AsyncClient, serving: Any) -> None:
    serving.flags = ("duplicate_id",)
    assert (await post(client, GOOD)).json()["flags"] == ["duplicate_id"]


async def test_non_finite_outputs_are_null(client: httpx.AsyncClient, serving: Any) -> None:
    """Never invalid JSON, never a 500."""
    serving.outputs = {"label": np.array([np.nan, np.inf, -np.inf, 1.5])}
    answer = await post(client, GOOD)
    assert answer.status_code == 200
    assert json.loads(answer.content, parse_constant=pytest.fail)["outputs"]["label"] == [None, None, None, 1.5]


DEEP = b'{"inputs": ' + b"[" * 40 + b"1" + b"]" * 40 + b"}"
BAD: list[tuple[str, bytes, str]] = [
    ("empty", b"", ""),
    ("not JSON", b"nswprice=1", ""),
    ("cut off", b'{"model": "electricity", "inputs": {"nswprice": 0.1', "/inputs/nswprice"),
    ("trailing", b'{"inputs": [[0.1, 0.2]]} x', ""),
    ("not an object", b"[1, 2]", ""),
    ("no inputs", b'{"model": "electricity"}', "/inputs"),
    ("unknown key", b'{"inputs": [[0.1, 0.2]], "modle": "x"}', "/modle"),
    ("wrong type of inputs", b'{"inputs": 5}', "/inputs"),
    ("wrong type of model", b'{"inputs": [[0.1, 0.2]], "model": 5}', "/model"),
    ("wrong type of key", b'{"inputs": [[0.1, 0.2]], "key": [1]}', "/key"),
    ("wrong type of id", b'{"inputs": [[0.1, 0.2]], "id": 5}', "/id"),
    ("id with a line break", b'{"inputs": [[0.1, 0.2]], "id": "a\\r\\nb"}', "/id"),
    ("id too long", b'{"inputs": [[0.1, 0.2]], "id": "' + b"a" * 129 + b'"}', "/id"),
    ("id not Latin", '{"inputs": [[0.1, 0.2]], "id": "ключ"}'.encode(), "/id"),
    ("key too long", b'{"inputs": [[0.1, 0.2]], "key": "' + b"a" * 2000 + b'"}', "/key"),
    ("NaN", b'{"inputs": {"nswprice": NaN, "nswdemand": 0.1}}', "/inputs/nswprice"),
    ("minus infinity", b'{"inputs": {"nswprice": 0.1, "nswdemand": -Infinity}}', "/inputs/nswdemand"),
    ("NaN in a row", b'{"key": "a, {b: [", "inputs": [[0.1, 0.2], [0.3, NaN]]}', "/inputs/1/1"),
    (
        "NaN in a record of several",
        b'{"inputs": [{"nswprice": 1, "nswdemand": [2]}, {"a~/\\"": NaN}]}',
        '/inputs/1/a~0~1"',
    ),
    ("cut short", b'{"inputs": {"nswprice": 0.1, "nswdem', "/inputs/nswprice"),
    ("number out of range", b'{"inputs": {"nswprice": 1e999, "nswdemand": 0.1}}', "/inputs/nswprice"),
    ("duplicate feature", b'{"inputs": {"nswprice": 1, "nswprice": 2, "nswdemand": 0.1}}', "/nswprice"),
    ("duplicate key", b'{"inputs": [[0.1, 0.2]], "inputs": [[0.3, 0.4]]}', "/inputs"),
    ("duplicate in a list", b'{"inputs": [{"nswprice": 1, "nswdemand": 1, "nswdemand": 2}]}', "/nswdemand"),
    ("not UTF-8", b'{"inputs": {"nswprice": 0.1, "\xff": 0.1}}', ""),
    ("too deep", DEEP, "/inputs"),
    ("far too deep", b"[" * 100_000, ""),
    ("object as value", b'{"inputs": {"nswprice": {"a": 1}, "nswdemand": 0.1}}', "/inputs/nswprice"),
    ("object in a list", b'{"inputs": [{"nswprice": 0.1, "nswdemand": {"a": 1}}]}', "/inputs/0/nswdemand"),
    ("wrong feature", b'{"inputs": {"nswprize": 0.1, "nswdemand": 0.1}}', "/inputs"),
    ("feature is missing", b'{"inputs": {"nswprice": 0.1}}', "/inputs/nswdemand"),
    ("feature of a wrong type", b'{"inputs": {"nswprice": "cheap", "nswdemand": 0.1}}', "/inputs/nswprice"),
    ("second record wrong", b'{"inputs": [[0.1, 0.2], [0.1, "x"]]}', "/inputs/1"),
    ("ragged rows", b'{"inputs": [[0.1, 0.2], [0.1]]}', "/inputs/1"),
    ("huge whole number", b'{"inputs": {"nswprice": ' + b"9" * 400 + b', "nswdemand": 0.1}}', "/inputs/nswprice"),
    ("number of 5000 digits", b'{"inputs": {"nswprice": ' + b"9" * 5000 + b', "nswdemand": 0.1}}', ""),
    ("no rows", b'{"inputs": []}', "/inputs"),
]


@pytest.mark.parametrize(("body", "pointer"), [(body, at) for _, body, at in BAD], ids=[name for name, *_ in BAD])
async def test_bad_input_is_400_and_names_the_place(client: httpx.AsyncClient, body: bytes, pointer: str) -> None:
    answer = await post(client, body)
    assert answer.status_code == 400, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == 400
    assert problem["detail"]
    assert problem["type"].startswith("urn:gateway:problem:")
    pointers = [fault["pointer"] for fault in problem["errors"]]
    assert any(found.startswith(pointer) for found in pointers), pointers
    assert "Traceback" not in answer.text
    assert (await post(client, GOOD)).status_code == 200  # alive


async def test_colons_inside_texts_are_no_duplicate_keys(client: httpx.AsyncClient, serving: Any) -> None:
    """The quick check counts colons; what it can not rule out is looked at in full."""
    assert (await post(client, {**GOOD, "key": "a:b:c"})).status_code == 200
    assert serving.asked[0].key == "a:b:c"


async def test_explicit_nulls_are_the_same_as_left_out(client: httpx.AsyncClient, serving: Any) -> None:
    assert (await post(client, {**GOOD, "key": None, "id": None})).status_code == 200
    assert serving.asked[0].key is None


@pytest.mark.parametrize(
    ("headers", "name"),
    [
        ({"X-Model-Version": "four"}, "X-Model-Version"),
        ({"X-Model-Version": "0"}, "X-Model-Version"),
        ({"X-Request-Timeout-Ms": "-1"}, "X-Request-Timeout-Ms"),
        ({"X-Request-Id": "a b"}, "X-Request-Id"),
    ],
)
async def test_a_wrong_header_is_named(client: httpx.AsyncClient, headers: dict[str, str], name: str) -> None:
    answer = await post(client, GOOD, headers=headers)
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["pointer"] == f"header {name}"


async def test_unknown_models_and_versions_are_404(client: httpx.AsyncClient) -> None:
    answer = await post(client, {**GOOD, "model": "gas"})
    assert (answer.status_code, answer.json()["title"]) == (404, "Model not found")
    answer = await post(client, GOOD, headers={"X-Model-Version": "9"})
    assert (answer.status_code, answer.json()["title"]) == (404, "Version not loaded")


async def test_a_large_body_is_413_before_it_is_read(client: httpx.AsyncClient, serving: Any) -> None:
    async def never_read() -> Any:
        yield b"x" * 1000
        pytest.fail("the body was read although its length was known to be too large")

    answer = await client.post("/predict", content=never_read(), headers={"content-length": str(10_000_000)})
    assert answer.status_code == 413
    assert answer.json()["title"] == "Payload too large"
    assert serving.asked == []


async def test_a_large_body_of_unknown_length_is_413_while_it_is_read(open_client: Any) -> None:
    async def endless() -> Any:
        for _ in range(100):
            yield b"[" * 1000

    answer = await open_client(max_body_bytes=5000).post("/predict", content=endless())
    assert answer.status_code == 413


async def test_compressed_bodies_are_415(client: httpx.AsyncClient) -> None:
    """A small compressed body can inflate to any size; parsers of both sides must see the same bytes."""
    assert (await post(client, GOOD, headers={"content-encoding": "gzip"})).status_code == 415


@pytest.mark.parametrize(
    ("error", "status", "retry"),
    [
        (Unavailable("full", retry_after_seconds=2.5), 503, "3"),
        (DeadlineExceeded("late"), 504, "1"),
        (ExecutionError("the model failed on these inputs"), 500, None),
    ],
)
async def test_failures_keep_their_status_and_say_when_to_come_back(
    client: httpx.AsyncClient, serving: Any, error: Exception, status: int, retry: str | None
) -> None:
    serving.failure = error
    answer = await post(client, GOOD)
    assert answer.status_code == status
    assert answer.headers.get("retry-after") == retry
    assert answer.json()["detail"] == str(error)


async def test_an_unexpected_error_is_a_bare_500_with_a_logged_id(
    client: httpx.AsyncClient, serving: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """What nobody thought of must not show its insides; the id leads to the traceback in the log."""
    serving.failure = RuntimeError("secret internals")
    answer = await post(client, GOOD)
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert answer.json()["id"] in caplog.text
    assert "secret internals" in caplog.text


async def test_client_auth_asks_for_a_token_with_scope_predict(open_client: Any) -> None:
    client = open_client(client_auth=True)
    assert (await post(client, GOOD)).status_code == 401
    assert (await post(client, GOOD)).headers["www-authenticate"] == "Bearer"
    assert (await post(client, GOOD, headers={"Authorization": "Bearer wrong"})).status_code == 401
    assert (await post(client, GOOD, headers={"Authorization": "Basic good-token"})).status_code == 401
    assert (await post(client, GOOD, headers={"Authorization": "Bearer good-token"})).status_code == 200


async def test_other_methods_and_paths_are_problems_too(client: httpx.AsyncClient) -> None:
    answer = await client.get("/predict")
    assert (answer.status_code, answer.headers["content-type"]) == (405, "application/problem+json")
    assert answer.headers["allow"] == "POST"
    answer = await client.get("/nowhere")
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
    assert (await client.post("/predict/", content=b"{}")).status_code == 404  # no redirect


async def test_a_body_that_does_not_come_is_408(serving: Any) -> None:
    """A caller that stalls must not hold a connection for ever."""
    app = build_serving_app(serving, Settings(body_seconds=0.01))
    first = [{"type": "http.request", "body": b'{"inputs": ', "more_body": True}]
    sent: list[Any] = []

    async def receive() -> Any:
        if first:
            return first.pop()
        await asyncio.Event().wait()
        return None

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/predict",
        "headers": [(b"host", b"gateway")],
        "query_string": b"",
    }
    await app(scope, receive, send)
    assert sent[0]["status"] == 408
    assert (b"connection", b"close") in sent[0]["headers"]


async def test_a_caller_who_is_gone_gets_no_answer_and_no_prediction(serving: Any) -> None:
    app = build_serving_app(serving, Settings())
    messages = [{"type": "http.disconnect"}, {"type": "http.request", "body": b"{", "more_body": True}]
    sent: list[Any] = []

    async def receive() -> Any:
        return messages.pop()

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/predict", "headers": [], "query_string": b""}
    await app(scope, receive, send)
    assert sent == []
    assert serving.asked == []


@pytest.mark.parametrize(
    "body",
    [
        b'{"inputs": [' + b"[" * 7_000_000 + b"NaN",
        b'{"inputs": "' + b'\\"' * 3_500_000 + b"\\",
        b'{"a' + b"\\" * 199_001,
    ],
    ids=["brackets", "quotes", "strokes"],
)
def test_naming_the_place_never_takes_long(body: bytes) -> None:
    """A body that is made to be slow to explain is refused without its place."""
    start = time.monotonic()
    with pytest.raises(InvalidInput):
        read_predict(read_head([]), body)
    assert time.monotonic() - start < 1.0
