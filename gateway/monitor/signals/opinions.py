"""river's detectors on one model: whom they listen to, when they speak, and how often.

One for each `{river: ..., on: ...}` of the policy, on the champion alone: a second opinion needs no third. Those on
errors may speak again after the cool-down, those on a feature or the score once for each champion.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from gateway.documents.policy import MonitoringPolicy, RiverDetector
from gateway.errors import InvalidConfig
from gateway.monitor.detectors.detector import FloatArray, Verdict
from gateway.monitor.detectors.panel import Plan
from gateway.monitor.detectors.second_opinion import SecondOpinion
from gateway.monitor.signals.finding import Finding
from gateway.monitor.state import OpinionState
from gateway.registry.reference import positions

_KINDS = {"errors": "concept_drift", "score": "prediction_drift", "prediction": "prediction_drift"}


class Seen(NamedTuple):
    """One value. time_ns: of the event; told_ns, place: of the entry that brought it."""

    value: float
    time_ns: int
    told_ns: int
    place: str


class Opinions:
    """All of one model. kept: their states, by `class:on`."""

    def __init__(self, model: str, policy: MonitoringPolicy, kept: dict[str, OpinionState]) -> None:
        self._model = model
        self._cooldown = max(1, policy.cooldown_labels)
        self._wanted = [one for one in policy.detectors if isinstance(one, RiverDetector)]
        self._kept = kept
        self._made: dict[str, SecondOpinion | None] = {}

    def errors(self, seen: Seen) -> list[Finding]:
        """The champion's next error."""
        return [found for one in self._wanted if one.on == "errors" for found in self._feed(one, [seen])]

    def inputs(self, plan: Plan, values: FloatArray, rows: Sequence[tuple[int, str, Any]]) -> list[Finding]:
        """A block of the champion's encoded rows, shape (n, columns), and where each is from."""
        told: list[Finding] = []
        for one in self._wanted:
            if one.on != "errors":
                levels = _levels(plan, values, one.on)
                told += self._feed(
                    one,
                    [Seen(value, row[0], row[0], row[1]) for value, row in zip(levels.tolist(), rows, strict=False)],
                )
        return told

    def write_back(self) -> None:
        """Put the detectors into the state."""
        for key, made in self._made.items():
            if made is not None:
                self._kept[key].state = made.state()

    def _feed(self, wanted: RiverDetector, seen: Sequence[Seen]) -> list[Finding]:
        key = f"{wanted.river}:{wanted.on}"
        kept = self._kept.setdefault(key, OpinionState())
        on_errors = wanted.on == "errors"
        if key not in self._made:
            try:
                self._made[key] = SecondOpinion(wanted.river, wanted.parameters, rising=on_errors, state=kept.state)
            except InvalidConfig as error:
                self._made[key], kept.refused = None, str(error)
        detector, told = self._made[key], list[Finding]()
        if detector is None:
            return told
        for one in seen:
            verdict = detector.update(np.array([one.value]))
            kept.events = verdict.event
            kept.marks.add(verdict.event, one.time_ns)
            is_latched = kept.events < kept.quiet_until if on_errors else kept.quiet_until > 0
            kept.alarmed = verdict.alarmed or (kept.alarmed and (not on_errors or is_latched))
            if verdict.alarmed and not is_latched:
                kept.quiet_until = kept.events + self._cooldown
                told.append(self._finding(wanted, verdict, kept, one))
        return told

    def _finding(self, wanted: RiverDetector, verdict: Verdict, kept: OpinionState, one: Seen) -> Finding:
        since, on_errors = verdict.since, wanted.on == "errors"
        return Finding(
            kind=_KINDS.get(wanted.on, "data_drift"),
            detector=f"{wanted.river}:{wanted.on}",
            time_ns=one.told_ns,
            place=one.place,
            evidence=verdict.evidence,
            threshold=verdict.threshold,
            severity="low",
            message=f"{wanted.river} saw a change in {wanted.on} of {self._model}",
            features=() if on_errors else ((wanted.on, 1.0),),
            since_ns=kept.marks.time_of(since) if since else 0,
            labels_since=verdict.event - since + 1 if since and on_errors else 0,
            advisory=wanted.advisory,
        )


def _levels(plan: Plan, values: FloatArray, name: str) -> FloatArray:
    """Positions in the reference of one column: river's tests are not valid on raw heavy-tailed values."""
    for place, column in enumerate(plan.columns):
        if column.name == name and column.quantiles:
            return positions(np.array([column.quantiles]), values[:, [place]])[:, 0]
    return np.empty(0)
