"""What one version in one role is asked and answers, against its reference: the panel, and river's opinions.

Rows are gathered into blocks of 16 and encoded once; the panel and the opinions see the same blocks. Features and
prediction of a row stand together, so a challenger is judged on its own answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.documents.policy import MonitoringPolicy
from gateway.monitor.detectors.panel import Plan
from gateway.monitor.signals import quality
from gateway.monitor.signals.finding import Calm, Finding, Found
from gateway.monitor.signals.opinions import Opinions
from gateway.monitor.signals.panel_watch import SHORT_TAIL, TAIL, Moved, PanelWatch, Settled, blocks
from gateway.monitor.state import PanelState
from gateway.registry.reference import encode_rows

_SHOWN_FEATURES = 5


class Inputs:
    """name: what messages call it. opinions: river's, for the champion; None for a challenger, whose panel keeps fewer
    rows and is never armed again: a trial is short, and it ends with it."""

    def __init__(
        self, name: str, plan: Plan, kept: PanelState, policy: MonitoringPolicy, opinions: Opinions | None
    ) -> None:
        self._name = name
        self._plan = plan
        self._kept = kept
        self._opinions = opinions
        self._panel: PanelWatch | None = None
        if "panel" in policy.detectors:
            tail, clear_after = (SHORT_TAIL, 0) if opinions is None else (TAIL, policy.clear_after_events)
            self._panel = PanelWatch(kept, plan, float(policy.false_alarm_every_events), clear_after, tail)

    def take(self, rows: Sequence[list[Any]], time_ns: int, place: str) -> list[Found]:
        """The rows of one answer."""
        told: list[Found] = []
        if self._panel is None and self._opinions is None:
            return told
        for block in blocks(self._kept, [(time_ns, place, row) for row in rows]):
            values = encode_rows(self._plan.columns, [row for _, _, row in block])
            if self._panel is not None:
                told += [self._found(one) for one in self._panel.take(values, block)]
            if self._opinions is not None:
                told += self._opinions.inputs(self._plan, values, block)
        return told

    def write_back(self) -> None:
        """Put the panel into the state."""
        if self._panel is not None:
            self._panel.write_back()

    def _found(self, one: Moved | Settled) -> Found:
        if isinstance(one, Settled):
            return Calm(
                kinds=one.kinds,
                detector="panel",
                reason="the traffic is like the reference again",
                time_ns=one.time_ns,
                place=one.place,
            )
        verdict = one.verdict
        names = [column.name for column in self._plan.columns]
        sizes: list[tuple[str, str, float]] = []
        for name, _ in verdict.features[:_SHOWN_FEATURES]:
            at = names.index(name)
            found = quality.effects(self._plan.columns[at], one.window[:, at])
            sizes += [(name, kind, value) for kind, value in found.items()]
        if verdict.kind == "data_quality":
            sizes = [size for size in sizes if size[1] in ("missing", "range", "unseen")]
        moved = verdict.detail or ", ".join(name for name, _ in verdict.features)
        return Finding(
            kind=verdict.kind,
            detector="panel",
            time_ns=one.time_ns,
            place=one.place,
            evidence=verdict.evidence,
            threshold=verdict.threshold,
            severity=quality.severity([(kind, value) for _, kind, value in sizes]),
            message=f"{verdict.kind.replace('_', ' ')} of {self._name}: {moved}",
            features=verdict.features,
            effects={f"{name}.{kind}": value for name, kind, value in sizes},
            since_ns=self._kept.marks.time_of(one.since),
        )
