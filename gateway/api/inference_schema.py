"""The bodies of infer as JSON schemas, for `/openapi.json`: any model's, and each served model's own.

Source: open-inference-protocol, inference_rest.md and the binary tensor data extension.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.execution.tensors import BY_NAME, MOST_DIMENSIONS
from gateway.registry.manifest import Manifest, Tensor

Schema = dict[str, Any]

_PARAMETERS: Schema = {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}}
_SIZE: Schema = {"type": "integer", "minimum": 0}
_ELEMENTS = {"b": "boolean", "i": "integer", "u": "integer", "f": "number", "O": "string"}
_BINARY_SIZE: Schema = {
    "type": "object",
    "properties": {
        "binary_data_size": {**_SIZE, "description": "bytes of this tensor after the JSON, instead of `data`"}
    },
    "additionalProperties": {"type": ["string", "number", "boolean"]},
}

HEADERS: tuple[Schema, ...] = (
    {
        "name": "Inference-Header-Content-Length",
        "in": "header",
        "required": False,
        "description": "bytes of JSON before the binary tensors; 0: the whole body is the one input of the model",
        "schema": _SIZE,
    },
    {
        "name": "Content-Encoding",
        "in": "header",
        "required": False,
        "description": "how the whole body is compressed",
        "schema": {"enum": ["identity", "gzip", "deflate"]},
    },
)
"""What infer reads of the headers beyond those of every call."""

BINARY: Schema = {
    "type": "string",
    "contentMediaType": "application/octet-stream",
    "description": "JSON of Inference-Header-Content-Length bytes, then the tensors with binary_data_size in their "
    "order, little-endian and row-major; BYTES as 4 bytes of length and the text, for each element",
}

ANSWER: Schema = {
    "type": "object",
    "required": ["model_name", "id", "parameters", "outputs"],
    "properties": {
        "model_name": {"type": "string"},
        "model_version": {"type": "string"},
        "id": {"type": "string"},
        "parameters": {
            "type": "object",
            "required": ["role", "reason", "prediction_id"],
            "properties": {
                "role": {"type": "string"},
                "reason": {"type": "string"},
                "prediction_id": {"type": "string"},
                "flags": {"type": "string"},
                "non_finite": {"type": "integer", "minimum": 1},
            },
        },
        "outputs": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name", "datatype", "shape"],
                "properties": {
                    "name": {"type": "string"},
                    "datatype": {"enum": list(BY_NAME)},
                    "shape": {"type": "array", "items": _SIZE},
                    "data": {"type": "array"},
                    "parameters": _BINARY_SIZE,
                },
            },
        },
    },
}


def infer_body(manifest: Manifest | None = None) -> Schema:
    """The JSON of infer: of one version by its signature, without one of any model."""
    if manifest is None:
        inputs: Schema = {"type": "array", "items": _any_input()}
        output: Schema = {"type": "string"}
    else:
        count = len(manifest.inputs)
        each = [_input(tensor) for tensor in manifest.inputs]
        inputs = {"type": "array", "minItems": count, "maxItems": count, "items": {"anyOf": each} if each else {}}
        output = {"enum": [tensor.name for tensor in manifest.outputs]}
    return {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": {"type": "string", "pattern": "^[\\x21-\\x7e]{1,128}$"},
            "parameters": {
                "type": "object",
                "properties": {
                    "routing_key": {"type": ["string", "integer"], "description": "makes routing sticky"},
                    "binary_data_output": {"type": "boolean", "description": "all outputs come back binary"},
                },
                "additionalProperties": {"type": ["string", "number", "boolean"]},
            },
            "inputs": inputs,
            "outputs": {"type": "array", "items": _wanted(output)},
        },
    }


def _wanted(name: Schema) -> Schema:
    binary = {"type": "boolean", "description": "this output comes back binary, or not"}
    parameters = {**_PARAMETERS, "properties": {"binary_data": binary}}
    return {"type": "object", "required": ["name"], "properties": {"name": name, "parameters": parameters}}


def _any_input() -> Schema:
    shape = {"type": "array", "items": _SIZE, "maxItems": MOST_DIMENSIONS}
    return _tensor({"type": "string"}, {"enum": list(BY_NAME)}, shape, {})


def _input(tensor: Tensor) -> Schema:
    element: Schema = {"type": _ELEMENTS[BY_NAME[tensor.datatype].numpy.kind]}
    data: Schema = {"type": "array", "items": {"anyOf": [element, {"type": "array"}]}}
    if not tensor.shape:
        data = {"anyOf": [element, data]}
    return _tensor({"const": tensor.name}, {"const": tensor.datatype}, _shape(tensor.shape), data)


def _shape(shape: Sequence[int]) -> Schema:
    """Fixed sizes as they must be, free ones as any size."""
    sizes = [_SIZE if size < 0 else {"const": size} for size in shape]
    schema: Schema = {"type": "array", "minItems": len(sizes), "maxItems": len(sizes)}
    return {**schema, "prefixItems": sizes} if sizes else schema


def _tensor(name: Schema, datatype: Schema, shape: Schema, data: Schema) -> Schema:
    flat = {"description": "row-major, flat or nested; absent when the tensor is binary", **data}
    return {
        "type": "object",
        "required": ["name", "shape", "datatype"],
        "properties": {"name": name, "shape": shape, "datatype": datatype, "data": flat, "parameters": _BINARY_SIZE},
    }
