"""What a version on trial does to its own process stays there: the champion answers every request meanwhile."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from gateway.serving.running import was_running
from tests.end_to_end.running import RunningGateway, small_model, until
from tests.execution import graphs

pytestmark = pytest.mark.end_to_end

Start = Callable[..., RunningGateway]
MODEL = "plain"


class Load:
    """Asks for predictions all the time; `seen` counts (version, status), `failed` keeps what was not 200."""

    def __init__(self, gateway: RunningGateway) -> None:
        self.gateway = gateway
        self.seen: Counter[int] = Counter()
        self.failed: list[str] = []
        self._done = threading.Event()
        self._asker = threading.Thread(target=self._ask)

    def _ask(self) -> None:
        with httpx.Client(timeout=30) as client:
            while not self._done.is_set():
                answer = self.gateway.predict(client, MODEL)
                if answer.status_code == 200:
                    self.seen[answer.json()["version"]] += 1
                else:
                    self.failed.append(answer.text)

    def more(self, count: int) -> None:
        before = self.seen.total()
        until(lambda: self.seen.total() >= before + count, f"{count} more answers; failed: {self.failed[:3]}")

    @contextmanager
    def running(self) -> Iterator[None]:
        self._asker.start()
        try:
            yield
        finally:
            self._done.set()
            self._asker.join()


def runners(gateway: RunningGateway) -> list[psutil.Process]:
    found = []
    for child in gateway.children():
        try:
            if "runner_child" in " ".join(child.cmdline()):
                found.append(child)
        except psutil.Error:
            continue
    return found


def runner(gateway: RunningGateway, but_not: int = 0) -> psutil.Process:
    def other() -> list[psutil.Process]:
        return [process for process in runners(gateway) if process.pid != but_not]

    return until(other, "a runner")[0]


def with_two_versions(gateway: RunningGateway, file: Path, directory: Path) -> None:
    gateway.publish(MODEL, file)
    second = directory / "second.onnx"
    second.write_bytes(small_model(seed=1))
    assert gateway.publish(MODEL, second) == f"{MODEL}@2"
    gateway.wait_until_served(MODEL)


def canary(gateway: RunningGateway, weight: float) -> httpx.Response:
    return gateway.admin("POST", f"/admin/models/{MODEL}/weights", json={"weights": {"2": weight}, "reason": "trial"})


def condition(gateway: RunningGateway, number: int) -> dict[str, Any]:
    shown: dict[str, Any] = gateway.admin("GET", f"/admin/models/{MODEL}/versions/{number}").json()["condition"]
    return shown


def test_a_canary_that_crashes_twice_is_quarantined_and_nobody_notices(
    start_gateway: Start, model_file: Path, tmp_path: Path
) -> None:
    """SIGSEGV, twice: suspect, then quarantined with its reason; its callers got the champion's answers."""
    gateway = start_gateway()
    with_two_versions(gateway, model_file, tmp_path)
    assert canary(gateway, 50).status_code == 200
    load = Load(gateway)
    with load.running():
        load.more(100)
        first = runner(gateway)
        assert load.seen[2]
        first.send_signal(signal.SIGSEGV)
        until(lambda: condition(gateway, 2)["suspect"], "the suspicion")
        second = runner(gateway, but_not=first.pid)
        before = load.seen[2]
        until(lambda: load.seen[2] > before, "answers of the canary that came back")
        second.send_signal(signal.SIGSEGV)
        until(lambda: condition(gateway, 2)["quarantined"], "the quarantine")
        until(lambda: not runners(gateway), "the runner's end")
        load.more(100)
    assert load.failed == []
    assert "SIGSEGV" in condition(gateway, 2)["reason"]
    refused = canary(gateway, 10)
    assert "quarantined" in refused.text
    processes = gateway.admin("GET", f"/admin/models/{MODEL}").json()["health"]["processes"]
    assert "quarantined" in processes[0]["reason"]
    released = gateway.admin("POST", f"/admin/models/{MODEL}/versions/2/release", json={"reason": "a new driver"})
    assert released.status_code == 200
    runner(gateway)
    assert gateway.stop() == 0


def test_a_stopped_canary_costs_a_deadline_and_is_replaced(
    start_gateway: Start, model_file: Path, tmp_path: Path
) -> None:
    """SIGSTOP: callers that were inside miss their deadline, all others get the champion; no fault of the version."""
    gateway = start_gateway()
    with_two_versions(gateway, model_file, tmp_path)
    assert canary(gateway, 50).status_code == 200
    load = Load(gateway)
    with load.running():
        load.more(50)
        stopped = runner(gateway)
        os.kill(stopped.pid, signal.SIGSTOP)
        load.more(100)
        runner(gateway, but_not=stopped.pid)
        before = load.seen[2]
        until(lambda: load.seen[2] > before, "answers of the canary that came back")
    assert len(load.failed) <= 1
    assert all("deadline" in text for text in load.failed)
    shown = condition(gateway, 2)
    assert not shown["suspect"]
    assert not shown["quarantined"]


