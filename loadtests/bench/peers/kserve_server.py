"""KServe's model server in one process, its first and its second protocol."""

import sys
from typing import Any

import numpy as np
import onnxruntime
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer
from kserve.utils.utils import generate_uuid


class OnnxModel(Model):
    """One model."""

    def __init__(self, name: str, file: str) -> None:
        super().__init__(name)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        self.ready = True

    async def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> Any:
        """Rows of either protocol."""
        if not isinstance(payload, InferRequest):
            rows = np.array(payload["instances"], dtype=np.float32)
            _, probabilities = self.session.run(None, {"X": rows})
            return {"predictions": probabilities.tolist()}
        label, probabilities = self.session.run(None, {"X": payload.inputs[0].as_numpy()})
        asked = payload.parameters or {}
        binary = bool(asked.get("binary_data_output"))
        outputs = []
        for name, datatype, array in (("label", "INT64", label), ("probabilities", "FP32", probabilities)):
            output = InferOutput(name, list(array.shape), datatype)
            output.set_data_from_numpy(array, binary_data=binary)
            outputs.append(output)
        return InferResponse(payload.id or generate_uuid(), self.name, outputs)


if __name__ == "__main__":
    server = ModelServer(http_port=int(sys.argv[2]), enable_grpc=False, workers=1, access_log_format=None)
    server.start([OnnxModel("bench", sys.argv[1])])
