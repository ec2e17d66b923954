"""A decision beside the same rules over the same traffic: does its record say what the journal says?

    basis(rollout), judged(rollout, verdict)      what a decision record keeps so that it can be recomputed
    rests_on(decision)                            the stretch of the journal and the rollout as it was judged
    compare(decision, rests, verdict)             equal, or every value that differs

Only what comes from traffic is recomputed. A failure that has another source (a quarantine, an alert, a person) is
shown as recorded; the figures beside it are compared all the same. Pure: `refold` reads the journal.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, NamedTuple

import msgspec
from msgspec.structs import replace

from gateway.documents.rollout import Phase, Rollout
from gateway.journal.journal import Offset
from gateway.journal.record import Decision
from gateway.rollout.evidence.verdict import RULE, Verdict

FROM_TRAFFIC: Final = frozenset({"hard_stop", "errors", "slow", "quality", "value"})
"""Guards whose failure follows from the traffic alone: a record that names one without cause is wrong."""

_SAME: Final = 1e-9
"""Relative difference below which two figures are the same: machines differ in the last bits of a logarithm."""


class State(StrEnum):
    """What became of a recorded decision."""

    EQUAL = "equal"
    DIFFERS = "differs"
    NOT_REPLAYABLE = "not_replayable"
    AS_RECORDED = "as_recorded"  # it rests on no traffic


class Difference(NamedTuple):
    """One value. place: where it lies in the evidence, such as `values.errors`."""

    place: str
    recorded: Any
    recomputed: Any


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """What the rollout was when it was judged, and the verdict: kept beside the figures that it belongs to."""

    champion: int
    phase: Phase
    step: int
    pending: int
    result: str
    guard: str


@dataclass(frozen=True, slots=True)
class Rests:
    """What a decision rests on. rollout: as it was judged; start, until: the stretch of the traffic journal."""

    rollout: Rollout
    start: Offset
    until: Offset
    judged: Judged


@dataclass(frozen=True, slots=True)
class Replayed:
    """One decision, recorded and recomputed. why: the reason of a state that is not `equal`, in words."""

    decision: Decision
    time_ns: int
    state: State
    why: str = ""
    recorded: Mapping[str, Any] = field(default_factory=dict)
    recomputed: Mapping[str, Any] = field(default_factory=dict)
    differences: tuple[Difference, ...] = ()


def basis(rollout: Rollout) -> dict[str, Any]:
    """Guards, steps, champion and the rest of a rollout, without the figures and sentences that change all the time."""
    kept: dict[str, Any] = msgspec.to_builtins(replace(rollout, evidence={}, reason=""))
    return kept


def judged(rollout: Rollout, verdict: Verdict) -> dict[str, Any]:
    """How the rollout stood when the verdict was given."""
    made = Judged(
        champion=rollout.champion,
        phase=rollout.phase,
        step=rollout.step,
        pending=rollout.pending,
        result=verdict.result,
        guard=verdict.guard,
    )
    kept: dict[str, Any] = msgspec.to_builtins(made)
    return kept


def number_of(decision: Decision) -> int:
    """Which of the model's rollouts it belongs to; 0 when its id does not say."""
    parts = decision.id.split("/")
    return int(parts[2]) if len(parts) > 2 and parts[2].isascii() and parts[2].isdigit() else 0


def rests_on(decision: Decision) -> Rests | tuple[State, str]:
    """What is needed to decide again, or why that can not be."""
    evidence = decision.evidence
    if "until" not in evidence:
        return State.AS_RECORDED, "it rests on no traffic"
    for rule in (decision.rule, evidence.get("rule")):
        if rule != RULE:
            return State.NOT_REPLAYABLE, f"it was decided by {rule}, this release has {RULE}"
    if "judged" not in evidence or "rollout" not in evidence:
        return State.NOT_REPLAYABLE, "an earlier release wrote it, without the guards and the phase"
    try:
        as_judged = msgspec.convert(evidence["judged"], Judged)
        rollout = msgspec.convert(evidence["rollout"], Rollout)
        start, until = (Offset(bytes.fromhex(evidence[name])) for name in ("from", "until"))
    except (msgspec.ValidationError, ValueError, TypeError, KeyError) as error:
        return State.DIFFERS, f"its evidence is not what a gateway writes: {error}"
    then = replace(
        rollout,
        version=decision.version,
        champion=as_judged.champion,
        phase=as_judged.phase,
        step=as_judged.step,
        pending=as_judged.pending,
        offset=evidence["from"],
    )
    return Rests(then, start, until, as_judged)


