"""The machine-readable description holds every call, and only references that exist."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx
from starlette.routing import Route

from gateway.api.inference_schema import infer_body
from gateway.api.openapi import document
from gateway.api.serving_app import build_serving_app
from gateway.registry.manifest import Manifest, Tensor
from gateway.settings import Settings


def test_every_call_is_described(serving: Any) -> None:
    """A call that is added must be described, or generated clients never learn of it."""
    app = build_serving_app(serving, Settings())
    served = {
        (method.lower(), route.path.rstrip("/"))
        for route in app.routes
        if isinstance(route, Route)
        for method in (route.methods or ())
        if method != "HEAD"
    }
    described = {(method, path) for path, calls in document()["paths"].items() for method in calls}
    assert served - described == {("get", "/openapi.json")}
    assert described <= served


async def test_references_lead_somewhere(client: httpx.AsyncClient) -> None:
    made = (await client.get("/openapi.json")).json()
    names = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(made)))
    assert names <= set(made["components"]["schemas"])
    assert made["openapi"].startswith("3.1")


async def test_infer_is_described_for_each_model_and_in_both_forms(client: httpx.AsyncClient) -> None:
    """Names, datatypes and shapes are the model's own: a generated client sends what the model takes."""
    made = (await client.get("/openapi.json")).json()
    schemas = made["components"]["schemas"]
    assert schemas["Infer"] == {"anyOf": [{"$ref": "#/components/schemas/Infer.electricity"}]}
    given = schemas["Infer.electricity"]["properties"]
    assert given["inputs"]["minItems"] == given["inputs"]["maxItems"] == 1
    [tensor] = given["inputs"]["items"]["anyOf"]
    assert tensor["properties"]["name"] == {"const": "X"}
    assert tensor["properties"]["datatype"] == {"const": "FP32"}
    assert tensor["properties"]["shape"]["prefixItems"] == [{"type": "integer", "minimum": 0}, {"const": 2}]
    assert given["outputs"]["items"]["properties"]["name"] == {"enum": ["label", "probabilities"]}
    for path in ("/v2/models/{model}/infer", "/v2/models/{model}/versions/{version}/infer"):
        call = made["paths"][path]["post"]
        assert set(call["requestBody"]["content"]) == {"application/json", "application/octet-stream"}
        assert set(call["responses"]["200"]["content"]) == {"application/json", "application/octet-stream"}
        headers = {one["name"]: one["schema"] for one in call["parameters"] if one["in"] == "header"}
        assert headers["Content-Encoding"]["enum"] == ["identity", "gzip", "deflate"]
        assert "Inference-Header-Content-Length" in headers


def test_without_models_infer_names_the_datatypes_of_the_protocol() -> None:
    schema = document()["components"]["schemas"]["Infer"]
    assert "BYTES" in schema["properties"]["inputs"]["items"]["properties"]["datatype"]["enum"]


def test_a_model_without_dimensions_takes_a_bare_value() -> None:
    """Rank 0: the shape is empty and `data` may be the value itself."""
    manifest = Manifest(model="m", inputs=(Tensor(name="x", datatype="INT64", shape=()),), outputs=())
    [tensor] = infer_body(manifest)["properties"]["inputs"]["items"]["anyOf"]
    assert tensor["properties"]["shape"] == {"type": "array", "minItems": 0, "maxItems": 0}
    assert tensor["properties"]["data"]["anyOf"][0] == {"type": "integer"}


def test_whoever_is_told_to_wait_is_told_how_long() -> None:
    for path, calls in document()["paths"].items():
        for call in calls.values():
            for status, answer in call["responses"].items():
                assert ("Retry-After" in answer.get("headers", {})) == (status in ("429", "503", "504")), path
