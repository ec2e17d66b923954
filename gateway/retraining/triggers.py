"""Whether a model is to be trained now, and why: pure, from policy, memory and facts.

An error alert is not lost while a condition is missing (cool-down, budget, a frozen model): it stays pending until it
is followed or its version no longer answers. What people ask for is followed without these conditions.

    facts -> on demand -> pending alert -> performance -> follow-up -> schedule -> labels -> None
                                |              (each against cool-down, budget, back-off, rollout under way)
                                v
                     Due, or Refused(keep) with one sentence that does not change from look to look
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from cronsim import CronSim, CronSimError

from gateway.documents.job import Job, Retraining
from gateway.documents.policy import RetrainingPolicy
from gateway.journal.record import Alert
from gateway.names import Role

DAY_SECONDS = 86_400.0
MOST_BACK_OFF = 8
ERROR_KINDS = frozenset({"concept_drift", "performance"})
DATA_KINDS = frozenset({"data_drift", "prediction_drift"})
UNTRAINED = frozenset({"data_quality", "bad_release", "benign_data_drift", "label_shift"})
"""Verdicts that training does not answer: repair the data, take the version back, a new reference, a new threshold."""
ON_DEMAND = "on_demand"
FOLLOW_UP = "follow_up"
FOLLOWED = frozenset({"error_drift", "performance"})
"""Triggers whose job is followed up."""


@dataclass(frozen=True, kw_only=True)
class TriggerFacts:
    """What is so at this moment.

    labels: labelled rows of the model so far. champion: the version that answers; 0 when none does. frozen: a person
    stopped automatic acts. silenced: the pending alert is silenced. latched: the pending alert still holds. queued:
    the oldest job that a person asked for. rollout: the version on its way to champion, 0 for none; rollout_answers:
    the alert it answers. performance: the policy's metric on the newest labels, None when too few. is_release: the
    champion answered no alert when it was published, and took the place of a version that can be restored.
    """

    labels: int
    champion: int = 0
    has_recipe: bool = True
    frozen: bool = False
    silenced: bool = False
    latched: bool = True
    queued: str = ""
    rollout: int = 0
    rollout_answers: str = ""
    performance: float | None = None
    is_release: bool = False


@dataclass(frozen=True)
class Due:
    """Train now. key: the same cause has the same key, so that a repeat after a crash is the same job."""

    trigger: str
    reason: str
    key: str
    alert: str = ""
    change_ns: int = 0


@dataclass(frozen=True)
class Refused:
    """Not now, and why. keep: the alert stays pending; False: it is forgotten. ask: a person has to act.

    until_labels: the label count at which this reason ends; 0: labels do not end it.
    """

    reason: str
    keep: bool = True
    ask: bool = False
    until_labels: int = 0


def due(policy: RetrainingPolicy, state: Retraining, facts: TriggerFacts, now: float) -> Due | Refused | None:
    """The one thing to do for a model at wall time `now`; None when there is no cause at all."""
    if facts.queued:
        return Due(ON_DEMAND, "a person asked for it", facts.queued)
    if gone := _forgotten(state, facts) or _bad_release(policy, state, facts):
        return gone
    cause = _cause(policy, state, facts, now)
    if cause is None:
        return None
    return _hindrance(policy, state, facts, cause, now) or cause


def over(job: Job, facts: TriggerFacts) -> str:
    """Why an automatic job that a restart cut off is not run again; "" when its cause still holds.

    facts: with `silenced`, `latched` and `rollout_answers` of the job's own alert.
    """
    if facts.frozen:
        return "the model is frozen"
    if not facts.has_recipe:
        return "the policy names no recipe"
    if job.champion and job.champion != facts.champion:
        return f"version {job.champion} no longer answers"
    if not job.alert:
        return ""
    if facts.rollout and facts.rollout_answers == job.alert:
        return f"alert {job.alert}: version {facts.rollout} already answers it"
    if facts.silenced:
        return f"alert {job.alert} is silenced"
    if job.trigger == FOLLOW_UP:  # it follows the alert also when that is over
        return ""
    return "" if facts.latched else f"alert {job.alert}: it was cleared"


def is_low(policy: RetrainingPolicy, facts: TriggerFacts) -> bool:
    """True while the policy's metric is known and beyond its bound."""
    low = policy.triggers.performance
    return low is not None and facts.performance is not None and _is_below(low.metric, facts.performance, low.below)


def considered(policy: RetrainingPolicy, alert: Alert, champion: int) -> str:
    """The trigger that an alert sets off ("" for none): only of the champion, in that role, and only where the
    monitor's verdict does not call for something else. Broken data never trains anything."""
    if alert.advisory or alert.version != champion or alert.role is not Role.CHAMPION:
        return ""
    if alert.verdict in UNTRAINED:
        return ""
    if alert.kind in ERROR_KINDS and policy.triggers.error_drift:
        return "error_drift"
    if alert.kind in DATA_KINDS and policy.triggers.data_drift == "shadow_only":
        return "data_drift"
    return ""


