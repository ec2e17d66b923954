"""`GET /openapi.json`: the serving API as a machine reads it. One row for each call; bodies as JSON schemas."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

import gateway
from gateway.api.feedback import Item, Items
from gateway.api.problems import json_response

Schema = dict[str, Any]

_SCALAR: Schema = {"type": ["number", "string", "boolean", "null"]}
_RECORD: Schema = {"type": "object", "additionalProperties": True}
PREDICT: Schema = {
    "type": "object",
    "additionalProperties": False,
    "required": ["inputs"],
    "properties": {
        "model": {"type": ["string", "null"], "description": "may be left out when one model is served"},
        "inputs": {
            "description": "one record by feature name, a list of records, a list of rows, or tensors by name",
            "oneOf": [_RECORD, {"type": "array", "items": {"oneOf": [_RECORD, {"type": "array"}, _SCALAR]}}],
        },
        "key": {"type": ["string", "integer", "null"], "description": "makes routing sticky"},
        "id": {"type": ["string", "null"], "pattern": "^[\\x21-\\x7e]{1,128}$"},
    },
}
ANSWER: Schema = {
    "type": "object",
    "required": ["id", "model", "version", "role", "reason", "outputs"],
    "properties": {
        "id": {"type": "string"},
        "model": {"type": "string"},
        "version": {"type": ["integer", "null"]},
        "role": {"enum": ["champion", "canary", "shadow", "previous"]},
        "reason": {"type": "string"},
        "outputs": {"type": "object", "additionalProperties": {"type": "array"}},
        "flags": {"type": "array", "items": {"type": "string"}},
    },
}
PROBLEM: Schema = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"pointer": {"type": "string"}, "detail": {"type": "string"}},
            },
        },
    },
}
V2_ERROR: Schema = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
INFER: Schema = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": "string"},
        "parameters": {"type": "object"},
        "inputs": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name", "shape", "datatype", "data"],
                "properties": {
                    "name": {"type": "string"},
                    "shape": {"type": "array", "items": {"type": "integer"}},
                    "datatype": {"type": "string"},
                    "data": {"type": "array"},
                },
            },
        },
        "outputs": {"type": "array", "items": {"type": "object", "required": ["name"]}},
    },
}


class Row(NamedTuple):
    """One call. statuses: what it may answer besides success."""

    method: str
    path: str
    summary: str
    body: str = ""
    answer: str = ""
    success: int = 200
    statuses: tuple[int, ...] = ()


_WRONG = (400, 401, 404, 408, 413, 415, 500, 503, 504)
ROWS = (
    Row("post", "/predict", "One prediction", "Predict", "Answer", 200, _WRONG),
    Row("post", "/feedback", "Labels and values that come later", "Feedback", "", 202, (400, 401, 408, 413, 415, 503)),
    Row("get", "/models", "What is served, with an example body each", statuses=(401,)),
    Row("get", "/livez", "The process answers"),
    Row("get", "/readyz", "Every champion answers", statuses=(503,)),
    Row("get", "/v2", "Server metadata"),
    Row("get", "/v2/health/live", "The process answers"),
    Row("get", "/v2/health/ready", "Every champion answers", statuses=(503,)),
    Row("get", "/v2/models/{model}", "Model metadata", statuses=(401, 404)),
    Row("get", "/v2/models/{model}/ready", "The model answers", statuses=(404,)),
    Row("post", "/v2/models/{model}/infer", "Inference through the router", "Infer", "", 200, _WRONG),
    Row("get", "/v2/models/{model}/versions/{version}", "Metadata of a version", statuses=(400, 401, 404)),
    Row("get", "/v2/models/{model}/versions/{version}/ready", "The version is loaded", statuses=(400, 404)),
    Row("post", "/v2/models/{model}/versions/{version}/infer", "Inference by a version", "Infer", "", 200, _WRONG),
)


def document() -> Schema:
    """The OpenAPI 3.1 document."""
    (one, many), components = msgspec.json.schema_components((Item, Items), ref_template="#/components/schemas/{name}")
    schemas = {
        **components,
        "Predict": PREDICT,
        "Answer": ANSWER,
        "Feedback": {"oneOf": [one, many]},
        "Infer": INFER,
        "Problem": PROBLEM,
        "V2Error": V2_ERROR,
    }
    paths: dict[str, Schema] = {}
    for row in ROWS:
        paths.setdefault(row.path, {})[row.method] = _operation(row)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Gateway", "version": gateway.__version__, "description": "The serving API."},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def _operation(row: Row) -> Schema:
    is_v2 = row.path.startswith("/v2")
    kind, schema = ("application/json", "V2Error") if is_v2 else ("application/problem+json", "Problem")
    if row.path in ("/readyz", "/v2/health/ready"):
        kind, schema = "application/json", ""
    responses = {str(status): _response("error", kind, schema) for status in row.statuses}
    responses[str(row.success)] = _response("success", "application/json", row.answer)
    operation: Schema = {"summary": row.summary, "responses": responses}
    names = [part[1:-1] for part in row.path.split("/") if part.startswith("{")]
    if names:
        operation["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names
        ]
    if row.body:
        content = {"application/json": {"schema": _reference(row.body)}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _response(description: str, kind: str, schema: str) -> Schema:
    return {"description": description, "content": {kind: {"schema": _reference(schema) if schema else {}}}}


def _reference(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def openapi_routes() -> list[Route]:
    """The route."""
    made = document()

    async def openapi(request: Request) -> Response:
        return json_response(made)

    return [Route("/openapi.json", openapi)]
