"""The admin API put together: one table of calls, the metrics, the status page."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.middleware import Middleware

from gateway.api.admin import (
    comparison,
    experiment,
    job,
    model,
    monitoring,
    policy,
    publish,
    replay,
    repository,
    rollout,
    route,
    token,
    trail,
)
from gateway.api.admin.call import Call, routes_of
from gateway.api.control import ControlPorts
from gateway.api.metrics_page import metrics_calls
from gateway.api.problems import HANDLERS, Guarded
from gateway.api.status_page import page_calls
from gateway.rollout.operation import Operations
from gateway.settings import Settings

__all__ = ["CALLS", "ControlPorts", "build_admin_app"]

CALLS: tuple[Call, ...] = (
    *model.CALLS,
    *publish.CALLS,
    *route.CALLS,
    *policy.CALLS,
    *rollout.CALLS,
    *replay.CALLS,
    *comparison.CALLS,
    *experiment.CALLS,
    *job.CALLS,
    *monitoring.CALLS,
    *trail.CALLS,
    *repository.CALLS,
    *token.CALLS,
)
"""Every call that needs a token."""


def build_admin_app(ports: ControlPorts, settings: Settings, operations: Operations) -> Starlette:
    """The application of the control process. operations: the same that the rollout controller uses."""
    calls = (*CALLS, *metrics_calls(ports, settings.metrics_token), *page_calls())
    routes = routes_of(calls, ports, settings, operations)
    app = Starlette(routes=routes, exception_handlers=HANDLERS, middleware=[Middleware(Guarded)])
    app.router.redirect_slashes = False
    return app
