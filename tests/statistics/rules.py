"""Rules that roll a canary back: this gateway's, by its own classes, and those in use elsewhere.

A rule takes traffic (or labelled pairs) and gives the request at which it rolls back, None when it never does.
Those of elsewhere look at the counts every 1,000 requests (pairs: every 100); ours looks after every bad event, or
every 100 records where it reads records, so nothing in its favour comes from looking seldom.
Sources: Flagger, "How it works" (failed checks are counted and not cleared); Kayenta, Mann-Whitney classifier.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from gateway.documents.rollout import Guards, Phase, Rollout, Step
from gateway.journal.record import Entry, Feedback, Place, Prediction, TrafficRecord
from gateway.names import BUCKETS, Outcome, Reason, Role
from gateway.rollout.evidence.dependence import PairDependence
from gateway.rollout.evidence.observe import Observer
from gateway.rollout.evidence.verdict import CALM, FIRST_RUNS, Compared, FailureShare, Paired, Tally, Verdict, assess
from tests.statistics.traffic import Pairs, Traffic

Rule = Callable[[Traffic | Pairs], int | None]

TICK = 1_000
PAIRS_A_TICK = 100
RECORDS_A_LOOK = 100

_GUARDS = Guards()


# This gateway's.


def ours(seen: Traffic | Pairs) -> int | None:
    """Counts go through the evidence classes and `assess`, run times through the whole observer."""
    if isinstance(seen, Pairs):
        return _first(_paired_verdicts(seen), "fail")
    return observed(seen) if seen.run_us.size else _first(_share_verdicts(seen), "fail")


def observed(seen: Traffic | Pairs, result: str = "fail") -> int | None:
    """The first look at which the observer's verdict on records is `result`; None: never, or failed before.

    Of pairs, both answers and the label are records.
    """
    records = _pair_records(seen) if isinstance(seen, Pairs) else _answers(seen)
    return _first(_record_verdicts(records), result)


def passed(seen: Traffic | Pairs) -> int | None:
    """The request at which the observer's verdict on records promotes a step; None: never, or failed before."""
    return observed(seen, "pass")


def promoted(seen: Traffic | Pairs) -> int | None:
    """The request at which failures alone promote a step; None: never, or rolled back before."""
    return None if isinstance(seen, Pairs) else _first(_calm_verdicts(seen), "pass")


def _first(verdicts: Iterator[tuple[int, Verdict]], result: str) -> int | None:
    """The place of the first verdict that decides, when it is this one."""
    decided = next(((at, found) for at, found in verdicts if found.result in {result, "fail"}), None)
    return decided[0] if decided is not None and decided[1].result == result else None


def _share_verdicts(seen: Traffic) -> Iterator[tuple[int, Verdict]]:
    """After every bad event that can decide: the evidence is higher than ever, or the canary's runs are the first."""
    share, canary, top = FailureShare(), np.cumsum(seen.canary), 0.0
    first = int(seen.bad[np.flatnonzero(seen.canary)[:FIRST_RUNS]].sum())
    hits = np.cumsum(seen.bad & seen.canary)
    for at in np.flatnonzero(seen.bad).tolist():
        share.add(bool(seen.canary[at]), float(seen.weight[at]))
        if share.log <= top and canary[at] > FIRST_RUNS:
            continue
        top = max(top, share.log)
        trial = Tally(int(canary[at]), int(hits[at]), 0, min(first, int(hits[at])))
        yield at + 1, assess(Compared(trial=trial, errors=share.log), _GUARDS)


def _calm_verdicts(seen: Traffic) -> Iterator[tuple[int, Verdict]]:
    share, calm, canary = FailureShare(), FailureShare(CALM, _GUARDS.errors_ratio), np.cumsum(seen.canary)
    for at in np.flatnonzero(seen.bad).tolist():
        is_canary, weight = bool(seen.canary[at]), float(seen.weight[at])
        share.add(is_canary, weight)
        calm.add(is_canary, weight)
        yield at + 1, assess(Compared(trial=Tally(int(canary[at])), errors=share.log, calm=calm.log), _GUARDS)


def _paired_verdicts(seen: Pairs) -> Iterator[tuple[int, Verdict]]:
    """After every row that it alone got wrong; the others only lower the evidence."""
    worse, dependence = Paired(), PairDependence()
    won = seen.won.astype(int) - seen.lost
    for at, (winner, wrong) in enumerate(zip(won.tolist(), (seen.won | seen.both).tolist(), strict=True)):
        dependence.add(winner, wrong)
        if winner:
            worse.add(winner < 0, dependence.worth)
        if winner >= 0:
            continue
        yield at + 1, assess(Compared(labelled=at + 1, worse_pairs=worse.log), _GUARDS)


_ROLLOUT = Rollout(
    model="m", version=2, champion=1, plan="steps", steps=(Step(canary=5.0),), phase=Phase.CANARY, reason="", step=0
)


def _record_verdicts(records: Iterator[Sequence[TrafficRecord]]) -> Iterator[tuple[int, Verdict]]:
    """records: all of one request each. A look every 100 requests."""
    observer = Observer(_ROLLOUT, lambda record: record.outputs["label"])
    batch: list[Entry[TrafficRecord]] = []
    for number, of_one in enumerate(records, start=1):
        batch += [Entry(record, number, Place("g", 1, number)) for record in of_one]
        if number % RECORDS_A_LOOK == 0:
            observer.fold(batch)
            batch.clear()
            yield number, assess(observer.observed().before, _GUARDS)


