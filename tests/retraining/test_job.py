"""A job from files to files: what it writes, what it refuses, and that it repeats itself exactly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec import json
from msgspec.structs import replace

from gateway.documents.job import JobState
from gateway.execution.session import load
from gateway.execution.tensors import from_rows
from gateway.journal.join import LabelledRow
from gateway.registry.package import read_package
from gateway.retraining.job.run import JobSpec, first_job, run_job
from gateway.retraining.recipe import load_recipe
from gateway.retraining.rows.dataset import read_csv, save, write_dataset
from gateway.retraining.spec import PROGRESS_FILE, read_result

SECOND = 1_000_000_000
START_NS = 1_700_000_000 * SECOND
Rows = Callable[..., list[LabelledRow]]


@pytest.fixture
def spec(tmp_path: Path, quick_path: Path, labelled: Rows) -> JobSpec:
    """A job over five hundred easy rows, without champion."""
    write_dataset(tmp_path / "dataset", labelled(500), model="quick", features=["a", "b"])
    return JobSpec(
        job="j1",
        model="quick",
        dataset=str(tmp_path / "dataset"),
        out=str(tmp_path / "out"),
        recipe=str(quick_path),
        trigger="error_drift",
        alert="a1",
        parent=3,
        created=5.0,
    )


def test_first_version_of_the_electricity_stream(tmp_path: Path, electricity_path: Path, electricity_csv: Path) -> None:
    """What `gateway train electricity --rows 2000` gives: a whole package that beats the baselines and answers."""
    result = first_job(electricity_path, electricity_csv, 2000, tmp_path / "out", created=7.0)
    assert result.state is JobState.PUBLISHED, result.detail
    package = tmp_path / "out" / "package"
    manifest = read_package(package)
    assert manifest.features[0].name == "nswprice"
    assert (manifest.lineage.source, manifest.lineage.rows, manifest.lineage.created) == ("file", 2000, 7.0)
    assert manifest.gate.passed
    assert manifest.gate.error_rows == 650
    assert manifest.gate.error_rate is not None
    assert manifest.gate.error_rate < 0.3
    assert set(manifest.gate.baselines) == {"random", "majority", "last_label", "simple"}
    outputs = load(manifest, package).run(from_rows([[0.06, 0.44, 0.004, 0.42, 0.41, 0.0]], manifest))
    assert set(outputs) == {"label", "probabilities"}
    assert outputs["probabilities"].sum() == pytest.approx(1.0)


def test_retraining_job_compares_with_the_champion_on_rows_neither_has_seen(
    tmp_path: Path, electricity_path: Path, electricity_csv: Path
) -> None:
    """The whole job on 3,000 rows after a champion of 2,000; train end < holdout start - delay."""
    recipe = load_recipe(electricity_path)
    first_job(electricity_path, electricity_csv, 2000, tmp_path / "first")
    save(tmp_path / "dataset", read_csv(electricity_csv, recipe, 5000))
    spec = JobSpec(
        job="j",
        model="electricity",
        dataset=str(tmp_path / "dataset"),
        out=str(tmp_path / "out"),
        recipe=str(electricity_path),
        champion=str(tmp_path / "first" / "package"),
        champion_trained_until_ns=2000,
    )
    result = run_job(spec)
    assert result.state is JobState.PUBLISHED, result.detail
    report = result.report
    assert {check["name"] for check in report["checks"]} >= {"parity", "not_worse_than_champion", "latency"}
    assert report["champion"]["accuracy"] > 0.5
    lineage = read_package(tmp_path / "out" / "package").lineage
    holdout_starts = result.rows - lineage.parameters["holdout_rows"]
    assert lineage.parameters["trained_rows"] <= holdout_starts - recipe.label_delay_rows + 1


def test_same_dataset_recipe_and_seed_give_the_same_model(tmp_path: Path, spec: JobSpec) -> None:
    """A fingerprint that does not repeat is no fingerprint."""
    one = run_job(spec)
    two = run_job(replace(spec, out=str(tmp_path / "again"), job="j2", created=9.0))
    assert one.model_digest == two.model_digest != ""
    assert one.data_digest == two.data_digest


def test_seed_decides_random_estimators(tmp_path: Path, electricity_path: Path, electricity_csv: Path) -> None:
    """Another seed, another forest; the same seed, the same bytes."""
    save(tmp_path / "dataset", read_csv(electricity_csv, load_recipe(electricity_path), 1000))
    digests = []
    for number, seed in enumerate((1, 1, 2)):
        spec = JobSpec(
            job="j",
            model="electricity",
            dataset=str(tmp_path / "dataset"),
            out=str(tmp_path / str(number)),
            recipe=str(electricity_path),
            seed=seed,
        )
        digests.append(run_job(spec).model_digest)
    assert digests[0] == digests[1] != digests[2]


def test_package_says_where_it_comes_from(tmp_path: Path, spec: JobSpec) -> None:
    """Data, code, parameters, seed, parent, trigger, alert: the audit of a year later."""
    result = run_job(spec)
    manifest = read_package(tmp_path / "out" / "package")
    lineage = manifest.lineage
    assert (lineage.source, lineage.trigger, lineage.alert, lineage.parent) == ("job", "error_drift", "a1", 3)
    assert lineage.job == "j1"
    assert lineage.data_digest == result.data_digest
    assert len(lineage.code_digest) == 64
    assert lineage.parameters["candidate"] == "tree"
    # Row 399 is the last before the holdout; of row 389 the label was known when row 399 + 1 was predicted.
    assert lineage.parameters["trained_until_ns"] == START_NS + 400 * SECOND
    assert manifest.card["label"] == "y"
    assert (tmp_path / "out" / "package" / "reference.json").exists()
    assert json.decode((tmp_path / "out" / PROGRESS_FILE).read_bytes())["step"] == "published"


@pytest.mark.parametrize(("rows", "until"), [(199, 0), (500, 410)])
def test_too_few_new_labels_is_an_end_of_its_own(
    tmp_path: Path, spec: JobSpec, labelled: Rows, rows: int, until: int
) -> None:
    """Either too few rows to fit on, or too few that the champion has not seen."""
    write_dataset(tmp_path / "dataset", labelled(rows), model="quick", features=["a", "b"])
    result = run_job(replace(spec, champion_trained_until_ns=0) if not until else _with_champion(tmp_path, spec, until))
    assert result.state is JobState.FAILED
    assert result.detail.startswith("too_few_new_labels")
    assert not (tmp_path / "out" / "package").exists()
    assert read_result(tmp_path / "out") == result


def _with_champion(tmp_path: Path, spec: JobSpec, until: int) -> JobSpec:
    champion = replace(spec, out=str(tmp_path / "champion"), champion="")
    assert run_job(champion).state is JobState.PUBLISHED
    return replace(
        spec,
        champion=str(tmp_path / "champion" / "package"),
        champion_trained_until_ns=START_NS + until * SECOND,
    )


def test_model_that_learned_nothing_is_rejected_without_a_package(
    tmp_path: Path, spec: JobSpec, labelled: Rows
) -> None:
    """Labels by dice: the gate names the baseline that was not beaten."""
    dice = np.random.default_rng(1).random(500) < 0.3
    rows = [replace(row, label=int(value)) for row, value in zip(labelled(500), dice, strict=True)]
    write_dataset(tmp_path / "dataset", rows, model="quick", features=["a", "b"])
    result = run_job(spec)
    assert result.state is JobState.REJECTED
    assert "beats_majority" in result.detail
    assert not (tmp_path / "out" / "package").exists()


def test_silently_wrong_conversion_is_stopped(tmp_path: Path, spec: JobSpec) -> None:
    """skl2onnx 1.20.0 converts this calibrator without a word, and its answers are another model's."""
    path = Path(spec.recipe)
    path.write_text(
        path.read_text().replace(
            "    from sklearn.tree import DecisionTreeClassifier\n    return DecisionTreeClassifier(max_depth=3)",
            "    from sklearn.calibration import CalibratedClassifierCV\n"
            "    from sklearn.linear_model import LogisticRegression\n"
            "    from sklearn.pipeline import make_pipeline\n"
            "    from sklearn.preprocessing import StandardScaler\n"
            "    return CalibratedClassifierCV(make_pipeline(StandardScaler(), LogisticRegression()))",
        )
    )
    result = run_job(spec)
    assert result.state is JobState.REJECTED, result.detail
    assert "parity" in result.detail