def compare(decision: Decision, time_ns: int, rests: Rests, verdict: Verdict, missing: int = 0) -> Replayed:
    """The record beside the verdict on the same traffic. missing: records of the stretch that the journal lost."""
    figures = msgspec.json.decode(msgspec.json.encode(verdict.evidence))
    found = [*_verdict_differences(decision, rests.judged, verdict), *_differences("", decision.evidence, figures)]
    recorded = _shown(rests.judged.result, rests.judged.guard, decision.evidence)
    recomputed = _shown(verdict.result, verdict.guard, figures)
    if found and missing:
        why = f"{missing} records of its traffic are no longer in the journal"
        return Replayed(decision, time_ns, State.NOT_REPLAYABLE, why, recorded)
    state = State.DIFFERS if found else State.EQUAL
    count = f"{len(found)} value{'s differ' if len(found) > 1 else ' differs'}"
    why = count if found else _elsewhere(rests.judged, verdict)
    return Replayed(decision, time_ns, state, why, recorded, recomputed, tuple(found))


def not_compared(decision: Decision, time_ns: int, state: State, why: str) -> Replayed:
    """A decision that is shown as it was recorded."""
    as_judged = decision.evidence.get("judged")
    known = as_judged if isinstance(as_judged, dict) else {}
    shown = _shown(str(known.get("result", "")), str(known.get("guard", "")), decision.evidence)
    return Replayed(decision, time_ns, state, why, shown)


def _verdict_differences(decision: Decision, recorded: Judged, verdict: Verdict) -> Iterator[Difference]:
    if _elsewhere(recorded, verdict):
        return
    for name in ("result", "guard"):
        own, again = getattr(recorded, name), getattr(verdict, name)
        if own != again:
            yield Difference(name, own, again)
    # A guard's reason is made of its counts; what a person or another source gave as a reason is not looked at.
    is_of_guard = recorded.guard and decision.reason.startswith(f"{recorded.guard}: ")
    if is_of_guard and not decision.reason.startswith(verdict.reason):
        yield Difference("reason", decision.reason, verdict.reason)


def _elsewhere(recorded: Judged, verdict: Verdict) -> str:
    """Why the recorded result is not one that traffic could give; empty: it is."""
    is_same = (recorded.result, recorded.guard) == (verdict.result, verdict.guard)
    if recorded.result != "fail" or recorded.guard in FROM_TRAFFIC or is_same:
        return ""
    return "its failure does not come from traffic and is shown as recorded"


def _differences(place: str, recorded: Any, recomputed: Any) -> Iterator[Difference]:
    """Everything that was recomputed, beside what was recorded under the same name."""
    if isinstance(recomputed, dict):
        kept = recorded if isinstance(recorded, dict) else {}
        for name, value in recomputed.items():
            yield from _differences(f"{place}.{name}" if place else name, kept.get(name), value)
        if place:
            for name in kept.keys() - recomputed.keys():
                yield Difference(f"{place}.{name}", kept[name], None)
    elif not _is_same(recorded, recomputed):
        yield Difference(place, recorded, recomputed)


def _is_same(one: Any, other: Any) -> bool:
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, int | float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=_SAME)
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return not any(True for pair in zip(one, other, strict=True) for _ in _differences("item", *pair))
    return bool(one == other)


def _shown(result: str, guard: str, evidence: Mapping[str, Any]) -> dict[str, Any]:
    """The result and the figures of a decision, as reports give them."""
    return {"result": result, "guard": guard, **{name: evidence.get(name, {}) for name in ("counts", "values")}}
