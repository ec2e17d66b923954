"""The public client: one description of each call, two ways to send it, errors that carry what was said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from gateway.client import (
    AsyncClient,
    BadRequest,
    Call,
    Client,
    Conflict,
    NotAuthorized,
    NotFound,
    NotReachable,
    Refused,
    TryAgain,
    model_path,
    policy_call,
    publish_call,
    rollout_call,
    rollout_verb_call,
    route_call,
    weights_call,
)

Answer = Callable[[httpx.Request], httpx.Response]


def client(answer: Answer, token: str | None = None) -> Client:
    return Client("http://gateway", token=token, transport=httpx.MockTransport(answer))


def echo(request: httpx.Request) -> httpx.Response:
    content = json.loads(request.content) if request.content else None
    return httpx.Response(
        200,
        json={
            "method": request.method,
            "path": request.url.raw_path.decode(),
            "body": content,
            "headers": dict(request.headers),
        },
    )


def test_predict_sends_only_what_was_given() -> None:
    with client(echo) as sent:
        answer = sent.predict({"a": 1}, model="m")
    assert answer["body"] == {"model": "m", "inputs": {"a": 1}}
    assert "x-model-version" not in answer["headers"]
    with client(echo) as sent:
        answer = sent.predict([[1]], key="k", id="i", version=4)
    assert answer["body"] == {"inputs": [[1]], "key": "k", "id": "i"}
    assert answer["headers"]["x-model-version"] == "4"


def test_a_false_or_zero_label_is_sent() -> None:
    """Nothing is not the same as no."""
    with client(echo) as sent:
        assert sent.feedback("i", label=False)["body"] == {"id": "i", "row": 0, "label": False}
        assert sent.feedback("i", row=2, label=0, value=0.0)["body"] == {"id": "i", "row": 2, "label": 0, "value": 0.0}


@pytest.mark.parametrize(
    ("call", "method", "path", "body"),
    [
        (weights_call("m", {4: 10}, "r"), "POST", "/admin/models/m/weights", {"weights": {"4": 10}, "reason": "r"}),
        (rollout_call("m", 4), "POST", "/admin/models/m/rollout", {"version": 4, "plan": "steps", "reason": ""}),
        (
            rollout_call("m", 4, "blue_green", "r", dry_run=True),
            "POST",
            "/admin/models/m/rollout",
            {"version": 4, "plan": "blue_green", "reason": "r", "dry_run": True},
        ),
        (rollout_verb_call("m", "roll-back", "r"), "POST", "/admin/models/m/rollout/roll-back", {"reason": "r"}),
        (route_call("m", {"champion": 1}, '"3"', "why"), "PUT", "/admin/models/m/route?reason=why", {"champion": 1}),
        (policy_call("m", {}, '"3"', file="m.yaml"), "PUT", "/admin/models/m/policy?file=m.yaml", {}),
    ],
)
def test_admin_calls_are_what_the_api_takes(call: Call, method: str, path: str, body: object) -> None:
    with client(echo, token="t") as sent:
        answer = sent.send(call)
    assert (answer["method"], answer["path"], answer["body"]) == (method, path, body)
    assert answer["headers"]["authorization"] == "Bearer t"
    if call.method == "PUT":
        assert answer["headers"]["if-match"] == '"3"'


def test_a_name_can_not_leave_its_place_in_the_path() -> None:
    assert model_path("../x/y", "/route") == "/admin/models/..%2Fx%2Fy/route"


def test_a_package_is_sent_as_its_files(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"model")
    (tmp_path / "manifest.json").write_text("{}")

    def answer(request: httpx.Request) -> httpx.Response:
        assert request.headers["content-type"].startswith("multipart/form-data")
        assert request.read().count(b"Content-Disposition") == 2
        return httpx.Response(201, json={"version": "m@1"})

    with client(answer) as sent:
        assert sent.send(publish_call("m", tmp_path)) == {"version": "m@1"}


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, BadRequest),
        (422, BadRequest),
        (401, NotAuthorized),
        (403, NotAuthorized),
        (404, NotFound),
        (409, Conflict),
        (412, Conflict),
        (428, Conflict),
        (429, TryAgain),
        (503, TryAgain),
        (500, Refused),
    ],
)
def test_an_error_has_its_kind_and_everything_that_was_said(status: int, kind: type[Refused]) -> None:
    problem = {"title": "t", "status": status, "detail": "what", "errors": [{"pointer": "/a", "detail": "no"}]}

    def answer(request: httpx.Request) -> httpx.Response:
        headers = {"content-type": "application/problem+json", "retry-after": "7"}
        return httpx.Response(status, content=json.dumps(problem), headers=headers)

    with client(answer) as sent, pytest.raises(kind) as caught:
        sent.get("/")
    assert (str(caught.value), caught.value.status) == ("what", status)
    assert caught.value.problem == problem
    assert caught.value.errors == [{"pointer": "/a", "detail": "no"}]
    if isinstance(caught.value, TryAgain):
        assert caught.value.retry_after_seconds == 7.0


def test_an_error_in_another_shape_is_still_an_error() -> None:
    """A proxy in between answers HTML, the v2 protocol its own key."""
    answers: list[tuple[Answer, type[Refused], str]] = [
        (lambda request: httpx.Response(502, text="<html>bad gateway</html>"), Refused, "bad gateway"),
        (lambda request: httpx.Response(404, json={"error": "no such model"}), NotFound, "no such model"),
    ]
    for answer, kind, said in answers:
        with client(answer) as sent, pytest.raises(kind, match=said):
            sent.get("/v2/models/x")


@pytest.mark.parametrize("error", [httpx.ConnectError("refused"), httpx.ReadTimeout("slow"), httpx.ReadError("cut")])
def test_no_answer_is_not_reachable(error: Exception) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise error

    with client(answer) as sent, pytest.raises(NotReachable, match="http://gateway"):
        sent.get("/")


def test_documents_come_with_their_etag() -> None:
    headers = {"etag": '"7"', "x-policy-source": "api"}
    with client(lambda request: httpx.Response(200, json={"a": 1}, headers=headers)) as sent:
        assert sent.tagged("/x") == ({"a": 1}, '"7"', "api")


def test_events_are_read_one_by_one() -> None:
    text = ': hello\n\nevent: alert\ndata: {"id": 1}\nid: ab\n\nevent: decision\ndata: {"id": 2}\n\n'
    with client(lambda request: httpx.Response(200, text=text)) as sent:
        assert list(sent.events()) == [
            {"event": "alert", "data": {"id": 1}},
            {"event": "decision", "data": {"id": 2}},
        ]
    refused = client(lambda request: httpx.Response(401, json={"detail": "no token"}))
    with refused, pytest.raises(NotAuthorized):
        list(refused.events())


async def test_the_asynchronous_client_does_the_same() -> None:
    async with AsyncClient("http://gateway", token="t", transport=httpx.MockTransport(echo)) as sent:
        answer = await sent.predict({"a": 1}, model="m", version=2)
        assert answer["body"] == {"model": "m", "inputs": {"a": 1}}
        assert answer["headers"]["authorization"] == "Bearer t"
        assert (await sent.feedback("i", label=1))["path"] == "/feedback"
        assert (await sent.get("/admin/jobs", limit=5))["path"] == "/admin/jobs?limit=5"
        assert (await sent.tagged("/x")).etag == ""
    refused = httpx.MockTransport(lambda request: httpx.Response(404, json={"detail": "gone"}))
    async with AsyncClient("http://gateway", transport=refused) as sent:
        with pytest.raises(NotFound):
            await sent.get("/")
