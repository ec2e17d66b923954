"""`/livez`, `/readyz` and their counterparts of the v2 protocol. Ready: every champion answers."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.api.door import Serving
from gateway.api.problems import json_response


def health_routes(serving: Serving) -> list[Route]:
    """The routes. They never wait for anything: a busy model can not fail them."""

    async def livez(request: Request) -> Response:
        return json_response({"status": "live"})

    async def readyz(request: Request) -> Response:
        is_ready, reasons = serving.readiness()
        content: dict[str, object] = {"status": "ready" if is_ready else "not ready", "reasons": reasons}
        return _answer(is_ready, content)

    async def v2_live(request: Request) -> Response:
        return json_response({"live": True, "ready": serving.readiness()[0]})

    async def v2_ready(request: Request) -> Response:
        # Clients differ: some read the status, some the key `ready`, the specification's sample the key `live`.
        is_ready, _ = serving.readiness()
        return _answer(is_ready, {"live": True, "ready": is_ready})

    return [
        Route("/livez", livez),
        Route("/readyz", readyz),
        Route("/v2/health/live", v2_live),
        Route("/v2/health/ready", v2_ready),
    ]


def _answer(is_ready: bool, content: dict[str, object]) -> Response:
    headers = {} if is_ready else {"retry-after": "1"}
    return json_response(content, 200 if is_ready else 503, headers)
