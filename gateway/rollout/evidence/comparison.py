"""One version on trial beside its reference: what each answer, each pair and each label adds to the counts and bets.

What counts as failed: a run that raised, lost its process, missed its deadline or answered a number that is none. A
run that never began (its deadline passed while it waited: outcome `deadline`, no run time) says nothing of the
version; it is counted as `waited` and otherwise left out: the first run of a version that hangs always begins, and
its time is written down. What counts as slow: a whole run above the reference's 90th percentile. A missed deadline is
a failure and not slow besides: its time holds the wait.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.documents.rollout import Guards
from gateway.registry.reference import category
from gateway.rollout.evidence.agreement import Agreement, Probabilities, Row
from gateway.rollout.evidence.betting import CALM, SLOWER, WRONG, FailureShare, Mean, Paired, Slowness
from gateway.rollout.evidence.dependence import PairDependence
from gateway.rollout.evidence.run_times import RunTimes
from gateway.rollout.evidence.slices import Slices
from gateway.rollout.evidence.unit import Units
from gateway.rollout.evidence.value import Values
from gateway.rollout.evidence.verdict import Compared, Tally

QUALITY_PARTS = (0.9, 0.1)
"""How the alpha of quality is split over labelled pairs and labelled answers of the split."""


_MOST_FAULTS = 8
"""So many different faults of a version are counted, the first that came."""


@dataclass(slots=True)
class Side:
    """One version's answer to one request.

    latency_us: 0 where the run was not whole. weight: the version on trial's share of the split; None: no split.
    bucket: of a keyed answer, else None. was_wrong: a row of it is counted as wrong. probabilities: until it is paired.
    slices: names of the slices of each row, of the answer that holds the inputs. fault: why it failed, in words.
    """

    comparison: Comparison
    is_trial: bool
    live: bool
    failed: bool
    latency_us: int
    values: Sequence[Any] | None
    weight: float | None
    bucket: int | None = None
    was_wrong: bool = False
    probabilities: Probabilities | None = None
    slices: Sequence[Sequence[str]] = ()
    fault: str = ""


class Comparison:
    """The counts and e-processes of one version on trial beside its reference."""

    def __init__(self, guards: Guards, numeric: bool) -> None:
        self._guards = guards
        self._numeric = numeric
        self._faults: dict[str, int] = {}
        self._trial = self._shadow = self._reference = Tally()
        self._trial_times = RunTimes()
        self._reference_times = RunTimes()
        self._units = Units()
        self._errors = FailureShare()
        self._slow = Slowness(SLOWER)
        self._calm = FailureShare(CALM, guards.errors_ratio)
        self._calm_shadow = FailureShare(CALM, guards.errors_ratio)
        self._worse_share = FailureShare(WRONG)
        self._worse_pairs = Paired()
        self._better = Paired()
        self._dependence = PairDependence()
        margin = guards.quality_margin
        self._not_worse = Mean(-margin, -1.0) if margin is not None else None
        self._values = Values(guards.value_alpha, guards.value_better)
        self._agreement = Agreement(numeric)
        self._slices = Slices()
        at_most = guards.disagreement_at_most
        self._disagree = Mean(at_most, 0.0) if at_most is not None else None
        self._pairs = 0
        self._labelled = self._trial_won = self._reference_won = 0

    def count_waited(self, is_trial: bool, live: bool) -> None:
        """Count a run that never began."""
        if not is_trial:
            self._reference = self._reference.add_waited()
        elif live:
            self._trial = self._trial.add_waited()
        else:
            self._shadow = self._shadow.add_waited()

    def count_live(self, side: Side) -> None:
        """Count an answer that a caller got."""
        over = self._over(side)
        self._tally(side, over[0])
        if side.failed:
            self._bet("failed", self._errors, side)
        if over[0]:
            self._bet("slow", self._slow.level, side)
        if over[2]:
            self._bet("slowest", self._slow.tail, side)
        if side.failed or over[1]:
            self._bet("not calm", self._calm, side)

    def count_shadow(self, side: Side) -> None:
        """Count a run that nobody waited for."""
        self._tally(side, self._over(side)[0])

    def count_pair(self, trial: Side, reference: Side) -> None:
        """Compare two answers to the same request. Each request is its own control, so keys do not matter here."""
        self._pairs += 1
        if trial.failed != reference.failed:
            self._errors.add(trial.failed, 0.5)
        for side in (trial, reference):
            slow, late, slowest = self._over(side)
            # A shadow runs after the reply, with cold caches: it may be slow as often as the guard's ratio says.
            if slow and reference.live:
                self._slow.level.add(side.is_trial, 0.5, self._guards.slow_ratio)
            if slowest and reference.live:
                self._slow.tail.add(side.is_trial, 0.5, self._guards.slow_ratio)
            if late or side.failed:
                self._calm_shadow.add(side.is_trial, 0.5)
        self._score(trial, reference)

    def _score(self, trial: Side, reference: Side) -> None:
        """How far the two answers lie apart, row by row; for the guard the rows of one request are one unit."""
        rows: Sequence[Row | None] = ()
        if trial.values is not None and reference.values is not None:
            rows = self._agreement.add(trial.values, reference.values, trial.probabilities, reference.probabilities)
            trial.probabilities = reference.probabilities = None
        compared = [row for row in rows if row is not None]
        if compared and self._disagree is not None:
            self._disagree.add(sum(row.differs for row in compared) / len(compared))
        is_timed = trial.latency_us > 0 and reference.latency_us > 0
        ratio = math.log(trial.latency_us / reference.latency_us) if is_timed else 0.0
        for place, names in enumerate(_live(trial, reference).slices):
            self._slices.add(names, trial_errors=trial.failed, reference_errors=reference.failed)
            self._slices.add(names, timed=is_timed, log_ratios=ratio)
            row = rows[place] if place < len(rows) else None
            if row is not None:
                self._slices.add(names, rows=1, disagreements=row.differs, distances=row.distance)

    def count_labelled_answer(self, side: Side, row: int, label: Any) -> None:
        """Count one row of the split whose truth is known; numbers have no right and wrong of their own.

        One wrong row counts for a request: its rows went to one version by one draw.
        """
        if not self._numeric and not side.was_wrong and loss(side, row, label, False) > 0.0:
            side.was_wrong = True
            self._bet("wrong", self._worse_share, side)

    def count_labelled_pair(self, trial: Side, reference: Side, row: int, label: Any) -> None:
        """Count one row that both answered and whose truth is known."""
        winner = self._winner(trial, reference, row, label)
        self._labelled += 1
        self._trial_won += winner > 0
        self._reference_won += winner < 0
        slices = _live(trial, reference).slices
        if row < len(slices):
            self._slices.add(slices[row], labelled=1, trial_won=winner > 0, reference_won=winner < 0)

    def bet_on_labels(self, trial: Side, reference: Side, labels: Mapping[int, Any]) -> None:
        """Bet on one request whose labels are there; its rows, which resemble one another, are one unit.

        Which version is better: the one that won more of the rows. By how much: the mean over the rows. Requests
        that come one after the other resemble one another too: what they repeat counts once.
        """
        won = sum(self._winner(trial, reference, row, label) for row, label in labels.items())
        wrong = 0 if self._numeric else sum(loss(reference, row, label, False) > 0.0 for row, label in labels.items())
        self._dependence.add((won > 0) - (won < 0), wrong / len(labels))
        worth = self._dependence.worth
        if won:
            self._worse_pairs.add(won < 0, worth)
            self._better.add(won > 0, worth)
        if self._not_worse is not None:
            self._not_worse.add(won / len(labels), worth)

    def count_value(self, side: Side, value: float) -> None:
        """Count the business value of an answer of the split; of a keyed caller the first under these weights tells."""
        weight = side.weight
        if weight is not None and side.bucket is not None:
            weight = self._units.weight("value", side.bucket, side.is_trial, weight)
        self._values.add(side.is_trial, value, weight is not None)

    def _winner(self, trial: Side, reference: Side, row: int, label: Any) -> int:
        """1: the version on trial alone was right, or nearer; -1: the reference; 0: neither."""
        own = loss(trial, row, label, self._numeric)
        other = loss(reference, row, label, self._numeric)
        return (own < other) - (own > other)

    def compared(self) -> Compared:
        """The comparison as a value. What reached its guard's limit stays there, whenever one looks."""
        own, other = self._trial_times.quantile(0.5), self._reference_times.quantile(0.5)
        limits = self._reference_times.limits
        quality_alpha = self._guards.quality_alpha
        return Compared(
            trial=self._trial,
            shadow=self._shadow,
            fault=max(self._faults, key=self._faults.__getitem__, default=""),
            reference=self._reference,
            pairs=self._pairs,
            compared=self._agreement.rows,
            disagreements=self._agreement.differing,
            labelled=self._labelled,
            trial_won=self._trial_won,
            reference_won=self._reference_won,
            latency_ratio=round(own / other, 3) if own and other else None,
            slow_above_us=limits.p90 if limits else None,
            errors=self._errors.latched(self._guards.errors_alpha),
            slow=self._slow.latched(self._guards.slow_alpha),
            worse_pairs=self._worse_pairs.latched(quality_alpha * QUALITY_PARTS[0]),
            worse_share=self._worse_share.latched(quality_alpha * QUALITY_PARTS[1]),
            better=self._better.latched(quality_alpha),
            calm=self._calm.log,
            calm_shadow=self._calm_shadow.log,
            not_worse=self._not_worse.latched(quality_alpha) if self._not_worse is not None else 0.0,
            value=self._values.log,
            trial_values=self._values.count(True),
            reference_values=self._values.count(False),
            trial_value=self._values.mean(True),
            reference_value=self._values.mean(False),
            disagree=self._disagree.latched(self._guards.disagreement_alpha) if self._disagree is not None else 0.0,
            distance=self._agreement.distance,
            flips=self._agreement.flips,
            slices=self._slices.counted(),
        )

    def _bet(self, kind: str, process: FailureShare, side: Side) -> None:
        """One bad event of the split, with the weight in force; of a keyed caller only what it adds."""
        weight = side.weight
        if weight is not None and side.bucket is not None:
            weight = self._units.weight(kind, side.bucket, side.is_trial, weight)
        if weight is not None:
            process.add(side.is_trial, weight)

    def _over(self, side: Side) -> tuple[bool, bool, bool]:
        return self._reference_times.over(side.latency_us, side.is_trial)

    def _tally(self, side: Side, slow: bool) -> None:
        """Count one run. Its time is added behind the question whether it was slow: the limit is the past's."""
        if not side.is_trial:
            self._reference = self._reference.add(side.failed, slow)
        elif side.live:
            self._trial = self._trial.add(side.failed, slow)
        else:
            self._shadow = self._shadow.add(side.failed, slow)
        if side.is_trial and side.failed and (side.fault in self._faults or len(self._faults) < _MOST_FAULTS):
            self._faults[side.fault] = self._faults.get(side.fault, 0) + 1
        if side.latency_us > 0:
            (self._trial_times if side.is_trial else self._reference_times).add(side.latency_us)


def _live(trial: Side, reference: Side) -> Side:
    return trial if trial.live else reference


def loss(side: Side, row: int, label: Any, numeric: bool) -> float:
    """How wrong one row is: 0 or 1 for classes, the distance for numbers, infinite where there is no answer."""
    value = side.values[row] if side.values is not None and 0 <= row < len(side.values) else None
    if value is None:
        return math.inf
    if numeric:
        return abs(float(value) - float(label)) if isinstance(label, int | float) else math.inf
    return float(category(value) != category(label))
