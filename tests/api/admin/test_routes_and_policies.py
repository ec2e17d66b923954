"""Documents that people edit: ETags, If-Match, bad input, audit; and weights."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from gateway.documents.imported import Imported, imported_name
from tests.api.admin.conftest import MODEL, Office

ROUTE = f"/admin/models/{MODEL}/route"
POLICY = f"/admin/models/{MODEL}/policy"
WEIGHTS = f"/admin/models/{MODEL}/weights"


def shares(route: Any) -> dict[int, float]:
    """Weights of the canaries by version."""
    return {canary["version"]: canary["weight"] for canary in route["canaries"]}


async def etag(admin: httpx.AsyncClient, path: str) -> str:
    return (await admin.get(path)).headers["etag"]


@pytest.mark.parametrize("path", [ROUTE, POLICY])
async def test_a_put_needs_the_etag_and_refuses_a_stale_one(
    admin: httpx.AsyncClient, office: Office, path: str
) -> None:
    """Two people who edit at once must not lose one another's change."""
    first = await admin.get(path)
    body, tag = first.json(), first.headers["etag"]
    answer = await admin.put(path, json=body)
    assert (answer.status_code, answer.json()["title"]) == (428, "Precondition required")
    changed = {**body, "deadline_ms": 77.0} if path == POLICY else {**body, "shadows": [{"version": 2, "share": 50}]}
    answer = await admin.put(path, json=changed, headers={"if-match": tag})
    assert answer.status_code == 200, answer.text
    assert answer.headers["etag"] != tag
    for stale in (tag, '"999999"', "*", '"not ours"', 'W/"1"'):
        answer = await admin.put(path, json=body, headers={"if-match": stale})
        assert (answer.status_code, answer.json()["title"]) == (412, "Changed by somebody else")
    now = await admin.get(path)
    assert now.headers["etag"] == (await admin.get(path)).headers["etag"] != tag


async def test_a_whole_route_is_replaced_and_audited(admin: httpx.AsyncClient, office: Office) -> None:
    body = {
        "champion": 1,
        "canaries": [{"version": 2, "weight": 5}],
        "shadows": [{"version": 3, "share": 50}],
    }
    answer = await admin.put(ROUTE, json=body, headers={"if-match": await etag(admin, ROUTE)}, params={"reason": "why"})
    assert answer.status_code == 200, answer.text
    content = (await admin.get(ROUTE)).json()
    assert shares(content) == {2: 5.0}
    assert content["shadows"] == [{"version": 3, "share": 50.0}]
    assert content["salt"] == "s"
    [entry] = [e for e in await office.config.audit(0, 100) if e.action == "route"]
    assert (entry.actor, entry.reason) == ("all", "why")
    assert '"weight":5' in entry.after.replace(" ", "")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (b"", ""),
        (b"{", ""),
        (b"[]", ""),
        (b"{}", "/champion"),
        (b'{"champion": "one"}', "/champion"),
        (b'{"champion": 0}', "/champion"),
        (b'{"champion": 1, "champoin": 2}', "/champoin"),
        (b'{"champion": 1, "champion": 2}', "/champion"),
        (b'{"champion": 1, "canaries": [{"version": 2, "weight": 101}]}', "/canaries/0/weight"),
        (b'{"champion": 1, "canaries": [{"version": 2, "weight": NaN}]}', "/canaries/0/weight"),
        (b'{"champion": 1, "canaries": [{"version": 2}]}', "/canaries/0/weight"),
        (b'{"champion": 1, "canaries": [{"version": 1, "weight": 1}]}', ""),
        (b'{"champion": 1, "canaries": [{"version": 2, "weight": 60}, {"version": 3, "weight": 60}]}', ""),
        (b'{"champion": 1, "canaries": [{"version": 2, "weight": 5}], "shadows": [{"version": 2}]}', ""),
    ],
)
async def test_a_bad_route_is_400_and_changes_nothing(admin: httpx.AsyncClient, body: bytes, pointer: str) -> None:
    before = await admin.get(ROUTE)
    answer = await admin.put(ROUTE, content=body, headers={"if-match": before.headers["etag"]})
    assert answer.status_code == 400, answer.text
    assert pointer in [fault["pointer"] for fault in answer.json()["errors"]]
    assert (await admin.get(ROUTE)).content == before.content


async def test_versions_that_do_not_exist_can_not_be_routed(admin: httpx.AsyncClient) -> None:
    tag = await etag(admin, ROUTE)
    answer = await admin.put(ROUTE, json={"champion": 9}, headers={"if-match": tag})
    assert (answer.status_code, "electricity@9" in answer.json()["detail"]) == (404, True)
    answer = await admin.post(WEIGHTS, json={"weights": {"9": 10}})
    assert (answer.status_code, "electricity@9" in answer.json()["detail"]) == (404, True)


async def test_weights_move_in_one_change_and_the_champion_gets_the_rest(
    admin: httpx.AsyncClient, office: Office
) -> None:
    answer = await admin.post(WEIGHTS, json={"weights": {"2": 10, "3": 2.5}, "reason": "first look"})
    assert answer.status_code == 200, answer.text
    assert shares(answer.json()) == {2: 10.0, 3: 2.5}
    assert answer.headers["etag"] == f'"{answer.json()["revision"]}"'
    [model] = (await admin.get("/admin/models")).json()["models"]
    assert model["weights"] == {"1": 87.5, "2": 10.0, "3": 2.5}
    assert await office.audit() == ["all weights"]
    answer = await admin.post(WEIGHTS, json={"weights": {"2": 0, "3": 0}})
    assert answer.json()["canaries"] == []


