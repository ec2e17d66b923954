"""The Open Inference Protocol v2 over REST: server and model metadata, readiness, infer.

Infer without a version goes through the router: the protocol leaves the choice to the server. Answers and errors have
the protocol's shape. Source: open-inference-protocol, specification/protocol/inference_rest.md.
"""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Scope

import gateway
from gateway.api.door import Door, Guard, Head, Sent, Serving, prediction_request, read_head, version_number
from gateway.api.inference_answer import check_wanted, infer_answer
from gateway.api.inference_body import HEADER_LENGTH, read_infer
from gateway.api.inference_body import Infer as Asked
from gateway.api.inflate import ENCODINGS, inflate
from gateway.api.problems import json_response
from gateway.registry.manifest import Manifest, Tensor
from gateway.serving.request import PredictRequest
from gateway.settings import Settings

PLATFORM = "onnx_onnxv1"
VERSION_PLACE = "the version in the path"
EXTENSIONS = ("binary_tensor_data", "statistics")


def inference_routes(serving: Serving, guard: Guard, settings: Settings) -> list[Route]:
    """Metadata and infer, with and without a version."""

    async def server(request: Request) -> Response:
        content = {"name": "gateway", "version": gateway.__version__, "extensions": EXTENSIONS}
        return json_response(content)

    async def metadata(request: Request) -> Response:
        await guard.check(request.scope)
        name, pinned = named(request.scope)
        return json_response(_metadata(serving.manifest(name, pinned), _versions(serving, name)))

    async def ready(request: Request) -> Response:
        name, pinned = named(request.scope)
        serving.manifest(name, pinned)
        return json_response({"name": name, "ready": True})

    infer = Door(Infer(serving, settings.max_body_bytes), guard, settings, ENCODINGS)
    routes = [Route("/v2", server), Route("/v2/", server)]
    for path in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
        routes += [
            Route(path + "/infer", infer, methods=["POST"]),
            Route(path, metadata),
            Route(path + "/ready", ready),
        ]
    return routes


class Infer:
    """The call, for `gateway.api.door.Door`."""

    def __init__(self, serving: Serving, limit: int) -> None:
        """limit: bytes of a body, inflated when it comes compressed."""
        self._serving = serving
        self._limit = limit

    async def __call__(self, scope: Scope, body: bytes) -> Sent:
        head = read_head(scope["headers"])
        name, pinned = named(scope)
        manifest = self._serving.manifest(name, pinned)
        plain = inflate(body, head.sent.get(b"content-encoding", b""), self._limit)
        request, asked = infer_request(manifest, head, pinned, plain)
        return infer_answer(await self._serving.predict(request), asked)


def infer_request(manifest: Manifest, head: Head, pinned: int | None, body: bytes) -> tuple[PredictRequest, Asked]:
    """The request in a plain body and its headers, and how its answer is wanted. Raises InvalidInput.

    manifest: of the version that is pinned, else of the champion.
    """
    asked = read_infer(body, head.sent.get(HEADER_LENGTH), lambda: manifest.inputs)
    check_wanted(asked, [output.name for output in manifest.outputs])
    request = prediction_request(
        head, model=manifest.model, tensors=asked.tensors, key=asked.key, id=asked.id, pinned=pinned
    )
    return request, asked


def named(scope: Scope) -> tuple[str, int | None]:
    """Model and version in the path. Raises InvalidInput."""
    parameters = scope["path_params"]
    version = parameters.get("version")
    return parameters["model"], None if version is None else version_number(version, VERSION_PLACE)


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