def test_regression_recipe_gives_a_value_version(tmp_path: Path, spec: JobSpec, labelled: Rows) -> None:
    """No classes: one number a row, losses clipped to one, error rate in [0, 1]."""
    path = Path(spec.recipe)
    path.write_text(
        path.read_text()
        .replace("classes=[0, 1],", 'metric="mae",')
        .replace("DecisionTreeClassifier", "DecisionTreeRegressor")
        .replace("max_depth=3", "max_depth=6")
    )
    rows = [replace(row, label=3.0 * row.inputs[0] + row.inputs[1]) for row in labelled(500)]
    write_dataset(tmp_path / "dataset", rows, model="quick", features=["a", "b"])
    result = run_job(spec)
    assert result.state is JobState.PUBLISHED, result.detail
    manifest = read_package(tmp_path / "out" / "package")
    assert manifest.prediction is not None
    assert (manifest.prediction.kind, manifest.prediction.output) == ("value", "value")
    assert 0 < (manifest.gate.error_rate or 0) < 0.2
    assert manifest.gate.metrics["mae"] < manifest.gate.baselines["majority"]


def test_text_classes_are_published_with_their_names(tmp_path: Path, spec: JobSpec, labelled: Rows) -> None:
    """Labels stay what people wrote, in gate and answers."""
    path = Path(spec.recipe)
    path.write_text(path.read_text().replace("classes=[0, 1]", 'classes=["no", "yes"]'))
    rows = [replace(row, label=["no", "yes"][row.label]) for row in labelled(500)]
    write_dataset(tmp_path / "dataset", rows, model="quick", features=["a", "b"])
    result = run_job(spec)
    assert result.state is JobState.PUBLISHED, result.detail
    manifest = read_package(tmp_path / "out" / "package")
    assert manifest.prediction is not None
    assert manifest.prediction.classes == ("no", "yes")
    champion = _with_champion(tmp_path, spec, 0)
    assert run_job(replace(champion, out=str(tmp_path / "2"))).report["champion"]["accuracy"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"recipe": "gone.py"}, "gone.py"),
        ({"dataset": "gone"}, "dataset"),
        ({"policy": '{"windows": 3}'}, "windows"),
    ],
)
def test_what_is_wrong_is_written_down_not_raised(tmp_path: Path, spec: JobSpec, change: Any, word: str) -> None:
    """Whoever started the job reads one file, whatever happened."""
    result = run_job(replace(spec, **change))
    assert result.state is JobState.FAILED
    assert word in result.detail
    assert read_result(tmp_path / "out") == result
