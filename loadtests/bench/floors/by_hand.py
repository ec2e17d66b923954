"""Starlette, msgspec and onnxruntime by hand: what a careful user writes for one model, without anything around it."""

from __future__ import annotations

import sys
from typing import Any

import msgspec
import numpy as np
import onnxruntime
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


class Body(msgspec.Struct):
    """The request."""

    inputs: list[list[float]]
    model: str = ""


COLUMNS = tuple(f"f{number}" for number in range(30))
Record = msgspec.defstruct("Record", [(name, float) for name in COLUMNS])
RecordBody = msgspec.defstruct("RecordBody", [("inputs", Record), ("model", str, "")])


def build(file: str) -> Starlette:
    """An application that serves one model."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    decoder, encoder = msgspec.json.Decoder(Body), msgspec.json.Encoder()
    records: msgspec.json.Decoder[Any] = msgspec.json.Decoder(RecordBody)

    async def predict(request: Request) -> Response:
        body = decoder.decode(await request.body())
        rows = np.array(body.inputs, dtype=np.float32)
        label, probabilities = session.run(None, {"X": rows})
        content: dict[str, Any] = {"label": label.tolist(), "probabilities": probabilities.tolist()}
        return Response(encoder.encode(content), media_type="application/json")

    async def record(request: Request) -> Response:
        found = records.decode(await request.body()).inputs
        rows = np.array([[getattr(found, name) for name in COLUMNS]], dtype=np.float32)
        label, probabilities = session.run(None, {"X": rows})
        content: dict[str, Any] = {"label": label.tolist(), "probabilities": probabilities.tolist()}
        return Response(encoder.encode(content), media_type="application/json")

    routes = [Route("/predict", predict, methods=["POST"]), Route("/record", record, methods=["POST"])]
    return Starlette(routes=routes)


if __name__ == "__main__":
    uvicorn.run(
        build(sys.argv[1]),
        port=int(sys.argv[2]),
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
    )
