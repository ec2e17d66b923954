"""The machine-readable description holds every call, and only references that exist."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx
from starlette.routing import Route

from gateway.api.openapi import document
from gateway.api.serving_app import build_serving_app
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
