"""`GET /openapi.json`: the serving API as a machine reads it. One row for each call; bodies as JSON schemas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

import gateway
from gateway.api.door import Serving
from gateway.api.feedback import Item, Items
from gateway.api.inference_schema import ANSWER as INFER_ANSWER
from gateway.api.inference_schema import BINARY, HEADERS, infer_body
from gateway.api.problems import json_response
from gateway.registry.manifest import Feature
from gateway.serving.request import ServedModel

Schema = dict[str, Any]

_ID: Schema = {"type": ["string", "null"], "pattern": "^[\\x21-\\x7e]{1,128}$"}
_TENSORS: Schema = {"type": "object", "additionalProperties": True, "minProperties": 1}
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
_PATH_PARTS: dict[str, Schema] = {
    "model": {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$"},
    "version": {"type": "integer", "minimum": 1, "maximum": 999999999},
}


_AGAIN = frozenset({429, 503, 504})
"""These say when to try again."""


class Row(NamedTuple):
    """One call. statuses: what it may answer besides success."""

    method: str
    path: str
    summary: str
    body: str = ""
    answer: str = ""
    success: int = 200
    statuses: tuple[int, ...] = ()


_WRONG = (400, 401, 404, 408, 413, 415, 429, 500, 503, 504)
ROWS = (
    Row("post", "/predict", "One prediction", "Predict", "Answer", 200, _WRONG),
    Row(
        "post",
        "/feedback",
        "Labels and values that come later",
        "Feedback",
        "",
        202,
        (400, 401, 408, 413, 415, 429, 503),
    ),
    Row("get", "/models", "What is served, with an example body each", statuses=(401, 429)),
    Row("get", "/livez", "The process answers"),
    Row("get", "/readyz", "Every champion answers", statuses=(503,)),
    Row("get", "/v2", "Server metadata"),
    Row("get", "/v2/health/live", "The process answers"),
    Row("get", "/v2/health/ready", "Every champion answers", statuses=(503,)),
    Row("get", "/v2/models/stats", "Statistics of everything served", statuses=(401, 429)),
    Row("get", "/v2/models/{model}", "Model metadata", statuses=(401, 404, 429)),
    Row("get", "/v2/models/{model}/ready", "The model answers", statuses=(404,)),
    Row("get", "/v2/models/{model}/stats", "Statistics of a model", statuses=(401, 404, 429)),
    Row("post", "/v2/models/{model}/infer", "Inference through the router", "Infer", "InferAnswer", 200, _WRONG),
    Row("get", "/v2/models/{model}/versions/{version}", "Metadata of a version", statuses=(400, 401, 404, 429)),
    Row("get", "/v2/models/{model}/versions/{version}/ready", "The version is loaded", statuses=(400, 404)),
    Row("get", "/v2/models/{model}/versions/{version}/stats", "Statistics of a version", statuses=(400, 401, 404, 429)),
    Row(
        "post",
        "/v2/models/{model}/versions/{version}/infer",
        "Inference by a version",
        "Infer",
        "InferAnswer",
        200,
        _WRONG,
    ),
)


def document(models: Sequence[ServedModel] = ()) -> Schema:
    """The OpenAPI 3.1 document; bodies of /predict and infer by model, as the champions' signatures have them."""
    (one, many), components = msgspec.json.schema_components((Item, Items), ref_template="#/components/schemas/{name}")
    bodies = {f"Predict.{model.name}": _predict(model, len(models) == 1) for model in models}
    infers = {f"Infer.{model.name}": infer_body(model.manifests[model.champion]) for model in models}
    any_model: Schema = {"anyOf": [_reference(name) for name in bodies]} if bodies else _predict_of("", True, _TENSORS)
    schemas = {
        **components,
        **bodies,
        **infers,
        "Predict": any_model,
        "Answer": ANSWER,
        "Feedback": {"oneOf": [one, many]},
        "Infer": {"anyOf": [_reference(name) for name in infers]} if infers else infer_body(),
        "InferAnswer": INFER_ANSWER,
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


def _predict(model: ServedModel, is_alone: bool) -> Schema:
    manifest = model.manifests[model.champion]
    if not manifest.features:
        tensors = {
            tensor.name: {"description": f"{tensor.datatype} {list(tensor.shape)}"} for tensor in manifest.inputs
        }
        given: Schema = {"type": "object", "properties": tensors, "required": list(tensors)}
        return _predict_of(model.name, is_alone, {**given, "additionalProperties": False})
    record: Schema = {
        "type": "object",
        "additionalProperties": False,
        "required": [feature.name for feature in manifest.features if not feature.may_be_missing],
        "properties": {feature.name: _feature(feature) for feature in manifest.features},
    }
    width = len(manifest.features)
    cells = [_feature(feature) for feature in manifest.features]
    row: Schema = {"type": "array", "prefixItems": cells, "items": False, "minItems": width, "maxItems": width}
    many = [{"type": "array", "minItems": 1, "items": one} for one in (record, row)]
    return _predict_of(model.name, is_alone, {"anyOf": [record, *many]})


def _predict_of(name: str, is_alone: bool, inputs: Schema) -> Schema:
    """The body of /predict for one model; a model that is alone may be left unnamed."""
    named: Schema = {"const": name} if name else {"type": ["string", "null"]}
    return {
        "type": "object",
        "additionalProperties": False,
        "required": ["inputs"] if is_alone else ["model", "inputs"],
        "properties": {
            "model": named,
            "inputs": {"description": "a record by feature name, records, rows, or tensors by name", **inputs},
            "key": {"type": ["string", "integer", "null"], "description": "makes routing sticky"},
            "id": _ID,
        },
    }


def _feature(feature: Feature) -> Schema:
    """A feature's type and what it was trained on; the policy decides what becomes of values beyond that."""
    texts = any(isinstance(category, str) for category in feature.categories)
    kind = "string" if texts else "number"
    schema: Schema = {"type": [kind, "null"] if feature.may_be_missing else kind}
    if feature.categories:
        schema["examples"] = list(feature.categories[:10])
    if feature.low is not None or feature.high is not None:
        schema["description"] = f"trained on {feature.low} to {feature.high}"
    return schema


def _operation(row: Row) -> Schema:
    is_v2 = row.path.startswith("/v2")
    kind, schema = ("application/json", "V2Error") if is_v2 else ("application/problem+json", "Problem")
    if row.path in ("/readyz", "/v2/health/ready"):
        kind, schema = "application/json", ""
    responses = {str(status): _response("error", kind, schema) for status in row.statuses}
    for status in _AGAIN.intersection(row.statuses):
        responses[str(status)]["headers"] = {"Retry-After": {"description": "seconds", "schema": {"type": "integer"}}}
    responses[str(row.success)] = _response("success", "application/json", row.answer)
    operation: Schema = {"summary": row.summary, "responses": responses}
    is_infer = row.body == "Infer"
    names = [part[1:-1] for part in row.path.split("/") if part.startswith("{")]
    in_path = [{"name": name, "in": "path", "required": True, "schema": _PATH_PARTS[name]} for name in names]
    if in_path:
        operation["parameters"] = [*in_path, *(HEADERS if is_infer else ())]
    if row.body:
        content: Schema = {"application/json": {"schema": _reference(row.body)}}
        if is_infer:
            content["application/octet-stream"] = {"schema": BINARY}
            responses[str(row.success)]["content"]["application/octet-stream"] = {"schema": BINARY}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _response(description: str, kind: str, schema: str) -> Schema:
    return {"description": description, "content": {kind: {"schema": _reference(schema) if schema else {}}}}


def _reference(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def openapi_routes(serving: Serving) -> list[Route]:
    """The route. The document is made for each call: it is read seldom and follows what is served."""

    async def openapi(request: Request) -> Response:
        return json_response(document(serving.models()))

    return [Route("/openapi.json", openapi)]
