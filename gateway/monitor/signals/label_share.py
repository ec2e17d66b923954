"""The labels themselves: whether classes became more or less frequent than in the reference (label shift).

The same bets as on any column: one panel on one categorical (regression: numeric) column, whose margins cover the
sampling error and the autocorrelation of the reference's labels. A version whose reference holds no labels learns
their shares from the first LEARNED_LABELS; a level of numbers is not learned, so it is not watched then.

Only the champion's labels: labels belong to the stream, a challenger's say nothing that the champion's do not.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from gateway.documents.policy import MonitoringPolicy
from gateway.monitor.detectors.panel import Plan
from gateway.monitor.label import Label
from gateway.monitor.signals import quality
from gateway.monitor.signals.finding import Calm, Finding, Found
from gateway.monitor.signals.panel_watch import SHORT_TAIL, Moved, PanelWatch, blocks
from gateway.monitor.state import ShareState
from gateway.monitor.version import Version
from gateway.registry.manifest import Feature
from gateway.registry.reference import build_reference, category, encode_reference, encode_rows, read_reference

LEARNED_LABELS = 500

_DETECTOR = "labels"


class LabelShare:
    """name: what messages call the model's version."""

    def __init__(self, name: str, version: Version, kept: ShareState, policy: MonitoringPolicy) -> None:
        self._name = name
        self._version = version
        self._kept = kept
        self._threshold = float(policy.false_alarm_every_events)
        self._clear_after = policy.clear_after_events
        self._plan = label_plan(version, kept)
        self._panel: PanelWatch | None = None

    def take(self, one: Label) -> list[Found]:
        """One label of the champion."""
        self._kept.labels += 1
        if self._plan is None:
            self._learn(one.label)
            return []
        told: list[Found] = []
        row = (one.time_ns, one.place, [one.label])
        for block in blocks(self._kept.panel, [row]):
            if self._panel is None:
                self._panel = PanelWatch(self._kept.panel, self._plan, self._threshold, self._clear_after, SHORT_TAIL)
            before = bool(self._kept.panel.latched)
            for found in self._panel.take(encode_rows(self._plan.columns, [values for _, _, values in block]), block):
                if isinstance(found, Moved):
                    told += [] if before else [self._finding(found)]
                    before = True
                elif not self._kept.panel.latched:
                    told.append(
                        Calm(
                            kinds=("label_shift",),
                            detector=_DETECTOR,
                            reason="labels are shared out as in the reference again",
                            time_ns=found.time_ns,
                            place=found.place,
                        )
                    )
        return told

    def write_back(self) -> None:
        """Put the panel into the state."""
        if self._panel is not None:
            self._panel.write_back()

    def _learn(self, label: Any) -> None:
        kept, spec = self._kept, self._version.spec
        if spec is None or spec.kind != "class":
            return
        kept.learned.append(category(label))
        if len(kept.learned) == LEARNED_LABELS:
            column = Feature(name="label", kind="categorical")
            kept.reference = encode_reference(build_reference([column], [[text] for text in kept.learned]))
            kept.learned = []
            self._plan = label_plan(self._version, kept)

    def _finding(self, moved: Moved) -> Finding:
        assert self._plan is not None
        verdict, column = moved.verdict, self._plan.columns[0]
        sizes = quality.effects(column, moved.window[:, 0])
        return Finding(
            kind="label_shift",
            detector=_DETECTOR,
            time_ns=moved.time_ns,
            place=moved.place,
            evidence=verdict.evidence,
            threshold=verdict.threshold,
            severity=quality.severity(list(sizes.items())),
            message=f"label shift of {self._name}: {verdict.detail or 'label'}",
            features=verdict.features,
            effects={f"label.{kind}": value for kind, value in sizes.items()},
            since_ns=self._kept.panel.marks.time_of(moved.since),
            labels_since=self._kept.panel.events - moved.since + 1,
        )


def label_plan(version: Version, kept: ShareState) -> Plan | None:
    """What labels are compared with: the reference's, else what was learned; None while there is neither."""
    return version.label_plan or (_learned_plan(kept.reference) if kept.reference else None)


@lru_cache(maxsize=100)
def _learned_plan(body: bytes) -> Plan:
    return Plan(read_reference(body))
