"""What recipes may ask of a job: texts, calibration, a search, golden rows; and what harms none but the job itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from gateway.documents.job import JobState
from gateway.execution.session import load
from gateway.execution.tensors import from_rows
from gateway.journal.join import LabelledRow
from gateway.registry.package import read_package
from gateway.retraining.job.judge import run_times
from gateway.retraining.job.run import run_job
from gateway.retraining.rows.dataset import read_dataset, write_dataset
from gateway.retraining.spec import JobSpec

Rows = Callable[..., list[LabelledRow]]

TEXTS = """
from gateway.retraining.recipe import Feature, Recipe

def trees():
    from sklearn.compose import make_column_transformer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder
    from sklearn.tree import DecisionTreeClassifier
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    return make_pipeline(make_column_transformer((encoder, [0]), remainder="passthrough"), DecisionTreeClassifier())

recipe = Recipe(model="quick", features=[Feature(name="colour", kind="categorical"), Feature(name="a")], label="y",
                classes=["no", "yes"], candidates={"trees": trees}, slices=["colour"], fairness=["colour"],
                label_delay_rows=10, holdout_rows=200, validation_rows=100, least_rows=100)
"""


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
    )


def edit(spec: JobSpec, *changes: tuple[str, str]) -> None:
    """Change the recipe's text."""
    path = Path(spec.recipe)
    text = path.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)


def coloured(rows: list[LabelledRow]) -> list[LabelledRow]:
    """The label hangs on colour and number together."""
    changed = []
    for row in rows:
        colour = ("red", "green", "blue", None)[row.ordinal % 4]
        label = "yes" if (row.inputs[0] > 0.5) != (colour == "red") else "no"
        changed.append(replace(row, inputs=[colour, row.inputs[0]], label=label))
    return changed


def test_texts_are_served_as_texts_and_encoded_inside_the_model(tmp_path: Path, spec: JobSpec, labelled: Rows) -> None:
    """Callers send words; parity covers the encoder, unknown words and missing ones included."""
    Path(spec.recipe).write_text(TEXTS)
    rows = coloured(labelled(800))
    write_dataset(tmp_path / "dataset", rows, model="quick", features=["colour", "a"], texts=["colour"])
    result = run_job(spec)
    assert result.state is JobState.PUBLISHED, result.detail
    manifest = read_package(tmp_path / "out" / "package")
    assert manifest.features[0].categories == ("blue", "green", "red")
    assert [tensor.datatype for tensor in manifest.inputs] == ["FP32", "BYTES"]
    assert {"colour=red", "colour=blue"} <= set(manifest.card["groups"])
    served = load(manifest, tmp_path / "out" / "package")
    asked: list[list[Any]] = [["red", 0.9], ["blue", 0.9], [None, 0.1], ["mauve", 0.9]]
    assert served.run(from_rows(asked, manifest))["label"].tolist()[:3] == ["no", "yes", "no"]
    again = run_job(replace(spec, out=str(tmp_path / "2"), champion=str(tmp_path / "out" / "package")))
    assert again.model_digest == result.model_digest
    assert again.report["champion"]["accuracy"] == pytest.approx(1.0)


def test_calibrated_model_passes_parity_and_says_so(tmp_path: Path, spec: JobSpec, labelled: Rows) -> None:
    """The temperature is part of the ONNX model; labels are what they were."""
    noise = np.random.default_rng(0).random(700)
    rows = [replace(row, label=row.label ^ int(dice < 0.2)) for row, dice in zip(labelled(700), noise, strict=True)]
    write_dataset(tmp_path / "dataset", rows, model="quick", features=["a", "b"])
    edit(spec, ("max_depth=3", "max_depth=9"))
    plain = run_job(spec)
    edit(spec, ('label="y"', 'label="y", calibrate=True'))
    calibrated = run_job(replace(spec, out=str(tmp_path / "2")))
    assert (plain.state, calibrated.state) == (JobState.PUBLISHED, JobState.PUBLISHED), calibrated.detail
    assert calibrated.report["metrics"]["log_loss"] < plain.report["metrics"]["log_loss"]
    assert calibrated.report["metrics"]["accuracy"] == plain.report["metrics"]["accuracy"]
    assert "Calibrated" in read_package(tmp_path / "2" / "package").lineage.parameters["estimator"]


