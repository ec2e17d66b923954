"""Retraining jobs as documents, and what the supervisor remembers of each model."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from msgspec import Struct


class JobState(StrEnum):
    """Where a job stands. queued -> running -> one of the rest."""

    QUEUED = "queued"
    RUNNING = "running"
    PUBLISHED = "published"
    HELD = "held"  # the version is in the registry and waits for a person to release it; `detail` says why
    REJECTED = "rejected"  # the gate said no
    FAILED = "failed"  # the job could not do its work; `detail` says why (too_few_new_labels among them)
    CANCELLED = "cancelled"


JOB_ENDED = frozenset({JobState.PUBLISHED, JobState.HELD, JobState.REJECTED, JobState.FAILED, JobState.CANCELLED})


class Job(Struct, frozen=True, kw_only=True):
    """One retraining job. trigger: error_drift | data_drift | performance | follow_up | schedule | labels | on_demand.

    champion: the version that answered when the job was first started. progress: what the job is doing, see
    `gateway.retraining.spec.Progress`; empty before it starts.
    """

    id: str
    model: str
    trigger: str
    reason: str
    state: JobState
    alert: str = ""
    actor: str = "gateway"
    created: float = 0.0
    started: float = 0.0
    ended: float = 0.0
    rows: int = 0
    data_digest: str = ""
    version: int = 0
    detail: str = ""
    report: dict[str, Any] = {}
    attempts: int = 0
    cancel: bool = False
    champion: int = 0
    progress: dict[str, Any] = {}


class Retraining(Struct, frozen=True, kw_only=True):
    """What the supervisor remembers of one model, moved in one write with its place in the control stream.

    offset: hex offset into the control stream behind the last alert that was considered.
    labels: labelled rows of the model at the last job's start. pending: an alert or reason waiting for its conditions.
    """

    offset: str = ""
    labels: int = 0
    last_started: float = 0.0
    last_schedule: float = 0.0
    started_today: tuple[float, ...] = ()
    rejections: int = 0
    pending_alert: str = ""
    pending_since_ns: int = 0
    pending_labels_since: int = 0
    refused: str = ""  # why the last due trigger was not followed
    asked: bool = False  # a person was asked after too many rejections
    pending_trigger: str = "error_drift"  # what the pending alert sets off: error_drift | data_drift
    pending_version: int = 0  # the version that the pending alert is about
    follow_up_alert: str = ""  # the cause whose follow-up jobs are to come; "": none are
    follow_up_answers: str = ""  # the alert that they answer; "": low performance began the chain
    follow_up_labels: int = 0  # labelled rows when that alert's own job started
    follow_up_since_ns: int = 0  # the alert's estimated time of change
    follow_ups: int = 0  # how many of them were started
    champion: int = 0  # the version that answered at the last look
    champion_labels: int = 0  # labelled rows when it was first seen to answer
    low_version: int = 0  # the version whose low performance has set a job off; 0: none, or it has recovered
    asks_for_a_person: str = ""  # what a person is asked to look at; "": nothing
