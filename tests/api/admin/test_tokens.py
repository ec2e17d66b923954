"""Tokens over the admin API: a secret is told once, and nobody hands out more than they have."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from gateway.api.token import find
from gateway.documents.token import Scope
from tests.api.admin.conftest import Office

SHOP: dict[str, Any] = {"name": "shop", "scopes": ["predict"], "requests_per_second": 50}


async def test_a_token_is_made_listed_and_revoked(office: Office, admin: httpx.AsyncClient) -> None:
    answer = await admin.post("/admin/tokens", json={**SHOP, "days": 30})
    assert answer.status_code == 201, answer.text
    assert answer.headers["cache-control"] == "no-store"
    made = answer.json()
    assert (made["requests_per_second"], made["burst"]) == (50.0, 50.0)
    token = await find(office.config, made["token"], office.clock.now())
    assert token is not None
    assert (token.name, token.scopes, token.expires) == ("shop", (Scope.PREDICT,), office.clock.now() + 30 * 86400)
    listed = await admin.get("/admin/tokens")
    assert made["token"] not in listed.text
    assert token.sha256 not in listed.text
    assert {one["name"]: one["burst"] for one in listed.json()["tokens"]}["shop"] == 50.0
    assert (await admin.delete("/admin/tokens/shop")).json()["revoked"] is True
    assert await find(office.config, made["token"], office.clock.now()) is None
    entries = [entry for entry in await office.config.audit(0, 100) if entry.subject == "shop"]
    assert [(entry.actor, entry.action) for entry in entries] == [("all", "token.create"), ("all", "token.revoke")]
    assert entries[0].after == "predict, 50 requests a second, 50 at once"


async def test_nobody_gives_or_takes_more_than_they_have(office: Office) -> None:
    """Else `operate` would be every scope."""
    async with office.client("operate") as client:
        for scopes in (["publish"], ["operate", "read"]):
            answer = await client.post("/admin/tokens", json={"name": "mine", "scopes": scopes})
            assert answer.status_code == 403, answer.text
        assert (await client.delete("/admin/tokens/all")).status_code == 403
        assert (await client.post("/admin/tokens", json=SHOP)).status_code == 201
        assert (await client.post("/admin/tokens", json={"name": "o2", "scopes": ["operate"]})).status_code == 201
        assert (await client.delete("/admin/tokens/o2")).status_code == 200


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"name": "a b"}, "/name"),
        ({"scopes": []}, "/scopes"),
        ({"scopes": ["root"]}, "/scopes/0"),
        ({"days": 0}, "/days"),
        ({"days": 1e300}, "/days"),
        ({"requests_per_second": 0}, "/requests_per_second"),
        ({"requests_per_second": -1}, "/requests_per_second"),
        ({"requests_per_second": 1e300}, "/requests_per_second"),
        ({"burst": 0.5}, "/burst"),
        ({"requests_per_second": None, "burst": 5}, "/burst"),
        ({"rate": 5}, "/rate"),
    ],
)
async def test_what_is_wrong_is_named(admin: httpx.AsyncClient, change: dict[str, Any], pointer: str) -> None:
    answer = await admin.post("/admin/tokens", json={**SHOP, **change})
    assert answer.status_code == 400, answer.text
    assert answer.json()["errors"][0]["pointer"] == pointer


async def test_a_taken_name_and_an_unknown_one_are_named(admin: httpx.AsyncClient) -> None:
    assert (await admin.post("/admin/tokens", json=SHOP)).status_code == 201
    assert (await admin.post("/admin/tokens", json=SHOP)).status_code == 409
    answer = await admin.delete("/admin/tokens/nobody")
    assert (answer.status_code, answer.json()["detail"]) == (404, "there is no token 'nobody'")
