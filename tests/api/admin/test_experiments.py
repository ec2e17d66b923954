"""Experiments through the API: started with the policy's words, shown, stopped, refused with their place."""

from __future__ import annotations

from typing import Any

import httpx
import msgspec
import pytest

from gateway.documents.experiment import Experiment, experiment_name
from gateway.documents.policy import Policy
from gateway.documents.store import policy_name
from gateway.rollout.experiment_plan import plan_of_winner
from tests.api.admin.conftest import MODEL, Office

AT = f"/admin/models/{MODEL}/experiment"


async def test_an_experiment_is_started_shown_and_stopped(admin: httpx.AsyncClient, office: Office) -> None:
    assert (await admin.get(AT)).status_code == 404
    body = {"arms": {"2": 10, "3": 5.5}, "metric": "value", "at_most": "7d", "reason": "which is best?"}
    answer = await admin.post(AT, json=body)
    assert answer.status_code == 201, answer.text
    shown = (await admin.get(AT)).json()
    assert shown == answer.json()
    assert (shown["phase"], shown["verdict"], shown["winner"], shown["at_most"]) == (
        "running",
        "undecided",
        None,
        604800.0,
    )
    assert [(arm["version"], arm["role"], arm["weight"]) for arm in shown["arms"]] == [
        (1, "champion", 84.5),
        (2, "canary", 10.0),
        (3, "canary", 5.5),
    ]
    route = (await admin.get(f"/admin/models/{MODEL}/route")).json()
    assert [(canary["version"], canary["weight"]) for canary in route["canaries"]] == [(2, 10.0), (3, 5.5)]
    assert (await admin.post(AT, json=body)).status_code == 409
    assert (await admin.post(f"/admin/models/{MODEL}/rollout", json={"version": 2})).status_code == 409
    stopped = await admin.post(f"{AT}/stop", json={"reason": "enough"})
    assert (stopped.json()["phase"], stopped.json()["reason"]) == ("ended", "enough")
    assert (await admin.get(f"/admin/models/{MODEL}/route")).json()["canaries"] == []
    assert (await admin.post(f"{AT}/stop")).status_code == 409
    assert await office.audit() == ["all experiment.start", "all experiment.end"]


async def test_the_policy_fills_in_what_the_call_leaves_out(admin: httpx.AsyncClient, office: Office) -> None:
    """Winner promoted or not, alpha and the least number of units are the policy's to say."""
    rollout = {"experiment": {"winner": "promote", "alpha": 0.01, "minimum_units": 500}}
    await office.put(policy_name(MODEL), Policy.model_validate({"model": MODEL, "rollout": rollout}).encode())
    answer = await admin.post(AT, json={"arms": {"2": 10}, "metric": "errors"})
    assert answer.status_code == 400
    assert "say when a winner is promoted" in answer.json()["detail"]
    body: dict[str, Any] = {"arms": {"2": 10}, "metric": "errors", "until_decided": True}
    shown = (await admin.post(AT, json=body)).json()
    assert [shown[key] for key in ("better", "alpha", "minimum_units", "on_winner")] == ["lower", 0.01, 500, "promote"]
    await admin.post(f"{AT}/stop")
    body = {"arms": {"2": 10}, "metric": "value", "better": "lower", "alpha": 0.1, "minimum_units": 50, "keep": True}
    shown = (await admin.post(AT, json=body)).json()
    assert [shown[key] for key in ("better", "alpha", "minimum_units", "on_winner")] == ["lower", 0.1, 50, "report"]


async def test_a_winner_that_is_only_reported_comes_with_the_next_command(
    admin: httpx.AsyncClient, office: Office
) -> None:
    """Who reads the report knows what to type."""
    await admin.post(AT, json={"arms": {"2": 10}, "metric": "value"})
    await admin.post(f"{AT}/stop")
    stored = await office.config.get(experiment_name(MODEL))
    ended = msgspec.json.decode(stored.body, type=Experiment)
    await office.put(experiment_name(MODEL), msgspec.structs.replace(ended, verdict="winner", winner=2))
    shown = (await admin.get(AT)).json()
    plan = plan_of_winner(Policy(model=MODEL))
    assert (shown["winner"], shown["next"]) == (2, f"gateway rollout start {MODEL} 2 --plan {plan}")


@pytest.mark.parametrize(
    ("body", "status", "where"),
    [
        ({"metric": "value"}, 400, "/arms"),
        ({"arms": {"2": 10}}, 400, "/metric"),
        ({"arms": {"2": 10}, "metric": "clicks"}, 400, "/metric"),
        ({"arms": {"two": 10}, "metric": "value"}, 400, "/arms/two"),
        ({"arms": {"02": 10}, "metric": "value"}, 400, "/arms/02"),
        ({"arms": {"2": 10}, "metric": "value", "at_most": "soon"}, 400, "/at_most"),
        ({"arms": {"2": 10}, "metric": "value", "colour": 1}, 400, "colour"),
        ({"arms": {}, "metric": "value"}, 400, "arms: name 1 to 8"),
        ({"arms": {"2": 100}, "metric": "value"}, 400, "leave at least 0.01"),
        ({"arms": {"9": 10}, "metric": "value"}, 404, "@9"),
        ({"arms": {"2": 10}, "metric": "label"}, 400, "predicts no class"),
    ],
)
async def test_what_can_not_be_is_refused_with_its_place(
    admin: httpx.AsyncClient, body: dict[str, Any], status: int, where: str
) -> None:
    answer = await admin.post(AT, json=body)
    assert answer.status_code == status, answer.text
    assert where in answer.text
    assert (await admin.get(AT)).status_code == 404


async def test_reading_needs_read_and_starting_needs_operate(office: Office) -> None:
    async with office.client("read") as reader:
        assert (await reader.post(AT, json={"arms": {"2": 10}, "metric": "value"})).status_code == 403
        assert (await reader.get(AT)).status_code == 404
    async with office.client("operate") as operator:
        assert (await operator.post(AT, json={"arms": {"2": 10}, "metric": "value"})).status_code == 201


async def test_a_model_that_does_not_exist_is_named(admin: httpx.AsyncClient) -> None:
    for method, path in (("GET", ""), ("POST", ""), ("POST", "/stop")):
        body = {"arms": {"2": 10}, "metric": "value"} if method == "POST" and not path else {}
        answer = await admin.request(method, f"/admin/models/nothing/experiment{path}", json=body)
        assert answer.status_code == 404
        assert "nothing" in answer.json()["detail"]
