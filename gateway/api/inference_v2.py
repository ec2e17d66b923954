"""The Open Inference Protocol v2 over REST, JSON tensors: health, metadata, infer.

Infer without a version goes through the router: the protocol leaves the choice to the server. Role, reason and
prediction id come back as response parameters. Answers and errors have the protocol's shape.
Source: open-inference-protocol, specification/protocol/inference_rest.md.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Scope

import gateway
from gateway.api.body import NESTED, decode, strict
from gateway.api.door import Door, Guard, Sent, Serving, answer_headers, prediction_request, version_number
from gateway.api.problems import json_response
from gateway.errors import Fault, InvalidInput
from gateway.registry.manifest import Manifest, Tensor
from gateway.serving.request import Answer
from gateway.settings import Settings

PLATFORM = "onnx_onnxv1"

# FP16 has no JSON form that keeps its values apart from other floats; it comes with the binary form.
_DTYPES: dict[str, Any] = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP32": np.float32,
    "FP64": np.float64,
    "BYTES": np.object_,
}
_DATATYPES = {np.dtype(dtype): name for name, dtype in _DTYPES.items()} | {np.dtype(np.float16): "FP16"}
_MAX_RANK = 30

Parameter = str | int | float | bool


class InputTensor(msgspec.Struct):
    """One input as sent; `data` is nested or flat, the shape is the truth."""

    name: str
    shape: list[int]
    datatype: str
    data: list[NESTED] | None = None
    parameters: dict[str, Parameter] = {}


class OutputWanted(msgspec.Struct):
    """One output by name."""

    name: str
    parameters: dict[str, Parameter] = {}


class InferBody(msgspec.Struct):
    """The body of infer. Unknown fields are left alone: the protocol has extensions."""

    inputs: list[InputTensor]
    id: str | None = None
    parameters: dict[str, Parameter] = {}
    outputs: list[OutputWanted] = []


_DECODER = msgspec.json.Decoder(InferBody)


def inference_routes(serving: Serving, guard: Guard, settings: Settings) -> list[Route]:
    """Metadata and infer, with and without a version."""

    async def server(request: Request) -> Response:
        content = {"name": "gateway", "version": gateway.__version__, "extensions": []}
        return json_response(content)

    async def metadata(request: Request) -> Response:
        await guard.check(request.scope)
        name, pinned = _named(request.scope)
        return json_response(_metadata(serving.manifest(name, pinned), _versions(serving, name)))

    async def ready(request: Request) -> Response:
        name, pinned = _named(request.scope)
        serving.manifest(name, pinned)
        return json_response({"name": name, "ready": True})

    async def infer(scope: Scope, body: bytes) -> Sent:
        return await _infer(serving, scope, body)

    routes = [Route("/v2", server), Route("/v2/", server)]
    for path in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
        routes += [
            Route(path + "/infer", Door(infer, guard, settings), methods=["POST"]),
            Route(path, metadata),
            Route(path + "/ready", ready),
        ]
    return routes


async def _infer(serving: Serving, scope: Scope, body: bytes) -> Sent:
    if b"inference-header-content-length" in dict(scope["headers"]):
        raise InvalidInput("binary tensors are not read here: send JSON data")
    name, pinned = _named(scope)
    asked = decode(_DECODER, body)
    if body.count(b":") != _keys(asked):
        strict(body)
    tensors = read_tensors(asked.inputs)
    key = asked.parameters.get("routing_key")
    request = prediction_request(
        scope, model=name, tensors=tensors, key=None if key is None else str(key), id=asked.id or None, pinned=pinned
    )
    answer = await serving.predict(request)
    wanted = [output.name for output in asked.outputs]
    return 200, msgspec.json.encode(response_content(answer, wanted, asked.id)), answer_headers(answer)


def _named(scope: Scope) -> tuple[str, int | None]:
    parameters = scope["path_params"]
    version = parameters.get("version")
    return parameters["model"], None if version is None else version_number(version, "the version in the path")


def _versions(serving: Serving, name: str) -> list[str]:
    served = next(model for model in serving.models() if model.name == name)
    return [str(number) for number in sorted(served.manifests)]


def _metadata(manifest: Manifest, versions: list[str]) -> dict[str, Any]:
    return {
        "name": manifest.model,
        "versions": versions,
        "platform": PLATFORM,
        "inputs": [_described(tensor) for tensor in manifest.inputs],
        "outputs": [_described(tensor) for tensor in manifest.outputs],
    }


def _described(tensor: Tensor) -> dict[str, Any]:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}


def _keys(asked: InferBody) -> int:
    """How many keys a body without extras has; another count only means that it is read a second time."""
    inputs = sum(4 + _of(one.parameters) for one in asked.inputs)
    outputs = sum(1 + _of(one.parameters) for one in asked.outputs) + bool(asked.outputs)
    return 1 + inputs + outputs + (asked.id is not None) + _of(asked.parameters)


def _of(parameters: dict[str, Parameter]) -> int:
    return len(parameters) + bool(parameters)


def read_tensors(inputs: list[InputTensor]) -> dict[str, np.ndarray]:
    """The arrays of a request by name. Raises InvalidInput naming the input."""
    tensors: dict[str, np.ndarray] = {}
    for number, sent in enumerate(inputs):
        if sent.name in tensors:
            raise _bad(number, "name", f"{sent.name[:100]!r} is given twice")
        tensors[sent.name] = _array(sent, number)
    return tensors


def _array(sent: InputTensor, number: int) -> np.ndarray:
    dtype = _DTYPES.get(sent.datatype)
    if dtype is None:
        allowed = ", ".join(_DTYPES)
        raise _bad(number, "datatype", f"{sent.datatype[:20]!r} is not one of {allowed}")
    if sent.data is None:
        raise _bad(number, "data", "is required")
    if len(sent.shape) > _MAX_RANK or any(not 0 <= size < 2**31 for size in sent.shape):
        raise _bad(number, "shape", f"must be at most {_MAX_RANK} sizes, each 0 or more")
    flat = _flat(sent.data, sent.shape, number)
    elements = math.prod(sent.shape)
    if len(flat) != elements:
        raise _bad(number, "shape", f"asks for {elements} elements, data has {len(flat)}")
    _check_elements(flat, sent.datatype, number)
    try:
        return np.array(flat, dtype=dtype).reshape(sent.shape)
    except (OverflowError, ValueError, TypeError):
        raise _bad(number, "data", f"an element does not fit {sent.datatype}") from None


def _flat(data: list[Any], shape: list[int], number: int) -> list[Any]:
    """The elements in row-major order. Nested data must have the nesting of the shape."""
    if not any(isinstance(element, list) for element in data):
        return data
    level = data
    for depth, size in enumerate(shape[1:], start=1):
        if any(not isinstance(row, list) or len(row) != size for row in level):
            raise _bad(number, "data", f"is ragged: every list at depth {depth} must have {size} elements")
        level = [element for row in level for element in row]
    if any(isinstance(element, list) for element in level):
        raise _bad(number, "data", f"is nested deeper than its shape {shape}")
    return level


_KINDS: dict[str, tuple[type, ...]] = {"BOOL": (bool, int), "BYTES": (str,), "FP32": (int, float), "FP64": (int, float)}


def _check_elements(flat: list[Any], datatype: str, number: int) -> None:
    kinds = _KINDS.get(datatype, (int,))
    for place, element in enumerate(flat):
        is_bool = isinstance(element, bool)
        if not isinstance(element, kinds) or (is_bool and datatype != "BOOL"):
            raise _bad(number, f"data/{place}", f"{_shown(element)} is not a {datatype} element")
        if datatype == "BOOL" and element not in (0, 1):
            raise _bad(number, f"data/{place}", "must be true or false")


def _shown(element: Any) -> str:
    return msgspec.json.encode(element).decode()[:40]


def response_content(answer: Answer, wanted: list[str], sent_id: str | None) -> dict[str, Any]:
    """The protocol's response. Raises InvalidInput when an output that was asked for does not exist."""
    for number, name in enumerate(wanted):
        if name not in answer.outputs:
            there = ", ".join(answer.outputs)
            detail = f"there is no output {name[:100]!r}; the model has {there}"
            raise InvalidInput(detail, [Fault(f"/outputs/{number}/name", detail)])
    parameters: dict[str, Parameter] = {
        "role": str(answer.role),
        "reason": str(answer.reason),
        "prediction_id": answer.id,
    }
    outputs = [_output(name, answer.outputs[name]) for name in wanted or answer.outputs]
    if non_finite := sum(_non_finite(answer.outputs[output["name"]]) for output in outputs):
        parameters["non_finite"] = non_finite
    content: dict[str, Any] = {"model_name": answer.model}
    if answer.version is not None:
        content["model_version"] = str(answer.version)
    return content | {"id": sent_id or answer.id, "parameters": parameters, "outputs": outputs}


def _output(name: str, array: np.ndarray) -> dict[str, Any]:
    datatype = _DATATYPES.get(array.dtype, "BYTES")
    return {"name": name, "datatype": datatype, "shape": array.shape, "data": array.ravel().tolist()}


def _non_finite(array: np.ndarray) -> int:
    return int(np.count_nonzero(~np.isfinite(array))) if array.dtype.kind == "f" else 0


def _bad(number: int, field: str, detail: str) -> InvalidInput:
    pointer = f"/inputs/{number}/{field}"
    return InvalidInput(f"{pointer} {detail}", [Fault(pointer, detail)])