@pytest.mark.parametrize("model", [graphs.loops_beyond_a_thousand, graphs.allocates_its_inputs])
def test_a_shadow_that_never_ends_or_eats_memory_fails_no_answer(
    start_gateway: Start, tmp_path: Path, model: Callable[[], Any]
) -> None:
    """Both pass the publish check, which sends small numbers; live rows make one loop and one want 40 GB."""
    gateway = start_gateway()
    champion, hostile = tmp_path / "champion.onnx", tmp_path / "hostile.onnx"
    champion.write_bytes(graphs.identity().SerializeToString())
    hostile.write_bytes(model().SerializeToString())
    for file in (champion, hostile):
        done = gateway.command("publish", MODEL, str(file), "--features", "a,b", "--url", gateway.admin_url)
        assert done.returncode == 0, done.stdout + done.stderr
    gateway.wait_until_served(MODEL)
    route = gateway.admin("GET", f"/admin/models/{MODEL}/route")
    changed = gateway.admin(
        "PUT",
        f"/admin/models/{MODEL}/route",
        json={"champion": 1, "shadows": [{"version": 2, "share": 100}]},
        headers={"If-Match": route.headers["ETag"]},
    )
    assert changed.status_code == 200, changed.text
    with httpx.Client(timeout=30) as client:
        for _ in range(50):
            answer = gateway.predict(client, MODEL, inputs={"a": 100_000.0, "b": 100_000.0})
            assert (answer.status_code, answer.json()["version"]) == (200, 1)
    records = until(
        lambda: [record for record in gateway.journal() if record.get("role") == "shadow"], "records of the shadow"
    )
    assert records[0]["outcome"] in {"error", "deadline"}


def test_a_promoted_version_moves_into_the_serving_process(
    start_gateway: Start, model_file: Path, tmp_path: Path
) -> None:
    """Proven by then: no request fails on the way, its own process ends, and as a shadow it stays inline later."""
    gateway = start_gateway()
    with_two_versions(gateway, model_file, tmp_path)
    assert canary(gateway, 10).status_code == 200
    runner(gateway)
    load = Load(gateway)
    with load.running():
        load.more(20)
        route = gateway.admin("GET", f"/admin/models/{MODEL}/route")
        changed = gateway.admin(
            "PUT",
            f"/admin/models/{MODEL}/route",
            json={"champion": 2, "shadows": [{"version": 1, "share": 100}]},
            headers={"If-Match": route.headers["ETag"]},
        )
        assert changed.status_code == 200, changed.text
        until(lambda: not runners(gateway), "the end of the runner")
        load.more(20)
    assert load.failed == []
    assert condition(gateway, 2)["proven"]


def test_no_runner_outlives_its_serving_process(start_gateway: Start, model_file: Path, tmp_path: Path) -> None:
    """kill -9 of a serving process leaves no orphan behind that burns a core."""
    gateway = start_gateway()
    with_two_versions(gateway, model_file, tmp_path)
    assert canary(gateway, 10).status_code == 200
    orphan = runner(gateway)
    gateway.kill("serving_process")
    until(lambda: not psutil.pid_exists(orphan.pid) or orphan.status() == psutil.STATUS_ZOMBIE, "the runner's end")
    runner(gateway, but_not=orphan.pid)


def test_a_champion_that_ends_the_serving_process_is_named_and_tried_alone(
    start_gateway: Start, tmp_path: Path
) -> None:
    """Its inputs make it loop inside the serving process, which dies of SIGSEGV in it: the process that comes next runs
    it alone, the second crash is its own and puts it into quarantine, and the last champion answers."""
    gateway = start_gateway()
    good, bad = tmp_path / "good.onnx", tmp_path / "bad.onnx"
    good.write_bytes(graphs.identity().SerializeToString())
    bad.write_bytes(graphs.loops_beyond_a_thousand().SerializeToString())
    for file in (good, bad):
        done = gateway.command("publish", MODEL, str(file), "--features", "a,b", "--url", gateway.admin_url)
        assert done.returncode == 0, done.stdout + done.stderr
    gateway.wait_until_served(MODEL)
    route = gateway.admin("GET", f"/admin/models/{MODEL}/route")
    body = {"champion": 2, "previous": 1}
    changed = gateway.admin(
        "PUT", f"/admin/models/{MODEL}/route", json=body, headers={"If-Match": route.headers["ETag"]}
    )
    assert changed.status_code == 200, changed.text
    poison, victim = {"a": 100_000.0, "b": 100_000.0}, gateway.child("serving_process")
    with httpx.Client(timeout=30) as client:
        caller = threading.Thread(target=lambda: _poisoned(gateway, poison), daemon=True)
        caller.start()
        until(lambda: was_running(gateway.data / "run" / "running" / "w0"), "the run that does not end")
        victim.send_signal(signal.SIGSEGV)
        until(lambda: condition(gateway, 2)["suspect"], "the suspicion")
        alone = runner(gateway)
        answer = gateway.predict(client, MODEL, inputs={"a": 1.0, "b": 1.0})
        assert (answer.status_code, answer.json()["version"]) == (200, 2)
        alone.send_signal(signal.SIGSEGV)
        until(lambda: condition(gateway, 2)["quarantined"], "the quarantine")
        until(lambda: gateway.predict(client, MODEL, inputs=poison).json().get("version") == 1, "the last champion")
        caller.join(30)
    shown = condition(gateway, 2)
    assert "while it ran this version" in shown["reason"]
    assert f"killed by SIGSEGV) while it ran {MODEL}@2" in gateway.log()
    assert gateway.stop() == 0


def _poisoned(gateway: RunningGateway, inputs: dict[str, float]) -> None:
    with httpx.Client(timeout=10) as client, suppress(httpx.HTTPError):
        gateway.predict(client, MODEL, inputs=inputs)
