"""The loop that starts retraining jobs and publishes what passes its gate. It never touches a route.

Level-triggered: `reconcile` reads the present state, starts at most one job over all models, and says when to look
again; an event only wakes it. What it must not forget is in the stores: alerts in the control stream behind the
offset of each model's `retraining/` document, jobs in `jobs/`. A cause has one job id, so a repeat after a crash is
recognised. Jobs run in processes of their own (`launch`); the publishing is `delivery`'s.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Awaitable
from typing import Any

from msgspec import to_builtins
from msgspec.structs import replace

from gateway import metrics
from gateway.clock import Clock
from gateway.documents.job import Job, JobState
from gateway.documents.policy import RetrainingPolicy
from gateway.documents.store import ConfigStore
from gateway.errors import GatewayError, RevisionConflict
from gateway.execution.admission import AdmissionServer
from gateway.journal.join import JoinIndex
from gateway.journal.journal import START, ControlJournal, Offset
from gateway.journal.record import Alert
from gateway.journal.tee import Tee
from gateway.names import ModelName
from gateway.registry.registry import Registry
from gateway.retraining.aftermath import after_change, after_end, after_start
from gateway.retraining.book import JobBook, job_id
from gateway.retraining.delivery import Delivery
from gateway.retraining.facts import champion_of, not_possible, read_present, retraining_policy
from gateway.retraining.launch import JobServer
from gateway.retraining.memory import NOTHING_PENDING, Memory, newest_cause
from gateway.retraining.recovery import recover
from gateway.retraining.rows.window import export
from gateway.retraining.spec import read_progress
from gateway.retraining.tell import tell_job, tell_question, tell_refusal
from gateway.retraining.triggers import ON_DEMAND, Due, Refused, due, is_low, over
from gateway.settings import Settings

READ_ENTRIES = 500
IDLE_SECONDS = 0.5
SOONEST_SECONDS = 0.02
_STARTED_FIELDS = ("state", "started", "rows", "data_digest", "attempts", "champion")
_ACTIONS = {JobState.PUBLISHED: "publish", JobState.HELD: "hold"}

log = logging.getLogger("gateway.retraining")


class Supervisor:
    """One job at a time over all models. `run` owns every task and process that it starts."""

    def __init__(
        self,
        config: ConfigStore,
        registry: Registry,
        control: ControlJournal,
        joins: JoinIndex,
        tee: Tee,
        clock: Clock,
        settings: Settings,
        admission: AdmissionServer | None = None,
        server: JobServer | None = None,
    ) -> None:
        """admission, server: preloaded processes to share; left out, the supervisor starts and ends its own."""
        self._config = config
        self._registry = registry
        self._control = control
        self._joins = joins
        self._tee = tee
        self._clock = clock
        self._directory = settings.data / "jobs"
        self._server = server or JobServer()
        self._owns_server = server is None
        self._book = JobBook(config)
        self._delivery = Delivery(self._book, registry, self._server, clock, settings, admission)
        self._memories: dict[ModelName, Memory] = {}
        self._running: asyncio.Task[Job] | None = None
        self._current: Job | None = None
        self._recovered = False
        self._wake = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Look after every model until `stop` is set. A job under way is ended; it is started again next time."""
        helpers = [
            asyncio.create_task(self._warm()),
            asyncio.create_task(self._wake_on("jobs/")),
            asyncio.create_task(self._wake_on("freezes/")),
        ]
        try:
            while not stop.is_set():
                seconds = await self.reconcile()
                await self._pause(stop, seconds)
        finally:
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)
            await self.close()

    async def close(self) -> None:
        """End a job under way, and the servers that were started for this supervisor."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
            self._running = None
        self._current = None
        self._recovered = False
        if self._owns_server:
            await self._server.close()
        await self._delivery.close()

    async def settled(self) -> None:
        """Return when the job under way, if any, has ended and is written down."""
        if self._running is not None:
            await asyncio.wait([self._running])
            await self._collect()

    async def reconcile(self) -> float:
        """One look at everything; seconds until the next one is wanted (0: at once)."""
        if not self._recovered:
            await asyncio.to_thread(shutil.rmtree, self._directory, ignore_errors=True)
            await recover(self._book, self._registry, self._tee, self._clock.now(), self._directory.parent)
            self._recovered = True
        for model in await self._registry.models():
            if model not in self._memories:
                self._memories[model] = await Memory.load(self._config, model)
        await self._read_alerts()
        if self._running is not None:
            await self._collect()
            if self._current is not None:
                await self._look_at(self._current)
            return IDLE_SECONDS
        if await self._start_one():
            return 0.0
        now = self._clock.monotonic()
        looks = [memory.look_again_seconds(now, IDLE_SECONDS) for memory in self._memories.values()]
        return max(SOONEST_SECONDS, min(looks, default=IDLE_SECONDS))

    # What happened since the last look.

    async def _read_alerts(self) -> None:
        """Move every model's place in the control stream, remembering what sets a job off."""
        for offset in {memory.offset for memory in self._memories.values()}:
            after: Offset | None = offset
            while after is not None:
                after = await self._read_from(after)

    async def _read_from(self, after: Offset) -> Offset | None:
        """Hand one batch to the models that stand at this place; the place behind it, None when nothing is newer."""
        batch = await self._control.read(after, READ_ENTRIES)
        if batch.offset == after:
            return None
        alerts = [entry.record for entry in batch.entries if isinstance(entry.record, Alert)]
        for memory in [one for one in self._memories.values() if one.offset == after]:
            mine = [alert for alert in alerts if alert.model == memory.model]
            await self._remember(memory, mine, batch.offset)
        return batch.offset

    async def _remember(self, memory: Memory, alerts: list[Alert], offset: Offset) -> None:
        memory.offset = offset
        if not alerts:
            return
        policy = (await retraining_policy(self._config, memory.model)).retraining
        champion = await champion_of(self._config, memory.model)
        await self._save(memory, **newest_cause(policy, alerts, champion, memory.state))

    async def _save(self, memory: Memory, **fields: Any) -> None:
        """Write a model's memory; when another one wrote it meanwhile, take theirs and go on from there."""
        try:
            await memory.save(self._config, **fields)
        except RevisionConflict:
            memory = self._memories[memory.model] = await Memory.load(self._config, memory.model)
        metrics.questions.labels(memory.model).set(bool(memory.state.asks_for_a_person))

    # Starting.

    async def _start_one(self) -> bool:
        """Start the first job that is due; True when one was started."""
        queued = [job for job in await self._book.open() if job.state is JobState.QUEUED]
        for job in queued:
            if job.cancel:
                await self._book.change(job.id, "job.end", state=JobState.CANCELLED, ended=self._clock.now())
                tell_job(self._tee, job, "reject", "cancelled before it started")
        waiting = [job for job in queued if not job.cancel]
        # What people asked for comes first, then models by name.
        models = [ModelName(job.model) for job in waiting] + sorted(self._memories)
        for model in dict.fromkeys(models):
            first = next((job for job in waiting if job.model == model), None)
            if model in self._memories and await self._consider(self._memories[model], first):
                return True
        return False

    async def _consider(self, memory: Memory, queued: Job | None) -> bool:
        now = self._clock.now()
        seen = memory.state
        if queued and queued.alert:  # cut off by a restart: what is so of its own alert decides
            seen = replace(seen, pending_alert=queued.alert, pending_version=queued.champion)
        present = await read_present(
            self._config, self._registry, self._joins, memory.model, seen, queued.id if queued else "", now
        )
        if present.policy.triggers.schedule and not memory.state.last_schedule:
            await self._save(memory, last_schedule=now)
        await self._save(memory, **after_change(memory.state, present.facts.champion, present.facts.labels))
        if (
            memory.state.low_version
            and present.facts.performance is not None
            and not is_low(present.policy, present.facts)
        ):
            await self._save(memory, low_version=0)
        if queued and queued.trigger != ON_DEMAND and (reason := over(queued, present.facts)):
            await self._book.change(queued.id, "job.end", state=JobState.CANCELLED, ended=now, detail=reason)
            tell_job(self._tee, queued, "reject", f"cut off by a restart and not run again: {reason}")
            return False
        verdict = self._due(present.policy, memory, present.facts, now)
        memory.labels = present.facts.labels
        memory.waits_for = verdict.until_labels if isinstance(verdict, Refused) else memory.enough_at if verdict else 0
        if isinstance(verdict, Refused):
            await self._refuse(memory, verdict)
            return False
        if verdict is None or (not queued and present.facts.labels < memory.enough_at):
            return False
        return await self._start(memory, verdict, queued, present.policy, present.facts.labels)

    def _due(self, policy: RetrainingPolicy, memory: Memory, facts: Any, now: float) -> Due | Refused | None:
        try:
            return due(policy, memory.state, facts, now)
        except ValueError as error:  # the schedule is not a cron line
            return Refused(str(error))

    async def _refuse(self, memory: Memory, refused: Refused) -> None:
        """Write down why, once for each reason."""
        forgotten = {} if refused.keep else NOTHING_PENDING
        if memory.state.refused == refused.reason and not forgotten:
            return
        alert = memory.state.pending_alert
        await self._save(memory, refused=refused.reason, **forgotten)
        if refused.ask:
            await self._save(memory, asks_for_a_person=refused.reason, asked=True)
            tell_question(self._tee, memory)
        tell_refusal(self._tee, memory, refused, alert)

    async def _start(
        self, memory: Memory, cause: Due, queued: Job | None, policy: RetrainingPolicy, labels: int
    ) -> bool:
        """Export the rows and, when they are enough, start the job. False when it was not started."""
        now = self._clock.now()
        job = queued or Job(
            id=job_id(memory.model, cause.key),
            model=memory.model,
            trigger=cause.trigger,
            reason=cause.reason,
            state=JobState.RUNNING,
            alert=cause.alert,
            created=now,
            report={"change_ns": cause.change_ns},
        )
        directory = self._directory / job.id
        await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)
        manifests = {one.number: one for one in await self._registry.versions(memory.model)}
        champion = manifests.get(await champion_of(self._config, memory.model))
        problem = not_possible(champion, policy)
        if problem or champion is None:
            await self._can_not(memory, job, queued, problem)
            return False
        change_ns = cause.change_ns or int(job.report.get("change_ns", 0))
        exported = await export(self._joins, manifests, champion, policy, directory / "dataset", cause.alert, change_ns)
        if exported.missing and queued is None:
            memory.enough_at = labels + exported.missing
            await self._refuse(memory, Refused(f"too_few_new_labels: waits for label {memory.enough_at}"))
            return False
        job = replace(
            job,
            state=JobState.RUNNING,
            started=now,
            rows=exported.description.rows,
            data_digest=exported.description.digest,
            attempts=job.attempts + 1,
            champion=champion.number,
        )
        begun = await self._begin(job, queued)
        await self._save(memory, **after_start(policy, memory.state, cause, now, labels, champion.number))
        if not begun:  # done before a crash
            return False
        tell_job(self._tee, job, "start", job.reason, champion.number)
        self._current = job
        self._running = asyncio.create_task(self._delivery.deliver(job, champion, policy, directory))
        return True

    async def _begin(self, job: Job, queued: Job | None) -> bool:
        if queued is None:
            return await self._book.create(job)
        fields = {name: getattr(job, name) for name in _STARTED_FIELDS}
        return (await self._book.change(job.id, "job.start", **fields)).state is JobState.RUNNING

    async def _can_not(self, memory: Memory, job: Job, queued: Job | None, problem: str) -> None:
        if queued is None:
            await self._refuse(memory, Refused(problem))
            return
        await self._book.fail(job.id, self._clock.now(), problem)
        tell_job(self._tee, job, "reject", problem)

    # Ending.

    async def _collect(self) -> None:
        """Write down how the finished job changes the model's memory."""
        if self._running is None or not self._running.done():
            return
        task = self._running
        self._running = self._current = None
        job = task.result()
        tell_job(self._tee, job, _ACTIONS.get(job.state, "reject"), job.detail, job.version)
        memory = self._memories.get(ModelName(job.model))
        if memory is not None:
            before = memory.state.asks_for_a_person
            guards = (await retraining_policy(self._config, memory.model)).retraining.guards
            await self._save(memory, **after_end(memory.state, job, guards))
            if memory.state.asks_for_a_person and not before:
                tell_question(self._tee, memory)
        self._wake.set()

    async def _look_at(self, job: Job) -> None:
        """Show how far the job is, and end it when a person asked for that."""
        if await self._book.is_cancelled(job.id):
            self._server.kill()
        elif (progress := read_progress(self._directory / job.id / "out")) is not None:
            await self._book.show(job.id, to_builtins(progress))

    # Waiting.

    async def _warm(self) -> None:
        """Load the training libraries before the first job needs them."""
        try:
            await self._server.start()
        except (GatewayError, OSError, TimeoutError):
            log.exception("the job server did not start; it is tried again with the first job")

    async def _wake_on(self, prefix: str) -> None:
        async for _ in self._config.watch(prefix):
            self._wake.set()

    async def _pause(self, stop: asyncio.Event, seconds: float) -> None:
        """Until something happened, at most `seconds`."""
        offsets = {memory.offset for memory in self._memories.values()} or {START}
        waits: list[Awaitable[Any]] = [stop.wait(), self._wake.wait(), self._control.wait(next(iter(offsets)), seconds)]
        tasks = [asyncio.ensure_future(wait) for wait in waits]
        job = [self._running] if self._running is not None else []
        try:
            await asyncio.wait([*tasks, *job], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        self._wake.clear()
