"""One table from error to answer: every error of the tree is in it, and an unknown one shows nothing."""

from __future__ import annotations

import inspect
import json

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway import errors
from gateway.api.problems import HANDLERS, KINDS, Guarded, kind_of, response_for
from gateway.errors import Fault, GatewayError


def tree() -> list[type[GatewayError]]:
    return [
        kind
        for _, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, GatewayError) and kind not in (GatewayError, errors.JournalError)
    ]


@pytest.mark.parametrize("kind", tree(), ids=lambda kind: kind.__name__)
def test_every_error_of_the_tree_has_its_own_row(kind: type[GatewayError]) -> None:
    """An error that is added without a thought for its status would become a 500."""
    assert kind in KINDS
    assert 400 <= KINDS[kind].status < 600


def test_a_subclass_is_answered_as_its_nearest_ancestor() -> None:
    class Special(errors.InvalidInput):
        pass

    assert kind_of(Special("x")) == KINDS[errors.InvalidInput]
    assert kind_of(ValueError()) is None


def test_callers_faults_are_4xx_and_ours_are_not() -> None:
    for kind, row in KINDS.items():
        is_callers = issubclass(kind, (errors.RequestError, errors.ConfigError, errors.RegistryError))
        assert (row.status < 500) == is_callers, kind


def test_fields_of_an_error_become_fields_of_the_problem() -> None:
    made = response_for(errors.RevisionConflict("routes/m", 3, 5), "/admin")
    problem = json.loads(bytes(made.body))
    assert (made.status_code, problem["expected"], problem["actual"]) == (412, 3, 5)
    problem = json.loads(bytes(response_for(errors.RouteRefused("no", {"w0": "cannot load"}), "/").body))
    assert problem["refusals"] == {"w0": "cannot load"}
    problem = json.loads(bytes(response_for(errors.AdmissionRefused(["a", "b"]), "/").body))
    assert [fault["detail"] for fault in problem["errors"]] == ["a", "b"]


def test_under_v2_nothing_is_told_twice() -> None:
    """The sentence often names the place already."""
    made = response_for(
        errors.InvalidInput("/inputs/0 is wrong", [Fault("/inputs/0", "is wrong")]), "/v2/models/m/infer"
    )
    assert json.loads(bytes(made.body)) == {"error": "/inputs/0 is wrong"}


def test_under_v2_the_places_are_part_of_the_text() -> None:
    made = response_for(errors.InvalidInput("no", [Fault("/inputs/0", "is wrong")]), "/v2/models/m/infer")
    assert json.loads(bytes(made.body)) == {"error": "no (/inputs/0: is wrong)"}


async def test_an_unexpected_error_in_any_route_is_a_bare_500(caplog: pytest.LogCaptureFixture) -> None:
    async def breaks(request: Request) -> Response:
        raise RuntimeError("password=hunter2")

    app = Starlette(routes=[Route("/x", breaks)], exception_handlers=HANDLERS, middleware=[Middleware(Guarded)])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://g") as client:
        answer = await client.get("/x")
    assert answer.status_code == 500
    assert "hunter2" not in answer.text
    assert answer.json()["id"] in caplog.text
