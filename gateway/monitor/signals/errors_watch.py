"""The errors of one version in one role: concept drift when they rise, calm when they are back.

The error detector is replaced after each alarm; a rise that goes on is told again after the cool-down. An alarm is
over when the mean of twice as many labels as the cool-down has (at least CALM_LABELS) is no higher than the baseline
with its tolerance, and the evidence is below the root of the threshold. Looks follow one another and share no label;
over half as many, a rise from .10 to .16 that went on had a lucky look in every 7,000 labels.
"""

from __future__ import annotations

import math

import numpy as np

from gateway.documents.policy import MonitoringPolicy
from gateway.monitor.detectors.detector import Verdict
from gateway.monitor.detectors.error import ErrorDetector, baseline
from gateway.monitor.figures.performance import Tally
from gateway.monitor.label import Label
from gateway.monitor.signals import quality
from gateway.monitor.signals.finding import Calm, Finding, Found
from gateway.monitor.state import ErrorState
from gateway.monitor.version import Version
from gateway.registry.reference import loss

LEARNED_ROWS = 500
"""From how many first labels a version without a gate figure learns its error rate."""

CALM_LABELS = 100
RECENT_LABELS = 50


class Errors:
    """name: what messages call the version. tally: its figures, where the newest labels stand."""

    def __init__(self, name: str, version: Version, kept: ErrorState, policy: MonitoringPolicy) -> None:
        self._name = name
        self._version = version
        self._kept = kept
        self._tolerance = policy.error_tolerance
        self._threshold = float(policy.false_alarm_every_events)
        self._cooldown = policy.cooldown_labels
        self._detector: ErrorDetector | None = None

    def take(self, error: float, one: Label, tally: Tally, *, since_ns: int, is_latched: bool) -> list[Found]:
        """One loss in [0, 1]. since_ns: when the model's champion changed. is_latched: something stands against these
        errors, so it is to be seen whether they fell.

        `tally` must have the label already.
        """
        kept = self._kept
        kept.labels += 1
        kept.sum += error
        kept.squares += error * error
        kept.products += error * kept.last
        kept.last = error
        if one.predicted_ns >= since_ns:
            kept.fresh += 1
            kept.recent += (error - kept.recent) / min(kept.fresh, RECENT_LABELS)
        kept.marks.add(kept.labels, one.predicted_ns)
        if not self._has_baseline(error):
            return []
        verdict = self._bet(error)
        kept.evidence = verdict.evidence
        if verdict.alarmed and kept.labels >= kept.quiet_until:
            finding = self._finding(one, verdict, tally)
            kept.alarms += 1
            kept.before = kept.labels
            kept.quiet_until = kept.labels + self._cooldown
            kept.state, self._detector = b"", None
            kept.calm, kept.calm_sum = 0, 0.0
            return [finding]
        return self._calm(error, one) if is_latched else []

    def write_back(self) -> None:
        """Put the detector into the state."""
        if self._detector is not None:
            self._kept.state = self._detector.state()

    def _bet(self, error: float) -> Verdict:
        kept = self._kept
        assert kept.rate is not None
        if self._detector is None:
            base = baseline(kept.rate, kept.rate_rows, self._tolerance)
            self._detector = ErrorDetector(base, self._threshold, kept.state)
        return self._detector.update(np.array([error]))

    def _calm(self, error: float, one: Label) -> list[Found]:
        kept, wanted = self._kept, max(CALM_LABELS, 2 * self._cooldown)
        kept.calm += 1
        kept.calm_sum += error
        if kept.calm < wanted:
            return []
        rate, high = kept.calm_sum / kept.calm, baseline(kept.rate or 0.0, kept.rate_rows, self._tolerance).high
        kept.calm, kept.calm_sum = 0, 0.0
        if rate > high or kept.evidence >= math.sqrt(self._threshold):
            return []
        reason = f"errors of the last {wanted} labels are at {rate:.3f}, at most {high:.3f} is as proven"
        return [Calm(kinds=("concept_drift",), detector="errors", reason=reason, time_ns=one.time_ns, place=one.place)]

    def _has_baseline(self, error: float) -> bool:
        """True when the error rate to compare with is known; learns it from the first labels when nobody proved one."""
        kept = self._kept
        if kept.rate is None and self._version.proven is not None:
            kept.rate, kept.rate_rows = self._version.proven
        if kept.rate is not None:
            return True
        kept.learned_sum += error
        kept.learned += 1
        if kept.learned == LEARNED_ROWS:
            kept.rate, kept.rate_rows, kept.before = kept.learned_sum / LEARNED_ROWS, LEARNED_ROWS, kept.labels
        return False

    def _finding(self, one: Label, verdict: Verdict, tally: Tally) -> Finding:
        kept = self._kept
        assert kept.rate is not None
        since = kept.before + verdict.since
        labels_since = kept.labels - since + 1
        rate = recent_error(tally, labels_since, self._version)
        rise = rate - kept.rate
        return Finding(
            kind="concept_drift",
            detector="errors",
            time_ns=one.time_ns,
            place=one.place,
            evidence=verdict.evidence,
            threshold=verdict.threshold,
            severity=quality.severity([("error", rise)]),
            message=f"errors of {self._name} rose from {kept.rate:.3f} to {rate:.3f} "
            f"over the last {labels_since} labels",
            features=verdict.features,
            effects={"error_rate": round(rate, 6), "baseline": round(kept.rate, 6), "rise": round(rise, 6)},
            since_ns=kept.marks.time_of(since),
            labels_since=labels_since,
        )


def recent_error(tally: Tally, labels: int, version: Version) -> float:
    """The mean loss of the newest labels, as far as the tally keeps them."""
    rows = tally.tail[-max(1, labels) :]
    return math.fsum(error_of(one[1], one[0], version) for one in rows) / len(rows)


def error_of(prediction: object, label: object, version: Version) -> float:
    """The loss of one row in [0, 1]; NaN when either is missing."""
    scale = version.reference.loss_scale if version.reference else 1.0
    is_class = version.spec is not None and version.spec.kind == "class"
    return loss(prediction, label, scale, is_class=is_class)
