"""Starts `gateway serve` as a user does, finds its processes, talks to it, stops it."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

import httpx
import numpy as np
import psutil

REPOSITORY = Path(__file__).parents[2]
FEATURES = ("a", "b", "c")
PATIENCE_SECONDS = 60.0


@cache
def small_model(seed: int) -> bytes:
    """Logistic regression over three columns, converted with the defaults (ZipMap and all)."""
    from skl2onnx import to_onnx
    from sklearn.linear_model import LogisticRegression

    random = np.random.default_rng(seed)
    rows = random.normal(size=(400, len(FEATURES))).astype(np.float32)
    labels = (rows @ np.array([1.0, -1.0, 0.5]) + random.normal(scale=0.3, size=400) > 0).astype(int)
    converted: bytes = to_onnx(LogisticRegression(C=1.0 + seed).fit(rows, labels), rows[:1]).SerializeToString()
    return converted


def free_port() -> int:
    """Below the ports that connections of clients take for themselves, so that none of them is faster."""
    while True:
        port = secrets.choice(range(20_000, 32_000))
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


T = TypeVar("T")


def until(check: Callable[[], T | None], what: str, seconds: float = PATIENCE_SECONDS) -> T:
    """Ask again until there is an answer. Fails with what was waited for."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = check()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"waited {seconds} s in vain for {what}")


class RunningGateway:
    """One gateway in a data directory."""

    def __init__(self, data: Path, workers: int = 1, policies: dict[str, str] | None = None) -> None:
        self.data = data
        self.config = data.parent / f"{data.name}-config"
        self.config.mkdir(parents=True, exist_ok=True)
        for name, text in (policies or {}).items():
            (self.config / f"{name}.yaml").write_text(text)
        self._take_ports()
        self.workers = workers
        self.start()

    def start(self) -> None:
        self.data.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "gateway.cli", "serve", "--data", str(self.data)]
        command += ["--listen", f"127.0.0.1:{self.port}", "--admin-listen", f"127.0.0.1:{self.admin_port}"]
        command += ["--config", str(self.config), "--workers", str(self.workers)]
        with (self.data / "log.txt").open("a") as log:
            self.process = subprocess.Popen(command, cwd=REPOSITORY, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def wait_until_live(self) -> None:
        """Start again on other ports when somebody else was faster to take these; fail with the log otherwise."""
        for url in ("{0.url}/livez", "{0.admin_url}/metrics"):
            try:
                until(partial(self._is_up, url), "the gateway")
            except AssertionError as error:
                raise AssertionError(f"{error}; its log:\n{self.log()[-3000:]}") from None

    def _is_up(self, url: str) -> bool:
        """url: with the ports left open, which may change."""
        code = self.process.poll()
        if code is not None:
            assert "already in use" in self.log(), f"it ended with exit code {code}"
            self._take_ports()
            self.start()
        return _answers(url.format(self))

    def _take_ports(self) -> None:
        self.port, self.admin_port = free_port(), free_port()
        self.url, self.admin_url = f"http://127.0.0.1:{self.port}", f"http://127.0.0.1:{self.admin_port}"

    def stop(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(20)
        except subprocess.TimeoutExpired:
            for child in self.children():
                child.kill()
            self.process.kill()
            raise

    def log(self) -> str:
        return (self.data / "log.txt").read_text()

    def children(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def child(self, mark: str) -> psutil.Process:
        """The process whose command line holds `mark`: serving_process, control_process."""

        def find() -> psutil.Process | None:
            for child in self.children():
                try:
                    if any(mark in word for word in child.cmdline()):
                        return child
                except psutil.Error:
                    continue
            return None

        return until(find, f"a process with {mark!r}")

    def kill(self, mark: str) -> None:
        """kill -9, and wait until another one took its place."""
        victim = self.child(mark)
        victim.kill()
        until(lambda: self.child(mark).pid != victim.pid, f"a new {mark}")

    @property
    def token(self) -> str:
        return until(lambda: _text(self.data / "admin-token"), "the admin token")

    def admin(self, method: str, path: str, **options: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.token}", **options.pop("headers", {})}
        return httpx.request(method, f"{self.admin_url}{path}", headers=headers, timeout=60, **options)

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `gateway ...` against this gateway."""
        environment = {**os.environ, "GATEWAY_TOKEN": self.token}
        return subprocess.run(
            [sys.executable, "-m", "gateway.cli", *words],
            cwd=REPOSITORY,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def publish(self, model: str, file: Path) -> str:
        """Publish by the command; returns NAME@N."""
        done = self.command("publish", model, str(file), "--features", ",".join(FEATURES), "--url", self.admin_url)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.split()[0]

    def predict(self, client: httpx.Client, model: str, **fields: Any) -> httpx.Response:
        body = {"model": model, "inputs": dict.fromkeys(FEATURES, 0.5), **fields}
        return client.post(f"{self.url}/predict", json=body)

    def wait_until_served(self, model: str, champion: int = 1) -> None:
        def served() -> bool:
            listed = httpx.get(f"{self.url}/models").json()["models"]
            return any(m["name"] == model and m["champion"] == champion for m in listed)

        until(served, f"{model}@{champion} to be served")
        if self.workers > 1:  # who answered is one of them
            self.wait_until_everywhere(model)

    def wait_until_everywhere(self, model: str) -> None:
        """Until every serving process has the model."""

        def is_everywhere() -> bool:
            health = self.admin("GET", f"/admin/models/{model}").json()["health"]
            return health["ready"] and len(health["processes"]) >= self.workers

        until(is_everywhere, f"{model} in {self.workers} processes")

    def journal(self, *words: str) -> Iterator[dict[str, Any]]:
        """Records of `gateway journal export`, read from the data directory."""
        done = self.command("journal", "export", "--format", "jsonl", "--data", str(self.data), *words)
        assert done.returncode == 0, done.stderr
        for line in done.stdout.splitlines():
            yield json.loads(line)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


def _text(path: Path) -> str:
    return path.read_text().strip() if path.exists() else ""
