"""A small `Serving` that checks inputs by the real contract and answers without a model."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence

import httpx
import numpy as np
import pytest

from gateway.api.serving_app import build_serving_app
from gateway.documents.policy import Policy
from gateway.documents.route import Canary, Route
from gateway.documents.token import Scope
from gateway.errors import ModelNotFound, QuotaExceeded, VersionNotLoaded
from gateway.execution.contract import contract_for
from gateway.execution.executor import Run
from gateway.journal.record import Feedback, Prediction
from gateway.names import ModelName, Outcome, Reason, Role
from gateway.registry.manifest import Feature, Manifest, PredictionSpec, Tensor
from gateway.serving.request import Answer, PredictRequest, ServedModel
from gateway.settings import Settings

MANIFEST = Manifest(
    model="electricity",
    number=3,
    inputs=(Tensor(name="X", datatype="FP32", shape=(-1, 2)),),
    outputs=(
        Tensor(name="label", datatype="INT64", shape=(-1,)),
        Tensor(name="probabilities", datatype="FP32", shape=(-1, 2)),
    ),
    features=(
        Feature(name="nswprice", low=0.0, high=1.0, input="X", position=0),
        Feature(name="nswdemand", low=0.0, high=1.0, input="X", position=1),
    ),
    prediction=PredictionSpec(output="label", kind="class", classes=(0, 1), probabilities="probabilities"),
)
POLICY = Policy(model="electricity")


class FakeTokens:
    """Grants what `secrets` holds. is_fresh False: only a look that may wait can tell. over: the quota's refusal."""

    def __init__(self) -> None:
        self.secrets: dict[str, Scope] = {"good-token": Scope.PREDICT}
        self.is_fresh = True
        self.over: QuotaExceeded | None = None

    async def __call__(self, secret: str, scope: Scope) -> bool:
        if self.over is not None and secret in self.secrets:
            raise self.over
        return self.secrets.get(secret) == scope

    def now(self, secret: str, scope: Scope) -> bool | None:
        if not self.is_fresh:
            return None
        if self.over is not None and secret in self.secrets:
            raise self.over
        return self.secrets.get(secret) == scope


class FakeServing:
    """Answers label 1 to every row; `outputs`, `failure`, `takes_feedback` and `reasons` can be set."""

    def __init__(self) -> None:
        self.asked: list[PredictRequest] = []
        self.told: list[Feedback] = []
        self.failure: Exception | None = None
        self.outputs: dict[str, np.ndarray] | None = None
        self.takes_feedback = True
        self.reasons: list[str] = []
        self.verify_token = FakeTokens()
        self.flags: tuple[str, ...] = ()

    async def predict(self, request: PredictRequest) -> Answer:
        self.asked.append(request)
        if self.failure is not None:
            raise self.failure
        manifest = self.manifest(request.model or "electricity", request.pinned)
        contract = contract_for(manifest, POLICY.inputs)
        prepared = contract.records(request.inputs) if request.tensors is None else contract.tensors(request.tensors)
        rows = prepared.rows
        outputs = self.outputs or {
            "label": np.ones(rows, np.int64),
            "probabilities": np.full((rows, 2), 0.5, np.float32),
        }
        record = Prediction(
            id=request.id or "made-id",
            model="electricity",
            version=request.pinned or 3,
            role=Role.CHAMPION,
            reason=Reason.PINNED if request.pinned else Reason.WEIGHT,
            revision=7,
            outcome=Outcome.OK,
            latency_us=5,
            rows=rows,
            contract=3,
            inputs=prepared.values,
            outputs={name: array.tolist() for name, array in outputs.items()},
            flags=self.flags,
        )
        return Answer(record, Run(outputs, Outcome.OK, 5), "process")

    def feedback(self, items: Sequence[Feedback]) -> bool:
        self.told += items
        return self.takes_feedback

    def models(self) -> list[ServedModel]:
        route = Route(champion=3, canaries=(Canary(version=4, weight=10),))
        return [ServedModel(ModelName("electricity"), 3, 7, route, {3: MANIFEST, 4: MANIFEST})]

    def manifest(self, model: str, version: int | None) -> Manifest:
        if model != "electricity":
            raise ModelNotFound(f"model {model!r} is not served here")
        if version not in (None, 3, 4):
            raise VersionNotLoaded(f"electricity@{version} is not loaded")
        return MANIFEST

    def hand_over_counts(self) -> None:
        """Nothing is counted here."""

    def readiness(self) -> tuple[bool, list[str]]:
        return not self.reasons, self.reasons


@pytest.fixture
def serving() -> FakeServing:
    return FakeServing()


@pytest.fixture
async def open_client(serving: FakeServing) -> AsyncIterator[Callable[..., httpx.AsyncClient]]:
    """Clients of the serving API under given settings."""
    clients: list[httpx.AsyncClient] = []

    def open_one(**settings: object) -> httpx.AsyncClient:
        app = build_serving_app(serving, Settings.model_validate(settings))
        client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway")
        clients.append(client)
        return client

    yield open_one
    for client in clients:
        await client.aclose()


@pytest.fixture
def client(open_client: Callable[..., httpx.AsyncClient]) -> httpx.AsyncClient:
    return open_client()
