"""MLServer with a custom onnxruntime runtime, in its main process. Run as a file it writes its settings and starts."""

import json
import os
import socket
import sys
from pathlib import Path

import onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class OnnxModel(MLModel):
    """One model."""

    async def load(self) -> bool:
        """Open the session."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        file = os.environ["BENCH_MODEL"]
        self.session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """One or more rows."""
        rows = NumpyCodec.decode_input(payload.inputs[0])
        label, probabilities = self.session.run(None, {"X": rows})
        outputs = [
            NumpyCodec.encode_output(name="label", payload=label),
            NumpyCodec.encode_output(name="probabilities", payload=probabilities),
        ]
        return InferenceResponse(model_name=self.name, outputs=outputs)


def write_settings(folder: Path, port: int) -> None:
    """One process, no access log; its two other ports are wherever there is room."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        grpc, metrics = one.getsockname()[1], other.getsockname()[1]
    server = {
        "host": "127.0.0.1",
        "http_port": port,
        "grpc_port": grpc,
        "metrics_port": metrics,
        "parallel_workers": 0,
        "debug": False,
        "gzip_enabled": False,
    }
    (folder / "settings.json").write_text(json.dumps(server))
    model = {"name": "bench", "implementation": "mlserver_runtime.OnnxModel"}
    (folder / "model-settings.json").write_text(json.dumps(model))


if __name__ == "__main__":
    write_settings(Path.cwd(), int(sys.argv[2]))
    environment = {**os.environ, "BENCH_MODEL": sys.argv[1], "PYTHONPATH": str(Path(__file__).parent)}
    script = "import sys; from mlserver.cli import main; sys.argv = ['mlserver', 'start', '.']; main()"
    os.execve(sys.executable, [sys.executable, "-c", script], environment)
