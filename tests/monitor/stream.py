"""Made-up traffic for the tests of fold and loop: a model, its versions, answers and late labels, all seeded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from gateway.journal.join import Early, WaitingPrediction
from gateway.journal.record import Alert, Entry, Feedback, Place, Prediction, TrafficRecord
from gateway.monitor.detectors.panel import Plan
from gateway.monitor.fold import Context, Folded, fold
from gateway.monitor.state import MonitorState
from gateway.monitor.version import Version
from gateway.names import Outcome, Reason, Role
from gateway.registry.manifest import Feature, GateReport, Manifest, PredictionSpec
from gateway.registry.reference import Reference, build_reference

MODEL = "sea"
FEATURES = (Feature(name="a"), Feature(name="b"), Feature(name="c"))
SPEC = PredictionSpec(output="label", kind="class", classes=(0, 1), probabilities="probabilities")
DELAY = 48
START_NS = 1_700_000_000_000_000_000
STEP_NS = 1_000_000_000


def answer_of(row: Sequence[float], theta: float = 8.0) -> tuple[int, list[float]]:
    """What the made-up model says: the SEA rule of one concept."""
    chance = float(1 / (1 + np.exp(row[0] + row[1] - theta)))
    return int(chance > 0.5), [1 - chance, chance]


def sea(count: int, change: int, seed: int = 1) -> tuple[list[list[float]], list[int]]:
    """Rows and labels: label = a + b <= theta with 10 percent noise; theta moves from 8 to 12 at row `change`."""
    random = np.random.default_rng(seed)
    rows = random.uniform(0, 10, size=(count, 3))
    theta = np.where(np.arange(count) < change, 8.0, 12.0)
    labels = (rows[:, 0] + rows[:, 1] <= theta) ^ (random.random(count) < 0.1)
    return rows.tolist(), labels.astype(int).tolist()


def reference(count: int = 2000) -> Reference:
    rows, _ = sea(count, count, seed=99)
    said = [answer_of(row) for row in rows]
    return build_reference(FEATURES, rows, [one[0] for one in said], [one[1] for one in said])


def manifest(number: int, *, proven: bool = True) -> Manifest:
    gate = GateReport(passed=True, error_rate=0.1, error_rows=2000) if proven else GateReport()
    return Manifest(model=MODEL, number=number, features=FEATURES, prediction=SPEC, gate=gate)


REFERENCE = reference()
PLAN = Plan(REFERENCE)


def versions(numbers: Iterable[int] = (1, 2), **more: Any) -> dict[str, dict[int, Version]]:
    return {MODEL: {number: Version(manifest(number, **more), REFERENCE, PLAN) for number in numbers}}


def answered(
    place: int,
    row: Sequence[Any],
    *,
    version: int = 1,
    role: Role = Role.CHAMPION,
    reason: Reason = Reason.WEIGHT,
    revision: int = 1,
    outcome: Outcome = Outcome.OK,
    said: tuple[int, list[float]] | None = None,
) -> Prediction:
    numbers = [5.0 if value is None else value for value in row]
    label, chances = said or answer_of(numbers)
    return Prediction(
        id=f"r{place}", model=MODEL, version=version, role=role, reason=reason, revision=revision, outcome=outcome,
        latency_us=50, rows=1, contract=1, inputs=[list(row)],
        outputs={"label": [label], "probabilities": [chances]} if outcome is Outcome.OK else {},
    )  # fmt: skip


def placed(records: Iterable[TrafficRecord]) -> list[Entry[TrafficRecord]]:
    """The records one second apart, from one writer."""
    return [
        Entry(record, START_NS + number * STEP_NS, Place("g", 1, number)) for number, record in enumerate(records, 1)
    ]


def traffic(rows: Sequence[Sequence[Any]], labels: Sequence[int] = (), **fields: Any) -> Iterator[TrafficRecord]:
    """Each row answered; each label 48 rows later."""
    for place, row in enumerate(rows):
        yield answered(place, row, **fields)
        late = place - DELAY
        if 0 <= late < len(labels):
            yield Feedback(f"r{late}", 0, labels[late])


def folded(
    entries: Sequence[Entry[TrafficRecord]], sizes: Iterable[int], context: Context | None = None
) -> tuple[MonitorState, list[Alert], list[Folded]]:
    """Fold entries in blocks of these sizes (then the rest), keeping between blocks what an index keeps."""
    context = context or Context(versions=versions())
    state, start = MonitorState(), 0
    alerts: list[Alert] = []
    outcomes: list[Folded] = []
    waiting: dict[str, WaitingPrediction] = {}
    early: dict[str, Sequence[Early]] = {}
    for size in [*sizes, len(entries)]:
        block = entries[start : start + size]
        start += size
        if block:
            known = Context(context.policies, context.versions, waiting, early, context.rate)
            outcome = fold(state, block, known)
            waiting |= {one.id: one for one in outcome.joined.waiting}
            early |= outcome.joined.early
            state = outcome.state
            alerts += outcome.alerts
            outcomes.append(outcome)
    return state, alerts, outcomes
