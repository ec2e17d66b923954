"""What a rollout does next: a pure decision over what is.

    plan(rollout, observed, route, revision, now) -> Action

Order of the questions: is it frozen, is a route change half-way, did a person end it, does a guard fail (in every
live phase, waits and pauses included), did a person move the weights, is the step over, is its time over.
Knows neither stores nor clocks nor random numbers; what becomes of the documents is `transition`'s.
"""

from __future__ import annotations

import dataclasses

from gateway.documents.rollout import Phase, Rollout, Step
from gateway.documents.route import Route
from gateway.journal.record import Alert
from gateway.rollout.evidence.observe import Observed, Steps
from gateway.rollout.evidence.verdict import PROMOTION_RUNS, Verdict, assess
from gateway.rollout.transition import Act, Action, held_by, is_written, position, step_of


def plan(
    rollout: Rollout,
    observed: Observed,
    route: Route,
    revision: int,
    now: float,
    frozen: bool = False,
    quarantined: str = "",
    alert: Alert | None = None,
    crashed: str = "",
) -> Action:
    """What the rollout does next. revision: the route's. Calling it again after the act is done gives NOTHING.

    quarantined: why the version on trial is in quarantine, which fails it like a guard; empty: it is not.
    alert: the first of the monitor's alerts on it that its guards listen to. crashed: how its process died since the
    rollout began, once; that is the reason then for runs that failed, and the guard's count its effect.
    """
    verdict = _heard(judge(rollout, observed), quarantined, alert)
    if frozen:
        return Action(Act.NOTHING, "frozen", rollout.step, verdict)
    if rollout.pending:
        return _unfinished(rollout, route, revision, verdict)
    if not rollout.is_live:
        return Action(Act.NOTHING, "", rollout.step, verdict)
    if rollout.dry_run:
        return _dry_run(rollout, observed, route, now, verdict)
    if rollout.phase is Phase.PROMOTED:
        return _after_promotion(rollout, observed, route, verdict)
    ended = _ended_by_hand(rollout, route, revision, verdict)
    if ended is not None:
        return ended
    if verdict.result == "fail":
        is_effect = crashed and verdict.guard in {"errors", "hard_stop"} and not quarantined
        reason = f"hard_stop: {crashed}; {verdict.reason}" if is_effect else verdict.reason
        return Action(Act.ROLL_BACK, reason, rollout.step, verdict)
    if rollout.phase is Phase.PAUSED:
        return Action(Act.NOTHING, rollout.reason, rollout.step, verdict)
    moved = _moved(rollout, route, revision)
    if moved:
        return Action(Act.PAUSE, moved, rollout.step, verdict)
    if rollout.phase is Phase.APPROVING:
        return _awaited(rollout, now, verdict)
    return _along_the_steps(rollout, observed, now, verdict)


def judge(rollout: Rollout, observed: Observed) -> Verdict:
    """The verdict on the version on trial in the rollout's present phase."""
    if rollout.phase is Phase.PROMOTED and not rollout.pending:
        return assess(observed.after, rollout.guards)
    return assess(observed.before, rollout.guards, on_shadow=step_of(rollout).shadow is not None)


def _heard(verdict: Verdict, quarantined: str, alert: Alert | None) -> Verdict:
    """The verdict of the traffic, unless something else fails the version."""
    if quarantined:
        return dataclasses.replace(verdict, result="fail", reason=f"it is quarantined ({quarantined})")
    if alert is None or verdict.result == "fail":
        return verdict
    reason = f"alert: {alert.id} ({alert.kind}) on it as {alert.role}: {alert.message}"
    evidence = {**verdict.evidence, "alert": {"id": alert.id, "kind": alert.kind, "role": str(alert.role)}}
    return dataclasses.replace(verdict, result="fail", guard="alert", reason=reason, evidence=evidence)


def enter(rollout: Rollout, place: int, reason: str, verdict: Verdict | None = None) -> Action:
    """The action that begins a step of the plan."""
    step = rollout.steps[place]
    act = Act.SHADOW if step.shadow is not None else Act.CANARY if step.canary is not None else Act.PROMOTE
    if step.promote == "approve":
        act = Act.APPROVE
        reason = f"waits for a person: {reason}; say yes with: gateway rollout promote {rollout.model}"
    return Action(act, reason, place, verdict or Verdict("inconclusive", reason))


def _along_the_steps(rollout: Rollout, observed: Observed, now: float, verdict: Verdict) -> Action:
    if rollout.refused:
        return Action(Act.NOTHING, rollout.reason, rollout.step, verdict)
    if rollout.phase is Phase.WAITING or rollout.step < 0:
        return enter(rollout, 0, rollout.reason, verdict)
    if verdict.question:
        act = Act.NOTHING if rollout.phase is Phase.HELD else Act.HOLD
        return Action(act, verdict.question, rollout.step, verdict)
    step = step_of(rollout)
    done = _done(step, _counts(rollout, observed), verdict)
    if done and step.hold_seconds and now - rollout.step_since < step.hold_seconds:
        return Action(Act.NOTHING, f"{done}; the step holds for {step.hold_seconds:g} s", rollout.step, verdict)
    if done:
        return enter(rollout, rollout.step + 1, done, verdict)
    if _is_late(rollout, now) and rollout.phase is not Phase.HELD:
        missing = f"not enough evidence within {step.at_most_seconds:g} s: {verdict.reason}"
        act = Act.ROLL_BACK if rollout.without_evidence == "roll_back" else Act.HOLD
        return Action(act, missing, rollout.step, verdict)
    return Action(Act.NOTHING, verdict.reason, rollout.step, verdict)


