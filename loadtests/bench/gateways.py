"""Data directories of the gateway, one for each route that is measured: made once through its API, copied per start.

A start from a copy always finds the same versions and an empty journal, whatever the round before has written.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from gateway.client import Call, Client, ClientError, model_path, route_call
from loadtests.bench import server
from loadtests.bench.material import FEATURES, MODEL, MODELS, Material
from loadtests.bench.subjects import Route, fill, gateways, names

CANARY_PERCENT = 5
_PATIENCE_SECONDS = 60.0


class PrepareFailed(Exception):
    """The gateway did not take what the bench serves with it."""


def has_edge() -> bool:
    """Whether `gateway serve` lets its edge be chosen."""
    command = [sys.executable, "-m", "gateway.cli", "serve", "--help"]
    environment = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return "--edge" in told.stdout


def policies(folder: Path) -> Path:
    """An empty folder of policies: every default holds, and nothing is rolled out or trained meanwhile."""
    config = folder / "policies"
    config.mkdir(exist_ok=True)
    return config


def prepare(route: Route, made: Material, folder: Path, core: int) -> Path:
    """A data directory that serves this route once a gateway is started on it. Raises PrepareFailed."""
    data = folder / f"data-{route}"
    data.mkdir()
    whole = next(one for one in gateways(made, has_edge=False) if one.key == "gateway-control")
    port, admin = server.free_ports(2)
    values = {"data": str(data), "config": str(policies(folder)), "port": str(port), "admin": str(admin)}
    try:
        with server.running(fill(whole.program, values), folder, core, {}, port) as started:
            token = admin_token(data, started)
            with Client(f"http://127.0.0.1:{admin}", token=token, timeout_seconds=120.0) as client:
                _fill(client, route, made)
                _until_served(port, MODELS if route == "models" else 1, started)
    except ClientError as error:
        raise PrepareFailed(f"the gateway refused the bench's {route}: {error}") from error
    return data


def _fill(client: Client, route: Route, made: Material) -> None:
    for name in names(MODELS if route == "models" else 1):
        publish(client, name, made.champion, made.reference)
    if route == "alone":
        return
    publish(client, MODEL, made.challenger, made.reference)
    path = model_path(MODEL, "/route")
    wanted = {"champion": 1, "canaries": [{"version": 2, "weight": CANARY_PERCENT}]}
    if route == "shadow":
        wanted = {"champion": 1, "shadows": [{"version": 2, "share": 100}]}
    first_route(client, path)
    client.send(route_call(MODEL, wanted, client.tagged(path).etag, "bench"))


def publish(client: Client, name: str, file: Path, reference: Path | None) -> None:
    """Publish one version through the admin API; without a reference it is not monitored."""
    manifest = json.dumps({"features": [{"name": feature} for feature in FEATURES]}).encode()
    parts = {
        "model": ("model.onnx", file.read_bytes()),
        "manifest": ("manifest.json", manifest),
    }
    if reference is not None:
        parts["reference"] = (reference.name, reference.read_bytes())
    client.send(Call("POST", model_path(name, "/versions"), files=parts))


def first_route(client: Client, path: str) -> None:
    """Wait until the first version has a route; publishing answers before that."""
    give_up = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            client.tagged(path)
            return
        except ClientError:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.05)


def admin_token(data: Path, started: server.Server) -> str:
    """The first admin token, once the gateway answers. Raises PrepareFailed."""
    file = data / "admin-token"
    _until(lambda: file.exists() and bool(file.read_text().strip()), "the admin token", started)
    _until(lambda: _status(started.port, "/livez") == 200, "an answer", started)
    return file.read_text().strip()


def _until_served(port: int, models: int, started: server.Server) -> None:
    def is_served() -> bool:
        with Client(f"http://127.0.0.1:{port}") as client:
            return len(client.get("/models")["models"]) == models

    _until(is_served, f"{models} served models", started)


def _status(port: int, path: str) -> int:
    with Client(f"http://127.0.0.1:{port}") as client:
        try:
            client.get(path)
        except ClientError:
            return 0
        return 200


def _until(check: Callable[[], bool], what: str, started: server.Server) -> None:
    give_up = time.monotonic() + _PATIENCE_SECONDS
    while not check():
        if started.process.poll() is not None or time.monotonic() > give_up:
            raise PrepareFailed(f"waited in vain for {what}: {started.end_of_log()}")
        time.sleep(0.05)
