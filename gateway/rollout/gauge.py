"""The weights of a route as metrics."""

from __future__ import annotations

from gateway import metrics
from gateway.documents.route import Route
from gateway.names import ModelName, Role


def show_weights(model: ModelName, route: Route | None, before: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Set the gauges of a route's versions; what left it goes to 0. Gives (version, role) of those that are set now."""
    shown: set[tuple[str, str]] = set()
    if route is not None:
        weights = [(route.champion, Role.CHAMPION), *((c.version, Role.CANARY) for c in route.canaries)]
        for version, role in weights:
            metrics.weight.labels(model, str(version), role).set(route.weight_of(version))
            shown.add((str(version), role))
    for version_text, role_text in before - shown:
        metrics.weight.labels(model, version_text, role_text).set(0)
    return shown
