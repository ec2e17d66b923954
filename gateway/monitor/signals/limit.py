"""The policy's limit on live performance (`retraining.triggers.performance`): one alert each time it is crossed.

Looked at every LOOK labels, over the newest 500 labels since the version has its role, LEAST of them at least. A value
that moves about the limit is one alert per cool-down. Knows figures only; what a metric is, is `figure`'s to say.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from gateway.documents.policy import Performance
from gateway.monitor.figures.performance import ROLLING, Labelled, Tally
from gateway.monitor.label import Label
from gateway.monitor.signals import quality
from gateway.monitor.signals.finding import Calm, Finding, Found
from gateway.monitor.state import LimitState
from gateway.registry.manifest import PredictionSpec
from gateway.registry.reference import category

LOOK = 25
LEAST = 100
_RISING_IS_WORSE = frozenset({"mae", "rmse"})


class Limit:
    """The limit on one version in one role. name: what messages call it."""

    def __init__(self, name: str, wanted: Performance, kept: LimitState, cooldown_labels: int) -> None:
        self._name = name
        self._wanted = wanted
        self._kept = kept
        self._cooldown = cooldown_labels

    def take(self, one: Label, tally: Tally, spec: PredictionSpec) -> list[Found]:
        """One more label, which `tally` has already."""
        kept, wanted = self._kept, self._wanted
        kept.labels += 1
        if kept.labels < LEAST or kept.labels % LOOK:
            return []
        rows = tally.tail[-min(kept.labels, ROLLING) :]
        value = figure(wanted.metric, rows, spec)
        if value is None or len(rows) < LEAST:
            return []
        kept.value = value
        is_beyond = value > wanted.below if wanted.metric in _RISING_IS_WORSE else value < wanted.below
        if is_beyond == kept.is_beyond or (is_beyond and kept.labels < kept.quiet_until):
            return []
        kept.is_beyond = is_beyond
        if is_beyond:
            kept.quiet_until = kept.labels + self._cooldown
            return [self._finding(one, value, rows)]
        reason = f"{wanted.metric} is {value:.4g} again, the policy's limit is {wanted.below:g}"
        return [
            Calm(kinds=("performance",), detector="performance", reason=reason, time_ns=one.time_ns, place=one.place)
        ]

    def _finding(self, one: Label, value: float, rows: Sequence[Labelled]) -> Finding:
        wanted = self._wanted
        distance = abs(value - wanted.below)
        relative = distance if wanted.metric not in _RISING_IS_WORSE else distance / max(wanted.below, 1e-12)
        return Finding(
            kind="performance",
            detector="performance",
            time_ns=one.time_ns,
            place=one.place,
            evidence=value,
            threshold=wanted.below,
            severity=quality.severity([("error", relative)]),
            message=f"{wanted.metric} of {self._name} is {value:.4g} over the last {len(rows)} labels, "
            f"the policy's limit is {wanted.below:g}",
            effects={wanted.metric: round(value, 6)},
        )


def figure(metric: str, rows: Sequence[Labelled], spec: PredictionSpec) -> float | None:
    """accuracy, f1, mae or rmse of rows (label, prediction, ...); None where it does not fit what is predicted.

    f1 is that of the last class when there are two, else the mean over the classes, as in `performance.live`.
    """
    if spec.kind == "class":
        if metric == "accuracy":
            return math.fsum(one[0] == one[1] for one in rows) / len(rows)
        return _f1(rows, [category(name) for name in spec.classes]) if metric == "f1" else None
    errors = [float(one[1]) - float(one[0]) for one in rows]
    if metric == "mae":
        return math.fsum(map(abs, errors)) / len(errors)
    return math.sqrt(math.fsum(error * error for error in errors) / len(errors)) if metric == "rmse" else None


def _f1(rows: Sequence[Labelled], classes: Sequence[str]) -> float:
    seen = {str(name) for one in rows for name in one[:2]}
    wanted = [classes[-1]] if len(classes) == 2 else sorted(seen)
    scores = []
    for name in wanted:
        hits = sum(one[0] == name and one[1] == name for one in rows)
        either = sum((one[0] == name) + (one[1] == name) for one in rows)
        scores.append(2 * hits / either if either else 0.0)
    return math.fsum(scores) / len(scores)
