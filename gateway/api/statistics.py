"""`GET /v2/models[/{m}[/versions/{v}]]/stats`: the statistics extension, read from the counters of all processes.

Live answers count as inferences, shadow runs only as executions. What the gateway does not measure apart (queue, input
and output conversion) has count 0. Source: Triton's protocol extension "statistics", the shapes of its JSON.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from msgspec import Struct
from prometheus_client import REGISTRY, CollectorRegistry, Metric, multiprocess
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.api.door import Guard, Serving
from gateway.api.inference_v2 import named
from gateway.api.problems import json_response
from gateway.names import Lookup, Outcome, Role
from gateway.settings import Settings

_FAMILIES = (
    "gateway_requests",
    "gateway_request_duration_seconds",
    "gateway_model_run_duration_seconds",
    "gateway_cache_lookups",
)

Version = tuple[str, str]
"""Model and version number, as the labels of a metric hold them."""


class Counted(Struct):
    """What was counted of one version. Seconds are sums; those of answers hold failed ones too."""

    answered: int = 0
    failed: int = 0
    executed: int = 0
    answer_seconds: float = 0.0
    runs: int = 0
    run_seconds: float = 0.0
    hits: int = 0
    misses: int = 0


def statistics_routes(serving: Serving, guard: Guard, settings: Settings) -> list[Route]:
    """The routes; they stand before those of a model, for `/v2/models/stats` is no model."""
    directory = settings.data / "run" / "metrics"
    reading = asyncio.Lock()

    async def stats(request: Request) -> Response:
        await guard.check(request.scope)
        model, pinned = named(request.scope) if "model" in request.path_params else (None, None)
        if model is not None:
            serving.manifest(model, pinned)
        serving.hand_over_counts()
        async with reading:
            counted = await asyncio.to_thread(read_counted, directory)
        shown = [
            version_stats(served.name, number, counted.get((served.name, str(number)), Counted()))
            for served in serving.models()
            if model in (None, served.name)
            for number in sorted(served.manifests)
            if pinned in (None, number)
        ]
        return json_response({"model_stats": shown})

    return [
        Route("/v2/models/stats", stats),
        Route("/v2/models/{model}/stats", stats),
        Route("/v2/models/{model}/versions/{version}/stats", stats),
    ]


def read_counted(directory: Path) -> dict[Version, Counted]:
    """The counters of every process that maps them into the directory; without one, of this process."""
    if not directory.is_dir():
        return counted_in(REGISTRY.collect())
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry, str(directory))  # type: ignore[no-untyped-call]
    return counted_in(registry.collect())


def counted_in(metrics: Iterable[Metric]) -> dict[Version, Counted]:
    """The sums by version. Pure."""
    found: dict[Version, Counted] = {}
    for metric in metrics:
        if metric.name not in _FAMILIES:
            continue
        for sample in metric.samples:
            labels = sample.labels
            one = found.setdefault((labels["model"], labels["version"]), Counted())
            _count(one, sample.name, labels, sample.value)
    return found


def _count(one: Counted, name: str, labels: dict[str, str], value: float) -> None:
    if name == "gateway_requests_total":
        is_ok = labels["outcome"] == Outcome.OK
        if is_ok:
            one.executed += int(value)
        if labels["role"] != Role.SHADOW:
            one.answered += int(value) if is_ok else 0
            one.failed += 0 if is_ok else int(value)
    elif name == "gateway_request_duration_seconds_sum":
        one.answer_seconds += value
    elif name == "gateway_model_run_duration_seconds_count":
        one.runs += int(value)
    elif name == "gateway_model_run_duration_seconds_sum":
        one.run_seconds += value
    elif name == "gateway_cache_lookups_total":
        one.hits += int(value) if labels["result"] == Lookup.HIT else 0
        one.misses += int(value) if labels["result"] == Lookup.MISS else 0


def version_stats(model: str, number: int, counted: Counted) -> dict[str, Any]:
    """One entry of `model_stats`."""
    nothing = _duration(0, 0.0)
    return {
        "name": model,
        "version": str(number),
        "last_inference": 0,
        "inference_count": counted.answered,
        "execution_count": counted.executed,
        "inference_stats": {
            "success": _duration(counted.answered, counted.answer_seconds),
            "fail": _duration(counted.failed, 0.0),
            "queue": nothing,
            "compute_input": nothing,
            "compute_infer": _duration(counted.runs, counted.run_seconds),
            "compute_output": nothing,
            "cache_hit": _duration(counted.hits, 0.0),
            "cache_miss": _duration(counted.misses, 0.0),
        },
        "batch_stats": [],
    }


def _duration(count: int, seconds: float) -> dict[str, int]:
    return {"count": count, "ns": round(seconds * 1e9)}