def _answers(seen: Traffic) -> Iterator[list[TrafficRecord]]:
    times = seen.run_us.astype(int).tolist()
    failed = seen.failed.tolist()
    splits = [((2, round(weight * BUCKETS)),) for weight in seen.weight.tolist()]
    buckets = seen.bucket.tolist() or [None] * len(times)
    for at, is_canary in enumerate(seen.canary.tolist()):
        outcome = Outcome.ERROR if failed[at] else Outcome.OK
        record = _record(at, 2 if is_canary else 1, outcome, times[at], splits[at], 1)
        yield [record if buckets[at] is None else _keyed(record, buckets[at])]


def _keyed(record: Prediction, bucket: int) -> Prediction:
    return replace(record, reason=Reason.STICKY, bucket=bucket, keyed=True)


def _pair_records(seen: Pairs) -> Iterator[list[TrafficRecord]]:
    split: tuple[tuple[int, int], ...] = ()
    right, reference = ~(seen.lost | seen.both), ~(seen.won | seen.both)
    for at, (own, other) in enumerate(zip(right.astype(int).tolist(), reference.astype(int).tolist(), strict=True)):
        champion = _record(at, 1, Outcome.OK, 2_000, split, other)
        shadow = _record(at, 2, Outcome.OK, 2_000, split, own, Role.SHADOW)
        yield [champion, shadow, Feedback(id=str(at), row=0, label=1)]


def _record(
    at: int,
    version: int,
    outcome: Outcome,
    run_us: int,
    split: tuple[tuple[int, int], ...],
    label: int,
    role: Role | None = None,
) -> Prediction:
    answered: Any = {"label": [label]} if outcome is Outcome.OK else {}
    return Prediction(
        id=str(at),
        model="m",
        version=version,
        role=role or (Role.CANARY if version == 2 else Role.CHAMPION),
        reason=Reason.WEIGHT,
        revision=1,
        outcome=outcome,
        latency_us=run_us,
        rows=1,
        contract=1,
        inputs=None,
        outputs=answered,
        split=split,
    )


# Those in use elsewhere.


def fixed_counted(seen: Traffic | Pairs) -> int | None:
    """Success below 99 % in a tick counts, the fifth count rolls back, no good tick clears the counter."""
    if isinstance(seen, Pairs):
        return None
    requests, bad, *_ = _by_tick(seen)
    counted = np.cumsum(bad > 0.01 * requests)
    return _tick(counted >= 5)


def fixed_once(seen: Traffic | Pairs) -> int | None:
    """Success below 95 % in one tick rolls back."""
    if isinstance(seen, Pairs):
        return None
    requests, bad, *_ = _by_tick(seen)
    return _tick(bad > 0.05 * requests)


def repeated_test(level: float) -> Rule:
    """A two-sided test of everything so far at each tick: two proportions; for pairs McNemar's."""
    from scipy.stats import norm

    limit = float(norm.isf(level / 2))

    def rule(seen: Traffic | Pairs) -> int | None:
        with np.errstate(divide="ignore", invalid="ignore"):
            if isinstance(seen, Pairs):
                lost = np.cumsum(seen.lost)[PAIRS_A_TICK - 1 :: PAIRS_A_TICK]
                won = np.cumsum(seen.won)[PAIRS_A_TICK - 1 :: PAIRS_A_TICK]
                return _tick((lost - won) / np.sqrt(lost + won) > limit, PAIRS_A_TICK)
            n1, b1, n0, b0 = (np.cumsum(counts) for counts in _by_tick(seen))
            share = (b1 + b0) / (n1 + n0)
            z = (b1 / n1 - b0 / n0) / np.sqrt(share * (1 - share) * (1 / n1 + 1 / n0))
            return _tick(z > limit)

    return rule


def rank_test(seen: Traffic | Pairs) -> int | None:
    """Mann-Whitney between the failure rates of the last ten ticks of both arms, one-sided at 99 %, every ten ticks."""
    from scipy.stats import mannwhitneyu

    if isinstance(seen, Pairs):
        return None
    n1, b1, n0, b0 = (counts[: len(counts) // 10 * 10].reshape(-1, 10) for counts in _by_tick(seen))
    with warnings.catch_warnings(), np.errstate(divide="ignore", invalid="ignore"):
        warnings.simplefilter("ignore")
        canary, champion = b1 / np.maximum(n1, 1), b0 / np.maximum(n0, 1)
        found = mannwhitneyu(canary, champion, alternative="greater", axis=1, method="asymptotic")
    return _tick(np.asarray(found.pvalue) < 0.01, 10 * TICK)


def _by_tick(seen: Traffic) -> tuple[NDArray[np.int64], ...]:
    """Requests and bad ones of the canary, then of the champion, in each tick."""
    arms = (seen.canary, seen.canary & seen.bad, ~seen.canary, ~seen.canary & seen.bad)
    return tuple(arm[: arm.size // TICK * TICK].reshape(-1, TICK).sum(axis=1) for arm in arms)


def _tick(rejects: NDArray[np.bool_], each: int = TICK) -> int | None:
    return (int(np.argmax(rejects)) + 1) * each if rejects.any() else None


ELSEWHERE: Mapping[str, Rule] = {
    "success < 99 %, 5 counts": fixed_counted,
    "success < 95 % once": fixed_once,
    "z-test p < .05": repeated_test(0.05),
    "z-test p < .01": repeated_test(0.01),
    "Mann-Whitney": rank_test,
}

TESTS = ("z-test p < .05", "z-test p < .01")
"""Those that can also judge labelled pairs."""


# Dummies, which the study must find out.


def always(seen: Traffic | Pairs) -> int | None:
    """Rolls everything back at once."""
    return 1


def never(seen: Traffic | Pairs) -> int | None:
    """Lets everything through."""
    return None
