"""The verdict on an experiment: which arm is best, that none is, or that nobody can say yet.

Each interval holds at every look, so the verdict may be asked for after each answer. The means of K arms
have alpha / K each, so all of them hold at once. The differences have alpha / (K - 1) each: those to the champion hold
at once, and a false winner must miss at one of the K - 1 comparisons of a lesser arm with the best
one, on one side only, which happens with a chance of at most alpha / 2. Arms that were taken out keep their part.
Pure: values in, values out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from gateway.documents.experiment import Experiment, Metric
from gateway.interval import Interval, Scale
from gateway.rollout.evidence.verdict import CHAMPION_FAILS, FIRST_FAILURES, FIRST_RUNS, e_value
from gateway.rollout.experiment.observe import ArmSeen, Seen

RULE = "experiment-1"
"""Version of the rules of an experiment; every decision names it."""

PLANNED_UNITS = 5000
"""Units of an arm for which the intervals are cut, where the experiment has no `until_units`."""


@dataclass(frozen=True, slots=True)
class Judged:
    """verdict: winner | no_difference | undecided. winner: its version, else 0. report: everything it rests on."""

    verdict: str
    winner: int
    reason: str
    report: dict[str, Any]


class _Comparison:
    """The arms that still take part, beside one another."""

    def __init__(self, experiment: Experiment, seen: Seen) -> None:
        terms = experiment.terms
        self.terms = terms
        self.seen = {arm.version: arm for arm in seen.arms}
        self.champion = experiment.champion
        self.taking_part = [experiment.champion, *(arm.version for arm in experiment.taking_part)]
        self.scale = Scale(terms.until_units or PLANNED_UNITS, seen.least, seen.most)
        self.mean_alpha = terms.alpha / (len(experiment.arms) + 1)
        self.difference_alpha = terms.alpha / max(len(experiment.arms), 1)

    def is_enough(self, version: int) -> bool:
        """True once something may be said of the arm."""
        return self.seen[version].moments.units >= self.terms.minimum_units

    def mean(self, version: int) -> Interval | None:
        """The interval of an arm's mean; None: not enough units yet."""
        if not self.is_enough(version):
            return None
        return self._clipped(self.scale.of_mean(self.seen[version].moments, self.mean_alpha), 0.0)

    def difference(self, one: int, other: int) -> Interval | None:
        """The interval of one arm's mean less another's; None: not enough units yet."""
        if not (self.is_enough(one) and self.is_enough(other)):
            return None
        moments = self.seen[one].moments, self.seen[other].moments
        return self._clipped(self.scale.of_difference(*moments, self.difference_alpha), -1.0)

    def _clipped(self, interval: Interval | None, least: float) -> Interval | None:
        if interval is None or self.terms.metric is Metric.VALUE:
            return interval
        return Interval(max(interval.low, least), min(interval.high, 1.0))

    def beats(self, one: int, other: int) -> bool:
        """True when the difference lies wholly on the good side."""
        found = self.difference(one, other)
        return found is not None and (found.low > 0.0 if self.terms.better == "higher" else found.high < 0.0)

    def is_equal(self, one: int, other: int) -> bool:
        """True when the difference lies wholly within the margin."""
        found = self.difference(one, other)
        margin = self.terms.margin
        return found is not None and margin is not None and -margin <= found.low and found.high <= margin


def judge(experiment: Experiment, seen: Seen) -> Judged:
    """The verdict on what was seen, with the report for people."""
    sides = _Comparison(experiment, seen)
    verdict, winner, reason = _verdict(sides)
    return Judged(verdict, winner, reason, _report(experiment, seen, sides, verdict, winner, reason))


def _verdict(sides: _Comparison) -> tuple[str, int, str]:
    arms = sides.taking_part
    if len(arms) < 2:
        return "undecided", 0, "no challenger takes part any more"
    few = [version for version in arms if not sides.is_enough(version)]
    if few:
        units = sides.seen[few[0]].moments.units
        return (
            "undecided",
            0,
            f"version {few[0]} has {units} of the {sides.terms.minimum_units} units that each arm needs",
        )
    for one in arms:
        if all(sides.beats(one, other) for other in arms if other != one):
            return "winner", one, f"version {one} is better than every other arm ({_means(sides)})"
    if all(sides.is_equal(one, other) for place, one in enumerate(arms) for other in arms[place + 1 :]):
        return "no_difference", 0, f"all differences lie within {sides.terms.margin:g} ({_means(sides)})"
    return "undecided", 0, f"no arm is better than every other yet ({_means(sides)})"


