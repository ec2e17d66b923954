"""One job from its dataset to a published version: run it in its process, admit the package, publish, write it down.

Everything a job leaves on the disk lies in its own directory and is removed afterwards. A job that is killed at any
point leaves no version: publishing is the last step and the registry's own.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import signal
import tempfile
from pathlib import Path
from typing import Any

from msgspec import json

from gateway import metrics
from gateway.clock import Clock
from gateway.documents.job import Job, JobState
from gateway.documents.policy import RetrainingPolicy
from gateway.errors import AdmissionRefused, VersionExists
from gateway.execution.admission import AdmissionServer, Limits, admit_async
from gateway.names import VersionId
from gateway.registry.manifest import Manifest
from gateway.registry.package import MODEL_FILE, read_files
from gateway.registry.reference import REFERENCE_FILE
from gateway.registry.registry import Registry
from gateway.retraining.book import JobBook
from gateway.retraining.launch import TIMED_OUT, JobServer, Order
from gateway.retraining.rows.archive import SPEC_FILE, forget, keep
from gateway.retraining.rows.window import trained_until_ns
from gateway.retraining.spec import PACKAGE_DIRECTORY, JobResult, JobSpec, read_result, write_whole
from gateway.retraining.tracking import log_run
from gateway.settings import Settings

LOG_CHARACTERS = 4000

log = logging.getLogger("gateway.retraining")


class Delivery:
    """Runs jobs and publishes what passed. One `deliver` at a time."""

    def __init__(
        self,
        book: JobBook,
        registry: Registry,
        server: JobServer,
        clock: Clock,
        settings: Settings,
        admission: AdmissionServer | None = None,
    ) -> None:
        self._book = book
        self._registry = registry
        self._server = server
        self._clock = clock
        self._data = settings.data
        self._cache = settings.data / "cache"
        self._project = settings.models.resolve().parent
        self._limits = Limits(seconds=settings.admission_seconds, memory_bytes=settings.admission_bytes)
        self._own = AdmissionServer() if admission is None else None
        self._admission = admission or self._own

    async def close(self) -> None:
        """End the admission server that this delivery started."""
        if self._own is not None:
            await asyncio.to_thread(self._own.close)

    async def deliver(self, job: Job, champion: Manifest, policy: RetrainingPolicy, directory: Path) -> Job:
        """Run the job on `directory/dataset` and publish; the job as it ended. Always removes the directory."""
        try:
            result = await self._run(job, champion, policy, directory)
            fields = await self._publish(job, result, directory)
        except Exception as error:
            log.exception("job %s", job.id)
            fields = {"state": JobState.FAILED, "detail": str(error) or type(error).__name__}
        finally:
            await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)
        ended = await self._book.change(job.id, "job.end", ended=self._clock.now(), **fields)
        metrics.jobs.labels(job.model, str(ended.state)).inc()
        metrics.job_seconds.labels(job.model).inc(max(0.0, ended.ended - ended.started))
        if policy.mlflow is not None:
            versions = {one.number: one for one in await self._registry.versions(champion.version.model)}
            await asyncio.to_thread(log_run, policy.mlflow, ended, versions.get(ended.version))
        return ended

    async def _run(self, job: Job, champion: Manifest, policy: RetrainingPolicy, directory: Path) -> JobResult:
        """The job's result. Raises Unavailable when its server died."""
        _, package = await self._registry.fetch(champion.version, self._cache)
        out = directory / "out"
        recipe = self._project / (policy.recipe or "")
        spec = JobSpec(
            job=job.id,
            model=job.model,
            dataset=str(directory / "dataset"),
            out=str(out),
            recipe=str(recipe),
            policy=policy.model_dump_json(),
            champion=str(package),
            champion_trained_until_ns=trained_until_ns(champion),
            parent=champion.number,
            trigger=job.trigger,
            alert=job.alert,
            created=job.started,
        )
        write_whole(directory / SPEC_FILE, json.encode(spec))
        order = Order(
            spec=str(directory / SPEC_FILE),
            log=str(directory / "log"),
            seconds=policy.guards.seconds,
            memory_bytes=policy.guards.memory_mb * 1024**2,
        )
        status = await self._server.run(order)
        if await self._book.is_cancelled(job.id):
            return JobResult(state=JobState.CANCELLED, detail="cancelled by a person")
        result = read_result(out)
        if status == 0 and result is not None:
            return result if result.state is not JobState.FAILED else _with_log(result, directory / "log")
        return _with_log(JobResult(state=JobState.FAILED, detail=_ending(status, policy)), directory / "log")

    async def _publish(self, job: Job, result: JobResult, directory: Path) -> dict[str, Any]:
        """The job's last fields; published when the package was admitted and is in the registry."""
        fields: dict[str, Any] = {"state": result.state, "detail": result.detail, "report": result.report}
        if result.state not in (JobState.PUBLISHED, JobState.HELD):
            return fields
        await asyncio.to_thread(keep, self._data, job.model, job.id, directory)
        try:
            version = await self._admitted(directory / "out" / PACKAGE_DIRECTORY)
        except AdmissionRefused as refused:
            await asyncio.to_thread(forget, self._data, job.model, job.id)
            return fields | {"state": JobState.REJECTED, "detail": f"refused at the door: {refused}"}
        except VersionExists as exists:
            await asyncio.to_thread(forget, self._data, job.model, job.id)
            known = VersionId.parse(exists.existing)
            return fields | {"version": known.number, "detail": f"the same model is published already as {known}"}
        metrics.published.labels(version.model).inc()
        return fields | {"version": version.number, "detail": f"{version}: {result.detail}"}

    async def _admitted(self, package: Path) -> VersionId:
        """Through the same door as any model of a stranger: a recipe is code that people wrote."""
        manifest, files = await asyncio.to_thread(read_files, package)
        with tempfile.TemporaryDirectory(dir=package.parent, prefix="admitted-") as empty:
            admitted = Path(empty) / PACKAGE_DIRECTORY
            await admit_async(
                files[MODEL_FILE], manifest, admitted, self._limits, files.get(REFERENCE_FILE), self._admission
            )
            return await self._registry.publish(admitted)


def _ending(status: int, policy: RetrainingPolicy) -> str:
    if status == TIMED_OUT or status == -signal.SIGXCPU:
        return f"the job took longer than {policy.guards.seconds:g} s (retraining.guards.seconds)"
    if status < 0:
        name = signal.Signals(-status).name
        return f"the job was ended by {name}; memory_mb is {policy.guards.memory_mb}"
    return f"the job ended with status {status} and wrote no result"


def _with_log(result: JobResult, path: Path) -> JobResult:
    """A failed result with the end of what the job printed."""
    try:
        text = path.read_text(errors="replace")[-LOG_CHARACTERS:]
    except OSError:
        text = ""
    return JobResult(
        state=result.state,
        detail=result.detail,
        rows=result.rows,
        data_digest=result.data_digest,
        report={**result.report, "log": text},
    )
