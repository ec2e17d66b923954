"""The admin API over stores in memory, with tokens of every kind and versions nobody has to run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from gateway.api.admin_app import build_admin_app
from gateway.api.control import ControlPorts
from gateway.api.token import create_token
from gateway.clock import ManualClock
from gateway.documents.route import Route
from gateway.documents.store import ABSENT, ConfigStore, route_name
from gateway.documents.token import Scope
from gateway.errors import DocumentNotFound
from gateway.names import ModelName
from gateway.registry.manifest import GateReport, Lineage, Manifest
from gateway.registry.package import write_package
from gateway.rollout.change import RouteWriter
from gateway.rollout.operation import Operations
from gateway.settings import Settings
from gateway.stores import connect_memory

MODEL = ModelName("electricity")


@dataclass
class Office:
    """A control process's API and everything behind it."""

    folder: Path
    clock: ManualClock = field(default_factory=ManualClock)
    secrets: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.stores = connect_memory(self.clock)
        tee = self.stores.open_tee("control", "control")
        self.ports = ControlPorts.of(self.stores, self.clock, self.folder / "data", tee)
        stores, writer = self.stores, RouteWriter(self.stores.config, self.clock)
        self.operations = Operations(
            stores.config, stores.registry, stores.traffic, tee, writer, self.clock, lambda: "salt"
        )
        self.published = 0

    @property
    def config(self) -> ConfigStore:
        return self.stores.config

    def client(self, token: str | None = "all", **settings: Any) -> httpx.AsyncClient:
        """A client with one of the tokens, None for none."""
        app = build_admin_app(self.ports, Settings.model_validate(settings), self.operations)
        headers = {} if token is None else {"authorization": f"Bearer {self.secrets.get(token, token)}"}
        return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:8081", headers=headers)

    async def make_tokens(self) -> None:
        kinds: dict[str, Sequence[Scope]] = {
            "all": tuple(Scope),
            "read": (Scope.READ,),
            "operate": (Scope.OPERATE,),
            "publish": (Scope.PUBLISH,),
            "predict": (Scope.PREDICT,),
        }
        for name, scopes in kinds.items():
            self.secrets[name] = await create_token(self.config, name, scopes, self.clock)

    async def publish(self, model: str = MODEL, **fields: Any) -> int:
        """A version whose model is a few bytes; returns its number."""
        self.published += 1
        manifest = Manifest(model=model, gate=GateReport(passed=True), lineage=Lineage(source="file"), **fields)
        package = self.folder / f"package{self.published}"
        write_package(package, f"model {self.published}".encode(), manifest)
        return (await self.stores.registry.publish(package)).number

    async def put(self, name: str, value: Any) -> None:
        """Write a document, whatever its revision."""
        try:
            revision = (await self.config.get(name)).revision
        except DocumentNotFound:
            revision = ABSENT
        await self.config.put(name, value if isinstance(value, bytes) else msgspec.json.encode(value), revision)

    async def audit(self) -> list[str]:
        """Actor and action of every entry that is not about tokens."""
        entries = await self.config.audit(0, 1000)
        return [f"{entry.actor} {entry.action}" for entry in entries if not entry.action.startswith("token.")]


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    """Version 1 answers, versions 2 and 3 wait."""
    made = Office(tmp_path)
    await made.make_tokens()
    for _ in range(3):
        await made.publish()
    await made.put(route_name(MODEL), Route(champion=1, salt="s").encode())
    yield made
    made.ports.admission.close()


@pytest.fixture
async def admin(office: Office) -> AsyncIterator[httpx.AsyncClient]:
    """A client that may do everything."""
    async with office.client() as client:
        yield client
