"""How a job's start and end change what is remembered of its model: pure, from memory and job to the changed fields.

A started job uses up its cause and begins the cool-down. The job of an alert, or of low performance, begins a chain
of follow-up jobs; the first of them that is not published ends it. Rejections add up until something is published;
from the policy's number on a person is asked, and stays asked until a job is published, a person starts one, or
another version answers.
"""

from __future__ import annotations

from typing import Any

from gateway.documents.job import Job, JobState, Retraining
from gateway.documents.policy import JobGuards, RetrainingPolicy
from gateway.retraining.memory import NOTHING_PENDING
from gateway.retraining.triggers import DAY_SECONDS, FOLLOW_UP, FOLLOWED, ON_DEMAND, Due

NO_FOLLOW_UPS: dict[str, Any] = {
    "follow_up_alert": "",
    "follow_up_answers": "",
    "follow_up_labels": 0,
    "follow_up_since_ns": 0,
    "follow_ups": 0,
}
"""The fields of a memory without a chain of follow-up jobs."""


def after_start(
    policy: RetrainingPolicy, state: Retraining, cause: Due, now: float, labels: int, champion: int
) -> dict[str, Any]:
    """The fields that a started job changes. labels: labelled rows so far; champion: the version that answers."""
    today = tuple(started for started in state.started_today if started > now - DAY_SECONDS)
    fields: dict[str, Any] = {
        "labels": labels,
        "last_started": now,
        "started_today": (*today, now),
        "refused": "",
    }
    if cause.trigger == "schedule":
        fields["last_schedule"] = now
    if cause.trigger == "performance":
        fields["low_version"] = champion
    if cause.trigger == ON_DEMAND:
        fields |= {"asks_for_a_person": "", "asked": False}
    if cause.key == state.pending_alert:
        fields |= NOTHING_PENDING
    return fields | _chain(policy, state, cause, labels)


def after_end(state: Retraining, job: Job, guards: JobGuards) -> dict[str, Any]:
    """The fields that the end of a job changes; {} for a job that a person cancelled."""
    if job.state is JobState.CANCELLED:
        return {}
    is_published = job.state in (JobState.PUBLISHED, JobState.HELD)
    rejections = 0 if is_published else state.rejections + 1
    fields: dict[str, Any] = {"rejections": rejections}
    if job.trigger == FOLLOW_UP and not is_published:
        fields |= NO_FOLLOW_UPS
    question = "" if is_published else state.asks_for_a_person
    if job.state is JobState.HELD:
        question = f"version {job.version} waits to be released: {job.detail}"
    elif rejections >= guards.back_off_after_rejections:
        question = f"{rejections} jobs in a row gave no version, the last one: {job.detail}"
    return fields | {"asks_for_a_person": question[:1000], "asked": bool(question)}


def after_change(state: Retraining, champion: int, labels: int) -> dict[str, Any]:
    """The fields that another champion changes; {} while it is the same one."""
    if champion == state.champion:
        return {}
    fields: dict[str, Any] = {"champion": champion, "champion_labels": labels, "low_version": 0}
    return fields | ({"asks_for_a_person": "", "asked": False} if state.champion else {})


def _chain(policy: RetrainingPolicy, state: Retraining, cause: Due, labels: int) -> dict[str, Any]:
    if cause.trigger in FOLLOWED:
        return {
            "follow_up_alert": cause.key,
            "follow_up_answers": cause.alert,
            "follow_up_labels": labels,
            "follow_up_since_ns": cause.change_ns,
            "follow_ups": 0,
        }
    if cause.trigger != FOLLOW_UP:
        return {}
    # One job for all whose labels have come meanwhile.
    passed = sum(labels - state.follow_up_labels >= distance for distance in policy.follow_ups)
    return {"follow_ups": passed} if passed < len(policy.follow_ups) else NO_FOLLOW_UPS
