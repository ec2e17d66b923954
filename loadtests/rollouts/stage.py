"""What every rollout scenario stands on: a gateway of its own on free loopback ports, ended by its process id."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from gateway.client import AsyncClient, Call, ClientError, Conflict, NotFound, model_path, rollout_call
from gateway.clock import SystemClock
from gateway.demo import server
from gateway.demo.server import Server
from loadtests.rollouts.models import FEATURES

T = TypeVar("T")

LOOK_SECONDS = 0.05
PATIENCE_SECONDS = 60.0


class RolloutFailed(Exception):
    """The scenario could not be measured."""


@dataclass(frozen=True)
class Gateway:
    """A running gateway and its admin API."""

    server: Server
    admin: AsyncClient
    workers: int = 1

    @property
    def port(self) -> int:
        """Where it serves."""
        return self.server.listen.port

    async def publish(self, model: str, content: bytes) -> int:
        """Publish a version; its number."""
        manifest = json.dumps({"features": [{"name": feature} for feature in FEATURES]}).encode()
        files = {"model": ("model.onnx", content), "manifest": ("manifest.json", manifest)}
        told = await self.admin.send(Call("POST", model_path(model, "/versions"), files=files))
        return int(told["version"].rpartition("@")[2]) if isinstance(told["version"], str) else int(told["version"])

    async def serve(self, model: str, content: bytes) -> None:
        """Publish the first version of a model and wait until every process serves it."""
        await self.publish(model, content)

        async def route() -> Any:
            try:
                return await self.admin.get(model_path(model, "/route"))
            except (NotFound, Conflict):
                return None

        async def served() -> bool:
            health = (await self.admin.get(model_path(model)))["health"]
            return health["ready"] and len(health["processes"]) >= self.workers

        await until(route, f"a route of {model}")
        await until(served, f"{model} to be served")

    async def start(self, model: str, version: int) -> None:
        """Start the rollout of a version on the standard plan, as soon as nothing else is under way."""

        async def started() -> bool:
            try:
                await self.admin.send(rollout_call(model, version, reason="load test"))
            except Conflict as error:
                if "under way" in str(error):
                    return False
                raise
            return True

        await until(started, f"the start of {model}@{version}")

    async def ended(self, model: str, seconds: float) -> Mapping[str, Any]:
        """The rollout once it has ended (guards after the promotion included), or as it is when the time is over."""
        give_up = time.monotonic() + seconds
        while True:
            shown: dict[str, Any] = await self.admin.get(model_path(model, "/rollout"))
            is_over = shown["phase"] in {"promoted", "rolled_back"} and not shown["guarding"]
            if is_over or time.monotonic() > give_up:
                return shown
            await asyncio.sleep(LOOK_SECONDS)


async def until(check: Callable[[], Any], what: str, seconds: float = PATIENCE_SECONDS) -> Any:
    """Ask again until there is an answer. Raises RolloutFailed with what was waited for."""
    give_up = time.monotonic() + seconds
    while not (found := await check()):
        if time.monotonic() > give_up:
            raise RolloutFailed(f"waited {seconds:g} s in vain for {what}")
        await asyncio.sleep(LOOK_SECONDS)
    return found


@asynccontextmanager
async def running(folder: Path, policies: Mapping[str, str], workers: int = 1) -> AsyncIterator[Gateway]:
    """A gateway with all roles on an empty data directory in `folder`. policies: YAML by model."""
    config = folder / "router_config"
    config.mkdir(parents=True)
    (folder / "models").mkdir()
    (folder / "data").mkdir()
    for model, text in policies.items():
        (config / f"{model}.yaml").write_text(text)
    async with (
        server.running(folder / "data", folder, SystemClock(), workers=workers) as started,
        AsyncClient(f"http://{started.admin}", token=started.token, timeout_seconds=60.0) as admin,
    ):
        try:
            yield Gateway(started, admin, workers)
        except ClientError as error:
            end = " ".join(started.log.read_bytes()[-600:].decode(errors="replace").split())
            raise RolloutFailed(f"{type(error).__name__}: {error}; the gateway's log ends: {end}") from error
