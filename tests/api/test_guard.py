"""Tokens and quotas at the serving API's door, with waiting and without."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from prometheus_client import REGISTRY

from gateway.api.door import Guard
from gateway.api.problems import Unauthorized
from gateway.errors import QuotaExceeded

Opening = Callable[..., httpx.AsyncClient]

BODY = {"inputs": {"nswprice": 0.5, "nswdemand": 0.5}}
V2_BODY = {"inputs": [{"name": "X", "shape": [1, 2], "datatype": "FP32", "data": [0.5, 0.5]}]}
GOOD = {"Authorization": "Bearer good-token"}
OVER = QuotaExceeded("shop", 2.0, 5.0, 0.2)


def refused(reason: str) -> float:
    return REGISTRY.get_sample_value("gateway_refused_requests_total", {"reason": reason}) or 0.0


async def test_over_the_quota_is_429_naming_client_and_quota(open_client: Opening, serving: Any) -> None:
    """A client's programmer reads it without asking anybody."""
    serving.verify_token.over = OVER
    before = refused("quota-exceeded")
    answer = await open_client(client_auth=True).post("/predict", json=BODY, headers=GOOD)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["type"] == "urn:gateway:problem:quota-exceeded"
    assert (problem["client"], problem["requests_per_second"], problem["burst"]) == ("shop", 2.0, 5.0)
    assert "client shop" in problem["detail"]
    assert refused("quota-exceeded") == before + 1


async def test_under_v2_it_has_the_protocols_form(open_client: Opening, serving: Any) -> None:
    serving.verify_token.over = QuotaExceeded("shop", 0.1, 1.0, 9.2)
    client = open_client(client_auth=True)
    for answer in (
        await client.post("/v2/models/electricity/infer", json=V2_BODY, headers=GOOD),
        await client.get("/v2/models/electricity", headers=GOOD),
    ):
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "10")
        assert answer.json() == {
            "error": "client shop is over the quota of its token: 0.1 requests a second, 1 at once"
        }


async def test_feedback_counts_too(open_client: Opening, serving: Any) -> None:
    serving.verify_token.over = OVER
    answer = await open_client(client_auth=True).post("/feedback", json={"id": "a", "label": 1}, headers=GOOD)
    assert answer.status_code == 429


async def test_where_no_token_is_needed_there_is_no_quota(client: httpx.AsyncClient, serving: Any) -> None:
    serving.verify_token.over = OVER
    assert (await client.post("/predict", json=BODY, headers=GOOD)).status_code == 200


def test_a_lane_without_waiting_gets_the_same_verdicts(serving: Any) -> None:
    """True: answer. False: the application must look. An error: that is the answer."""
    good = [(b"host", b"g"), (b"authorization", b"Bearer good-token")]
    guard = Guard(serving, needed=True)
    assert guard.check_now(good) is True
    for headers in ([], [(b"authorization", b"Bearer wrong")], [(b"authorization", b"Basic good-token")]):
        with pytest.raises(Unauthorized):
            guard.check_now(headers)
    serving.verify_token.over = OVER
    with pytest.raises(QuotaExceeded):
        guard.check_now(good)
    serving.verify_token.is_fresh = False
    assert guard.check_now(good) is False


def test_where_no_token_is_needed_the_lane_is_open(serving: Any) -> None:
    serving.verify_token.is_fresh = False
    assert Guard(serving, needed=False).check_now([]) is True
