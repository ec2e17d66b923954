"""The command against a real admin API on a loopback port, over stores in memory."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import uvicorn

from gateway.api.admin_app import build_admin_app
from gateway.cli import main
from gateway.documents.policy import Policy
from gateway.documents.route import Route
from gateway.documents.store import policy_name, route_name
from gateway.settings import Settings
from tests.api.admin.conftest import MODEL, Office


class Done(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Command = Callable[..., Done]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """Run `gateway ...` in an empty directory."""
    for name in ("GATEWAY_TOKEN", "GATEWAY_ADMIN_URL", "GATEWAY_URL", "GATEWAY_DATA", "GATEWAY_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> Done:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(words)
        out, err = capsys.readouterr()
        return Done(int(ended.value.code or 0), out, err)

    return run


class Running(NamedTuple):
    """A running admin API."""

    url: str
    office: Office

    @property
    def options(self) -> tuple[str, ...]:
        return ("--url", self.url, "--token", self.office.secrets["all"])


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Three versions of `electricity`, the first in service, with a recipe."""
    office = Office(tmp_path_factory.mktemp("office"))
    listening = socket.create_server(("127.0.0.1", 0))
    started, ended = threading.Event(), threading.Event()
    servers: list[uvicorn.Server] = []

    async def serve() -> None:
        await office.make_tokens()
        for _ in range(3):
            await office.publish()
        await office.put(route_name(MODEL), Route(champion=1, salt="s").encode())
        policy = Policy.model_validate({"model": MODEL, "retraining": {"recipe": "models/electricity.py"}})
        await office.put(policy_name(MODEL), policy.encode())
        app = build_admin_app(office.ports, Settings(), office.operations)
        config = uvicorn.Config(app, log_config=None, lifespan="off", ws="none", timeout_graceful_shutdown=2)
        server = uvicorn.Server(config)
        servers.append(server)
        started.set()
        await server.serve(sockets=[listening])
        ended.set()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    assert started.wait(10)
    port = listening.getsockname()[1]
    yield Running(f"http://127.0.0.1:{port}", office)
    servers[0].should_exit = True
    assert ended.wait(10)
    thread.join(10)
    office.ports.admission.close()
