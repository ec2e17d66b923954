"""Blue/green with hooks, real processes: who is asked decides, callers notice nothing, the way back is instant."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.end_to_end.running import RunningGateway, small_model, until

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow]


class Hook:
    """A web server of somebody else: says no to version 2 and yes to all others; remembers what it was told."""

    def __init__(self) -> None:
        hook = self
        self.told: list[dict[str, Any]] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                event = json.loads(self.rfile.read(int(self.headers["content-length"])))
                hook.told.append(event)
                is_bad = event["data"]["version"] == 2
                said = {"answer": "no", "reason": "smoke test failed"} if is_bad else {"answer": "yes"}
                body = json.dumps(said).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                """Nobody reads it."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def types(self, version: int) -> list[str]:
        return [event["type"] for event in self.told if event["data"]["version"] == version]


@pytest.fixture
def hook() -> Iterator[Hook]:
    hook = Hook()
    yield hook
    hook.server.shutdown()
    hook.server.server_close()


class Caller:
    """Asks all the time, from a thread; remembers which version answered, and what was no answer."""

    def __init__(self, url: str) -> None:
        self.versions: list[str] = []
        self.failed: list[str] = []
        self._url = url
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self._thread.start()

    def _ask(self) -> None:
        with httpx.Client() as client:
            while not self._is_over.is_set():
                answer = client.post(f"{self._url}/predict", json={"inputs": {"a": 0.1, "b": 0.2, "c": 0.3}})
                if answer.status_code != 200:
                    self.failed.append(answer.text)
                else:
                    self.versions.append(answer.headers["x-model-version"])

    def stop(self) -> None:
        self._is_over.set()
        self._thread.join()


def test_a_hook_stops_one_switch_and_lets_the_other_through(
    start_gateway: Callable[..., RunningGateway], tmp_path: Path, hook: Hook
) -> None:
    policy = f"""model: plain
rollout:
  hooks:
    - {{url: "{hook.url}", on: [before_promotion], confirm: true}}
    - {{url: "{hook.url}", on: [after_roll_back]}}
"""
    gateway = start_gateway(policies={"plain": policy})
    for seed in range(3):
        file = tmp_path / f"model{seed}.onnx"
        file.write_bytes(small_model(seed))
        gateway.publish("plain", file)
    gateway.wait_until_served("plain")
    caller = Caller(gateway.url)
    try:
        _switch(gateway, 2)
        until(lambda: _shown(gateway)["phase"] == "rolled_back", "the hook's no to count")
        assert "smoke test failed" in _shown(gateway)["reason"]
        until(lambda: "gateway.rollout.after_roll_back" in hook.types(2), "the hook to be told of the roll-back")
        _switch(gateway, 3)
        until(lambda: _route(gateway)["champion"] == 3, "the hook's yes to count")
        until(lambda: caller.versions[-1:] == ["3"], "callers to be answered by version 3")
        back = gateway.admin("POST", "/admin/models/plain/rollout/roll-back", json={"reason": "by hand"})
        assert back.status_code == 200, back.text
        answered = len(caller.versions)
        until(lambda: len(caller.versions) > answered + 20, "callers to go on")
    finally:
        caller.stop()
    assert _route(gateway)["champion"] == 1
    assert set(caller.versions[answered + 1 :]) == {"1"}  # the one in flight may still be version 3's
    assert caller.failed == []
    assert "2" not in caller.versions


def _switch(gateway: RunningGateway, version: int) -> None:
    body = {"version": version, "plan": "blue_green", "reason": "at once"}
    started = gateway.admin("POST", "/admin/models/plain/rollout", json=body)
    assert started.status_code in {200, 201}, started.text


def _shown(gateway: RunningGateway) -> dict[str, Any]:
    found: dict[str, Any] = gateway.admin("GET", "/admin/models/plain/rollout").json()
    return found


def _route(gateway: RunningGateway) -> dict[str, Any]:
    found: dict[str, Any] = gateway.admin("GET", "/admin/models/plain/route").json()
    return found
