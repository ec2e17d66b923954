"""An experiment through real processes: callers are drawn, values come back, the best version is found and promoted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.end_to_end.running import RunningGateway, small_model, until

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow]


def _serve(gateway: RunningGateway, client: httpx.Client, first: int, count: int) -> dict[str, int]:
    """As many callers, each with one answer; callers of version 3 buy, of the others every second one does."""
    answered: dict[str, int] = {}
    for number in range(first, first + count):
        body = {"inputs": {"a": 0.1, "b": 0.2, "c": 0.3}, "key": f"caller-{number}", "id": f"r{number}"}
        answer = client.post(f"{gateway.url}/predict", json=body)
        assert answer.status_code == 200, answer.text
        version = answer.headers["x-model-version"]
        answered[version] = answered.get(version, 0) + 1
        value = 1.0 if version == "3" else float(number % 2)
        client.post(f"{gateway.url}/feedback", json={"id": f"r{number}", "value": value})
    return answered


def test_the_best_of_three_is_found_and_promoted(start_gateway: Callable[..., RunningGateway], tmp_path: Path) -> None:
    """Also when the control process is killed in the middle."""
    gateway = start_gateway()
    for seed in range(3):
        file = tmp_path / f"model{seed}.onnx"
        file.write_bytes(small_model(seed))
        gateway.publish("plain", file)
    until(lambda: httpx.get(f"{gateway.url}/v2/models/plain/ready").status_code == 200, "the model")
    at = "/admin/models/plain/experiment"
    body = {"arms": {"2": 30, "3": 30}, "metric": "value", "until_units": 300, "winner": "promote", "reason": "which?"}
    started = gateway.admin("POST", at, json=body)
    assert started.status_code == 201, started.text
    refused = gateway.admin("POST", "/admin/models/plain/rollout", json={"version": 2})
    assert refused.status_code == 409
    assert "gateway experiment stop plain" in refused.json()["detail"]

    def report() -> dict[str, Any]:
        found: dict[str, Any] = gateway.admin("GET", at).json()
        return found

    def seen() -> int:
        return sum(arm.get("answers", 0) for arm in report()["arms"])

    with httpx.Client() as client:
        answered = _serve(gateway, client, 0, 400)
        until(lambda: seen() == 400, "the first report")
        assert {str(arm["version"]): arm["answers"] for arm in report()["arms"]} == answered
        gateway.kill("control_process")
        _serve(gateway, client, 400, 800)
    until(lambda: _is_up(gateway), "the control process")
    until(lambda: report()["phase"] == "ended", "the end")
    ended = report()
    assert (ended["verdict"], ended["winner"]) == ("winner", 3), ended
    assert min(arm["units"] for arm in ended["arms"]) >= 300
    until(lambda: gateway.admin("GET", "/admin/models/plain/rollout").status_code == 200, "the winner's rollout")
    assert gateway.admin("GET", "/admin/models/plain/rollout").json()["version"] == 3
    assert gateway.admin("GET", "/admin/models/plain/route").json()["canaries"] == []
    entries = gateway.admin("GET", "/admin/audit").json()["entries"]
    actions = [entry["action"] for entry in entries if entry["action"].startswith("experiment")]
    assert sorted(actions) == ["experiment.end", "experiment.start"]


def _is_up(gateway: RunningGateway) -> bool:
    try:
        return gateway.admin("GET", "/admin/models").status_code == 200
    except httpx.HTTPError:
        return False