def cooldown_labels(policy: RetrainingPolicy, rejections: int) -> int:
    """Labels between the starts of two jobs; doubled with each rejected candidate from the policy's number on."""
    beyond = rejections - policy.guards.back_off_after_rejections + 1
    return policy.guards.cooldown_labels * min(MOST_BACK_OFF, 1 << max(0, beyond))


def look_again_seconds(missing: int, came: int, seconds: float, longest: float) -> float:
    """When so many labels that are missing will be there, as `came` of them came in the last `seconds`; no later than
    `longest`, which is also right where none came."""
    return min(longest, missing * seconds / came) if came > 0 else longest


def next_run(schedule: str, after: float) -> float:
    """When a cron line (UTC) comes next after wall time `after`. Raises ValueError for a wrong line."""
    try:
        return next(CronSim(schedule, datetime.fromtimestamp(after, UTC))).timestamp()
    except (CronSimError, StopIteration) as error:
        raise ValueError(f"schedule: {schedule!r} is not a cron line that ever comes: {error}") from error


def _forgotten(state: Retraining, facts: TriggerFacts) -> Refused | None:
    if not state.pending_alert:
        return None
    if state.pending_version != facts.champion:
        return Refused(f"alert {state.pending_alert}: version {state.pending_version} no longer answers", keep=False)
    if facts.rollout and facts.rollout_answers == state.pending_alert:
        return Refused(f"alert {state.pending_alert}: version {facts.rollout} already answers it", keep=False)
    if not facts.latched:
        return Refused(f"alert {state.pending_alert}: it was cleared", keep=False)
    return None


def _bad_release(policy: RetrainingPolicy, state: Retraining, facts: TriggerFacts) -> Refused | None:
    """An error alert right after a promotion that answered none is about that version: roll it back."""
    if not state.pending_alert or state.pending_trigger != "error_drift" or state.champion != facts.champion:
        return None
    after = facts.labels - state.champion_labels
    if not facts.is_release or after >= policy.guards.settle_labels:
        return None
    reason = (
        f"alert {state.pending_alert}: version {facts.champion} was promoted {after} labels before, roll it back "
        "instead of training another one (gateway rollout roll-back)"
    )
    return Refused(reason, keep=False, ask=True)


def _cause(policy: RetrainingPolicy, state: Retraining, facts: TriggerFacts, now: float) -> Due | None:
    triggers = policy.triggers
    if state.pending_alert:
        answers = state.pending_alert if state.pending_trigger == "error_drift" else ""
        reason = f"alert {state.pending_alert} about version {state.pending_version}"
        return Due(state.pending_trigger, reason, state.pending_alert, answers, state.pending_since_ns)
    low = triggers.performance
    if low is not None and is_low(policy, facts) and state.low_version != facts.champion:
        reason = f"{low.metric} is {facts.performance:.4g}, the policy's bound is {low.below:g}"
        return Due("performance", reason, f"performance-{facts.labels}")
    if state.follow_up_alert and state.follow_ups < len(policy.follow_ups):
        distance = policy.follow_ups[state.follow_ups]
        if facts.labels - state.follow_up_labels >= distance:
            reason = f"follow-up: {distance} labels after the job of {state.follow_up_alert}"
            key = f"{FOLLOW_UP}-{state.follow_up_alert}-{distance}"
            return Due(FOLLOW_UP, reason, key, state.follow_up_answers, state.follow_up_since_ns)
    if triggers.schedule and state.last_schedule:
        at = next_run(triggers.schedule, state.last_schedule)
        if at <= now:
            return Due("schedule", f"schedule {triggers.schedule}", f"schedule-{at:.0f}")
    if triggers.labels and facts.labels - state.labels >= triggers.labels:
        return Due("labels", f"{triggers.labels} labels since the last job", f"labels-{state.labels + triggers.labels}")
    return None


def _is_below(metric: str, value: float, bound: float) -> bool:
    return value > bound if metric in ("mae", "rmse") else value < bound


def _hindrance(
    policy: RetrainingPolicy, state: Retraining, facts: TriggerFacts, cause: Due, now: float
) -> Refused | None:
    """Why an automatic job may not start now; None when it may."""
    guards = policy.guards
    if facts.frozen:
        return Refused("the model is frozen")
    if not facts.has_recipe:
        return Refused("the policy names no recipe")
    if not facts.champion:
        return Refused("no version answers yet")
    if cause.alert and facts.silenced:
        return Refused(f"alert {cause.alert} is silenced")
    today = [started for started in state.started_today if started > now - DAY_SECONDS]
    if len(today) >= guards.jobs_a_day:
        return Refused(f"budget: {guards.jobs_a_day} jobs in one day")
    if state.last_started:
        ready = state.labels + cooldown_labels(policy, state.rejections)
        if facts.labels < ready:
            return Refused(f"cool-down: waits for label {ready}", until_labels=ready)
    if facts.rollout and (not cause.alert or facts.rollout_answers):
        return Refused(f"version {facts.rollout} is being rolled out")
    return None
