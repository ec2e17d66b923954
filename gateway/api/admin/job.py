"""Retraining jobs: ask for one, list them, cancel one."""

from __future__ import annotations

import secrets

import msgspec
from starlette.responses import Response

from gateway.api.admin.call import Asked, Call
from gateway.api.admin.rollout import ReasonBody
from gateway.api.admin.state import read_jobs, versions_of
from gateway.api.problems import json_response
from gateway.documents.job import JOB_ENDED, Job, JobState
from gateway.documents.policy import Policy, read_policy
from gateway.documents.store import ABSENT, AuditEntry, Document, job_name, policy_name
from gateway.documents.token import Scope
from gateway.errors import NotAllowed

ON_DEMAND = "on_demand"
MOST_JOBS = 1000


async def retrain(asked: Asked) -> Response:
    """Queue a job. It runs when no other one does; the answer names it."""
    body = await asked.json(ReasonBody)
    model = asked.model
    await versions_of(asked.ports, model)
    stored = await asked.stored(policy_name(model))
    policy = read_policy(stored.body) if stored else Policy(model=model)
    if policy.retraining.recipe is None:
        raise NotAllowed(f"{model} has no recipe: name one in its policy under retraining.recipe")
    for job in await read_jobs(asked.ports):
        if job.model == model and job.state not in JOB_ENDED:
            raise NotAllowed(f"job {job.id} of {model} is {job.state} already")
    now = asked.ports.clock.now()
    job = Job(
        id=f"{int(now * 1000):012x}-{secrets.token_hex(4)}",
        model=model,
        trigger=ON_DEMAND,
        reason=body.reason or "asked for by a person",
        state=JobState.QUEUED,
        actor=asked.actor,
        created=now,
    )
    encoded = msgspec.json.encode(job)
    entry = AuditEntry(
        actor=asked.actor, action="job.queue", subject=f"{model}", reason=body.reason, after=encoded.decode()
    )
    await asked.ports.config.put(job_name(job.id), encoded, ABSENT, entry)
    return json_response(job, 202)


async def list_jobs(asked: Asked) -> Response:
    """Jobs, newest first; `model` keeps one model's, `limit` (100) so many."""
    model = asked.request.query_params.get("model")
    limit = asked.number("limit", 100, MOST_JOBS)
    jobs = [job for job in await read_jobs(asked.ports) if model is None or job.model == model]
    return json_response({"jobs": jobs[:limit]})


async def show_job(asked: Asked) -> Response:
    """One job with its report."""
    document = await _stored_job(asked)
    return json_response(msgspec.json.decode(document.body, type=Job))


async def cancel_job(asked: Asked) -> Response:
    """Ask a job to end; its supervisor ends it within a second."""
    document = await _stored_job(asked)
    job = msgspec.json.decode(document.body, type=Job)
    if job.state in JOB_ENDED:
        raise NotAllowed(f"job {job.id} has ended: {job.state}")
    cancelled = msgspec.structs.replace(job, cancel=True)
    entry = AuditEntry(actor=asked.actor, action="job.cancel", subject=job.model, reason=asked.reason, before=job.id)
    await asked.ports.config.put(job_name(job.id), msgspec.json.encode(cancelled), document.revision, entry)
    return json_response(cancelled, 202)


async def _stored_job(asked: Asked) -> Document:
    """The job in the path. Raises DocumentNotFound naming it."""
    job = asked.request.path_params["job"]
    return await asked.required(job_name(job), f"job {job[:100]!r}")


CALLS = (
    Call("POST", "/admin/models/{model}/retrain", Scope.OPERATE, retrain),
    Call("GET", "/admin/jobs", Scope.READ, list_jobs),
    Call("GET", "/admin/jobs/{job}", Scope.READ, show_job),
    Call("DELETE", "/admin/jobs/{job}", Scope.OPERATE, cancel_job),
)
