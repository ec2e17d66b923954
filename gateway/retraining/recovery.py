"""After a start: jobs that nobody runs any more. Their directories are gone before this is called."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from gateway.documents.job import JobState
from gateway.journal.tee import Tee
from gateway.names import ModelName
from gateway.registry.manifest import Manifest
from gateway.registry.registry import Registry
from gateway.retraining.book import JobBook
from gateway.retraining.rows.archive import forget
from gateway.retraining.tell import tell_job

MOST_ATTEMPTS = 2


async def recover(book: JobBook, registry: Registry, tee: Tee, now: float, data: Path) -> None:
    """Write down what published before the crash; queue the rest once more, and fail what was cut off twice."""
    for job in await book.open():
        if job.state is not JobState.RUNNING:
            continue
        published = _made_by(await registry.versions(ModelName(job.model)), job.id)
        if published is not None:
            state = JobState.HELD if published.gate.hold else JobState.PUBLISHED
            detail = published.gate.hold or "published"
            await book.change(job.id, "job.end", state=state, ended=now, version=published.number, detail=detail)
            continue
        await asyncio.to_thread(forget, data, job.model, job.id)
        if job.cancel:
            await book.change(job.id, "job.end", state=JobState.CANCELLED, ended=now)
        elif job.attempts < MOST_ATTEMPTS:
            await book.change(job.id, "job.queue", state=JobState.QUEUED)
        else:
            detail = f"the process that ran it ended, {job.attempts} times"
            await book.fail(job.id, now, detail)
            tell_job(tee, job, "reject", detail)


def _made_by(versions: Sequence[Manifest], job: str) -> Manifest | None:
    return next((one for one in versions if one.lineage.job == job), None)
