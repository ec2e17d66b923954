"""The gateway of the demo as a child process, and the commands it runs beside it.

Starts `gateway serve` on free loopback ports with a data directory of its own and ends it by its process id.
Knows the gateway only by its command line, its addresses and the token file.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import gateway
from gateway.clock import Clock
from gateway.errors import GatewayError, InvalidConfig, NotAllowed
from gateway.settings import Address

_MARK = "demo.json"
_START_SECONDS = 60.0
_STOP_SECONDS = 30.0


@dataclass(frozen=True)
class Server:
    """A running gateway: where it listens, where its data lies, its first token, its process."""

    listen: Address
    admin: Address
    data: Path
    token: str
    process: subprocess.Popen[bytes]

    @property
    def log(self) -> Path:
        """What the gateway printed."""
        return log_of(self.data)


def log_of(data: Path) -> Path:
    """The log file of a gateway with this data directory."""
    return data / "demo.log"


def token_file(data: Path) -> Path:
    """Where a gateway with this data directory writes its first token."""
    return data / "admin-token"


def project(model: str) -> Path:
    """The folder that holds the model's recipe and policy: here, or the clone the package lies in."""
    for folder in (Path.cwd(), Path(gateway.__file__).resolve().parents[1]):
        if (folder / "models" / f"{model}.py").is_file() and (folder / "router_config" / f"{model}.yaml").is_file():
            return folder
    raise InvalidConfig(
        f"the demo needs models/{model}.py and router_config/{model}.yaml: run it in a clone of the project"
    )


def fresh_directory(asked: Path | None) -> Path:
    """An empty data directory: a new temporary one, or the one asked for.

    What an earlier demo left there is removed, unless its gateway still runs (NotAllowed); a directory with anything
    else in it is refused (InvalidConfig).
    """
    if asked is None:
        return Path(tempfile.mkdtemp(prefix="gateway-demo-"))
    data = asked.resolve()
    mark = data / _MARK
    if mark.exists():
        process = json.loads(mark.read_text() or "{}").get("process", 0)
        if process and is_running(process):
            raise NotAllowed(f"a gateway started by an earlier demo still uses {data}: end it with `kill {process}`")
        shutil.rmtree(data)
    elif data.exists() and (not data.is_dir() or any(data.iterdir())):
        raise InvalidConfig(f"{data} is not empty: name a directory that is, or leave --data out")
    data.mkdir(parents=True, exist_ok=True)
    return data


@contextlib.asynccontextmanager
async def running(
    data: Path, folder: Path, clock: Clock, *, config: Path | None = None, workers: int = 1, keep: bool = False
) -> AsyncIterator[Server]:
    """A gateway that serves, started in `folder`; ended with SIGTERM on the way out, unless `keep` and all went well.

    config: folder of policies, `router_config` by default. Raises GatewayError with the end of the log when it does
    not start.
    """
    listen, admin = _free_addresses()
    command = [
        *(sys.executable, "-m", "gateway.cli", "serve", "--data", str(data)),
        *("--listen", str(listen), "--admin-listen", str(admin)),
        *("--config", str(config or folder / "router_config"), "--models", str(folder / "models")),
        *("--workers", str(workers)),
    ]
    process = _start(command, folder, log_of(data))
    (data / _MARK).write_text(json.dumps({"process": process.pid}))
    kept = False
    try:
        await _until_alive(listen, process, data, clock)
        token = token_file(data).read_text().strip()
        yield Server(listen, admin, data, token, process)
        kept = keep
    finally:
        if not kept:
            await asyncio.shield(stop(process))


async def stop(process: subprocess.Popen[bytes]) -> None:
    """End the process: SIGTERM, and SIGKILL when it has not drained in half a minute."""
    process.terminate()
    try:
        await asyncio.to_thread(process.wait, _STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        await asyncio.to_thread(process.wait)


async def run_command(arguments: Sequence[str], folder: Path) -> str:
    """Run `gateway ARGUMENTS` in `folder`; what it printed. Raises GatewayError with its errors when it fails."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway.cli", *arguments),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        out, err = await process.communicate()
    except asyncio.CancelledError:
        process.terminate()
        await process.wait()
        raise
    if process.returncode:
        said = (err or out).decode(errors="replace").strip()
        raise GatewayError(f"`gateway {arguments[0]}` ended with code {process.returncode}: {said[-2000:]}")
    return out.decode()


def _start(command: Sequence[str], folder: Path, log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as opened:
        # A session of its own: Ctrl-C in the terminal reaches the demo alone, which ends its child in order.
        return subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=opened, stderr=opened, start_new_session=True
        )


async def _until_alive(listen: Address, process: subprocess.Popen[bytes], data: Path, clock: Clock) -> None:
    """Wait for an answer and for the first token, which two different processes of the gateway give."""
    give_up = clock.monotonic() + _START_SECONDS
    while not (await _answers_livez(listen) and token_file(data).exists()):
        if process.poll() is not None:
            why = f"ended with code {process.returncode}"
        elif clock.monotonic() > give_up:
            why = f"did not answer within {_START_SECONDS:g} s"
        else:
            await clock.sleep(0.05)
            continue
        raise GatewayError(f"the gateway {why}; the end of {log_of(data)}:\n{_end_of(log_of(data))}")


async def _answers_livez(listen: Address) -> bool:
    try:
        reader, writer = await asyncio.open_connection(listen.host, listen.port)
    except OSError:
        return False
    try:
        writer.write(f"GET /livez HTTP/1.1\r\nhost: {listen}\r\nconnection: close\r\n\r\n".encode())
        return b" 200 " in await asyncio.wait_for(reader.readline(), 2.0)
    except OSError:
        return False
    finally:
        writer.close()


def _end_of(log: Path) -> str:
    return log.read_bytes()[-4000:].decode(errors="replace")


def _free_addresses() -> tuple[Address, Address]:
    # Both are held until both are known, so that they differ.
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        ports = one.getsockname()[1], other.getsockname()[1]
    return Address(host="127.0.0.1", port=ports[0]), Address(host="127.0.0.1", port=ports[1])


def is_running(process: int) -> bool:
    """True while a process with this id lives."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
