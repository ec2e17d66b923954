"""The serving API put together: predict, feedback, models, health, the v2 protocol."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route

from gateway.api.door import Door, Guard, Serving
from gateway.api.feedback import TakeFeedback
from gateway.api.health import health_routes
from gateway.api.inference_v2 import inference_routes
from gateway.api.models import model_routes
from gateway.api.openapi import openapi_routes
from gateway.api.predict import Predict
from gateway.api.problems import HANDLERS, Guarded
from gateway.api.statistics import statistics_routes
from gateway.settings import Settings


def build_serving_app(serving: Serving, settings: Settings) -> Starlette:
    """The application of one serving process."""
    guard = Guard(serving, settings.client_auth)
    feedback_guard = Guard(serving, needs_feedback_token(settings))
    routes = [
        Route("/predict", Door(Predict(serving), guard, settings), methods=["POST"]),
        Route("/feedback", Door(TakeFeedback(serving), feedback_guard, settings), methods=["POST"]),
        *model_routes(serving, guard),
        *health_routes(serving),
        *statistics_routes(serving, guard, settings),
        *inference_routes(serving, guard, settings),
        *openapi_routes(serving),
    ]
    app = Starlette(routes=routes, exception_handlers=HANDLERS, middleware=[Middleware(Guarded)])
    app.router.redirect_slashes = False
    return app


def needs_feedback_token(settings: Settings) -> bool:
    """True when /feedback takes only callers with a token: always with client_auth, else beyond loopback."""
    return settings.client_auth or (settings.feedback_auth == "auto" and not settings.listen.is_loopback)
