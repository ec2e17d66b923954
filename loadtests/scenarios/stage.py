"""What every scenario stands on: a gateway on the server's core, load tools on the other one, all ended by their ids.

Where the admin API is needed, the control process with all it starts is moved to the load tool's core at the lowest
priority: it takes nothing from the serving process, and nothing from the load tool that this one wants.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from gateway.client import Call, Client, ClientError, model_path, route_call
from loadtests.bench import gateways, load, machine, server
from loadtests.bench.generator import format_request
from loadtests.bench.load import Load, LoadFailed, Request, Tool
from loadtests.bench.material import MODEL, Material, predict_request
from loadtests.bench.server import Server
from loadtests.bench.subjects import fill
from loadtests.bench.subjects import gateways as gateway_subjects
from loadtests.scenarios.answered import Answered, Phase
from loadtests.scenarios.plan import Plan

CONNECTIONS = 16
_LOWEST_PRIORITY = 19
_GRACE_SECONDS = 30.0


class ScenarioFailed(Exception):
    """The scenario could not be measured."""


@dataclass(frozen=True)
class Stage:
    """folder: for everything of this run. quick: short, to see that it works."""

    folder: Path
    made: Material
    quick: bool
    server_core: int
    load_core: int
    load_tool: Tool
    has_edge: bool

    def lasting(self, full: float, quick: float) -> float:
        """Seconds, or a count, by the length asked for."""
        return quick if self.quick else full

    def times(self, full: int, quick: int) -> int:
        """A count by the length asked for."""
        return quick if self.quick else full


class Gateway:
    """A running gateway and its admin API."""

    def __init__(self, started: Server, client: Client, folder: Path) -> None:
        self.client = client
        self._started = started
        self._folder = folder
        self._is_served = False

    @property
    def port(self) -> int:
        """Where it serves."""
        return self._started.port

    def publish(self, model: bytes, reference: Path | None = None) -> None:
        """The next version of the one model; the first one is served when this returns."""
        file = self._folder / "version.onnx"
        file.write_bytes(model)
        gateways.publish(self.client, MODEL, file, reference)
        if not self._is_served:
            _until_served(self.port)
            self._is_served = True

    def route(self, route: Mapping[str, Any]) -> None:
        """Replace the whole route; when this returns, every serving process has it."""
        path = model_path(MODEL, "/route")
        self.client.send(route_call(MODEL, route, self.client.tagged(path).etag, "scenario"))

    def release(self, version: int) -> None:
        """Lift the quarantine of a version."""
        self.client.send(Call("POST", model_path(MODEL, f"/versions/{version}/release"), {"reason": "scenario"}))

    def children(self, word: str) -> list[psutil.Process]:
        """Its processes whose command line has this word."""
        found = []
        for process in machine.tree(self._started.process.pid):
            with suppress(psutil.Error):
                if word in " ".join(process.cmdline()):
                    found.append(process)
        return found

    def serving_process(self) -> psutil.Process:
        """The one serving process."""
        return self.children("gateway.app.serving_process")[-1]


@contextmanager
def whole(stage: Stage, name: str) -> Iterator[Gateway]:
    """A gateway with all roles on an empty data directory, its control process out of the way."""
    folder = stage.folder / name
    folder.mkdir()
    with _running(stage, folder, "gateway-control") as (started, admin):
        token = gateways.admin_token(folder / "data", started)
        with Client(f"http://127.0.0.1:{admin}", token=token, timeout_seconds=120.0) as client:
            gateway = Gateway(started, client, folder)
            for process in gateway.children("gateway.app.control_process"):
                _move(process.pid, stage.load_core)
            yield gateway


@contextmanager
def serving_only(stage: Stage, name: str, model: bytes, reference: Path | None = None) -> Iterator[Server]:
    """The serving role alone, on a data directory that was filled with one version of one model before."""
    with whole(stage, name) as gateway:
        gateway.publish(model, reference)
    with _running(stage, stage.folder / name, "gateway") as (started, _):
        started.wait(normal_request(stage), lambda body, headers: None)
        yield started


@contextmanager
def _running(stage: Stage, folder: Path, key: str) -> Iterator[tuple[Server, int]]:
    subject = next(one for one in gateway_subjects(stage.made, stage.has_edge) if one.key == key)
    port, admin = server.free_ports(2)
    config = gateways.policies(stage.folder)
    values = {"data": str(folder / "data"), "config": str(config), "port": str(port), "admin": str(admin)}
    words = fill(subject.program, values)
    with server.running(words, folder, stage.server_core, {"OMP_NUM_THREADS": "1"}, port) as started:
        try:
            yield started, admin
        except ClientError as error:
            raise ScenarioFailed(f"{error}; the gateway's log ends: {started.end_of_log()}") from error


def _move(root: int, core: int) -> None:
    """Every thread of a process and of what it has started; what they start later inherits both."""
    for process in machine.tree(root):
        for task in Path(f"/proc/{process.pid}/task").iterdir():
            with suppress(ProcessLookupError):
                os.sched_setaffinity(int(task.name), {core})
                os.setpriority(os.PRIO_PROCESS, int(task.name), _LOWEST_PRIORITY)
        # Where the kernel groups sessions, a priority counts inside the session only, and this is the session's.
        with suppress(OSError):
            Path(f"/proc/{process.pid}/autogroup").write_text(str(_LOWEST_PRIORITY))


def _until_served(port: int) -> None:
    give_up = time.monotonic() + _GRACE_SECONDS
    with Client(f"http://127.0.0.1:{port}") as client:
        while not client.get("/models")["models"]:
            if time.monotonic() > give_up:
                raise ScenarioFailed("the published model was not served")
            time.sleep(0.05)


def normal_request(stage: Stage) -> Request:
    """One row of the bench's material."""
    return predict_request(stage.made.one)