async def test_if_match_is_optional_for_weights_and_counts_when_given(admin: httpx.AsyncClient) -> None:
    tag = await etag(admin, ROUTE)
    body = {"weights": {"2": 10}}
    assert (await admin.post(WEIGHTS, json=body, headers={"if-match": tag})).status_code == 200
    assert (await admin.post(WEIGHTS, json=body, headers={"if-match": tag})).status_code == 412


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (b"", "/weights"),
        (b"{}", "/weights"),
        (b'{"weights": {}}', "/weights"),
        (b'{"weights": [4, 10]}', "/weights"),
        (b'{"weights": {"four": 10}}', "/weights/four"),
        (b'{"weights": {"2": "ten"}}', "/weights/2"),
        (b'{"weights": {"2": -1}}', "/weights/2"),
        (b'{"weights": {"2": 101}}', "/weights/2"),
        (b'{"weights": {"2": NaN}}', "/weights/2"),
        (b'{"weights": {"2": 1, "2": 2}}', "/2"),
        (b'{"weights": {"2": 10}, "because": "x"}', "/because"),
        (b'{"weights": {"2": 10}, "reason": 5}', "/reason"),
    ],
)
async def test_bad_weights_are_400_and_change_nothing(admin: httpx.AsyncClient, body: bytes, pointer: str) -> None:
    before = await etag(admin, ROUTE)
    answer = await admin.post(WEIGHTS, content=body)
    assert answer.status_code == 400, answer.text
    assert pointer in [fault["pointer"] for fault in answer.json()["errors"]]
    assert await etag(admin, ROUTE) == before


async def test_weights_of_an_unknown_model_are_404(admin: httpx.AsyncClient) -> None:
    answer = await admin.post("/admin/models/nobody/weights", json={"weights": {"2": 10}})
    assert answer.status_code == 404
    assert "nobody" in answer.json()["detail"]


async def test_weights_that_make_no_route_are_refused(admin: httpx.AsyncClient) -> None:
    for weights in ({"1": 50}, {"2": 60, "3": 60}):
        assert (await admin.post(WEIGHTS, json={"weights": weights})).status_code == 400


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_name_that_is_no_model_is_named(admin: httpx.AsyncClient, method: str) -> None:
    path = "route" if method == "GET" else "weights"
    answer = await admin.request(method, f"/admin/models/{'%2E%2E'}/{path}", json={"weights": {"1": 1}})
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["pointer"] == "the model in the path"


async def test_a_model_without_a_policy_has_the_defaults(admin: httpx.AsyncClient, office: Office) -> None:
    answer = await admin.get(POLICY)
    assert (answer.headers["etag"], answer.headers["x-policy-source"]) == ('"0"', "default")
    assert answer.json()["first_version"] == "serve"
    put = await admin.put(POLICY, json={"deadline_ms": 50}, headers={"if-match": '"0"'}, params={"reason": "slow"})
    assert put.status_code == 200, put.text
    answer = await admin.get(POLICY)
    assert answer.json()["deadline_ms"] == 50.0
    assert answer.headers["x-policy-source"] == "api"
    assert await office.audit() == ["all policy.put"]


async def test_a_policy_put_from_a_file_may_be_replaced_by_the_next_file(
    admin: httpx.AsyncClient, office: Office
) -> None:
    """`gateway apply` twice must not look like somebody's change in between."""
    await admin.put(POLICY, json={"deadline_ms": 50}, headers={"if-match": '"0"'}, params={"file": "e.yaml"})
    assert (await admin.get(POLICY)).headers["x-policy-source"] == "file"


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"model": "gas"}, "/model"),
        ({"deadline": 5}, "/deadline"),
        ({"deadline_ms": -5}, "/deadline_ms"),
        ({"rollout": {"steps": [{"canary": 5}]}}, "/rollout"),
        ({"rollout": {"steps": [{"canry": 5}, {"promote": "auto"}]}}, "/rollout/steps/0/canry"),
        ({"labels": {"wait": "7 days"}}, "/labels/wait"),
        ({"retraining": {"triggers": {"schedule": "daily"}}}, "/retraining/triggers/schedule"),
        ([], ""),
    ],
)
async def test_a_bad_policy_is_400_and_names_the_key(admin: httpx.AsyncClient, body: Any, pointer: str) -> None:
    answer = await admin.put(POLICY, json=body, headers={"if-match": '"0"'})
    assert answer.status_code == 400, answer.text
    assert pointer in [fault["pointer"] for fault in answer.json()["errors"]]
    assert (await admin.get(POLICY)).headers["etag"] == '"0"'


async def test_a_diverged_file_is_shown(admin: httpx.AsyncClient, office: Office) -> None:
    await office.put(imported_name(MODEL), Imported(model=MODEL, file="e.yaml", diverged=True))
    model = (await admin.get(f"/admin/models/{MODEL}")).json()
    assert model["policy"]["diverged"] is True
