"""Ray Serve with one replica in a Ray of its own, one CPU."""

import logging
import signal
import sys
from typing import Any

import numpy as np
import onnxruntime
import ray
from ray import serve
from ray.serve.schema import LoggingConfig
from starlette.requests import Request


@serve.deployment(num_replicas=1, max_ongoing_requests=100)
class Model:
    """The model as a deployment."""

    def __init__(self, file: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])

    async def __call__(self, request: Request) -> dict[str, Any]:
        """One or more rows."""
        body = await request.json()
        label, probabilities = self.session.run(None, {"X": np.array(body["inputs"], dtype=np.float32)})
        return {"label": label.tolist(), "probabilities": probabilities.tolist()}


if __name__ == "__main__":
    ray.init(num_cpus=1, include_dashboard=False, logging_level=logging.WARNING)
    serve.start(
        http_options={"host": "127.0.0.1", "port": int(sys.argv[2])},
        logging_config=LoggingConfig(enable_access_log=False, log_level="WARNING"),
    )
    serve.run(Model.bind(sys.argv[1]), route_prefix="/predict")
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    serve.shutdown()
    ray.shutdown()
