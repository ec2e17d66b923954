"""BentoML with one worker. Started as a service by its own command when run as a file: FILE MODEL PORT."""

import os
import sys
from pathlib import Path
from typing import Any

import bentoml
import numpy as np
import onnxruntime


@bentoml.service(workers=1, logging={"access": {"enabled": False}}, metrics={"enabled": True})
class Model:
    """The model as a service."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        file = os.environ["BENCH_MODEL"]
        self.session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])

    @bentoml.api
    def predict(self, model: str, inputs: list[list[float]]) -> dict[str, Any]:
        """One or more rows."""
        label, probabilities = self.session.run(None, {"X": np.array(inputs, dtype=np.float32)})
        return {"label": label.tolist(), "probabilities": probabilities.tolist()}


if __name__ == "__main__":
    os.environ["BENCH_MODEL"] = sys.argv[1]
    os.environ["BENTOML_DO_NOT_TRACK"] = "True"
    os.chdir(Path(__file__).parent)
    words = ["serve", "bentoml_service:Model", "--host", "127.0.0.1", "--port", sys.argv[2]]
    os.execv(sys.executable, [sys.executable, "-m", "bentoml", *words])
