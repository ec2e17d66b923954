"""The server under test: any by `--url`, else this project's gateway on loopback with the suite's models.

    pytest tests/conformance --url http://127.0.0.1:8000

The server must have the models of `models.py`; tests of a model or an extension that it does not have are skipped and
say so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conformance.models import MODELS, write_models
from tests.conformance.starting import StartedGateway, publish_all

EXTENSION = "binary_tensor_data"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--url", default=None, help="serving address of the server under test")
    parser.addoption("--admin-url", default=None, help="address of its model repository calls, when it is another")
    parser.addoption("--admin-token", default="", help="bearer token for the model repository calls")


@dataclass(frozen=True)
class Server:
    """The server under test. started: None for somebody else's."""

    url: str
    admin_url: str
    admin_token: str
    client: httpx.Client
    started: StartedGateway | None = None

    def infer(self, model: str, body: Any = None, version: str = "", **options: Any) -> httpx.Response:
        """Post to infer; `body` is sent as JSON."""
        path = f"/v2/models/{model}/versions/{version}/infer" if version else f"/v2/models/{model}/infer"
        if body is not None:
            options["json"] = body
        return self.client.post(self.url + path, **options)

    def get(self, path: str) -> httpx.Response:
        return self.client.get(self.url + path)

    @property
    def admin_headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.admin_token}"} if self.admin_token else {}


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    url = request.config.getoption("--url", default=None)
    with httpx.Client(timeout=30) as client:
        if url is not None:
            admin_url = request.config.getoption("--admin-url") or url
            token = request.config.getoption("--admin-token")
            yield Server(url.rstrip("/"), admin_url.rstrip("/"), token, client)
            return
        gateway = start_with_models(tmp_path_factory.mktemp("conformance"))
        try:
            yield Server(gateway.url, gateway.admin_url, gateway.token, client, gateway)
        finally:
            gateway.stop()


def start_with_models(folder: Path) -> StartedGateway:
    """This project's gateway, serving the suite's models."""
    write_models(folder / "models")
    published = publish_all(folder / "models", folder / "data")
    assert published.returncode == 0, published.stdout + published.stderr
    gateway = StartedGateway(folder / "data")
    try:
        gateway.wait_until_served(len(MODELS))
    except BaseException:
        gateway.stop()
        raise
    return gateway


@pytest.fixture(scope="session")
def has(server: Server) -> Callable[[str], bool]:
    """Whether the server has a model (asked once each)."""
    known: dict[str, bool] = {}

    def ask(model: str) -> bool:
        if model not in known:
            known[model] = server.get(f"/v2/models/{model}/ready").status_code == 200
        return known[model]

    return ask


@pytest.fixture(autouse=True)
def _skip_what_the_server_lacks(request: pytest.FixtureRequest) -> None:
    """`@pytest.mark.needs("types", "binary")`: models by their short names, or an extension."""
    for mark in request.node.iter_markers("needs"):
        for name in mark.args:
            if name == "binary":
                extensions = request.getfixturevalue("server").get("/v2").json().get("extensions", [])
                missing = None if EXTENSION in extensions else f"does not say that it has {EXTENSION}"
            else:
                is_there = request.getfixturevalue("has")(f"conformance_{name}")
                missing = None if is_there else f"does not serve conformance_{name}"
            if missing:
                pytest.skip(f"the server {missing}")
