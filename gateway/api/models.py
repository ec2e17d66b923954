"""`GET /models`: what is served, with the signature and an example body of each model."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.api.door import Guard, Serving
from gateway.api.problems import json_response
from gateway.registry.manifest import Feature, Manifest, Tensor
from gateway.serving.request import ServedModel


def model_routes(serving: Serving, guard: Guard) -> list[Route]:
    """The route."""

    async def models(request: Request) -> Response:
        await guard.check(request.scope)
        return json_response({"models": [described(model) for model in serving.models()]})

    return [Route("/models", models)]


def described(model: ServedModel) -> dict[str, Any]:
    """One served model as callers see it; the signature is the champion's."""
    manifest = model.manifests[model.champion]
    return {
        "name": model.name,
        "champion": model.champion,
        "versions": sorted(model.manifests),
        "weights": {str(number): model.route.weight_of(number) for number in _weighed(model)},
        "inputs": manifest.inputs,
        "outputs": manifest.outputs,
        "features": manifest.features,
        "prediction": manifest.prediction,
        "example": {"model": model.name, "inputs": example_inputs(manifest)},
    }


def _weighed(model: ServedModel) -> list[int]:
    return [model.champion, *(canary.version for canary in model.route.canaries)]


def example_inputs(manifest: Manifest) -> dict[str, Any]:
    """Inputs that the model takes: one record where it has features, else a small tensor for each input."""
    if manifest.features:
        return {feature.name: _example_value(feature) for feature in manifest.features}
    return {tensor.name: _zeros(tensor, list(tensor.shape)) for tensor in manifest.inputs}


def _example_value(feature: Feature) -> str | int | float:
    if feature.categories:
        return feature.categories[0]
    low = feature.low if feature.low is not None else 0.0
    high = feature.high if feature.high is not None else low
    return (low + high) / 2


def _zeros(tensor: Tensor, shape: list[int]) -> Any:
    if not shape:
        return {"BYTES": "", "BOOL": False, "FP32": 0.0, "FP64": 0.0, "FP16": 0.0}.get(tensor.datatype, 0)
    size = 1 if shape[0] < 1 else min(shape[0], 1000)
    return [_zeros(tensor, shape[1:]) for _ in range(size)]
