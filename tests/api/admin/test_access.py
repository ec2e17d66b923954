"""Who may call what: every row of the table of calls, with no token, a wrong one, and each scope."""

from __future__ import annotations

import httpx
import pytest

from gateway.api.admin.call import Call
from gateway.api.admin_app import CALLS
from gateway.api.token import create_token, revoke_token
from gateway.documents.token import Scope
from tests.api.admin.conftest import Office

PATHS = {"{model}": "electricity", "{number}": "2", "{job}": "j", "{alert}": "a", "{token}": "t"}


def path_of(call: Call) -> str:
    path = call.path
    for name, value in PATHS.items():
        path = path.replace(name, value)
    return path


@pytest.fixture(params=CALLS, ids=[f"{call.method} {call.path}" for call in CALLS])
def call(request: pytest.FixtureRequest) -> Call:
    found: Call = request.param
    return found


async def test_without_a_good_token_every_call_is_401(office: Office, call: Call) -> None:
    """There is no call that somebody forgot to guard."""
    for token in (None, "wrong", ""):
        async with office.client(token) as client:
            answer = await client.request(call.method, path_of(call))
            assert answer.status_code == 401, answer.text
            assert answer.headers["www-authenticate"] == "Bearer"


async def test_a_token_opens_only_the_calls_of_its_scope(office: Office, call: Call) -> None:
    """A dashboard's token can not move a weight, a trainer's can not read the audit trail."""
    office.ports.closing.set()  # so that the event stream ends at once
    for scope in Scope:
        async with office.client(scope.value) as client:
            answer = await client.request(call.method, path_of(call))
            if scope is call.scope:
                assert answer.status_code not in (401, 403), answer.text
            else:
                assert answer.status_code == 403, answer.text
                assert str(call.scope) in answer.text


def test_reading_and_writing_have_the_scopes_that_the_docs_promise() -> None:
    for call in CALLS:
        expected = Scope.READ if call.method == "GET" else Scope.OPERATE
        if (call.method, call.path) == ("POST", "/admin/models/{model}/versions"):
            expected = Scope.PUBLISH
        if (call.method, call.path) == ("POST", "/v2/repository/index"):
            expected = Scope.READ
        assert call.scope is expected, call


async def test_methods_that_are_not_in_the_table_are_405(office: Office, call: Call) -> None:
    """An allow-list: a filter that names what is forbidden forgets a method."""
    there = {one.method for one in CALLS if one.path == call.path}
    async with office.client() as client:
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"} - there:
            answer = await client.request(method, path_of(call))
            assert answer.status_code == 405, (method, answer.text)
            is_protocol = call.path.startswith("/v2/")
            kind = "application/json" if is_protocol else "application/problem+json"
            assert answer.headers["content-type"] == kind


async def test_expired_and_revoked_tokens_are_401(office: Office) -> None:
    secret = await create_token(office.config, "short", [Scope.READ], office.clock, days=1)
    async with office.client(secret) as client:
        assert (await client.get("/admin/models")).status_code == 200
        office.clock.advance(86401)
        assert (await client.get("/admin/models")).status_code == 401
    async with office.client("read") as client:
        assert (await client.get("/admin/models")).status_code == 200
        await revoke_token(office.config, "read", "test")
        assert (await client.get("/admin/models")).status_code == 401


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8081", 200),
        ("localhost:8081", 200),
        ("gateway.localhost", 200),
        ("[::1]:8081", 200),
        ("10.0.0.7:8081", 200),
        ("evil.example", 403),
        ("localhost.evil.example:8081", 403),
        ("", 403),
    ],
)
async def test_on_loopback_other_sites_names_are_refused(office: Office, host: str, status: int) -> None:
    """A page that rebinds its own name to 127.0.0.1 must not read the metrics or the status page."""
    async with office.client() as client:
        for path in ("/", "/metrics", "/admin/models"):
            assert (await client.get(path, headers={"host": host})).status_code == status


async def test_beyond_loopback_the_gateway_is_reached_by_any_name(office: Office) -> None:
    async with office.client(admin_listen="0.0.0.0:8081") as client:
        assert (await client.get("/admin/models", headers={"host": "gateway.internal"})).status_code == 200


async def test_pages_of_another_origin_may_not_call(admin: httpx.AsyncClient) -> None:
    for origin, status in (("http://127.0.0.1:8081", 200), ("https://evil.example", 403), ("null", 403)):
        assert (await admin.get("/admin/models", headers={"origin": origin})).status_code == status


async def test_metrics_are_open_unless_a_token_is_asked_for(office: Office) -> None:
    async with office.client(None) as client:
        assert (await client.get("/metrics")).status_code == 200
    async with office.client(None, metrics_token=True) as client:
        assert (await client.get("/metrics")).status_code == 401
    async with office.client("read", metrics_token=True) as client:
        assert (await client.get("/metrics")).status_code == 200
