"""Models of strangers: good ones become packages that load and answer by name, bad ones cost the gateway nothing."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from gateway.documents.policy import Inputs
from gateway.errors import AdmissionRefused
from gateway.execution.admission import AdmissionServer, Limits, admit, admit_async
from gateway.execution.contract import contract_for
from gateway.execution.session import load
from gateway.execution.tensors import to_json
from gateway.registry.manifest import Feature, GateReport, Lineage, Manifest, PredictionSpec
from gateway.registry.package import read_files, read_package
from tests.execution import graphs

LIMITS = Limits(seconds=10.0, memory_bytes=2 * 1024**3)
DRAFT = Manifest(model="iris")
IDENTITY = graphs.identity().SerializeToString()


def answer(manifest: Manifest, directory: Path, inputs: Any) -> dict[str, Any]:
    version = load(manifest, directory, warm_up_rows=3)
    return to_json(version.run(contract_for(manifest, Inputs()).records(inputs).tensors))[0]


def refused(model: bytes, into: Path, server: AdmissionServer, limits: Limits = LIMITS, **more: Any) -> str:
    with pytest.raises(AdmissionRefused) as caught:
        admit(model, more.pop("draft", DRAFT), into / "p", limits, server=server, **more)
    assert caught.value.reasons
    assert not (into / "p").exists()
    return str(caught.value)


@pytest.mark.parametrize("width", [np.float32, np.float64])
@pytest.mark.parametrize("labels", ["numbers", "texts"])
@pytest.mark.parametrize("kind", ["linear", "trees"])
def test_a_plain_classifier_export_answers_by_name(
    tmp_path: Path, server: AdmissionServer, width: type, labels: str, kind: str
) -> None:
    """`to_onnx(clf, X)` and nothing else is the commonest way; with 64-bit data no runtime loads its file as it is."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression

    x, classes = graphs.iris_like()
    y = classes if labels == "numbers" else np.array(["a", "b", "c"])[classes]
    estimator: Any = LogisticRegression() if kind == "linear" else HistGradientBoostingClassifier(max_iter=3)
    model = graphs.exported(estimator, x.astype(width), y)
    draft = msgspec.structs.replace(DRAFT, features=tuple(Feature(name=name) for name in ("sl", "sw", "pl", "pw")))
    manifest = admit(model, draft, tmp_path / "p", LIMITS, server=server)
    assert manifest == read_package(tmp_path / "p")
    assert manifest.prediction == PredictionSpec(
        output="output_label", kind="class", classes=tuple(np.unique(y).tolist()), probabilities="probabilities"
    )
    rows: np.ndarray = x[:5].astype(width)
    records = [dict(zip(("sl", "sw", "pl", "pw"), row, strict=True)) for row in rows.tolist()]
    outputs = answer(manifest, tmp_path / "p", records)
    assert outputs["output_label"] == estimator.predict(rows).tolist()
    assert np.allclose(outputs["probabilities"], estimator.predict_proba(rows), atol=1e-5)
    assert outputs["classes"] == np.unique(y).tolist()
    assert ("repaired" in manifest.card) is (width is np.float64)


@pytest.mark.parametrize("width", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["linear", "trees"])
def test_a_plain_regressor_export_answers_by_name(
    tmp_path: Path, server: AdmissionServer, width: type, kind: str
) -> None:
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.linear_model import LinearRegression

    x, classes = graphs.iris_like()
    y = classes * 2.5 + x[:, 0]
    estimator: Any = LinearRegression() if kind == "linear" else RandomForestRegressor(3, random_state=1)
    model = graphs.exported(estimator, x.astype(width), y)
    manifest = admit(model, DRAFT, tmp_path / "p", LIMITS, server=server)
    assert manifest.prediction == PredictionSpec(output="variable", kind="value")
    row: np.ndarray = x[:1].astype(width)
    outputs = answer(manifest, tmp_path / "p", {f"f{place}": value for place, value in enumerate(row[0].tolist())})
    assert np.allclose(outputs["variable"], estimator.predict(row), atol=1e-4)


@pytest.mark.parametrize("ignore_unknown", [True, False])
def test_a_pipeline_over_named_columns_answers_by_name(
    tmp_path: Path, server: AdmissionServer, ignore_unknown: bool
) -> None:
    """One input a column, texts among them. A strict encoder fails on made-up texts: then the model's own are taken."""
    model = graphs.mixed_columns(ignore_unknown=ignore_unknown)
    manifest = admit(model, DRAFT, tmp_path / "p", LIMITS, server=server)
    assert [(feature.name, feature.kind) for feature in manifest.features] == [
        ("price", "numeric"),
        ("city", "categorical"),
        ("rooms", "numeric"),
    ]
    assert ("warmup.json" in manifest.files) is not ignore_unknown
    outputs = answer(manifest, tmp_path / "p", [{"price": 1.0, "city": "ulm", "rooms": 1}, [2.0, "bonn", 2]])
    assert outputs["output_label"] == ["no", "yes"]
    assert outputs["classes"] == ["no", "yes"]