@pytest.mark.parametrize("poisoned", [False, True])
def test_poisoned_recent_labels_hold_the_version_for_a_person(
    tmp_path: Path, spec: JobSpec, labelled: Rows, poisoned: bool
) -> None:
    """Flipped rows fill window and holdout alike, so the usual gate is content; the golden rows are not."""
    assert run_job(replace(spec, out=str(tmp_path / "champion"))).state is JobState.PUBLISHED
    lines = [f"{row.inputs[0]},{row.inputs[1]},{row.label}" for row in labelled(200, first=9000)]
    (Path(spec.recipe).parent / "golden.csv").write_text("\n".join(["a,b,y", *lines]) + "\n")
    edit(spec, ('label="y"', 'label="y", golden="golden.csv"'))
    rows = labelled(300) + labelled(1300, first=300, flipped=poisoned)
    write_dataset(tmp_path / "dataset", rows, model="quick", features=["a", "b"])
    result = run_job(replace(spec, champion=str(tmp_path / "champion" / "package")))
    assert result.state is (JobState.HELD if poisoned else JobState.PUBLISHED), result.detail
    manifest = read_package(tmp_path / "out" / "package")
    assert manifest.gate.passed
    assert bool(manifest.gate.hold) is poisoned
    if poisoned:
        assert result.detail.startswith("held for a person: on 200 golden rows")


def test_card_and_lineage_say_how_the_version_came_about(tmp_path: Path, spec: JobSpec) -> None:
    """Every digest is there, what the recipe leaves out is listed, figures have intervals, data have a report."""
    edit(spec, ('label="y"', 'label="y", human=0.99, card={"objective": "less waste", "risks": ["ages"]}'))
    run_job(spec)
    manifest = read_package(tmp_path / "out" / "package")
    lineage, card = manifest.lineage, manifest.card
    assert all((lineage.data_digest, lineage.code_digest, lineage.parameters_digest, lineage.environment_digest))
    assert lineage.environment["python"].startswith("3.")
    assert card["not_stated"] == ["business_metric", "constraints", "exit_criteria"]
    assert card["risks"] == ["ages"]
    assert {finding["check"] for finding in card["data"]} == {"few_rows", "leakage"}
    assert card["gap"]["ceiling_of"] == "human"
    low, high = manifest.gate.intervals["accuracy"]
    assert low <= manifest.gate.metrics["accuracy"] <= high
    assert set(manifest.gate.metrics) >= {"precision", "recall", "f1", "roc_auc", "log_loss", "brier"}


@pytest.mark.parametrize(
    ("recipe", "rows", "word"),
    [
        pytest.param("", [], "too_few_new_labels", id="empty"),
        pytest.param("", [{"label": 1}], "one_class", id="one class"),
        pytest.param("", [{"inputs": [1.0, 2.0]}], "constant_features", id="constant"),
        pytest.param("", [{"label": "x"}, {"label": "z"}], "unknown_label", id="texts"),
        pytest.param("", [{"label": 5}, {"label": 6}], "unknown_label", id="other numbers"),
        pytest.param("raise RuntimeError('no luck')", None, "no luck", id="raises"),
        pytest.param("raise SystemExit(3)", None, "left with 3", id="exits"),
        pytest.param("return object()", None, "get_params", id="no estimator"),
        pytest.param(
            "from sklearn.neighbors import NearestCentroid; return NearestCentroid(metric='manhattan')",
            None,
            "NearestCentroid",
            id="does not convert",
        ),
    ],
)
def test_bad_input_fails_the_job_with_its_reason(
    tmp_path: Path, spec: JobSpec, labelled: Rows, recipe: str, rows: list[dict[str, Any]] | None, word: str
) -> None:
    """No package, no traceback to the caller, one sentence that names the fault."""
    if rows is not None:
        known = labelled(500 if rows else 0)
        known = [replace(row, **rows[place % len(rows)]) for place, row in enumerate(known)]
        write_dataset(tmp_path / "dataset", known, model="quick", features=["a", "b"])
    if recipe:
        body = "from sklearn.tree import DecisionTreeClassifier\n    return DecisionTreeClassifier(max_depth=3)"
        edit(spec, (body, recipe))
    result = run_job(spec)
    assert result.state is JobState.FAILED
    assert word in result.detail
    assert not (tmp_path / "out" / "package").exists()


def test_operator_sets_stand_in_a_fixed_order(tmp_path: Path, spec: JobSpec) -> None:
    """skl2onnx writes them in the order of a set, so equal models had two digests."""
    import onnx

    run_job(spec)
    model = onnx.load(tmp_path / "out" / "package" / "model.onnx")
    domains = [one.domain for one in model.opset_import]
    assert domains == sorted(domains)
    assert len(domains) > 1


def test_run_times_are_measured_in_turn(tmp_path: Path, spec: JobSpec) -> None:
    """Whatever else the machine does meanwhile, both are measured in the same stretch of time."""
    run_job(spec)
    version = load(read_package(tmp_path / "out" / "package"), tmp_path / "out" / "package")
    dataset = read_dataset(tmp_path / "dataset")
    ticks = iter(range(0, 10**9, 500))
    assert run_times([version, version], dataset, np.arange(50), lambda: next(ticks)) == [0.5, 0.5]
