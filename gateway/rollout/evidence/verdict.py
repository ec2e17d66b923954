"""What was counted of two versions, and the verdict over it: pass, fail, or neither.

Pure: numbers in, numbers out. Knows neither records nor routes nor time; how evidence grows is `betting`'s business.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any, Literal, NamedTuple

from gateway.documents.rollout import Guards
from gateway.rollout.evidence.betting import CALM, CEILING, FailureShare, Paired
from gateway.rollout.evidence.slices import Slice

__all__ = [
    "CALM",
    "PROMOTION",
    "PROMOTION_RUNS",
    "RULE",
    "Compared",
    "FailureShare",
    "Paired",
    "Result",
    "Tally",
    "Verdict",
    "assess",
    "e_value",
    "figures",
]

RULE = "rollout-3"
"""Version of the rules in this room; every decision names it."""

PROMOTION = 20.0
"""Evidence at which a step passes."""

PROMOTION_RUNS = 500
"""A step without counts of its own passes on no fewer answers of the challenger."""

FIRST_RUNS = 20
FIRST_FAILURES = 5
CHAMPION_FAILS = 0.05
"""Hard stop: so many failures in the first runs, while the champion fails in less than this share of its own."""

_PAIRED_PART = 0.9
"""Quality is the mean of two e-processes: labelled pairs (this part) and labelled answers of the split (the rest)."""


class Tally(NamedTuple):
    """Runs of one version in one role. first_errors: failures among its first 20 runs.

    waited: runs that never began, because their deadline passed first; not among the requests.
    """

    requests: int = 0
    errors: int = 0
    slow: int = 0
    first_errors: int = 0
    waited: int = 0

    def add(self, failed: bool, slow: bool) -> Tally:
        """The tally with one run more."""
        early = failed and self.requests < FIRST_RUNS
        return Tally(self.requests + 1, self.errors + failed, self.slow + slow, self.first_errors + early, self.waited)

    def add_waited(self) -> Tally:
        """The tally with one more run that never began."""
        return self._replace(waited=self.waited + 1)

    @property
    def error_rate(self) -> float:
        """Failures per run; 0 without runs."""
        return self.errors / self.requests if self.requests else 0.0


_NOTHING = Tally()


@dataclass(frozen=True, slots=True)
class Compared:
    """One version on trial beside its reference: counts, and the evidence as natural logarithms.

    trial, shadow: the version on trial where it answered and where it ran as a shadow. reference: the other version.
    fault: why it failed most often, in words.
    pairs: answers of one joined by id with shadow answers of the other. labelled: rows of pairs with a label;
    trial_won, reference_won: rows among them where exactly one was right (or nearer). disagreements of compared rows.
    latency_ratio: median run time, trial to reference; None until both ran.
    errors, slow, worse_pairs, worse_share, better: against the trial version being harmless (better: being no better).
    not_worse: against its being right less often by the guard's margin or more.
    value: against its answers being worth no less. trial_values, reference_values: how many business values there are;
    trial_value, reference_value: their means.
    disagree: against the rows differing no more than the guard allows. distance: how far compared rows lie apart on
    average, in [0, 1], see `agreement`. flips: (class of the reference, of the version on trial, rows).
    slices: counts by name.
    calm, calm_shadow: promotion evidence from the split and from the pairs.
    """

    trial: Tally = _NOTHING
    shadow: Tally = _NOTHING
    reference: Tally = _NOTHING
    fault: str = ""
    pairs: int = 0
    compared: int = 0
    disagreements: int = 0
    labelled: int = 0
    trial_won: int = 0
    reference_won: int = 0
    latency_ratio: float | None = None
    slow_above_us: float | None = None
    errors: float = 0.0
    slow: float = 0.0
    worse_pairs: float = 0.0
    worse_share: float = 0.0
    better: float = 0.0
    calm: float = 0.0
    calm_shadow: float = 0.0
    not_worse: float = 0.0
    value: float = 0.0
    trial_values: int = 0
    reference_values: int = 0
    trial_value: float | None = None
    reference_value: float | None = None
    disagree: float = 0.0
    distance: float | None = None
    flips: tuple[tuple[str, str, int], ...] = ()
    slices: tuple[tuple[str, Slice], ...] = ()

    @property
    def quality(self) -> float:
        """Logarithm of the evidence that the version on trial is wrong more often."""
        top = max(self.worse_pairs, self.worse_share)
        pairs, share = math.exp(self.worse_pairs - top), math.exp(self.worse_share - top)
        return top + math.log(_PAIRED_PART * pairs + (1.0 - _PAIRED_PART) * share)


Result = Literal["pass", "fail", "inconclusive"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the evidence says. guard: the one that failed; reason: a sentence with the counts behind it.

    shown: what labelled pairs have proven of the version on trial, out of `not_worse` and `better`. question: what a
    person has to answer before the version gets further, though it harms nothing; empty: nothing.
    """

    result: Result
    reason: str
    guard: str = ""
    evidence: dict[str, Any] = field(default_factory=dict)
    shown: frozenset[str] = frozenset()
    question: str = ""


def assess(compared: Compared, guards: Guards, on_shadow: bool = False) -> Verdict:
    """fail: a guard rejects the version on trial. pass: promotion evidence is there. inconclusive: neither.

    on_shadow: the step compares pairs, so the promotion evidence is that of the pairs.
    """
    result, reason, guard = _judged(compared, guards, on_shadow)
    question = _question(compared, guards) if result != "fail" else ""
    if question:
        result, reason = "inconclusive", question
    return Verdict(result, reason, guard, figures(compared, guards), _shown(compared, guards), question)


