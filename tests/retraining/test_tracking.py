"""Jobs are told to MLflow, models come from it; without it, or when it is away, nothing else suffers."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from gateway.documents.job import Job, JobState
from gateway.documents.policy import Mlflow
from gateway.errors import InvalidConfig
from gateway.registry.manifest import Lineage, Manifest
from gateway.retraining.tracking import fetch_model, log_run

TARGET = Mlflow(uri="http://127.0.0.1:5000")
JOB = Job(
    id="j1",
    model="m",
    trigger="schedule",
    reason="",
    state=JobState.PUBLISHED,
    rows=400,
    started=5.0,
    ended=7.0,
    report={"metrics": {"accuracy": 0.9}, "champion": {"loss": 0.2, "odd": None}},
)


class Server:
    """The few calls of MLflow's client that are used, with their own names and order of arguments."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.is_away = False

    def get_experiment_by_name(self, name: str) -> None:
        """There is none yet."""
        if self.is_away:
            raise ConnectionError("no route")

    def create_experiment(self, name: str) -> str:
        """Its id."""
        return f"experiment {name}"

    def create_run(self, experiment_id: str, start_time: int, tags: dict[str, str], run_name: str) -> Any:
        """A run with an id."""
        self.calls.append(("run", experiment_id, start_time, tags["gateway.version"], run_name))
        return SimpleNamespace(info=SimpleNamespace(run_id="r1"))

    def log_param(self, run_id: str, key: str, value: str) -> None:
        """Keep it."""
        self.calls.append(("param", key, value))

    def log_metric(self, run_id: str, key: str, value: float) -> None:
        """Keep it."""
        self.calls.append(("metric", key, value))

    def set_terminated(self, run_id: str, status: str, end_time: int) -> None:
        """Keep it."""
        self.calls.append(("end", status, end_time))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Server:
    """A module `mlflow` in place of the real one; its registry holds one file."""
    made = Server()
    (tmp_path / "registered").mkdir()
    (tmp_path / "registered" / "model.onnx").write_bytes(b"onnx")

    def download_artifacts(artifact_uri: str, dst_path: str) -> str:
        if artifact_uri != "models:/m@champion":
            raise ValueError("no such alias")
        return str(tmp_path / "registered")

    module, artifacts = ModuleType("mlflow"), ModuleType("mlflow.artifacts")
    vars(artifacts)["download_artifacts"] = download_artifacts
    vars(module).update(
        MlflowClient=lambda tracking_uri: made,
        artifacts=artifacts,
        set_tracking_uri=lambda uri: made.calls.append(("tracking", uri)),
        set_registry_uri=lambda uri: made.calls.append(("registry", uri)),
    )
    monkeypatch.setitem(sys.modules, "mlflow", module)
    monkeypatch.setitem(sys.modules, "mlflow.artifacts", artifacts)
    return made


def test_job_becomes_a_run_with_figures_and_lineage(server: Server) -> None:
    """What a data scientist looks for there: which rows, which parameters, how good, which version."""
    manifest = Manifest(model="m", number=4, lineage=Lineage(seed=7, parameters={"window": "rows:1000"}))
    assert log_run(TARGET, JOB, manifest) == "r1"
    assert server.calls[0] == ("run", "experiment gateway", 5000, "m@4", "j1")
    assert server.calls[-1] == ("end", "FINISHED", 7000)
    assert ("param", "window", "rows:1000") in server.calls
    assert {call[1:] for call in server.calls if call[0] == "metric"} == {("accuracy", 0.9), ("champion.loss", 0.2)}


def test_server_that_is_away_costs_no_job(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does MLflow that is not installed."""
    server.is_away = True
    assert log_run(TARGET, JOB, None) == ""
    monkeypatch.setitem(sys.modules, "mlflow", None)
    assert log_run(TARGET, JOB, None) == ""


def test_registered_version_is_fetched_by_alias(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One ONNX file, or a sentence that says what is wrong."""
    assert fetch_model("models:/m@champion", None, tmp_path).read_bytes() == b"onnx"
    assert server.calls == []
    assert fetch_model("models:/m@champion", "http://mlflow", tmp_path).read_bytes() == b"onnx"
    assert server.calls == [("tracking", "http://mlflow"), ("registry", "http://mlflow")]
    with pytest.raises(InvalidConfig, match="no such alias"):
        fetch_model("models:/m@gone", None, tmp_path)
    (tmp_path / "registered" / "second.onnx").write_bytes(b"onnx")
    with pytest.raises(InvalidConfig, match="2 ONNX files"):
        fetch_model("models:/m@champion", None, tmp_path)
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(InvalidConfig, match=r"gateway\[mlflow\]"):
        fetch_model("models:/m@champion", None, tmp_path)
