"""A client's quota over two serving processes, set over the admin API while the gateway runs."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.end_to_end.running import RunningGateway, until

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow]


def test_two_processes_keep_one_quota_together(
    start_gateway: Callable[..., RunningGateway], model_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has its share, so their sum is the quota, however requests fall between them."""
    monkeypatch.setenv("GATEWAY_CLIENT_AUTH", "true")
    gateway = start_gateway(workers=2)
    gateway.publish("plain", model_file)
    gateway.wait_until_everywhere("plain")
    body = {"name": "shop", "scopes": ["predict"], "requests_per_second": 0.01, "burst": 10}
    secret = gateway.admin("POST", "/admin/tokens", json=body).json()["token"]
    headers = {"Authorization": f"Bearer {secret}"}

    def ask() -> httpx.Response:
        """On a connection of its own, so that both processes are asked."""
        content = {"inputs": {"a": 0.1, "b": 0.2, "c": 0.3}}
        return httpx.post(f"{gateway.url}/predict", json=content, headers=headers)

    answers: list[httpx.Response] = []
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and Counter(a.status_code for a in answers)[429] < 30:
        answers.append(ask())
    counts = Counter(answer.status_code for answer in answers)
    assert set(counts) <= {200, 401, 429}, counts  # 401 until both processes have looked again
    assert 5 <= counts[200] <= 10
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.json()["client"] == "shop"
    assert gateway.admin("DELETE", "/admin/tokens/shop").status_code == 200
    until(lambda: ask().status_code == 401, "the end of the token")
