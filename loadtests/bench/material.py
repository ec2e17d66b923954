"""The model that all servers run, the requests they all get and the right answers, made once for a run.

StandardScaler and LogisticRegression on the 569 rows of scikit-learn's breast cancer set: 30 float32 columns, two
classes, probabilities as one tensor (no ZipMap). The challenger is the same, trained on half of the rows.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from loadtests.bench.answers import FloatArray
from loadtests.bench.load import Request

MODEL = "bench"
COLUMNS = 30
FEATURES = tuple(f"f{number}" for number in range(COLUMNS))
BATCH = 64
MODELS = 100
_BINARY = {"Content-Type": "application/octet-stream"}


@dataclass(frozen=True)
class Material:
    """Files and values. one, batch: rows of the request; answers: their probabilities by champion and by challenger."""

    champion: Path
    challenger: Path
    reference: Path
    one: FloatArray
    batch: FloatArray
    one_answers: tuple[FloatArray, FloatArray]
    batch_answers: tuple[FloatArray, FloatArray]


def make(folder: Path) -> Material:
    """Train both, write them and the reference sample below `folder`."""
    from sklearn.datasets import load_breast_cancer

    data, target = load_breast_cancer(return_X_y=True)
    # Values as they stand in the JSON: what is sent and what is expected are then the same float32 numbers.
    rows = np.array([[float(f"{value:.6g}") for value in row] for row in data], np.float32)
    champion, challenger = folder / "champion.onnx", folder / "challenger.onnx"
    champion.write_bytes(train(rows, target))
    challenger.write_bytes(train(rows[::2], target[::2]))
    reference = folder / "reference.csv"
    lines = [",".join(FEATURES), *(",".join(map(str, row)) for row in rows.tolist())]
    reference.write_text("\n".join(lines) + "\n")
    # The rows that the model is least sure of: for most others any model of this data says 0 or 1.
    doubtful = rows[np.argsort(np.abs(run(champion, rows)[:, 0] - 0.5))]
    one, batch = doubtful[:1], doubtful[:BATCH]
    return Material(
        champion,
        challenger,
        reference,
        one,
        batch,
        (run(champion, one), run(challenger, one)),
        (run(champion, batch), run(challenger, batch)),
    )


def train(rows: FloatArray, target: Any) -> bytes:
    """An ONNX model: input X, outputs label and probabilities."""
    from skl2onnx import to_onnx
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    pipeline = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(rows, target)
    opsets = {"": 21, "ai.onnx.ml": 3}
    converted: bytes = to_onnx(pipeline, rows[:1], options={"zipmap": False}, target_opset=opsets).SerializeToString()
    return converted


def run(model: Path, rows: FloatArray) -> FloatArray:
    """The model's probabilities, shape (rows, 2)."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    found: FloatArray = session.run(["probabilities"], {"X": rows})[0]
    return found


def digits(rows: FloatArray) -> list[list[float]]:
    """Rows as JSON numbers of six digits."""
    return [[float(f"{value:.6g}") for value in row] for row in rows]


def predict_request(rows: FloatArray, models: Sequence[str] = (MODEL,), protocol: str = "predict") -> Request:
    """`POST /predict` as the gateway takes it; one body for each model named."""
    bodies = tuple(_compact({"model": model, "inputs": digits(rows)}) for model in models)
    return Request("/predict", bodies, protocol)


def record_request(rows: FloatArray, path: str = "/predict", protocol: str = "predict") -> Request:
    """The first row as an object by feature name."""
    inputs = dict(zip(FEATURES, digits(rows)[0], strict=True))
    return Request(path, (_compact({"model": MODEL, "inputs": inputs}),), protocol)


def v2_request(rows: FloatArray) -> Request:
    """The Open Inference Protocol, JSON."""
    data = [value for row in digits(rows) for value in row]
    tensor = {"name": "X", "shape": list(rows.shape), "datatype": "FP32", "data": data}
    return Request(f"/v2/models/{MODEL}/infer", (_compact({"inputs": [tensor]}),), "v2")


def v2_binary_request(rows: FloatArray) -> Request:
    """The same with its binary tensor extension, in both directions."""
    raw = rows.astype("<f4").tobytes()
    size = {"binary_data_size": len(raw)}
    tensor = {"name": "X", "shape": list(rows.shape), "datatype": "FP32", "parameters": size}
    head = _compact({"parameters": {"binary_data_output": True}, "inputs": [tensor]})
    headers = {**_BINARY, "Inference-Header-Content-Length": str(len(head))}
    return Request(f"/v2/models/{MODEL}/infer", (head + raw,), "v2", headers)


def instances_request(rows: FloatArray) -> Request:
    """KServe's first protocol."""
    return Request(f"/v1/models/{MODEL}:predict", (_compact({"instances": digits(rows)}),), "instances")


def _compact(content: Any) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()
