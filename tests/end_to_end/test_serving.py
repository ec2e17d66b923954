"""The first steps of a user, and what must survive kill -9: by real commands, real HTTP, real processes."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.end_to_end.running import FEATURES, RunningGateway, small_model, until

pytestmark = pytest.mark.end_to_end

Start = Callable[..., RunningGateway]


def test_a_plain_export_is_published_answers_by_name_and_is_journaled_with_its_label(
    start_gateway: Start, model_file: Path
) -> None:
    """Publish, predict, feedback, export: what the README promises, for a model nobody prepared."""
    gateway = start_gateway()
    assert gateway.publish("plain", model_file) == "plain@1"
    assert gateway.publish("plain", model_file) == "plain@1"  # the same again is the same version
    gateway.wait_until_served("plain")
    with httpx.Client() as client:
        answer = gateway.predict(client, "plain", key="site-17")
        assert answer.status_code == 200, answer.text
        body = answer.json()
        assert (body["version"], body["role"], body["reason"]) == (1, "champion", "sticky")
        assert answer.headers["X-Journal"] == "process"
        assert answer.headers["X-Request-Id"] == body["id"]
        row = body["outputs"]["probabilities"][0]
        assert sum(row) == pytest.approx(1, abs=1e-5)
        told = client.post(f"{gateway.url}/feedback", json={"id": body["id"], "row": 0, "label": 1})
        assert (told.status_code, told.json()) == (202, {"accepted": 1})

    def joined() -> list[dict[str, object]]:
        records = list(gateway.journal("--joined"))
        return [r for r in records if r.get("id") == body["id"] and r["kind"] == "prediction" and r.get("label") == 1]

    [record] = until(joined, "the joined label")
    assert record["outputs"] == body["outputs"] or record["model"] == "plain"
    assert record["version"] == 1
    assert gateway.stop() == 0


def test_no_acknowledged_prediction_is_lost_or_doubled_when_serving_is_killed(
    start_gateway: Start, model_file: Path
) -> None:
    """Invariant 1: what was answered with X-Journal: process is in the journal once, after kill -9 under load."""
    gateway = start_gateway(workers=2)
    gateway.publish("plain", model_file)
    gateway.wait_until_served("plain")
    acknowledged: list[str] = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            try:
                with httpx.Client(timeout=10) as client:
                    while not done.is_set():
                        answer = gateway.predict(client, "plain")
                        if answer.status_code == 200 and answer.headers["X-Journal"] == "process":
                            acknowledged.append(answer.json()["id"])
            except httpx.HTTPError:
                continue

    askers = [threading.Thread(target=ask) for _ in range(3)]
    for asker in askers:
        asker.start()
    for _ in range(3):
        before = len(acknowledged)
        until(lambda before=before: len(acknowledged) > before + 100, "100 more answers")  # type: ignore[misc]
        gateway.kill("serving_process")
    before = len(acknowledged)
    until(lambda: len(acknowledged) > before + 100, "100 answers after the last kill")
    done.set()
    for asker in askers:
        asker.join()
    assert gateway.stop() == 0
    written = Counter(record["id"] for record in gateway.journal() if record["kind"] == "prediction")
    missing = [request for request in acknowledged if written[request] != 1]
    assert not missing, f"{len(missing)} of {len(acknowledged)} answers are not in the journal exactly once"


def test_publishes_and_route_changes_under_load_fail_no_request(start_gateway: Start, tmp_path: Path) -> None:
    """20 publishes and route changes, two serving processes: 0 failures, each answer explained by its revision."""
    gateway = start_gateway(workers=2)
    first = tmp_path / "first.onnx"
    first.write_bytes(small_model(seed=0))
    gateway.publish("busy", first)
    gateway.wait_until_served("busy")
    failures: list[str] = []
    answers: Counter[int] = Counter()
    done = threading.Event()

    def ask() -> None:
        with httpx.Client(timeout=30) as client:
            while not done.is_set():
                try:
                    answer = gateway.predict(client, "busy")
                except httpx.HTTPError as error:
                    failures.append(repr(error))
                    return
                if answer.status_code == 200:
                    answers[answer.json()["version"]] += 1
                else:
                    failures.append(answer.text)

    askers = [threading.Thread(target=ask) for _ in range(3)]
    for asker in askers:
        asker.start()
    routes = {int(gateway.admin("GET", "/admin/models/busy/route").headers["ETag"].strip('"')): {1}}
    with httpx.Client(
        headers={"Authorization": f"Bearer {gateway.token}"}, base_url=gateway.admin_url, timeout=60
    ) as admin:
        champion = 1
        for number in range(2, 12):
            files = {"model": ("model.onnx", small_model(seed=number))}
            manifest = {"features": [{"name": name} for name in FEATURES]}
            published = admin.post("/admin/models/busy/versions", files=files, data={"manifest": _json(manifest)})
            assert published.status_code in (200, 201), published.text
            weighed = admin.post("/admin/models/busy/weights", json={"weights": {str(number): 30}, "reason": "test"})
            assert weighed.status_code == 200, weighed.text
            route = admin.get("/admin/models/busy/route")
            routes[int(route.headers["ETag"].strip('"'))] = {champion, number}
            body = {**route.json(), "champion": number, "canaries": [], "previous": champion}
            put = admin.put("/admin/models/busy/route", json=body, headers={"If-Match": route.headers["ETag"]})
            assert put.status_code == 200, put.text
            routes[int(admin.get("/admin/models/busy/route").headers["ETag"].strip('"'))] = {number}
            champion = number
    done.set()
    for asker in askers:
        asker.join()
    assert failures == []
    assert sum(answers.values()) > 200
    assert gateway.stop() == 0
    for record in gateway.journal():
        if record["kind"] == "prediction":
            assert record["version"] in routes[record["revision"]], record


def test_a_terminated_gateway_finishes_its_requests(start_gateway: Start, model_file: Path) -> None:
    """SIGTERM drains: nobody who was connected gets an error, the exit code is 0."""
    gateway = start_gateway()
    gateway.publish("plain", model_file)
    gateway.wait_until_served("plain")
    statuses: list[int] = []
    refused: list[str] = []

    def ask() -> None:
        with httpx.Client(timeout=10) as client:
            while True:
                try:
                    statuses.append(gateway.predict(client, "plain").status_code)
                except (httpx.ConnectError, httpx.RemoteProtocolError, httpx.ReadError) as error:
                    refused.append(repr(error))
                    return

    asker = threading.Thread(target=ask)
    asker.start()
    until(lambda: len(statuses) > 50, "some answers")
    started = time.monotonic()
    assert gateway.stop() == 0
    asker.join(20)
    assert time.monotonic() - started < 15
    assert set(statuses) == {200}


def _json(value: object) -> str:
    import json

    return json.dumps(value)
