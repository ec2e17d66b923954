"""Whether a candidate may be published: pure, from scores on one unseen holdout to a report.

The gate is for safety. Against the champion it asks for non-inferiority: only when the paired interval lies wholly
beyond the margin is the candidate worse; asking for two points more cost accuracy on every stream that was measured.
Against the baselines it asks for a strictly smaller loss.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

from gateway.documents.policy import Gate
from gateway.registry.manifest import GateReport
from gateway.retraining.dataset import FloatArray
from gateway.retraining.evaluate import BoolArray, paired, sign_test

LABELS_EQUAL = 0.9999


@dataclass(frozen=True)
class Parity:
    """The ONNX model against the fitted estimator: share of equal labels, largest difference of a number."""

    labels_equal: float
    difference: float


@dataclass(frozen=True)
class Scores:
    """One model on the holdout.

    losses: in [0, 1], one a row, in the same order for everybody. run_us: median run time of a single row in
    microseconds, None when it was not measured. parity: None for a model that was not converted here.
    """

    losses: FloatArray
    run_us: float | None = None
    parity: Parity | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)


def gate(
    candidate: Scores,
    champion: Scores | None,
    baselines: Mapping[str, Scores],
    criteria: Gate,
    slices: Mapping[str, BoolArray] | None = None,
) -> GateReport:
    """Every check with its value and limit; passed when all are.

    slices: name -> which rows of the holdout belong to it. A baseline that the criteria name and nobody could compute
    is no obstacle. error_rate and error_rows come from the holdout alone.
    """
    checks = [_parity(candidate.parity, criteria), *_beats(candidate, baselines, criteria)]
    if champion is not None:
        checks += [
            _not_worse(candidate.losses, champion.losses, criteria.not_worse_than_champion),
            _latency(candidate, champion, criteria),
            *_slices(candidate, champion, criteria, slices or {}),
        ]
    return GateReport(
        passed=all(check["passed"] for check in checks),
        checks=checks,
        metrics=dict(candidate.metrics),
        baselines={name: _mean(scores) for name, scores in baselines.items()},
        champion={} if champion is None else {**champion.metrics, "loss": _mean(champion)},
        error_rate=_mean(candidate),
        error_rows=len(candidate.losses),
    )


def _mean(scores: Scores) -> float:
    return float(scores.losses.mean())


def _check(name: str, passed: bool, value: float | None, limit: float | None, detail: str) -> dict[str, Any]:
    return {"name": name, "passed": bool(passed), "value": value, "limit": limit, "detail": detail}


def _parity(parity: Parity | None, criteria: Gate) -> dict[str, Any]:
    if parity is None:
        return _check("parity", False, None, criteria.parity, "the converted model was not compared")
    passed = parity.labels_equal >= LABELS_EQUAL and parity.difference <= criteria.parity
    detail = f"{parity.labels_equal:.4%} of labels equal, numbers differ by {parity.difference:.2e} at most"
    return _check("parity", passed, parity.difference, criteria.parity, detail)


def _beats(candidate: Scores, baselines: Mapping[str, Scores], criteria: Gate) -> list[dict[str, Any]]:
    mine = _mean(candidate)
    checks = []
    for name in criteria.beats:
        if name in baselines:
            limit = _mean(baselines[name])
            detail = f"mean loss {mine:.4f} against {limit:.4f} of the baseline"
            checks.append(_check(f"beats_{name}", mine < limit, mine, limit, detail))
    return checks


def _not_worse(mine: FloatArray, theirs: FloatArray, margin: float) -> dict[str, Any]:
    rise = mine - theirs
    interval = paired(rise)
    detail = (
        f"mean loss rises by {rise.mean():+.4f}, 95 % interval {interval.low:+.4f} to {interval.high:+.4f}, "
        f"sign test p = {sign_test(rise):.3f}, {len(rise)} rows"
    )
    return _check("not_worse_than_champion", interval.low <= margin, float(rise.mean()), margin, detail)


def _latency(candidate: Scores, champion: Scores, criteria: Gate) -> dict[str, Any]:
    if not candidate.run_us or not champion.run_us:
        return _check("latency", True, None, criteria.latency_ratio, "not measured")
    ratio = candidate.run_us / champion.run_us
    detail = f"one row takes {candidate.run_us:.0f} us, the champion {champion.run_us:.0f} us"
    return _check("latency", ratio <= criteria.latency_ratio, ratio, criteria.latency_ratio, detail)


def _slices(
    candidate: Scores, champion: Scores, criteria: Gate, slices: Mapping[str, BoolArray]
) -> list[dict[str, Any]]:
    """Each slice with evidence at 5 percent over all slices together (Bonferroni)."""
    z = NormalDist().inv_cdf(1 - 0.05 / (2 * max(1, len(slices))))
    checks = []
    for name, rows in slices.items():
        rise = candidate.losses[rows] - champion.losses[rows]
        interval = paired(rise, z)
        limit = criteria.slices_not_worse
        detail = f"mean loss rises by {rise.mean():+.4f} on {len(rise)} rows, at least {interval.low:+.4f}"
        checks.append(_check(f"slice {name}", interval.low <= limit, float(rise.mean()), limit, detail))
    return checks
