"""The rules against simulated traffic: healthy versions stay, bad ones go, and a dummy would be found out.

Seeded and small; the bounds leave room for the spread of so few runs. Rates as in the measurements behind the rules.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import numpy as np
import pytest

from gateway.documents.rollout import Guards, Phase, Rollout, Step
from gateway.journal.record import Entry, Place, Prediction
from gateway.names import Outcome, Reason, Role
from gateway.rollout.evidence import FailureShare, Paired, assess
from gateway.rollout.observe import Observer

Rule = Callable[[np.ndarray, np.ndarray, np.ndarray], int | None]
"""From (is canary, is bad, weight) of each request to the request at which the canary is rolled back, or None."""


def failure_share(canary: np.ndarray, bad: np.ndarray, weight: np.ndarray) -> int | None:
    """The rule of this gateway, looked at after every bad event."""
    share = FailureShare()
    for place in np.flatnonzero(bad):
        share.add(bool(canary[place]), float(weight[place]))
        if share.log >= -math.log(Guards().errors_alpha):
            return int(place)
    return None


def always(canary: np.ndarray, bad: np.ndarray, weight: np.ndarray) -> int | None:
    """A dummy that rolls everything back."""
    return 0


def never(canary: np.ndarray, bad: np.ndarray, weight: np.ndarray) -> int | None:
    """A dummy that lets everything through."""
    return None


@dataclass(frozen=True)
class Findings:
    """Share of runs rolled back, and the median request of a roll-back (infinite when fewer than half were)."""

    healthy: float
    ramp: float
    incident: float
    bad: float
    bad_median: float
    worse_median: float

    @property
    def is_right(self) -> bool:
        """True when healthy versions stay and bad ones go in time."""
        stays = max(self.healthy, self.ramp, self.incident) <= 0.02
        return stays and self.bad >= 0.95 and self.bad_median <= 10_000 and self.worse_median <= 3_500


def _run(rule: Rule, rng: np.random.Generator, champion: float, canary: float, weights: np.ndarray) -> int | None:
    is_canary = rng.random(weights.size) < weights
    return rule(is_canary, rng.random(weights.size) < np.where(is_canary, canary, champion), weights)


def _incident(rule: Rule, rng: np.random.Generator, weights: np.ndarray) -> int | None:
    is_canary = rng.random(weights.size) < weights
    rate = np.full(weights.size, 0.01)
    rate[10_000:15_000] = 0.1
    return rule(is_canary, rng.random(weights.size) < rate, weights)


def study(rule: Rule) -> Findings:
    """The rule on healthy, ramped, shared-incident, 1 -> 3 % and 1 -> 5 % traffic."""
    rng = np.random.default_rng(20240817)
    flat = np.full(60_000, 0.05)
    ramp = np.repeat([0.01, 0.05, 0.10, 0.25, 0.50], 10_000)
    healthy = [_run(rule, rng, 0.01, 0.01, flat) for _ in range(150)]
    ramped = [_run(rule, rng, 0.01, 0.01, ramp) for _ in range(100)]
    incident = [_incident(rule, rng, flat) for _ in range(100)]
    bad = [_run(rule, rng, 0.01, 0.03, flat) for _ in range(60)]
    worse = [_run(rule, rng, 0.01, 0.05, flat) for _ in range(60)]
    return Findings(_share(healthy), _share(ramped), _share(incident), _share(bad), _median(bad), _median(worse))


def _share(runs: list[int | None]) -> float:
    return sum(run is not None for run in runs) / len(runs)


def _median(runs: list[int | None]) -> float:
    return median(math.inf if run is None else run for run in runs)


def test_healthy_versions_stay_and_bad_ones_go() -> None:
    """The reason for all of this."""
    found = study(failure_share)
    assert found.is_right, found


@pytest.mark.parametrize("dummy", [always, never])
def test_the_study_finds_a_dummy_out(dummy: Rule) -> None:
    """A study that a dummy passes proves nothing."""
    assert not study(dummy).is_right


def _pairs_until_rejected(rng: np.random.Generator, lost: float, won: float, limit: int) -> int | None:
    worse = Paired()
    for number, drawn in enumerate(rng.random(limit)):
        if drawn < lost + won:
            worse.add(bool(drawn < lost))
            if 0.9 * math.exp(worse.log) >= 20:
                return number
    return None


def test_labelled_pairs_reject_a_worse_version_within_a_thousand() -> None:
    """90 -> 88 % accuracy at 6 % discordance; equal versions stay."""
    rng = np.random.default_rng(7)
    worse = [_pairs_until_rejected(rng, 0.04, 0.02, 10_000) for _ in range(80)]
    equal = [_pairs_until_rejected(rng, 0.03, 0.03, 5_000) for _ in range(240)]
    assert _median(worse) <= 1_100
    assert _share(equal) <= 0.05


_ROLLOUT = Rollout(
    model="m", version=2, champion=1, plan="steps", steps=(Step(canary=50.0),), phase=Phase.CANARY, reason="", step=0
)


def _verdict_on_run_times(rng: np.random.Generator, factor: float) -> str:
    """What 4,000 requests at 50 % say of a canary whose runs take `factor` times as long."""
    observer = Observer(_ROLLOUT, lambda record: [1])
    times = 2_000 * np.exp(0.5 * rng.standard_normal(4_000))
    canary = rng.random(4_000) < 0.5
    for place, (microseconds, is_canary) in enumerate(zip(times, canary, strict=True)):
        record = Prediction(
            id=str(place),
            model="m",
            version=2 if is_canary else 1,
            role=Role.CANARY if is_canary else Role.CHAMPION,
            reason=Reason.WEIGHT,
            revision=1,
            outcome=Outcome.OK,
            latency_us=int(microseconds * (factor if is_canary else 1.0)),
            rows=1,
            contract=1,
            inputs=None,
            outputs={"label": [1]},
            split=((2, 5000),),
        )
        observer.fold([Entry(record, place, Place("g", 1, place))])
        if place % 100 == 0 and assess(observer.observed().before, Guards()).result == "fail":
            return assess(observer.observed().before, Guards()).guard
    return ""


def test_equal_run_times_are_no_evidence_and_longer_ones_are() -> None:
    """Slow is measured against the champion's own p90, the same for both."""
    rng = np.random.default_rng(13)
    assert [_verdict_on_run_times(rng, 1.0) for _ in range(8)] == [""] * 8
    assert [_verdict_on_run_times(rng, 1.5) for _ in range(5)] == ["slow"] * 5
