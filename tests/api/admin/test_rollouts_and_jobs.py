"""Rollouts, freezes, releases, jobs, alerts: each call does its one thing, and says why not."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from gateway.documents.alert import Live, Monitoring
from gateway.documents.job import Job, JobState, Retraining
from gateway.documents.lease import Condition, GatewayLease, Served
from gateway.documents.policy import Policy
from gateway.documents.store import (
    alert_name,
    condition_name,
    gateway_name,
    job_name,
    monitoring_name,
    policy_name,
    retraining_name,
)
from gateway.names import VersionId
from tests.api.admin.conftest import MODEL, Office

AT = f"/admin/models/{MODEL}"


async def test_a_rollout_is_started_paused_resumed_and_rolled_back(admin: httpx.AsyncClient, office: Office) -> None:
    answer = await admin.get(f"{AT}/rollout")
    assert answer.status_code == 404
    answer = await admin.post(f"{AT}/rollout", json={"version": 2, "plan": "steps", "reason": "new data"})
    assert answer.status_code == 201, answer.text
    shown = (await admin.get(f"{AT}/rollout")).json()
    wanted = {"version", "phase", "step", "steps", "weight", "evidence", "verdict", "reason", "since"}
    assert wanted <= shown.keys()
    assert (shown["version"], shown["phase"], shown["reason"]) == (2, "waiting", "new data")
    assert (await admin.post(f"{AT}/rollout", json={"version": 3})).status_code == 409
    assert (await admin.post(f"{AT}/rollout/pause", json={"reason": "holiday"})).json()["phase"] == "paused"
    assert (await admin.post(f"{AT}/rollout/resume", json={})).status_code == 200
    done = await admin.post(f"{AT}/rollout/roll-back")
    assert done.json()["rollout"]["phase"] == "rolled_back"
    assert done.json()["route"]["champion"] == 1
    assert (await admin.post(f"{AT}/rollout/pause")).status_code == 409
    actors = {entry.split()[0] for entry in await office.audit()}
    assert actors == {"all"}


async def test_a_dry_run_is_started_shown_and_stopped(admin: httpx.AsyncClient, office: Office) -> None:
    """The route stays as it is, and nothing is held against the version."""
    body = {"version": 2, "plan": "blue_green", "dry_run": True}
    shown = (await admin.post(f"{AT}/rollout", json=body)).json()
    assert (shown["plan"], shown["dry_run"], shown["would"], shown["waits_for"]) == ("blue_green", True, "", "")
    refused = await admin.post(f"{AT}/rollout/promote", json={})
    assert (refused.status_code, "dry run" in refused.text) == (409, True)
    done = (await admin.post(f"{AT}/rollout/roll-back", json={"reason": "seen enough"})).json()
    assert (done["rollout"]["phase"], done["rollout"]["reason"]) == ("rolled_back", "seen enough")
    assert done["route"]["champion"] == 1
    conditions = [version["condition"] for version in (await admin.get(AT)).json()["versions"]]
    assert not any(condition["rolled_back"] for condition in conditions)


async def test_a_plan_that_can_never_end_is_refused_with_its_pointer(admin: httpx.AsyncClient) -> None:
    """Before any version hangs in it."""
    etag = (await admin.get(f"{AT}/policy")).headers["ETag"]
    steps = [{"canary": 5, "hold": "2h", "at_most": "1h"}, {"promote": "auto"}]
    body = {"model": MODEL, "rollout": {"steps": steps}}
    answer = await admin.put(f"{AT}/policy", json=body, headers={"If-Match": etag})
    assert answer.status_code == 400
    assert "/rollout/steps/0/hold" in answer.text
    assert "lasts longer than at_most" in answer.text


async def test_promote_by_hand_and_back_again(admin: httpx.AsyncClient) -> None:
    await admin.post(f"{AT}/rollout", json={"version": 2})
    assert (await admin.post(f"{AT}/rollout/promote", json={"reason": "known good"})).json()["phase"] == "promoted"
    assert (await admin.get(f"{AT}/route")).json()["champion"] == 2
    assert (await admin.post(f"{AT}/rollout/roll-back", json={})).json()["route"]["champion"] == 1


@pytest.mark.parametrize(
    ("body", "status", "pointer"),
    [
        (b"{}", 400, "/version"),
        (b'{"version": "two"}', 400, "/version"),
        (b'{"version": 2, "plan": "fast"}', 400, None),
        (b'{"version": 2, "speed": 1}', 400, "/speed"),
        (b'{"version": 9}', 404, None),
        (b'{"version": 1}', 409, None),
    ],
)
async def test_a_bad_start_says_what_is_wrong(
    admin: httpx.AsyncClient, body: bytes, status: int, pointer: str | None
) -> None:
    answer = await admin.post(f"{AT}/rollout", content=body)
    assert answer.status_code == status, answer.text
    if pointer is not None:
        assert pointer in [fault["pointer"] for fault in answer.json()["errors"]]


async def test_freeze_and_unfreeze_are_shown(admin: httpx.AsyncClient) -> None:
    assert (await admin.post(f"{AT}/freeze", json={"reason": "audit"})).json()["frozen"] is True
    model = (await admin.get(AT)).json()
    assert (model["frozen"], model["frozen_reason"]) == (True, "audit")
    assert (await admin.post(f"{AT}/rollout", json={"version": 2})).status_code == 409
    assert (await admin.post(f"{AT}/unfreeze")).json()["frozen"] is False
    assert (await admin.post("/admin/models/gas/freeze")).status_code == 404


async def test_a_quarantine_is_lifted_once(admin: httpx.AsyncClient, office: Office) -> None:
    await office.put(condition_name(VersionId(MODEL, 2)), Condition(quarantined=True, reason="crashed twice"))
    shown = (await admin.get(f"{AT}/versions/2")).json()
    assert shown["condition"]["quarantined"] is True
    assert (await admin.post(f"{AT}/rollout", json={"version": 2})).status_code == 409
    answer = await admin.post(f"{AT}/versions/2/release", json={"reason": "fixed"})
    assert (answer.status_code, answer.json()["condition"]["quarantined"]) == (200, False)
    assert (await admin.post(f"{AT}/versions/2/release")).status_code == 409
    assert (await admin.post(f"{AT}/versions/9/release")).status_code == 404
    assert "all release" in await office.audit()


async def with_recipe(office: Office) -> None:
    policy = Policy.model_validate({"model": MODEL, "retraining": {"recipe": "models/electricity.py"}})
    await office.put(policy_name(MODEL), policy.encode())


async def test_a_job_is_asked_for_listed_and_cancelled(admin: httpx.AsyncClient, office: Office) -> None:
    assert (await admin.post(f"{AT}/retrain")).status_code == 409  # no recipe
    await with_recipe(office)
    answer = await admin.post(f"{AT}/retrain", json={"reason": "I want to"})
    assert answer.status_code == 202, answer.text
    job = answer.json()
    assert (job["trigger"], job["state"], job["actor"], job["reason"]) == ("on_demand", "queued", "all", "I want to")
    assert (await admin.post(f"{AT}/retrain")).status_code == 409  # one at a time
    assert [one["id"] for one in (await admin.get("/admin/jobs")).json()["jobs"]] == [job["id"]]
    assert (await admin.get("/admin/jobs", params={"model": "gas"})).json()["jobs"] == []
    assert (await admin.get(f"/admin/jobs/{job['id']}")).json() == job
    assert (await admin.delete(f"/admin/jobs/{job['id']}")).json()["cancel"] is True
    assert (await admin.get(AT)).json()["job"]["cancel"] is True
    assert await office.audit() == ["all job.queue", "all job.cancel"]


async def test_an_ended_or_unknown_job_can_not_be_cancelled(admin: httpx.AsyncClient, office: Office) -> None:
    ended = Job(id="j1", model=MODEL, trigger="labels", reason="", state=JobState.PUBLISHED)
    await office.put(job_name("j1"), ended)
    assert (await admin.delete("/admin/jobs/j1")).status_code == 409
    assert (await admin.delete("/admin/jobs/j2")).status_code == 404
    assert (await admin.get("/admin/jobs", params={"limit": "many"})).status_code == 400


async def test_what_a_person_is_asked_for_is_shown_with_the_model(admin: httpx.AsyncClient, office: Office) -> None:
    """Nobody reads a log to learn that the gate said no all night."""
    await office.put(retraining_name(MODEL), Retraining(rejections=3, asks_for_a_person="look at its data"))
    shown = (await admin.get(AT)).json()["retraining"]
    assert (shown["asks_for_a_person"], shown["rejections"]) == ("look at its data", 3)


def monitoring() -> Monitoring:
    alert: dict[str, Any] = {"id": "al-1", "model": MODEL, "version": 1, "kind": "concept_drift", "time": 5.0}
    live = Live(version=1, role="champion", predictions=10, rolling={"accuracy": 0.75})
    return Monitoring(model=MODEL, alerts=[alert], live=[live], labels={"joined": 7})


async def test_an_alert_that_is_over_asks_nobody_to_look(admin: httpx.AsyncClient, office: Office) -> None:
    """It is still shown, with its state."""
    over = monitoring().alerts[0] | {"state": "cleared", "cleared": 9.0, "cleared_because": "as proven again"}
    await office.put(monitoring_name(MODEL), Monitoring(model=MODEL, alerts=[over]))
    assert (await admin.get(AT)).json()["alerts"]["unacknowledged"] == 0
    assert (await admin.get(f"{AT}/monitoring")).json()["alerts"][0]["state"] == "cleared"


async def test_alerts_are_acknowledged_and_silenced(admin: httpx.AsyncClient, office: Office) -> None:
    await office.put(monitoring_name(MODEL), monitoring())
    assert (await admin.get(AT)).json()["alerts"]["unacknowledged"] == 1
    answer = await admin.post("/admin/alerts/al-1/acknowledge", json={"reason": "seen"})
    assert answer.json()["acknowledged_by"] == "all"
    assert (await admin.get(AT)).json()["alerts"]["unacknowledged"] == 0
    silenced = (await admin.post("/admin/alerts/al-1/silence", json={"for": "2h"})).json()
    assert silenced["silenced_until"] == office.clock.now() + 7200
    assert silenced["acknowledged"] is True
    shown = (await admin.get(f"{AT}/monitoring")).json()
    assert shown["alerts"][0]["acknowledged"] is True
    assert shown["labels"] == {"joined": 7}
    assert await office.audit() == ["all alert.acknowledge", "all alert.silence"]


async def test_unknown_alerts_and_bad_silences_write_nothing(admin: httpx.AsyncClient, office: Office) -> None:
    await office.put(monitoring_name(MODEL), monitoring())
    assert (await admin.post("/admin/alerts/al-2/acknowledge")).status_code == 404
    answer = await admin.post("/admin/alerts/al-1/silence", json={"for": "a while"})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (400, "/for")
    assert await office.config.list(alert_name("")) == []


async def test_a_model_that_nothing_was_predicted_with_has_empty_monitoring(admin: httpx.AsyncClient) -> None:
    assert (await admin.get(f"{AT}/monitoring")).json()["monitored"] is False
    assert (await admin.get("/admin/models/gas/monitoring")).status_code == 404


async def test_health_is_what_live_processes_report(admin: httpx.AsyncClient, office: Office) -> None:
    served = Served(revision=4, ready=True)
    now = office.clock.now()
    await office.put(gateway_name("w0"), GatewayLease(id="w0", pid=1, started=0, renewed=now, models={MODEL: served}))
    assert (await admin.get(AT)).json()["health"]["ready"] is True
    office.clock.advance(5)
    assert (await admin.get(AT)).json()["health"] == {"ready": False, "processes": []}


async def test_versions_are_listed_with_everything_they_say_of_themselves(admin: httpx.AsyncClient) -> None:
    versions = (await admin.get(f"{AT}/versions")).json()["versions"]
    assert [version["number"] for version in versions] == [1, 2, 3]
    assert {"digest", "lineage", "gate", "features", "condition"} <= versions[0].keys()
    assert (await admin.get(f"{AT}/versions/9")).status_code == 404
    assert (await admin.get(f"{AT}/versions/two")).status_code == 400
    assert (await admin.get("/admin/models/gas")).status_code == 404


async def test_what_is_not_there_is_named_as_it_was_asked_for(admin: httpx.AsyncClient) -> None:
    """People ask for jobs and routes, not for documents of a store."""
    for method, path, detail in (
        ("GET", "/admin/jobs/x", "there is no job 'x'"),
        ("DELETE", "/admin/jobs/x", "there is no job 'x'"),
        ("POST", "/admin/alerts/x/acknowledge", "there is no alert 'x'"),
    ):
        answer = await admin.request(method, path)
        assert (answer.status_code, answer.json()["detail"]) == (404, detail), path
