"""What tests of the watch share: traffic in, what was told and what is shown out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from msgspec.structs import replace

from gateway.documents.policy import MonitoringPolicy, Policy
from gateway.journal.record import Feedback, Prediction, TrafficRecord
from gateway.monitor.alerts.present import judged
from gateway.monitor.fold import Context
from gateway.monitor.state import MonitorState
from gateway.monitor.summary import summarise
from gateway.monitor.version import Version
from gateway.names import Role
from tests.monitor.stream import (
    MODEL,
    answered,
    folded,
    manifest,
    placed,
    versions,
)

OURS = MonitoringPolicy(
    detectors=("panel",), false_alarm_every_events=10_000, clear_after_events=320, cooldown_labels=100
)
PLAIN = Version(manifest(1))


def policy(**fields: Any) -> Policy:
    return Policy.model_validate({"model": MODEL, "monitoring": OURS, **fields})


def context(known: dict[int, Version] | None = None, ours: Policy | None = None) -> Context:
    return Context({MODEL: ours or policy()}, {MODEL: known} if known is not None else versions())


def told(records: Iterable[TrafficRecord], known: Context | None = None) -> tuple[MonitorState, list[Any]]:
    state, _, outcomes = folded(placed(records), [100] * 200, known or context())
    return state, [one.record for outcome in outcomes for one in outcome.told]


def shown(state: MonitorState, known: Context) -> Any:
    ours, here = known.policy(MODEL), known.versions[MODEL]
    remembered = state.of(MODEL)
    summary = summarise(MODEL, remembered, ours.monitoring, here, unknown=0, now=1.0, offset="", lag_seconds=0.0)
    return judged(summary, remembered, ours)


def moved(rows: Sequence[Sequence[float]], by: float = 4.0) -> list[list[float]]:
    return [[row[0], row[1], row[2] + by] for row in rows]


def copied(place: int, row: Sequence[float], **fields: Any) -> Iterator[Prediction]:
    """An answer of version 1 and the record of a shadow's copy, which does not repeat the inputs."""
    yield answered(place, row)
    yield replace(answered(place, row, version=2, role=Role.SHADOW, **fields), inputs=None)


def labelled(labels: Iterable[int], wrong: Iterable[bool], start: int = 0, **fields: Any) -> Iterator[TrafficRecord]:
    """Answers with their labels at once; wrong: where the answer is the other class."""
    for place, (label, is_wrong) in enumerate(zip(labels, wrong, strict=True), start):
        said = 1 - label if is_wrong else label
        yield answered(place, [1.0, 2.0, 3.0], said=(said, [1.0 - said, float(said)]), **fields)
        yield Feedback(f"r{place}", 0, label)


def draws(count: int, share: float, seed: int = 3) -> list[bool]:
    return [one < share for one in np.random.default_rng(seed).random(count).tolist()]