def _counts(rollout: Rollout, observed: Observed) -> Steps:
    """The counts of the step under way: those of its route, and of a dry run those since it would have begun."""
    counts, (pairs, canary) = observed.since(rollout.written), rollout.counted
    return dataclasses.replace(counts, pairs=max(0, counts.pairs - pairs), canary=max(0, counts.canary - canary))


def _dry_run(rollout: Rollout, observed: Observed, route: Route, now: float, verdict: Verdict) -> Action:
    """What a rollout would do with the traffic that people give the version by hand; each decision once.

    It goes on watching after a promotion that would have been, and ends with the version's time in the route.
    """
    seen = observed.before.trial.requests + observed.before.shadow.requests
    if route.champion == rollout.version:
        return Action(Act.END, "it became champion: the dry run is over", rollout.step, verdict)
    if seen and rollout.version not in route.challengers:
        return Action(Act.STOP, "it left the route: the dry run is over", rollout.step, verdict)
    nothing = Action(Act.NOTHING, rollout.reason, rollout.step, verdict)
    if rollout.would == Act.ROLL_BACK:
        return nothing
    if verdict.result == "fail":
        return Action(Act.ROLL_BACK, verdict.reason, rollout.step, verdict)
    if rollout.would == Act.PROMOTE:
        return nothing
    if rollout.phase is Phase.APPROVING:
        return _awaited(rollout, now, verdict)
    action = _along_the_steps(rollout, observed, now, verdict)
    if action.act is Act.HOLD and rollout.would == Act.HOLD:
        return nothing
    counts = observed.since(rollout.written)
    return dataclasses.replace(action, counted=(counts.pairs, counts.canary))


def _is_late(rollout: Rollout, now: float) -> bool:
    limit = step_of(rollout).at_most_seconds
    return limit is not None and now - rollout.step_since > limit


def _awaited(rollout: Rollout, now: float, verdict: Verdict) -> Action:
    """Until a person says yes; who does not within the step's time means no."""
    if _is_late(rollout, now):
        limit = step_of(rollout).at_most_seconds
        return Action(Act.ROLL_BACK, f"nobody said yes within {limit:g} s", rollout.step, verdict)
    return Action(Act.NOTHING, rollout.reason, rollout.step, verdict)


def _done(step: Step, counts: Steps, verdict: Verdict) -> str:
    """Why the step is over; empty: it is not. Counts of the plan, or else the promotion evidence."""
    if step.until_quality is not None and step.until_quality not in verdict.shown:
        return ""
    if step.until_requests is None and step.until_pairs is None and step.until_quality is None:
        runs = counts.pairs if step.shadow is not None else counts.canary
        return verdict.reason if verdict.result == "pass" and runs >= PROMOTION_RUNS else ""
    if counts.canary < (step.until_requests or 0) or counts.pairs < (step.until_pairs or 0):
        return ""
    shown = f", quality {step.until_quality}" if step.until_quality else ""
    return f"step ended on counts ({counts.pairs} pairs, {counts.canary} canary answers){shown}, no guard failed"


def _after_promotion(rollout: Rollout, observed: Observed, route: Route, verdict: Verdict) -> Action:
    if route.champion != rollout.version:
        return Action(Act.END, "a person changed the champion: guards end", rollout.step, verdict)
    if verdict.result == "fail" and route.previous is not None:
        reason = f"{verdict.reason}; {rollout.model}@{route.previous} is champion again"
        return Action(Act.RESTORE, reason, rollout.step, verdict)
    answered = observed.since(rollout.written).promoted
    if answered >= rollout.after_promotion_requests:
        return Action(Act.FINISH, f"no guard failed in {answered} answers as champion", rollout.step, verdict)
    return Action(Act.NOTHING, rollout.reason, rollout.step, verdict)


def _ended_by_hand(rollout: Rollout, route: Route, revision: int, verdict: Verdict) -> Action | None:
    if route.champion == rollout.version:
        return Action(Act.END, "a person made it champion", rollout.step, verdict)
    is_gone = rollout.version not in route.challengers and position(rollout) is not None
    if is_gone and revision != rollout.written:
        return Action(Act.ROLL_BACK, "a person took it out of the route", rollout.step, verdict)
    return None


def _moved(rollout: Rollout, route: Route, revision: int) -> str:
    """What a person changed since the controller wrote the route last; empty: nothing that concerns this rollout."""
    if revision == rollout.written:
        return ""
    if route.champion != rollout.champion:
        return f"a person changed the champion from {rollout.champion} to {route.champion}"
    held = position(rollout)
    if held is None:
        return f"a person put version {rollout.version} into the route" if held_by(route, rollout) else ""
    found = held_by(route, rollout)
    if found == held:
        return ""
    before, after = (f"{role} at {percent:g} %" for role, percent in (held, found or ("nothing", 0.0)))
    return f"a person moved version {rollout.version} from {before} to {after}"


def _unfinished(rollout: Rollout, route: Route, revision: int, verdict: Verdict) -> Action:
    """A route change was announced in the document and never confirmed: repeat it, confirm it, or yield to a person."""
    if is_written(rollout, route):
        return Action(Act.ADOPT, rollout.reason, rollout.step, verdict)
    if revision == rollout.pending or rollout.phase is Phase.ROLLED_BACK:
        return Action(Act.WRITE, rollout.reason, rollout.step, verdict)
    return Action(Act.PAUSE, "a person changed the route at the same time", rollout.step, verdict)