def _means(sides: _Comparison) -> str:
    found = [(version, sides.seen[version].moments) for version in sides.taking_part]
    return ", ".join(f"version {version}: {moments.mean:.4g} of {moments.units} units" for version, moments in found)


def failing(experiment: Experiment, seen: Seen) -> tuple[int, str] | None:
    """The first challenger that a guard rejects, and why. Alpha of each guard is split over the challengers."""
    control = seen.arms[0]
    arms = {arm.version: arm for arm in seen.arms}
    parts = max(len(experiment.arms), 1)
    for arm in experiment.taking_part:
        found = arms[arm.version]
        if found.tally.first_errors >= FIRST_FAILURES and control.tally.error_rate < CHAMPION_FAILS:
            reason = f"hard_stop: {found.tally.first_errors} of its first {FIRST_RUNS} answers failed"
            return arm.version, reason
        for guard, log, alpha, verb in (
            ("errors", found.errors, experiment.guards.errors_alpha, "failed"),
            ("slow", found.slow, experiment.guards.slow_alpha, "were slow"),
        ):
            if log >= math.log(parts / alpha):
                return arm.version, f"{guard}: {_counts(guard, verb, found, control)} ({_limit(log, parts / alpha)})"
    return None


def _counts(guard: str, verb: str, arm: ArmSeen, control: ArmSeen) -> str:
    own, other = getattr(arm.tally, guard), getattr(control.tally, guard)
    return f"{own} of {arm.tally.requests} answers {verb}, against {other} of {control.tally.requests}"


def _limit(log: float, limit: float) -> str:
    return f"evidence {e_value(log):g} >= {limit:g}"


def _report(
    experiment: Experiment, seen: Seen, sides: _Comparison, verdict: str, winner: int, reason: str
) -> dict[str, Any]:
    weights = {arm.version: arm.weight for arm in experiment.arms}
    weights[experiment.champion] = round(100.0 - sum(weights.values()), 2)
    out = {arm.version: arm.out for arm in experiment.arms}
    arms = [_arm(sides, arm, weights[arm.version], out.get(arm.version, "")) for arm in seen.arms]
    return {
        "rule": RULE,
        "verdict": verdict,
        "winner": winner or None,
        "reason": reason,
        "alpha": {
            "of_all": experiment.terms.alpha,
            "of_a_mean": _short(sides.mean_alpha),
            "of_a_difference": _short(sides.difference_alpha),
        },
        "arms": arms,
        "dropped": seen.dropped,
    }


def _arm(sides: _Comparison, arm: ArmSeen, weight: float, out: str) -> dict[str, Any]:
    moments, version = arm.moments, arm.version
    control = sides.seen[sides.champion].moments
    is_compared = version != sides.champion and moments.units > 0 and control.units > 0
    return {
        "version": version,
        "role": "champion" if version == sides.champion else "canary",
        "weight": weight,
        "answers": arm.tally.requests,
        "failed": arm.tally.errors,
        "slow": arm.tally.slow,
        "units": moments.units,
        "mean": _short(moments.mean) if moments.units else None,
        "interval": _ends(sides.mean(version)),
        "difference": _short(moments.mean - control.mean) if is_compared else None,
        "difference_interval": _ends(sides.difference(version, sides.champion)) if is_compared else None,
        "better_than": [other for other in sides.taking_part if other != version and sides.beats(version, other)],
        "evidence": {"errors": e_value(arm.errors), "slow": e_value(arm.slow)},
        "out": out,
    }


def _ends(interval: Interval | None) -> list[float] | None:
    return None if interval is None else [_short(interval.low), _short(interval.high)]


def _short(number: float) -> float:
    return float(f"{number:.6g}")
