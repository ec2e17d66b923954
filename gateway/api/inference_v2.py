"""The Open Inference Protocol v2 over REST, JSON tensors: health, metadata, infer.

Infer without a version goes through the router: the protocol leaves the choice to the server. Role, reason and
prediction id come back as response parameters. Answers and errors have the protocol's shape.
Source: open-inference-protocol, specification/protocol/inference_rest.md.
"""

from __future__ import annotations

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
from gateway.execution.tensors import BY_NUMPY, Tensors, from_json, to_json
from gateway.registry.manifest import Manifest, Tensor
from gateway.serving.request import Answer
from gateway.settings import Settings

PLATFORM = "onnx_onnxv1"

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


def read_tensors(inputs: list[InputTensor]) -> Tensors:
    """The arrays of a request by name. Raises InvalidInput naming the input and the element."""
    tensors: Tensors = {}
    for number, sent in enumerate(inputs):
        pointer = f"/inputs/{number}"
        if sent.name in tensors:
            raise _invalid(f"{pointer}/name", f"{sent.name[:100]!r} is given twice")
        if sent.data is None:
            raise _invalid(f"{pointer}/data", "is required")
        tensors[sent.name] = from_json(sent.datatype, sent.shape, sent.data, pointer)
    return tensors


def response_content(answer: Answer, wanted: list[str], sent_id: str | None) -> dict[str, Any]:
    """The protocol's response. Raises InvalidInput when an output that was asked for does not exist."""
    for number, name in enumerate(wanted):
        if name not in answer.outputs:
            there = ", ".join(answer.outputs)
            raise _invalid(f"/outputs/{number}/name", f"{name[:100]!r} is not an output; there are {there}")
    chosen = {name: answer.outputs[name] for name in wanted or answer.outputs}
    lists, non_finite = to_json({name: array.ravel() for name, array in chosen.items()})
    parameters: dict[str, Parameter] = {
        "role": str(answer.role),
        "reason": str(answer.reason),
        "prediction_id": answer.id,
    }
    if non_finite:
        parameters["non_finite"] = non_finite
    content: dict[str, Any] = {"model_name": answer.model}
    if answer.version is not None:
        content["model_version"] = str(answer.version)
    outputs = [
        {"name": name, "datatype": _datatype(array), "shape": array.shape, "data": lists[name]}
        for name, array in chosen.items()
    ]
    return content | {"id": sent_id or answer.id, "parameters": parameters, "outputs": outputs}


def _datatype(array: np.ndarray) -> str:
    known = BY_NUMPY.get(array.dtype)
    return known.name if known is not None else "BYTES"


def _invalid(pointer: str, detail: str) -> InvalidInput:
    return InvalidInput(f"{pointer} {detail}", [Fault(pointer, detail)])
