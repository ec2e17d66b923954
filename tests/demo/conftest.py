"""A gateway that is not one: answers as DESIGN says, remembers what it was sent, and misbehaves when told to."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from gateway.settings import Address


@dataclass
class FakeGateway:
    """predictions: bodies of `/predict` in the order of arrival. answers: what is said to each row (nswprice > 0.5).

    broken: how many of the next calls lose their connection without an answer. refused: status for the next calls.
    documents: what a GET of a path gives, or a function that says it. post_statuses: for the next admin calls.
    """

    address: Address
    predictions: list[dict[str, Any]] = field(default_factory=list)
    feedback: list[list[dict[str, Any]]] = field(default_factory=list)
    rows_before_label: list[int] = field(default_factory=list)
    broken: int = 0
    refused: list[int] = field(default_factory=list)
    documents: dict[str, Any] = field(default_factory=dict)
    posts: list[tuple[str, Any]] = field(default_factory=list)
    post_statuses: list[int] = field(default_factory=list)

    @property
    def app(self) -> Starlette:
        """The routes."""
        return Starlette(
            routes=[
                Route("/predict", self._predict, methods=["POST"]),
                Route("/feedback", self._feedback, methods=["POST"]),
                Route("/{path:path}", self._document, methods=["GET"]),
                Route("/{path:path}", self._post, methods=["POST"]),
            ]
        )

    async def _predict(self, request: Request) -> Response:
        if self.broken:
            self.broken -= 1
            return StreamingResponse(_cut_off(), headers={"content-length": "100"})
        if self.refused:
            return JSONResponse({"title": "no"}, status_code=self.refused.pop())
        body = await request.json()
        pinned = request.headers.get("x-model-version")
        inputs = body["inputs"] if isinstance(body["inputs"], list) else [body["inputs"]]
        if not pinned:
            self.predictions.append(body)
        return JSONResponse(
            {
                "id": body.get("id", "made"),
                "model": body["model"],
                "version": int(pinned or 1),
                "role": "champion",
                "reason": "pinned" if pinned else "weight",
                "outputs": {"label": [int(row["nswprice"] > 0.5) for row in inputs]},
            }
        )

    async def _feedback(self, request: Request) -> Response:
        body = await request.json()
        self.feedback.append(body["feedback"])
        self.rows_before_label.append(len(self.predictions))
        return JSONResponse({"accepted": len(body["feedback"])}, status_code=202)

    async def _document(self, request: Request) -> Response:
        path = request.url.path
        if path not in self.documents:
            return JSONResponse({"title": "not found", "status": 404, "detail": path}, status_code=404)
        content = self.documents[path]
        return JSONResponse(content() if callable(content) else content)

    async def _post(self, request: Request) -> Response:
        self.posts.append((request.url.path, await request.json()))
        return JSONResponse({}, status_code=self.post_statuses.pop(0) if self.post_statuses else 200)


async def _cut_off() -> AsyncIterator[bytes]:
    # An answer that breaks off half way makes uvicorn close the connection: what a killed process looks like.
    yield b"{"
    raise ConnectionAbortedError


@pytest.fixture
async def fake() -> AsyncIterator[FakeGateway]:
    """A running fake gateway."""
    # With the protocol named, asyncio switches Nagle's algorithm off, which costs 40 ms for each answer.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    gateway = FakeGateway(Address(host="127.0.0.1", port=listener.getsockname()[1]))
    config = uvicorn.Config(gateway.app, log_config=None, lifespan="off", ws="none")
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve(sockets=[listener]))
    yield gateway
    server.should_exit = True
    await running
