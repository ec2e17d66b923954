"""FastAPI and onnxruntime as a user writes them."""

import sys
from typing import Any

import numpy as np
import onnxruntime
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel


class Body(BaseModel):
    """The request."""

    model: str
    inputs: list[list[float]]


class Record(BaseModel):
    """One row by feature name."""

    f0: float
    f1: float
    f2: float
    f3: float
    f4: float
    f5: float
    f6: float
    f7: float
    f8: float
    f9: float
    f10: float
    f11: float
    f12: float
    f13: float
    f14: float
    f15: float
    f16: float
    f17: float
    f18: float
    f19: float
    f20: float
    f21: float
    f22: float
    f23: float
    f24: float
    f25: float
    f26: float
    f27: float
    f28: float
    f29: float


class RecordBody(BaseModel):
    """One row, each feature declared."""

    model: str
    inputs: Record


options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
app = FastAPI()


@app.post("/predict")
async def predict(body: Body) -> dict[str, Any]:
    """One or more rows."""
    rows = np.array(body.inputs, dtype=np.float32)
    label, probabilities = session.run(None, {"X": rows})
    return {"label": label.tolist(), "probabilities": probabilities.tolist()}


@app.post("/record")
async def record(body: RecordBody) -> dict[str, Any]:
    """One row by feature name."""
    rows = np.array([list(dict(body.inputs).values())], dtype=np.float32)
    label, probabilities = session.run(None, {"X": rows})
    return {"label": label.tolist(), "probabilities": probabilities.tolist()}


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[2]), loop="uvloop", http="httptools", access_log=False, log_level="warning")