def _judged(compared: Compared, guards: Guards, on_shadow: bool) -> tuple[Result, str, str]:
    for guard, reason in _failures(compared, guards):
        return "fail", f"{guard}: {reason}", guard
    log, runs = (compared.calm_shadow, compared.pairs) if on_shadow else (compared.calm, compared.trial.requests)
    what = "pairs" if on_shadow else "answers"
    if log >= math.log(PROMOTION) and runs >= PROMOTION_RUNS:
        return "pass", f"promotion evidence {e_value(log):g} >= {PROMOTION:g} on {runs} {what}", ""
    needed = f"needs {PROMOTION:g} and {PROMOTION_RUNS}"
    return "inconclusive", f"promotion evidence {e_value(log):g} on {runs} {what}; {needed}", ""


def _question(compared: Compared, guards: Guards) -> str:
    at_most, alpha = guards.disagreement_at_most, guards.disagreement_alpha
    if at_most is None or compared.disagree < -math.log(alpha):
        return ""
    differ = f"{compared.disagreements} of {compared.compared} rows differ from the other version's"
    return f"disagreement: {differ}, at most {100 * at_most:g} % were expected ({_against(compared.disagree, alpha)})"


def _shown(compared: Compared, guards: Guards) -> frozenset[str]:
    limit = -math.log(guards.quality_alpha)
    return frozenset(name for name in ("not_worse", "better") if getattr(compared, name) >= limit)


def _failures(compared: Compared, guards: Guards) -> list[tuple[str, str]]:
    found = []
    trial, shadow, reference = compared.trial, compared.shadow, compared.reference
    why = f"; most often: {compared.fault}" if compared.fault else ""
    for what, tally in (("answers", trial), ("shadow runs", shadow)):
        if tally.first_errors >= FIRST_FAILURES and reference.error_rate < CHAMPION_FAILS:
            found.append(("hard_stop", f"{tally.first_errors} of its first {FIRST_RUNS} {what} failed{why}"))
    if compared.errors >= -math.log(guards.errors_alpha):
        counts = _rates("failed", trial, shadow, reference, "errors")
        found.append(("errors", f"{counts} ({_against(compared.errors, guards.errors_alpha)}){why}"))
    if compared.slow >= -math.log(guards.slow_alpha):
        counts = _rates("were slow", trial, shadow, reference, "slow")
        found.append(("slow", f"{counts} ({_against(compared.slow, guards.slow_alpha)})"))
    if compared.quality >= -math.log(guards.quality_alpha):
        won = f"of {compared.labelled} labelled pairs it alone was right in {compared.trial_won}"
        lost = f"the other alone in {compared.reference_won}"
        found.append(("quality", f"{won}, {lost} ({_against(compared.quality, guards.quality_alpha)})"))
    if compared.value >= -math.log(guards.value_alpha):
        own = f"mean value {compared.trial_value} of {compared.trial_values} answers"
        other = f"against {compared.reference_value} of {compared.reference_values}"
        want = f"{guards.value_better} is better"
        found.append(("value", f"{own}, {other}, {want} ({_against(compared.value, guards.value_alpha)})"))
    return found


def _rates(verb: str, trial: Tally, shadow: Tally, reference: Tally, name: str) -> str:
    own = f"{getattr(trial, name) + getattr(shadow, name)} of {trial.requests + shadow.requests}"
    return f"{own} runs {verb}, against {getattr(reference, name)} of {reference.requests}"


def _against(log: float, alpha: float) -> str:
    return f"evidence {e_value(log):g} >= {1 / alpha:g}"


def e_value(log: float) -> float:
    """The evidence itself, to four digits."""
    return float(f"{math.exp(min(log, CEILING)):.4g}")


_LOGS = (
    "errors",
    "slow",
    "better",
    "not_worse",
    "value",
    "disagree",
    "calm",
    "calm_shadow",
    "worse_pairs",
    "worse_share",
)


def figures(compared: Compared, guards: Guards) -> dict[str, Any]:
    """Everything a verdict rests on, ready for JSON: counts, evidence, limits, the version of the rules."""
    counts = {part.name: getattr(compared, part.name) for part in fields(compared) if part.name not in _LOGS}
    counts["flips"] = _flip_table(compared)
    counts["slices"] = {name: _of_slice(counted) for name, counted in compared.slices}
    counts |= {name: value._asdict() for name, value in counts.items() if isinstance(value, Tally)}
    values = {name: e_value(getattr(compared, name)) for name in (*_LOGS, "quality")}
    limits = {
        "errors": 1 / guards.errors_alpha,
        "slow": 1 / guards.slow_alpha,
        "quality": 1 / guards.quality_alpha,
        "value": 1 / guards.value_alpha,
        "disagree": 1 / guards.disagreement_alpha,
        "promotion": PROMOTION,
    }
    return {"rule": RULE, "counts": counts, "values": values, "limits": limits}


def _flip_table(compared: Compared) -> dict[str, dict[str, int]]:
    """Rows by the reference's class, then by that of the version on trial."""
    table: dict[str, dict[str, int]] = {}
    for reference, trial, rows in compared.flips:
        table.setdefault(reference, {})[trial] = rows
    return table


def _of_slice(counted: Slice) -> dict[str, Any]:
    shown = counted._asdict()
    for sum_ in ("distances", "log_ratios"):
        del shown[sum_]
    return shown | {"distance": counted.distance, "latency_ratio": counted.latency_ratio}
