"""Middleware of the user's own: around everything, in the order of the settings; a wrong name is refused."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.api.user_middleware import find_middleware, wrapped
from gateway.errors import InvalidConfig
from gateway.settings import read_settings
from tests.api.test_edge_equal import RECORD, serving

SOURCE = """
class Stamp:
    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        async def stamped(message):
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-stamp", scope["path"].encode())]
            await send(message)
        await self.app(scope, receive, stamped)

number = 3
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module in the working directory."""
    name = f"own_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [place for place in sys.path if place])
    return name


async def test_it_sees_predict_which_the_fast_lane_would_have_answered(tmp_path: Path, module: str) -> None:
    body = {"model": "m", "inputs": RECORD, "key": "k", "id": "i1"}
    answers = []
    for place, settings in enumerate(({}, {"middleware": f"{module}:Stamp"})):
        async with serving(tmp_path / str(place), "fast", **settings) as (port, _), httpx.AsyncClient() as client:
            answers.append(await client.post(f"http://127.0.0.1:{port}/predict", json=body))
    plain, stamped = answers
    assert (plain.status_code, stamped.status_code) == (200, 200)
    assert plain.json() == stamped.json()
    assert (plain.headers.get("x-stamp"), stamped.headers.get("x-stamp")) == (None, "/predict")


def test_the_first_one_is_the_outermost() -> None:
    def named(name: str) -> Callable[[Any], Any]:
        return lambda app: [name, app]

    assert wrapped("app", [named("outer"), named("inner")]) == ["outer", ["inner", "app"]]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("{module}", "module:name"),
        ("nobody_wrote_this:Stamp", "ModuleNotFoundError"),
        ("{module}:Missing", "AttributeError"),
        ("{module}:number", "not a class or function"),
    ],
)
def test_a_wrong_name_is_refused_with_the_reason(module: str, name: str, why: str) -> None:
    with pytest.raises(InvalidConfig, match=why) as caught:
        find_middleware([name.format(module=module)])
    assert caught.value.faults[0].pointer == "middleware"


def test_names_are_read_from_text_and_from_a_list(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text("middleware: ['a:B', 'c:D']\n")
    assert read_settings({}, {}, file).middleware == ("a:B", "c:D")
    assert read_settings({}, {"GATEWAY_MIDDLEWARE": "a:B, c:D"}, None).middleware == ("a:B", "c:D")
    assert read_settings({"middleware": ""}, {}, file).middleware == ()