def test_what_the_publisher_says_is_kept_and_the_signature_is_read(tmp_path: Path, server: AdmissionServer) -> None:
    draft = Manifest(
        model="iris",
        inputs=(),
        lineage=Lineage(source="job", job="j1"),
        gate=GateReport(passed=True),
        card={"text": "hello"},
        prediction=PredictionSpec(output="y", kind="score"),
    )
    manifest = admit(IDENTITY, draft, tmp_path / "p", LIMITS, server=server)
    kept = ("lineage", "gate", "card", "prediction")
    assert all(getattr(manifest, name) == getattr(draft, name) for name in kept)
    assert [tensor.name for tensor in (*manifest.inputs, *manifest.outputs)] == ["x", "y"]
    assert read_files(tmp_path / "p")[1]["model.onnx"] == IDENTITY


def test_the_reference_is_run_and_shipped(tmp_path: Path, server: AdmissionServer) -> None:
    reference = b'{"rows": 2, "warmup": [[1.0, 2.0], [null, 3.0]]}'
    admit(IDENTITY, DRAFT, tmp_path / "p", LIMITS, reference, server)
    assert read_files(tmp_path / "p")[1]["reference.json"] == reference


@pytest.mark.parametrize(
    ("reference", "text"),
    [(b"{", "reference.json"), (b'{"warmup": [["x", 1]]}', "row 0"), (b'{"warmup": [[1.0]]}', "row 0")],
)
def test_a_reference_that_does_not_fit_is_refused(
    tmp_path: Path, server: AdmissionServer, reference: bytes, text: str
) -> None:
    assert text in refused(IDENTITY, tmp_path, server, reference=reference)


def test_a_reference_row_that_the_model_can_not_run_is_refused(tmp_path: Path, server: AdmissionServer) -> None:
    """Index 9 of a table of 4."""
    text = refused(graphs.gathers().SerializeToString(), tmp_path, server, reference=b'{"warmup": [[1], [9]]}')
    assert "row 1" in text


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (b"", "not an ONNX model"),
        (b"PK\x03\x04 a zip file", "not an ONNX model"),
        (IDENTITY[: len(IDENTITY) // 2], "not an ONNX model"),
        (
            graphs.graph_model(
                [helper.make_node("Add", ["x", "w"], ["y"])], initializers=[graphs.external_tensor()]
            ).SerializeToString(),
            "external data",
        ),
        (
            graphs.graph_model([helper.make_node("Run", ["x"], ["y"], domain="evil")]).SerializeToString(),
            "evil::Run is not allowed",
        ),
        (graphs.graph_model([helper.make_node("Nope", ["x"], ["y"])]).SerializeToString(), "can not load"),
        (
            graphs.graph_model([helper.make_node("Identity", ["x"], ["y"])], opset=99).SerializeToString(),
            "target_opset",
        ),
        (graphs.huge_allocation().SerializeToString(), "memory"),
    ],
)  # fmt: skip
def test_a_bad_model_is_refused_with_its_reason(
    tmp_path: Path, server: AdmissionServer, model: bytes, text: str
) -> None:
    """The reasons are for the publisher: what is wrong, and what to do. No paths of this machine, no odd characters."""
    found = refused(model, tmp_path, server)
    assert text in found
    assert "/onnxruntime" not in found
    assert found.isprintable()


def test_a_refused_model_changes_nothing_for_the_next(tmp_path: Path, server: AdmissionServer) -> None:
    before = server.process_id
    refused(b"x", tmp_path, server)
    admit(IDENTITY, DRAFT, tmp_path / "p", LIMITS, server=server)
    assert before is None or server.process_id == before


def test_a_model_that_never_ends_is_stopped(tmp_path: Path, server: AdmissionServer) -> None:
    """It loads at once; only the limited child can be stopped while it runs."""
    started = time.monotonic()
    text = refused(graphs.endless_loop().SerializeToString(), tmp_path, server, Limits(seconds=1.0))
    assert "did not end within 1 seconds" in text
    assert time.monotonic() - started < 9
    admit(IDENTITY, DRAFT, tmp_path / "p", LIMITS, server=server)


def test_features_that_do_not_fit_are_refused(tmp_path: Path, server: AdmissionServer) -> None:
    draft = msgspec.structs.replace(DRAFT, features=(Feature(name="a"),))
    assert "1 features are given, the model takes 2" in refused(IDENTITY, tmp_path, server, draft=draft)


@pytest.mark.parametrize("name", ["", "../x", "a/b", "x" * 101])
def test_a_draft_without_a_models_name_is_refused(tmp_path: Path, server: AdmissionServer, name: str) -> None:
    assert "is not a model name" in refused(IDENTITY, tmp_path, server, draft=Manifest(model=name))