def raw_request(port: int, request: Request) -> tuple[bytes, ...]:
    """The request's bodies as the open-loop tool sends them."""
    url = f"http://127.0.0.1:{port}{request.path}"
    return tuple(format_request(url, request.headers, body) for body in request.bodies)


def capacity(stage: Stage, port: int, seconds: float) -> float:
    """200s a second in a closed loop of 16 connections, after a warm-up. Raises LoadFailed."""
    folder = Path(tempfile.mkdtemp(prefix="capacity-", dir=stage.folder))
    request = normal_request(stage)
    load.run(Load(stage.load_tool, CONNECTIONS, 1.0), request, port, folder, stage.load_core)
    told = load.run(Load(stage.load_tool, CONNECTIONS, seconds), request, port, folder, stage.load_core)
    return told.requests_per_second


class Loading:
    """An open loop under way. began: its start on the monotonic clock."""

    def __init__(self, process: subprocess.Popen[bytes], file: Path) -> None:
        self._process = process
        self._file = file
        assert process.stdout is not None
        said = process.stdout.readline().strip()
        if not said:
            raise LoadFailed(f"the open-loop tool ended with code {process.wait()}")
        self.began = float(said)

    def stop(self) -> Answered:
        """Send nothing more; what was answered until then and, for those under way, after it."""
        self._process.send_signal(signal.SIGTERM)
        return self.wait(0.0)

    def wait(self, seconds: float) -> Answered:
        """Wait for the end of the plan, which lasts so long; what was answered. Raises LoadFailed."""
        try:
            code = self._process.wait(seconds + _GRACE_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise LoadFailed("the open-loop tool did not end") from error
        if code != 0:
            raise LoadFailed(f"the open-loop tool ended with code {code}")
        return Answered(np.load(self._file))


@contextmanager
def loading(stage: Stage, plan: Plan) -> Iterator[Loading]:
    """Load in a process of its own on the load core; killed on the way out when it still runs."""
    folder = Path(tempfile.mkdtemp(prefix="load-", dir=stage.folder))
    (folder / "plan.json").write_text(plan.encode())
    process = start_tool(stage, "open_loop", [str(folder / "plan.json")])
    try:
        yield Loading(process, folder / "plan.npy")
    finally:
        end_tool(process)


def start_tool(stage: Stage, module: str, arguments: Sequence[str]) -> subprocess.Popen[bytes]:
    """One of this package's programs on the load core, its standard output piped."""
    words = [sys.executable, "-m", f"loadtests.scenarios.{module}", *arguments]
    with machine.pinned(stage.load_core):
        return subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True)


def end_tool(process: subprocess.Popen[bytes]) -> None:
    """Kill it when it still runs."""
    if process.poll() is None:
        process.kill()
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def told(process: subprocess.Popen[bytes], seconds: float) -> str:
    """What a tool has printed at its end. Raises LoadFailed."""
    try:
        printed, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired as error:
        raise LoadFailed("a load tool did not end") from error
    if process.returncode != 0:
        raise LoadFailed(f"a load tool ended with code {process.returncode}")
    return printed.decode()


def lasting(seconds: float) -> Phase:
    """Wait; the phase that passed."""
    begin = time.monotonic()
    time.sleep(seconds)
    return Phase(begin, time.monotonic())
