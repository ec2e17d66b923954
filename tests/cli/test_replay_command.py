"""`gateway replay` over a real data directory: the version in a process of its own, labels from the journal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway.app.build import open_stores
from gateway.journal.record import Feedback, Prediction
from gateway.names import Outcome, Reason, Role
from gateway.settings import Settings
from tests.cli.conftest import Command
from tests.offline.making import threshold_model


@pytest.fixture
def data(command: Command, tmp_path: Path) -> Path:
    """Version 1 says 1 above 5 and answered 20 requests; version 2 says 1 above 3, which is the truth."""
    for limit in (5.0, 3.0):
        (tmp_path / "m.onnx").write_bytes(threshold_model(limit))
        assert command("publish", "m", "m.onnx", "--features", "a,b", "--data", "d").code == 0
    stores = open_stores(Settings(data=tmp_path / "d"))
    tee = stores.open_tee("traffic", "w0")
    for number in range(20):
        a = number % 10
        outputs = {"label": [int(a > 5)], "probabilities": [[0.1, 0.9] if a > 5 else [0.9, 0.1]]}
        inputs = None if number == 0 else [[float(a), 1.0]]
        tee.offer(
            Prediction(f"r{number}", "m", 1, Role.CHAMPION, Reason.WEIGHT, 1, Outcome.OK, 90, 1, 1, inputs, outputs)
        )
        tee.offer(Feedback(id=f"r{number}", row=0, label=int(a > 3)))
    assert tee.flush()
    tee.close()
    stores.close()
    return tmp_path / "d"


def test_a_version_is_replayed_before_it_meets_a_user(command: Command, data: Path) -> None:
    done = command("replay", "m", "--version", "2", "--data", str(data))
    assert done.code == 0, done.err
    for told in (
        "m@2 over 20 requests: 19 replayed (19 rows)",
        "not replayed: 1, the inputs were too large",
        "on 19 labelled rows",
        "champions then: m@1 (19)",
        "other answers",
    ):
        assert told in done.out
    found = json.loads(command("replay", "m", "--version", "2", "--json", "--limit", "5", "--data", str(data)).out)
    assert found["requests"] == 5
    assert found["comparison"]["own"]["accuracy"]["value"] == 1.0
    assert found["run_time"]["p99"] >= found["run_time"]["p50"] > 0
    nothing = command("replay", "m", "--version", "1", "--since", "2100-01-01", "--data", str(data))
    assert "no labels of these rows are known" in nothing.out
    # Wrong orders are told.
    assert "there is no version m@9" in command("replay", "m", "--version", "9", "--data", str(data)).err
    assert command("replay", "m", "--version", "1", "--since", "soon", "--data", str(data)).code == 2
    assert "no data directory" in command("replay", "m", "--data", "nowhere").err