async def test_a_check_does_not_hold_up_the_event_loop(tmp_path: Path, server: AdmissionServer) -> None:
    task = asyncio.create_task(admit_async(IDENTITY, DRAFT, tmp_path / "p", LIMITS, None, server))
    turns = 0
    while not task.done():
        await asyncio.sleep(0)
        turns += 1
    assert (await task).digest
    assert turns > 1


def test_checks_from_several_threads_queue_up(tmp_path: Path, server: AdmissionServer) -> None:
    async def publish_all() -> list[Manifest]:
        places = [tmp_path / str(number) for number in range(4)]
        return await asyncio.gather(*(admit_async(IDENTITY, DRAFT, at, LIMITS, None, server) for at in places))

    assert len({manifest.digest for manifest in asyncio.run(publish_all())}) == 1


class Watched:
    """A process that is not ours to wait for, held so that its number can not come to mean another one."""

    def __init__(self, process_id: int) -> None:
        self._descriptor = os.pidfd_open(process_id)

    def ends(self) -> bool:
        """True when the process has ended, or ends within ten seconds."""
        ready, _, _ = select.select([self._descriptor], [], [], 10)
        os.close(self._descriptor)
        return bool(ready)


def child_of(server: AdmissionServer) -> Watched:
    """The child of a check that has just been asked for; there is no event to wait for, so this looks again."""
    ends = time.monotonic() + 10
    while time.monotonic() < ends:
        own = server.process_id
        if own is not None and (found := Path(f"/proc/{own}/task/{own}/children").read_text().split()):
            return Watched(int(found[0]))
        select.select([], [], [], 0.002)
    raise AssertionError("no child was started")


def test_the_server_starts_again_after_it_died_and_its_child_dies_with_it(tmp_path: Path) -> None:
    """Killed while a child runs a model that never ends: no process stays behind, and the next publish works."""
    with AdmissionServer() as own:
        endless = graphs.endless_loop().SerializeToString()

        async def kill_during_a_check() -> None:
            check = asyncio.create_task(admit_async(endless, DRAFT, tmp_path / "no", LIMITS, None, own))
            child = await asyncio.to_thread(child_of, own)
            assert own.process_id is not None
            os.kill(own.process_id, signal.SIGKILL)
            with pytest.raises(AdmissionRefused, match="broke off"):
                await check
            assert await asyncio.to_thread(child.ends)

        asyncio.run(kill_during_a_check())
        assert admit(IDENTITY, DRAFT, tmp_path / "p", LIMITS, server=own).digest
        assert own.process_id is not None
        last = Watched(own.process_id)
    assert last.ends()


def test_the_server_does_not_outlive_a_gateway_that_was_killed(tmp_path: Path) -> None:
    """kill -9 runs no clean-up: the server notices the end of its input."""
    (tmp_path / "model").write_bytes(IDENTITY)
    program = """
import sys, time
from pathlib import Path
from gateway.execution.admission import AdmissionServer, Limits, admit
from gateway.registry.manifest import Manifest
at = Path(sys.argv[1])
server = AdmissionServer()
admit((at / "model").read_bytes(), Manifest(model="m"), at / "p", Limits(), server=server)
print(server.process_id, flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    ) as gateway:
        assert gateway.stdout is not None
        server = Watched(int(gateway.stdout.readline()))
        gateway.kill()
    assert server.ends()


def test_without_a_server_one_is_started_for_the_call(tmp_path: Path) -> None:
    assert admit(IDENTITY, DRAFT, tmp_path / "p", LIMITS).digest == read_package(tmp_path / "p").digest


def test_the_gateways_side_of_admission_loads_no_model_library() -> None:
    """The CLI and the control process ask for checks; what parses and runs models lives in the server alone."""
    program = (
        "import sys, gateway.execution, gateway.execution.admission; "
        "print(*sorted({'onnx', 'onnxruntime', 'sklearn'} & set(sys.modules)))"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    assert found.stdout.split() == []


def test_what_a_model_takes_in_memory_is_measured(tmp_path: Path, server: AdmissionServer) -> None:
    """A serving process may refuse it before it loads it; the file's size says little."""
    table = numpy_helper.from_array(np.ones(5_000_000, np.float32), "table")
    model = graphs.graph_model(
        [helper.make_node("Gather", ["table", "i"], ["y"], axis=0)],
        inputs=[helper.make_tensor_value_info("i", TensorProto.INT64, [None, 1])],
        outputs=[helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 1])],
        initializers=[table],
    )
    large = admit(model.SerializeToString(), DRAFT, tmp_path / "large", LIMITS, server=server)
    small = admit(IDENTITY, DRAFT, tmp_path / "small", LIMITS, server=server)
    assert 20_000_000 <= large.memory_bytes - small.memory_bytes < 200_000_000
    assert read_package(tmp_path / "large").memory_bytes == large.memory_bytes
