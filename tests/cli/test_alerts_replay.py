"""`gateway alerts replay`: over a real data directory that a monitor has worked on."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.app.build import open_stores
from gateway.clock import SystemClock
from gateway.documents.policy import MonitoringPolicy, Policy
from gateway.documents.store import ABSENT, policy_name
from gateway.journal.record import Alert
from gateway.monitor.loop import MonitorLoop
from gateway.names import Role
from gateway.registry.package import write_package
from gateway.registry.reference import encode_reference
from gateway.settings import Settings
from tests.cli.conftest import Command
from tests.monitor.stream import MODEL, REFERENCE, manifest, sea, traffic
from tests.monitor.test_loop import NAME


async def monitored(data: Path) -> None:
    """A data directory whose monitor has folded all its traffic: errors rise in the middle."""
    stores, clock = open_stores(Settings(data=data)), SystemClock()
    try:
        watched = MonitoringPolicy(detectors=("panel",), false_alarm_every_events=1000)
        await stores.config.put(policy_name(NAME), Policy(model=MODEL, monitoring=watched).encode(), ABSENT)
        write_package(data / "package", b"onnx", manifest(0), encode_reference(REFERENCE))
        await stores.registry.publish(data / "package")
        serving, control = stores.open_tee("traffic", "serving"), stores.open_tee("control", "monitor")
        rows, labels = sea(400, 150)
        for record in traffic(rows, labels):
            serving.offer(record)
        serving.flush()
        serving.close()
        loop = MonitorLoop(stores, clock, control, data / "cache", block=300)
        while await loop.step():
            pass
        control.close()
    finally:
        stores.close()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    directory = tmp_path / "d"
    asyncio.run(monitored(directory))
    return directory


def raise_by_hand(data: Path) -> None:
    """An alert in the journal that no traffic gives."""
    stores = open_stores(Settings(data=data))
    tee = stores.open_tee("control", "monitor")
    tee.offer(Alert("made-up", MODEL, 1, Role.CHAMPION, "data_drift", "panel", 2.0, 1.0, "low", "moved"))
    tee.close()
    stores.close()


def test_alerts_are_recomputed_equal_and_a_made_up_one_is_found(command: Command, data: Path) -> None:
    done = command("alerts", "replay", "--data", str(data))
    assert done.code == 0, done.out + done.err
    assert "from the beginning of the journal that is kept: 752 records" in done.out
    assert f"policy of {MODEL}: as it was" in done.out
    assert "1 same" in done.out
    raise_by_hand(data)
    done = command("alerts", "replay", MODEL, "--data", str(data))
    assert done.code == 1
    assert "1 same, 1 EXTRA" in done.out
    content = command("alerts", "replay", MODEL, "--data", str(data), "--json").json
    assert {one["id"]: one["state"] for one in content["alerts"]}["made-up"] == "extra"
    assert [one["model"] for one in content["monitoring"]] == [MODEL]
    assert command("alerts", "replay", "gas", "--data", str(data)).code == 0


def test_a_period_without_alerts_is_said_so(command: Command, data: Path) -> None:
    done = command("alerts", "replay", "--until", "1h", "--data", str(data))
    assert done.code == 0
    assert "no alerts, neither recomputed nor written down" in done.out


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--data", "nowhere"), 1, "there is no data directory nowhere"),
        (("--since", "soon"), 2, "--since: 'soon' is neither an age"),
        (("--until", "soon"), 2, "--until: 'soon' is neither an age"),
    ],
)
def test_wrong_words_are_named(command: Command, words: tuple[str, ...], code: int, said: str) -> None:
    done = command("alerts", "replay", *words)
    assert done.code == code
    assert said in done.err
