"""POST /feedback: what is late or early is normal; only a wrong shape is refused, and names the item."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from prometheus_client import REGISTRY

from gateway.journal.record import Feedback


async def post(client: httpx.AsyncClient, body: Any, **options: Any) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await client.post("/feedback", content=content, **options)


async def test_one_and_many_are_accepted(client: httpx.AsyncClient, serving: Any) -> None:
    before = REGISTRY.get_sample_value("gateway_feedback_total") or 0
    answer = await post(client, {"id": "r-1", "row": 2, "label": 1})
    assert (answer.status_code, answer.json()) == (202, {"accepted": 1})
    items = [{"id": "r-1", "label": "yes"}, {"id": "r-2", "value": 2.5}, {"id": "r-3", "label": True, "value": 1}]
    answer = await post(client, {"feedback": items})
    assert (answer.status_code, answer.json()) == (202, {"accepted": 3})
    assert REGISTRY.get_sample_value("gateway_feedback_total") == before + 4
    assert serving.told == [
        Feedback(id="r-1", row=2, label=1),
        Feedback(id="r-1", row=0, label="yes"),
        Feedback(id="r-2", row=0, value=2.5),
        Feedback(id="r-3", row=0, label=True, value=1.0),
    ]


async def test_an_empty_list_is_accepted(client: httpx.AsyncClient) -> None:
    """A client that sends what it has every minute sometimes has nothing."""
    assert (await post(client, {"feedback": []})).json() == {"accepted": 0}


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (b"", ""),
        (b"[]", ""),
        (b"{}", "/id"),
        (b'{"id": "a"}', "/label"),
        (b'{"id": 5, "label": 1}', "/id"),
        (b'{"id": "", "label": 1}', "/id"),
        (b'{"id": "a", "label": 1, "row": -1}', "/row"),
        (b'{"id": "a", "label": 1, "row": 1.5}', "/row"),
        (b'{"id": "a", "label": 1, "row": "0"}', "/row"),
        (b'{"id": "a", "label": [1]}', "/label"),
        (b'{"id": "a", "label": NaN}', "/label"),
        (b'{"id": "a", "label": 99999999999999999999999}', "/label"),
        (b'{"id": "a", "value": "much"}', "/value"),
        (b'{"id": "a", "lable": 1}', "/lable"),
        (b'{"id": "a", "label": 1, "label": 0}', "/label"),
        (b'{"id": "a", "row": 1, "row": 2, "label": 1}', "/row"),
        (b'{"feedback": 5}', "/feedback"),
        (b'{"feedback": [{"id": "a", "label": 1}, {"id": "b", "label": {}}]}', "/feedback/1/label"),
        (b'{"feedback": [{"id": "a", "label": 1}, {"id": "b"}]}', "/feedback/1/label"),
        (b'{"feedback": [{"id": "a", "label": 1}, 7]}', "/feedback/1"),
        (b'{"feedback": [{"id": "a b", "label": 1}]}', "/feedback/0/id"),
    ],
)
async def test_a_wrong_item_is_named_and_nothing_is_written(
    client: httpx.AsyncClient, serving: Any, body: bytes, pointer: str
) -> None:
    """All or nothing: a client may send the whole list again."""
    answer = await post(client, body)
    assert answer.status_code == 400, answer.text
    assert pointer in [fault["pointer"] for fault in answer.json()["errors"]]
    assert serving.told == []


async def test_feedback_the_journal_can_not_take_is_not_acknowledged(client: httpx.AsyncClient, serving: Any) -> None:
    """202 means written."""
    serving.takes_feedback = False
    answer = await post(client, {"id": "a", "label": 1})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


@pytest.mark.parametrize(
    ("settings", "status"),
    [
        ({}, 202),
        ({"listen": "0.0.0.0:8080"}, 401),
        ({"listen": "0.0.0.0:8080", "feedback_auth": "off"}, 202),
        ({"client_auth": True}, 401),
    ],
)
async def test_beyond_loopback_feedback_needs_a_token(
    open_client: Any, settings: dict[str, object], status: int
) -> None:
    """Anybody who can send labels can make the gateway retrain."""
    client = open_client(**settings)
    body = {"id": "a", "label": 1}
    assert (await post(client, body)).status_code == status
    assert (await post(client, body, headers={"Authorization": "Bearer good-token"})).status_code == 202
