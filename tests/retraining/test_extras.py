"""The extras themselves, where they are installed: `pip install '.[bayesian,mlflow]'`. The stand-ins are elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gateway.documents.job import Job, JobState
from gateway.documents.policy import Mlflow
from gateway.journal.join import LabelledRow
from gateway.retraining.job.tune import tune
from gateway.retraining.recipe import Recipe
from gateway.retraining.rows.dataset import read_dataset, write_dataset
from gateway.retraining.tracking import fetch_model, log_run


def test_optuna_finds_the_best_place_the_same_way_every_time(
    tmp_path: Path, labelled: Callable[..., list[LabelledRow]], quick: Recipe
) -> None:
    pytest.importorskip("optuna")
    write_dataset(tmp_path, labelled(1000), model="quick", features=["a", "b"])
    dataset = read_dataset(tmp_path)
    recipe = replace(quick, spaces={"tree": {"max_depth": list(range(1, 31))}}, search="bayesian", trials=25)

    def measure(parameters: Mapping[str, Any], *_: Any) -> float:
        if parameters["max_depth"] == 30:
            raise ValueError("too deep")
        return float(-abs(parameters["max_depth"] - 11))

    found = tune(recipe, "tree", dataset, np.arange(1000), 3, measure)
    assert abs(found.parameters["max_depth"] - 11) <= 2
    assert tune(recipe, "tree", dataset, np.arange(1000), 3, measure) == found


def test_mlflow_keeps_a_job_and_gives_a_registered_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv(
        "MLFLOW_ALLOW_FILE_STORE", "true"
    )  # a folder instead of a server: later releases want to be asked
    target = Mlflow(uri=(tmp_path / "runs").as_uri())
    report = {"metrics": {"accuracy": 0.9}, "champion": {"loss": 0.2}}
    job = Job(
        id="j1", model="m", trigger="schedule", reason="", state=JobState.PUBLISHED, rows=400, started=5.0, ended=7.0,
        report=report,
    )  # fmt: skip
    run = mlflow.MlflowClient(tracking_uri=target.uri).get_run(log_run(target, job, None))
    assert run.data.metrics == {"accuracy": 0.9, "champion.loss": 0.2}
    assert (run.data.params["rows"], run.info.status, run.info.end_time) == ("400", "FINISHED", 7000)

    logged = tmp_path / "logged"
    logged.mkdir()
    (logged / "model.onnx").write_bytes(b"a model")
    client = mlflow.MlflowClient(tracking_uri=target.uri, registry_uri=target.uri)
    client.create_registered_model("fraud")
    client.create_model_version("fraud", logged.as_uri())
    client.set_registered_model_alias("fraud", "champion", "1")
    found = fetch_model("models:/fraud@champion", target.uri, tmp_path / "fetched")
    assert found.read_bytes() == b"a model"
