"""The ONNX backend test suite as data: models, inputs, expected outputs, and what each may be asked of a server.

The suite's files come with the onnx wheel (the last that has node models on disk is 1.22.0). A case is *inferable* when
every input and output is a tensor of a protocol datatype and the engine itself, asked directly, gives the suite's
answer within its tolerance; only then a server can be held to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, numpy_helper

GROUPS = ("node", "simple", "pytorch-converted", "pytorch-operator")
RTOL, ATOL = 1e-3, 1e-7
"""The suite's own tolerance."""

DATATYPES: dict[int, str] = {
    TensorProto.BOOL: "BOOL",
    TensorProto.UINT8: "UINT8",
    TensorProto.UINT16: "UINT16",
    TensorProto.UINT32: "UINT32",
    TensorProto.UINT64: "UINT64",
    TensorProto.INT8: "INT8",
    TensorProto.INT16: "INT16",
    TensorProto.INT32: "INT32",
    TensorProto.INT64: "INT64",
    TensorProto.FLOAT16: "FP16",
    TensorProto.FLOAT: "FP32",
    TensorProto.DOUBLE: "FP64",
    TensorProto.STRING: "BYTES",
}


class Kind(StrEnum):
    """What may be asked of a case."""

    INFER = "inferable"
    NO_TENSOR = "sequence or optional"
    NO_DATATYPE = "no protocol datatype"
    ENGINE = "engine can not, or differs"


class Sample(NamedTuple):
    """One data set: tensors by name, in the order of the graph."""

    inputs: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]


class Case(NamedTuple):
    """One model of the suite. samples: empty unless every tensor has a protocol datatype."""

    name: str
    file: Path
    kind: Kind
    samples: Sequence[Sample] = ()


def read_suite(folder: Path) -> Iterator[Case]:
    """Every case below `folder` (onnx/backend/test/data), each tried on the engine."""
    onnxruntime.set_default_logger_severity(4)
    for group in GROUPS:
        for directory in sorted((folder / group).iterdir()):
            if (directory / "model.onnx").is_file():
                yield _read_case(directory)


def _read_case(directory: Path) -> Case:
    file = directory / "model.onnx"
    graph = onnx.load(file, load_external_data=False).graph
    values = [*graph.input, *graph.output]
    if any(value.type.WhichOneof("value") != "tensor_type" for value in values):
        return Case(directory.name, file, Kind.NO_TENSOR)
    if any(value.type.tensor_type.elem_type not in DATATYPES for value in values):
        return Case(directory.name, file, Kind.NO_DATATYPE)
    inputs, outputs = [one.name for one in graph.input], [one.name for one in graph.output]
    samples = [
        Sample(_tensors(data, "input", inputs), _tensors(data, "output", outputs))
        for data in sorted(directory.glob("test_data_set_*"))
    ]
    return Case(directory.name, file, Kind.INFER if _engine_agrees(file, samples) else Kind.ENGINE, samples)


def _tensors(data: Path, side: str, names: Sequence[str]) -> dict[str, np.ndarray]:
    files = sorted(data.glob(f"{side}_*.pb"), key=lambda path: int(path.stem.rpartition("_")[2]))
    return {name: _array(file.read_bytes()) for name, file in zip(names, files, strict=False)}


def _array(content: bytes) -> np.ndarray:
    array = numpy_helper.to_array(TensorProto.FromString(content))
    if array.dtype.kind not in "SO":
        return np.asarray(array)
    texts = np.empty(array.shape, np.object_)
    texts.ravel()[:] = [item.decode() if isinstance(item, bytes) else str(item) for item in array.ravel().tolist()]
    return texts


def _engine_agrees(file: Path, samples: Sequence[Sample]) -> bool:
    try:
        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        names = [one.name for one in session.get_outputs()]
        for sample in samples:
            answers = session.run(names, sample.inputs)
            if not all(is_right(a, sample.outputs[n]) for n, a in zip(names, answers, strict=True)):
                return False
    except Exception:  # noqa: BLE001 - whatever the engine raises, it can not run this case
        return False
    return True


def is_right(found: Any, wanted: np.ndarray) -> bool:
    """Same datatype, shape and values; floats within the suite's tolerance."""
    found = np.asarray(found)
    if found.shape != wanted.shape or found.dtype != wanted.dtype:
        return False
    if wanted.dtype.kind != "f":
        return bool((found == wanted).all())
    return bool(np.allclose(found.astype(np.float64), wanted.astype(np.float64), RTOL, ATOL, equal_nan=True))
