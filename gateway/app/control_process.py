"""The control process: monitor, rollout controller, retraining supervisor, retention, admin API and status page."""

from __future__ import annotations

import asyncio
import importlib
import secrets
import socket

import httpx

from gateway.api.admin_app import build_admin_app
from gateway.api.control import ControlPorts
from gateway.api.edge import Limits
from gateway.api.token import first_token
from gateway.app.build import open_stores
from gateway.app.child import (
    ChildSpec,
    child_spec,
    http_server,
    keep_running,
    leave_libraries_alone,
    log,
    until_told_to_stop,
    write_log,
)
from gateway.app.hook import ask_over
from gateway.app.policies import PolicyFolder
from gateway.app.retention import Retention
from gateway.clock import SystemClock
from gateway.documents.cloud_event import CONTENT_TYPE
from gateway.monitor.loop import MonitorLoop
from gateway.retraining.supervisor import Supervisor
from gateway.rollout.beside_loop import BesideLoop
from gateway.rollout.change import RouteWriter
from gateway.rollout.controller import RolloutController
from gateway.rollout.experiment.loop import ExperimentLoop
from gateway.rollout.experiment.operation import Experiments
from gateway.rollout.hooks import Hooks
from gateway.rollout.operation import Operations
from gateway.settings import Settings
from gateway.stores.stores import Stores

_YOUNG_OBJECTS = 50_000
"""A block of records makes so many that live for a moment."""


def new_salt() -> str:
    """A fresh salt for a route's split."""
    return secrets.token_hex(8)


async def control(spec: ChildSpec, settings: Settings, stores: Stores) -> None:
    """Run every loop until told to stop. A loop that fails is logged and started again; the others go on."""
    clock = SystemClock()
    stop = until_told_to_stop(spec.alive)
    await first_token(stores.config, settings.data / "admin-token", clock)
    log.info("the first admin token is in %s", settings.data / "admin-token")
    tee = stores.open_tee("control", spec.name)
    folder = PolicyFolder(stores.config, settings.config)
    await folder.import_all()
    ports = ControlPorts.of(stores, clock, settings.data, tee)
    web = httpx.AsyncClient(timeout=5.0)
    hooks = Hooks(ask_over(web), clock)
    operations = Operations(
        stores.config,
        stores.registry,
        stores.traffic,
        tee,
        RouteWriter(stores.config, clock),
        clock,
        new_salt,
        stores.control,
        hooks,
    )
    # Packages may take long to arrive: how long is for the calls that take them.
    limits = Limits(header_seconds=settings.header_seconds, body_seconds=None, stall_seconds=settings.stall_seconds)
    server = http_server(build_admin_app(ports, settings, operations), settings, limits)
    answering = asyncio.create_task(server.serve(sockets=[socket.socket(fileno=spec.socket)]))
    async with web:

        async def post(url: str, body: bytes) -> None:
            answer = await web.post(url, content=body, headers={"Content-Type": CONTENT_TYPE})
            answer.raise_for_status()

        monitor = MonitorLoop(stores, clock, tee, settings.data / "cache", post)
        rollout = RolloutController(stores.config, stores.registry, stores.traffic, stores.control, operations, clock)
        retraining = Supervisor(
            stores.config, stores.registry, stores.control, stores.joins, tee, clock, settings, ports.admission
        )
        retention = Retention(stores, clock, settings.keep_seconds)
        beside = BesideLoop(stores.config, stores.registry, stores.traffic, clock)
        experiments = Experiments(stores.config, stores.traffic, tee, operations, clock)
        trials = ExperimentLoop(stores.config, stores.traffic, experiments, clock)

        async def watch_everything() -> None:
            await asyncio.to_thread(importlib.import_module, "river.drift")
            leave_libraries_alone(_YOUNG_OBJECTS)
            await monitor.run(stop)

        tasks = [
            asyncio.create_task(keep_running("monitor", watch_everything)),
            asyncio.create_task(keep_running("rollout", lambda: rollout.run(stop))),
            asyncio.create_task(keep_running("comparisons", lambda: beside.run(stop))),
            asyncio.create_task(keep_running("experiments", lambda: trials.run(stop))),
            asyncio.create_task(keep_running("retraining", lambda: retraining.run(stop))),
            asyncio.create_task(keep_running("retention", lambda: retention.run(stop))),
            asyncio.create_task(keep_running("policies", lambda: folder.run(stop))),
        ]
        await asyncio.wait([answering, asyncio.create_task(stop.wait())], return_when=asyncio.FIRST_COMPLETED)
        ports.closing.set()
        server.should_exit = True
        await answering
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await hooks.close()
    ports.admission.close()
    tee.close()


def main() -> None:
    """Entry of the process that the parent starts."""
    spec = child_spec()
    settings = spec.read_settings()
    write_log(settings.log_level, spec.name)
    stores = open_stores(settings)
    try:
        asyncio.run(control(spec, settings, stores))
    finally:
        stores.close()


if __name__ == "__main__":
    main()
