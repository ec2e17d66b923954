"""Records of one rollout, version 2 beside champion 1, and what the observer makes of them."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from gateway.documents.rollout import Guards, Phase, Rollout, Step
from gateway.journal.record import Entry, Feedback, Place, Prediction, TrafficRecord
from gateway.names import Outcome, Reason, Role
from gateway.registry.manifest import PredictionSpec
from gateway.rollout.evidence.observe import Observed, Observer, prediction_reader

ROLLOUT = Rollout(
    model="m",
    version=2,
    champion=1,
    plan="steps",
    steps=(Step(shadow=100.0), Step(promote="auto")),
    phase=Phase.SHADOW,
    reason="",
    guards=Guards(),
)
READ = prediction_reader({number: PredictionSpec(output="label", kind="class") for number in (1, 2, 3)})


def record(request: str, version: int, role: Role, **fields: Any) -> Prediction:
    record = Prediction(
        id=request,
        model="m",
        version=version,
        role=role,
        reason=Reason.WEIGHT,
        revision=1,
        outcome=Outcome.OK,
        latency_us=100,
        rows=1,
        contract=1,
        inputs=None,
        outputs={"label": [1]},
    )
    return replace(record, **fields)


def champion(request: str, **fields: Any) -> Prediction:
    return record(request, 1, Role.CHAMPION, **fields)


def shadow(request: str, **fields: Any) -> Prediction:
    return record(request, 2, Role.SHADOW, **fields)


def canary(request: str, **fields: Any) -> Prediction:
    return record(request, 2, Role.CANARY, **({"split": ((2, 1000),)} | fields))


def fold(*records: TrafficRecord, numeric: bool = False, guards: Guards | None = None) -> Observed:
    observer = Observer(replace(ROLLOUT, guards=guards or Guards()), READ, numeric)
    observer.fold([Entry(record, place, Place("g", 1, place)) for place, record in enumerate(records)])
    return observer.observed()


def keyed(request: str, bucket: int, **fields: Any) -> Prediction:
    failed = {"outcome": Outcome.ERROR, "outputs": {}, "keyed": True, "bucket": bucket, "reason": Reason.STICKY}
    return canary(request, **(failed | {"split": ((2, 500),)} | fields))


def batch(request: str, wrong: int, rows: int = 4) -> list[TrafficRecord]:
    """A request whose champion is right in every row and whose shadow is wrong in the first `wrong`."""
    labels = [1] * rows
    told = [0] * wrong + [1] * (rows - wrong)
    answers = [
        champion(request, rows=rows, outputs={"label": labels}),
        shadow(request, rows=rows, outputs={"label": told}),
    ]
    return [*answers, *(Feedback(request, row, 1) for row in range(rows))]
