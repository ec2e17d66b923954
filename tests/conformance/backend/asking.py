"""Asks a server one sample of the suite, in JSON and in binary, with a codec of its own; and judges the answer."""

from __future__ import annotations

import json
import math
import struct
from typing import Any

import httpx
import numpy as np

from tests.conformance.backend.suite import Sample, is_right

LENGTH = "Inference-Header-Content-Length"
NUMPY: dict[str, Any] = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
    "BYTES": np.object_,
}
NAMES = {np.dtype(numpy): name for name, numpy in NUMPY.items()}


def is_json(sample: Sample) -> bool:
    """JSON has no NaN and no infinity."""
    return all(array.dtype.kind != "f" or bool(np.isfinite(array).all()) for array in sample.inputs.values())


def described(name: str, array: np.ndarray) -> dict[str, Any]:
    """A tensor without its data."""
    return {"name": name, "datatype": NAMES[array.dtype], "shape": list(array.shape)}


def json_inputs(sample: Sample) -> list[dict[str, Any]]:
    """The inputs with flat data."""
    return [{**described(name, array), "data": array.ravel().tolist()} for name, array in sample.inputs.items()]


def ask_json(client: httpx.Client, url: str, sample: Sample) -> str:
    """What is wrong with the JSON answer, with the status first; empty: nothing."""
    answer = client.post(url, json={"inputs": json_inputs(sample)})
    if answer.status_code != 200:
        return f"{answer.status_code} {answer.text[:300]}"
    content = answer.json()
    found = {one["name"]: one for one in content["outputs"]}
    lost = 0
    for name, wanted in sample.outputs.items():
        datatype = found[name]["datatype"]
        data = [math.nan if item is None else item for item in found[name]["data"]]
        lost += sum(item is None for item in found[name]["data"])
        array = np.array(data, dtype=NUMPY[datatype]).reshape(found[name]["shape"])
        finite = wanted
        if wanted.dtype.kind == "f":  # null stands for any of the three
            finite = np.where(np.isfinite(wanted), wanted, np.array(math.nan, wanted.dtype))
        if not is_right(array, finite):
            return f"200 {name} is another value in JSON"
    return "" if content["parameters"].get("non_finite", 0) == lost else "200 non_finite is not the number of nulls"


def ask_binary(client: httpx.Client, url: str, sample: Sample) -> str:
    """What is wrong with the binary answer, with the status first; empty: nothing."""
    parts = [to_bytes(array) for array in sample.inputs.values()]
    inputs = [
        {**described(name, array), "parameters": {"binary_data_size": len(part)}}
        for (name, array), part in zip(sample.inputs.items(), parts, strict=True)
    ]
    head = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
    answer = client.post(url, content=b"".join((head, *parts)), headers={LENGTH: str(len(head))})
    if answer.status_code != 200:
        return f"{answer.status_code} {answer.text[:300]}"
    length = int(answer.headers[LENGTH])
    start = length
    for output in json.loads(answer.content[:length])["outputs"]:
        end = start + output["parameters"]["binary_data_size"]
        array = from_bytes(answer.content[start:end], output["datatype"], output["shape"])
        if not is_right(array, sample.outputs[output["name"]]):
            return f"200 {output['name']} is another value in binary"
        start = end
    return "" if start == len(answer.content) else "200 more bytes than the header says"


def to_bytes(array: np.ndarray) -> bytes:
    """The binary tensor extension's form."""
    if array.dtype.kind != "O":
        return array.astype(array.dtype.newbyteorder("<")).tobytes()
    texts = [item.encode() for item in array.ravel().tolist()]
    return b"".join(struct.pack("<I", len(text)) + text for text in texts)


def from_bytes(content: bytes, datatype: str, shape: list[int]) -> np.ndarray:
    """The array in the binary tensor extension's form."""
    if datatype != "BYTES":
        return (
            np.frombuffer(content, np.dtype(NUMPY[datatype]).newbyteorder("<")).astype(NUMPY[datatype]).reshape(shape)
        )
    texts: list[str] = []
    while content:
        (size,) = struct.unpack_from("<I", content)
        texts.append(content[4 : 4 + size].decode())
        content = content[4 + size :]
    array = np.empty(len(texts), np.object_)
    array[:] = texts
    return array.reshape(shape)
