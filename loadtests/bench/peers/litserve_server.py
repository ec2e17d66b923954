"""LitServe with one worker."""

import sys
from typing import Any

import litserve
import numpy as np
import onnxruntime


class Model(litserve.LitAPI):
    """Decode, run, encode."""

    def setup(self, device: str) -> None:
        """Called in the worker."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])

    def decode_request(self, request: dict[str, Any]) -> Any:
        """JSON to rows."""
        return np.array(request["inputs"], dtype=np.float32)

    def predict(self, rows: Any) -> Any:
        """Run the model."""
        return self.session.run(None, {"X": rows})

    def encode_response(self, output: Any) -> dict[str, Any]:
        """Arrays to JSON."""
        label, probabilities = output
        return {"label": label.tolist(), "probabilities": probabilities.tolist()}


if __name__ == "__main__":
    server = litserve.LitServer(Model(), accelerator="cpu", workers_per_device=1)
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[2]),
        num_api_servers=1,
        log_level="warning",
        access_log=False,
        generate_client_file=False,
    )
