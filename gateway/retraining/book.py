"""Job documents: who reads and writes them, always by compare-and-swap, with their audit entries.

Remembers only which jobs have ended, so that looking for open ones stays cheap.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from typing import Any

from msgspec import json
from msgspec.structs import replace

from gateway.documents.job import JOB_ENDED, Job, JobState
from gateway.documents.store import ABSENT, AuditEntry, ConfigStore, job_name
from gateway.errors import DocumentNotFound, RevisionConflict

PREFIX = "jobs/"
ACTOR = "retraining"


def job_id(model: str, key: str) -> str:
    """The id of the job that a cause sets off: the same cause is the same job."""
    return f"{model}-{hashlib.sha256(f'{model}:{key}'.encode()).hexdigest()[:12]}"


class JobBook:
    """All jobs of all models."""

    def __init__(self, config: ConfigStore) -> None:
        self._config = config
        self._ended: set[str] = set()

    async def get(self, job: str) -> Job | None:
        """One job, None when there is none."""
        try:
            return json.decode((await self._config.get(job_name(job))).body, type=Job)
        except DocumentNotFound:
            return None

    async def open(self) -> list[Job]:
        """Jobs that are queued or running, oldest first."""
        found = []
        for name in await self._config.list(PREFIX):
            job = None if name in self._ended else await self.get(name.removeprefix(PREFIX))
            if job is not None and job.state in JOB_ENDED:
                self._ended.add(name)
            elif job is not None:
                found.append(job)
        return sorted(found, key=lambda job: (job.created, job.id))

    async def create(self, job: Job) -> bool:
        """Write a new job; False when there is one with this id already."""
        try:
            await self._config.put(job_name(job.id), json.encode(job), ABSENT, _entry("job.start", job, job.reason))
        except RevisionConflict:
            return False
        return True

    async def change(self, job: str, action: str, **fields: Any) -> Job:
        """The job with these fields changed, whatever a person changed meanwhile. Raises DocumentNotFound.

        A job that has ended stays as it is.
        """
        while True:
            document = await self._config.get(job_name(job))
            before = json.decode(document.body, type=Job)
            if before.state in JOB_ENDED:
                return before
            after = replace(before, **fields)
            try:
                await self._config.put(
                    job_name(job), json.encode(after), document.revision, _entry(action, after, after.detail)
                )
            except RevisionConflict:
                continue
            return after

    async def show(self, job: str, progress: dict[str, Any]) -> None:
        """Write what a job is doing, without an audit entry; left out when somebody else writes just now."""
        document = await self._config.get(job_name(job))
        before = json.decode(document.body, type=Job)
        if before.state in JOB_ENDED or before.progress == progress:
            return
        with suppress(RevisionConflict):
            await self._config.put(job_name(job), json.encode(replace(before, progress=progress)), document.revision)

    async def is_cancelled(self, job: str) -> bool:
        """True when a person asked for the job's end."""
        found = await self.get(job)
        return found is not None and found.cancel and found.state not in JOB_ENDED

    async def fail(self, job: str, now: float, detail: str) -> Job:
        """The job ended as failed."""
        return await self.change(job, "job.end", state=JobState.FAILED, ended=now, detail=detail)


def _entry(action: str, job: Job, reason: str) -> AuditEntry:
    return AuditEntry(
        actor=ACTOR, action=action, subject=job.model, reason=reason[:1000], after=f"{job.id} {job.state}"
    )
