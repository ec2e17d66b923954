"""Model control as protocol clients ask for it: honest about what is loaded, and no way around the route."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from gateway.documents.lease import Condition, GatewayLease, Served
from gateway.documents.route import Canary, Route
from gateway.documents.store import condition_name, gateway_name, route_name
from gateway.names import ModelName, VersionId
from tests.api.admin.conftest import MODEL, Office

INDEX = "/v2/repository/index"
LOAD = f"/v2/repository/models/{MODEL}/load"
UNLOAD = f"/v2/repository/models/{MODEL}/unload"


async def lease(
    office: Office, name: str, *versions: int, refused: str = "", model: str = MODEL, seconds: float = 0.0
) -> None:
    """A serving process that reports these versions; seconds: how long it goes on renewing."""
    served = Served(revision=1, versions=versions, ready=bool(versions), refused_reason=refused)
    now = office.clock.now()
    document = GatewayLease(id=name, pid=1, started=now, renewed=now + seconds, models={ModelName(model): served})
    await office.put(gateway_name(name), document)


async def states(admin: httpx.AsyncClient, **body: Any) -> dict[str, tuple[str, str]]:
    answer = await admin.post(INDEX, json=body)
    assert answer.status_code == 200, answer.text
    return {f"{one['name']}@{one['version']}": (one["state"], one["reason"]) for one in answer.json()}


async def test_the_index_tells_what_every_process_has_loaded(admin: httpx.AsyncClient, office: Office) -> None:
    await office.put(route_name(MODEL), Route(champion=1, canaries=(Canary(version=2, weight=5),), salt="s").encode())
    await lease(office, "g1", 1, 2)
    await lease(office, "g2", 1)
    assert await states(admin) == {
        "electricity@1": ("READY", ""),
        "electricity@2": ("LOADING", "loaded in 1 of 2 serving processes"),
        "electricity@3": ("UNAVAILABLE", "no route names it"),
    }
    assert list(await states(admin, ready=True)) == ["electricity@1"]


async def test_a_version_that_can_not_be_loaded_says_why(admin: httpx.AsyncClient, office: Office) -> None:
    await lease(office, "g1", refused="the runtime can not load the model")
    await office.put(condition_name(VersionId(MODEL, 2)), Condition(quarantined=True, reason="it crashed"))
    found = await states(admin)
    assert found["electricity@1"] == ("UNAVAILABLE", "the runtime can not load the model")
    assert found["electricity@2"] == ("UNAVAILABLE", "quarantined: it crashed")


async def test_without_a_live_process_nothing_is_ready(admin: httpx.AsyncClient, office: Office) -> None:
    await lease(office, "g1", 1)
    office.clock.advance(60)
    assert (await states(admin))["electricity@1"] == ("UNAVAILABLE", "no serving process is alive")


@pytest.mark.parametrize("content", [b"", b"{}", b'{"parameters": {}}'])
async def test_load_of_a_served_model_is_nothing_to_do(
    admin: httpx.AsyncClient, office: Office, content: bytes
) -> None:
    """Stock clients send an empty object, or nothing."""
    await lease(office, "g1", 1)
    answer = await admin.post(LOAD, content=content)
    assert (answer.status_code, answer.json()) == (200, {})
    assert await office.audit() == []


async def test_load_of_a_model_that_does_not_come_up_says_so(admin: httpx.AsyncClient, office: Office) -> None:
    await lease(office, "g1", refused="the runtime can not load the model")
    answer = await admin.post(LOAD)
    assert answer.status_code == 409
    assert "electricity@1: the runtime can not load the model" in answer.json()["error"]


async def test_load_takes_a_model_without_a_route_into_service(admin: httpx.AsyncClient, office: Office) -> None:
    """The newest version that is no known trouble, with an audit entry."""
    for _ in range(3):
        await office.publish("gas")
    await office.put(condition_name(VersionId(ModelName("gas"), 3)), Condition(rolled_back=True))
    await lease(office, "g1", 2, model="gas", seconds=60)
    answer = await admin.post("/v2/repository/models/gas/load", json={})
    assert answer.status_code == 200, answer.text
    assert (await admin.get("/admin/models/gas/route")).json()["champion"] == 2
    assert "all introduce" in await office.audit()


async def test_load_of_quarantined_versions_is_refused(admin: httpx.AsyncClient, office: Office) -> None:
    await office.publish("gas")
    await office.put(condition_name(VersionId(ModelName("gas"), 1)), Condition(quarantined=True))
    assert (await admin.post("/v2/repository/models/gas/load")).status_code == 409


@pytest.mark.parametrize("parameters", [{"config": "{}"}, {"file:1/model.onnx": "AAAA"}])
async def test_files_and_configuration_are_never_taken_from_a_load(
    admin: httpx.AsyncClient, parameters: dict[str, str]
) -> None:
    answer = await admin.post(LOAD, json={"parameters": parameters})
    assert answer.status_code == 400
    assert "published" in answer.json()["error"]


async def test_unload_of_a_routed_model_is_refused(admin: httpx.AsyncClient, office: Office) -> None:
    """Without a champion callers would get errors: whoever wants that changes the route."""
    answer = await admin.post(UNLOAD, json={"parameters": {"unload_dependents": False}})
    assert answer.status_code == 409
    assert "electricity@1" in answer.json()["error"]
    await office.publish("gas")
    assert (await admin.post("/v2/repository/models/gas/unload")).status_code == 200


@pytest.mark.parametrize("path", ["/v2/repository/models/gas/load", "/v2/repository/models/gas/unload"])
async def test_an_unknown_model_is_404_in_the_protocols_form(admin: httpx.AsyncClient, path: str) -> None:
    answer = await admin.post(path)
    assert answer.status_code == 404
    assert list(answer.json()) == ["error"]
