"""The monitor under kill -9, through HTTP: its alerts and figures are those that the journal gives."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from gateway.app.build import open_stores
from gateway.monitor.replay import replay
from gateway.settings import Settings
from tests.end_to_end.running import FEATURES, RunningGateway, until

POLICY = """
model: m
monitoring: {false_alarm_every_events: 1000, cooldown_labels: 50, detectors: [panel]}
"""
ROWS, DRIFT, BATCH = 400, 240, 40


def _send(client: httpx.Client, gateway: RunningGateway, rows: np.ndarray[Any, Any], first: int) -> None:
    """Predictions one by one, then their labels; some come twice, some name nobody."""
    for number, row in enumerate(rows, start=first):
        body = {"model": "m", "id": f"r{number}", "inputs": dict(zip(FEATURES, row.tolist(), strict=True))}
        assert client.post(f"{gateway.url}/predict", json=body).status_code == 200
    labels = [{"id": f"r{first + place}", "label": int(row[0] > 0)} for place, row in enumerate(rows)]
    told = client.post(f"{gateway.url}/feedback", json={"feedback": [*labels, labels[0], {"id": "?", "label": 1}]})
    assert told.status_code == 202


@pytest.mark.end_to_end
def test_killed_while_it_folds_the_monitor_says_what_the_journal_says(
    start_gateway: Callable[..., RunningGateway], model_file: Path, tmp_path: Path
) -> None:
    """The control process dies twice amid drifting traffic; `gateway alerts replay` finds no difference."""
    random = np.random.default_rng(7)
    sample = tmp_path / "sample.csv"
    np.savetxt(sample, random.normal(size=(1000, 3)), delimiter=",", header=",".join(FEATURES), comments="")
    gateway = start_gateway(policies={"m": POLICY})
    files = {"model": ("model.onnx", model_file.read_bytes()), "reference": ("sample.csv", sample.read_bytes())}
    manifest = {"features": [{"name": name} for name in FEATURES]}
    published = gateway.admin(
        "POST",
        "/admin/models/m/versions",
        files={**files, "manifest": ("manifest.json", json.dumps(manifest).encode())},
    )
    assert published.status_code < 300, published.text
    gateway.wait_until_served("m")
    rows = random.normal(size=(ROWS, 3))
    rows[DRIFT:, 1] += 1.5

    def monitoring() -> dict[str, Any] | None:
        try:
            answer = gateway.admin("GET", "/admin/models/m/monitoring")
        except httpx.HTTPError:
            return None  # the control process is being started again
        found: dict[str, Any] = answer.json()
        return found if answer.status_code == 200 else None

    with httpx.Client() as client:
        for start in range(0, ROWS, BATCH):
            _send(client, gateway, rows[start : start + BATCH], start)
            if start == BATCH:
                gateway.child("control_process").kill()
            if start == DRIFT + BATCH:
                until(lambda: (monitoring() or {}).get("predictions", 0) > BATCH, "some progress of the new monitor")
                gateway.child("control_process").kill()

    def folded() -> dict[str, Any] | None:
        found = monitoring()
        return found if found is not None and found["labels"].get("duplicate") == ROWS // BATCH else None

    shown = until(folded, "everything to be folded")
    assert shown["predictions"] == ROWS
    assert shown["labels"]["joined"] == ROWS
    assert "data_drift" in {alert["kind"] for alert in shown["alerts"]}
    _check(shown, asyncio.run(_replayed(gateway.data, tmp_path / "scratch")))


async def _replayed(data: Path, scratch: Path) -> dict[str, Any]:
    """Beside the running gateway, as the command does it."""
    stores, index = open_stores(Settings(data=data)), open_stores(Settings(data=scratch))
    try:
        return (await replay(stores, index.joins, scratch / "cache", "m")).content()
    finally:
        stores.close()
        index.close()


def _check(shown: dict[str, Any], replayed: dict[str, Any]) -> None:
    assert not replayed["differs"]
    assert replayed["states"]["same"] == len(shown["alerts"])
    assert replayed["policies"] == {"m": "as it was"}
    [document] = replayed["monitoring"]
    told_apart = {"time", "offset", "lag_seconds", "alerts"}
    assert {k: v for k, v in document.items() if k not in told_apart} == {
        k: v for k, v in shown.items() if k not in told_apart
    }
    assert [one["id"] for one in document["alerts"]] == [one["id"] for one in shown["alerts"]]
