"""What a model's state says about one of its versions, as the verdict's evidence. Pure: nothing is changed.

Errors count as quiet when nothing is latched against them, their evidence is not within a factor of _DOUBT of an alarm,
and ENOUGH_LABELS of rows that were predicted after the change have come: before that, nobody knows.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from gateway.monitor.alerts.verdict import Evidence
from gateway.monitor.signals.errors_watch import RECENT_LABELS
from gateway.monitor.state import ErrorState, Latch, ModelState, key_of
from gateway.names import Role

ENOUGH_LABELS = 100
FEWEST_COMPARED = 5
"""Labels; a release that is wrong every time is told within ten. Whether so few say anything is the interval's part."""

_ONE_SIDED_95 = 1.645
_MOST_CORRELATION = 0.9
_DOUBT = 10
_INPUTS = frozenset({"data_drift", "prediction_drift", "data_quality"})
_DATA = _INPUTS | {"label_shift"}


def gather(
    state: ModelState,
    version: int,
    role: str,
    *,
    threshold: float,
    probation_labels: int,
    kind: str = "",
) -> Evidence:
    """The evidence against one version in one role.

    threshold: of the detectors. probation_labels: for so many labels a new champion may be a bad release. kind: of the
    alert to be judged, which alone says whether it is shared; empty: all that is latched.
    """
    mine = [one for one in _decisive(state.latches) if (one.version, one.role) == (version, role)]
    kinds = {one.kind for one in mine}
    is_champion = role == Role.CHAMPION
    own = state.errors.get(key_of(version, role), ErrorState())
    only_this = _only_this(state, key_of(version, role))
    return Evidence(
        inputs="data_drift" in kinds,
        prediction="prediction_drift" in kinds,
        quality="data_quality" in kinds,
        missing=any(one.missing for one in mine),
        label_share="label_shift" in kinds,
        errors=_errors(mine, own, threshold),
        below_limit="performance" in kinds,
        on_probation=not is_champion or (state.previous > 0 and own.fresh <= probation_labels),
        only_this=only_this,
        is_champion=is_champion,
        shared=not is_champion
        and all(_is_shared(state, one, threshold, only_this=only_this) for one in ({kind} if kind else kinds)),
    )


def _is_shared(state: ModelState, kind: str, threshold: float, *, only_this: bool | None) -> bool:
    """True when the champion shows the same, or is about to: which of two detectors speaks first is chance."""
    champion = (state.champion, str(Role.CHAMPION))
    if any((one.version, one.role) == champion and one.kind == kind for one in _decisive(state.latches)):
        return True
    if kind in _INPUTS:
        return state.panel.evidence >= math.sqrt(threshold)
    return only_this is False


def _decisive(latches: Iterable[Latch]) -> list[Latch]:
    return [one for one in latches if not one.advisory]


def _errors(mine: list[Latch], own: ErrorState, threshold: float) -> bool | None:
    if any(one.kind == "concept_drift" for one in mine):
        return True
    if own.rate is None or own.evidence >= threshold / _DOUBT:
        return None
    waiting = [one.labels for one in mine if one.kind in _DATA]
    return False if min(waiting, default=own.labels) >= ENOUGH_LABELS else None


def _only_this(state: ModelState, key: str) -> bool | None:
    """True when the errors of another version, on rows of the same time, did not rise like these.

    A challenger is compared with the champion, the champion with any other. None: there is none to compare with.
    """
    own, champion = state.errors.get(key), key_of(state.champion, Role.CHAMPION)
    if own is None or own.rate is None or own.fresh < FEWEST_COMPARED:
        return None
    names = [champion] if key != champion else [one for one in state.errors if not one.startswith(f"{state.champion}/")]
    least = max(FEWEST_COMPARED, min(own.fresh, RECENT_LABELS) / 2)
    others = [name for name in names if name in state.errors and state.errors[name].fresh >= least]
    if not others:
        return None
    failing = {key_of(one.version, one.role) for one in _decisive(state.latches) if one.kind == "concept_drift"}
    return any(name not in failing and _rose_less(state.errors[name], own) for name in others)


def _rose_less(other: ErrorState, own: ErrorState) -> bool:
    """True when the other's losses are lower and rose less above its own proven rate, at one-sided 95 % each.

    One that only rose less may have been bad all the time; one that is only lower always was. Losses lie in [0, 1], so
    those of 0 and 1 have the largest variance at a given mean. Not one that alarmed just now.
    """
    if other.rate is None or own.rate is None or other.labels < other.quiet_until:
        return False
    there, here = min(other.fresh, RECENT_LABELS), min(own.fresh, RECENT_LABELS)
    pooled = (other.recent * there + own.recent * here) / (there + here)
    inflation = max(_inflation(other), _inflation(own))
    error = math.sqrt(pooled * (1 - pooled) * (1 / there + 1 / here) * inflation)
    lower = own.recent - other.recent
    return min(lower, lower - (own.rate - other.rate)) > _ONE_SIDED_95 * error


def _inflation(one: ErrorState) -> float:
    """How many labels of this version say as much as one that repeats none before it; 1 while nobody knows.

    Where streams drift, errors come in runs, and a release that meets one looks bad. Of a series each of whose numbers
    correlates with the next by r, (1 + r) / (1 - r) (Bayley and Hammersley, 1946).
    """
    if one.labels < ENOUGH_LABELS:
        return 1.0
    square = (one.sum / one.labels) ** 2
    spread = one.squares / one.labels - square
    together = one.products / (one.labels - 1) - square
    correlation = min(max(together / spread, 0.0), _MOST_CORRELATION) if spread > 0 else 0.0
    return (1.0 + correlation) / (1.0 - correlation)
