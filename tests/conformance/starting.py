"""Starts this project's gateway as its users do, with a folder of models published in bulk, on free loopback ports."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx

REPOSITORY = Path(__file__).parents[2]
PATIENCE_SECONDS = 120.0


def gateway_command() -> list[str]:
    """How to call `gateway`: by this interpreter, or by the one that GATEWAY_PYTHON names."""
    return [os.environ.get("GATEWAY_PYTHON", sys.executable), "-m", "gateway.cli"]


def publish_all(folder: Path, data: Path) -> subprocess.CompletedProcess[str]:
    """Publish every model of the folder into a data directory; the command's exit status is 1 when some are refused."""
    command = [*gateway_command(), "publish", "--all", str(folder), "--data", str(data), "--json"]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=600, check=False)


class StartedGateway:
    """One gateway over a data directory; `url` serves, `admin_url` administers with `token`."""

    def __init__(self, data: Path, **settings: object) -> None:
        self.data = data
        port, admin_port = _free_port(), _free_port()
        self.url, self.admin_url = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{admin_port}"
        config = data.parent / f"{data.name}-config"
        config.mkdir(parents=True, exist_ok=True)
        command = [*gateway_command(), "serve", "--data", str(data), "--config", str(config)]
        command += ["--listen", f"127.0.0.1:{port}", "--admin-listen", f"127.0.0.1:{admin_port}"]
        environment = os.environ | {f"GATEWAY_{name.upper()}": str(value) for name, value in settings.items()}
        self._log = data.parent / f"{data.name}.log"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                command, cwd=REPOSITORY, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )

    @property
    def token(self) -> str:
        """The first admin token."""
        return (self.data / "admin-token").read_text().strip()

    def wait_until_served(self, models: int) -> None:
        """Wait until so many models are served. Fails with the log's end."""
        until = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < until and self._process.poll() is None:
            try:
                served = len(httpx.get(f"{self.url}/models", timeout=10).json()["models"])
            except httpx.HTTPError:
                served = -1
            if served >= models and (self.data / "admin-token").exists():
                return
            time.sleep(0.05 if models < 100 else 2.0)  # a list of many models is work for the process that loads them
        raise AssertionError(f"the gateway did not come up:\n{self._log.read_text()[-3000:]}")

    def stop(self) -> None:
        """End it and wait."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
