"""The locust file as its users start it: a process of its own, against a small gateway that can fail."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).parents[2]


class Served:
    """What the small gateway serves, and what it was sent."""

    def __init__(self) -> None:
        self.weight = 10.0
        self.status = 200
        self.models = 1
        self.moves: list[float] = []
        self.bodies: list[dict[str, Any]] = []
        self.labels: list[dict[str, Any]] = []
        self.tokens: set[str | None] = set()

    def answer(self, path: str, body: Any, token: str | None) -> tuple[int, Any]:
        """Status and content for one call."""
        if path == "/models":
            model = {
                "name": "m",
                "champion": 1,
                "versions": [1, 2],
                "weights": {"1": 100 - self.weight, "2": self.weight},
                "inputs": [],
                "features": [{"name": "a", "low": 0.0, "high": 1.0}],
                "prediction": {"output": "label"},
                "example": {"model": "m", "inputs": {"a": 0.5}},
            }
            return 200, {"models": [model] * self.models}
        if path == "/predict":
            self.bodies.append(body)
            version = 2 if random.random() * 100 < self.weight else 1
            answer = {"id": "i", "model": "m", "version": version, "outputs": {"label": [1]}}
            return self.status, answer
        if path == "/feedback":
            self.labels.append(body)
            return 202, {"accepted": 1}
        assert path == "/admin/models/m/weights"
        self.tokens.add(token)
        self.weight = body["weights"]["2"]
        self.moves.append(self.weight)
        return 200, {}


@pytest.fixture
def served() -> Iterator[tuple[Served, str]]:
    """A running small gateway and its address."""
    state = Served()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            self.do_POST()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            content = json.loads(body) if body else None
            status, answer = state.answer(self.path, content, self.headers.get("authorization"))
            sent = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        def log_message(self, format: str, *args: Any) -> None:
            return

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            return  # a user was stopped in the middle of a request

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield state, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def locust(url: str, *more: str, seconds: int = 1) -> subprocess.CompletedProcess[str]:
    """Run locust headless for so long."""
    command = [
        *(sys.executable, "-m", "locust", "-f", "loadtests/locustfile.py", "--host", url),
        *("--headless", "-u", "4", "-r", "100", "-t", f"{seconds}s"),
    ]
    return subprocess.run([*command, *more], cwd=PROJECT, capture_output=True, text=True, timeout=60, check=False)


def test_shares_follow_the_moved_weights(served: tuple[Served, str]) -> None:
    """The whole file once: all kinds of requests, a moving weight, shares beside it, exit code 0."""
    state, url = served
    ended = locust(url, "--admin", url, "--admin-token", "secret", seconds=2)
    assert ended.returncode == 0, ended.stderr
    assert len(state.moves) >= 2
    assert state.moves[-1] == 10.0, "the weight is put back at the end"
    assert state.tokens == {"Bearer secret"}
    assert {isinstance(body["inputs"], list) for body in state.bodies} == {True, False}
    assert any("key" in body for body in state.bodies)
    assert {label["label"] for label in state.labels} == {1}
    lines = re.findall(r"^m@\d +([\d,]+) +([\d.]+)% +([\d.]+)%$", ended.stderr, re.MULTILINE)
    assert len(lines) == 2
    counted = sum(int(count.replace(",", "")) for count, _, _ in lines)
    assert 0 <= len(state.bodies) - counted <= 4, "a user that is stopped leaves at most one answer unread"
    assert all(abs(float(share) - float(weight)) < 10 for _, share, weight in lines)


@pytest.mark.parametrize(("status", "models"), [(503, 1), (200, 0)])
def test_a_failure_ends_with_another_code(served: tuple[Served, str], status: int, models: int) -> None:
    """CI reads the exit code: refused requests and a gateway that serves nothing are no success."""
    state, url = served
    state.status, state.models = status, models
    ended = locust(url, "--tags", "single")
    assert ended.returncode == 1
    assert ("503" if status == 503 else "serves no model") in ended.stdout + ended.stderr
    assert not state.moves
