"""Shadow copies: run after the reply, bounded, dropped first and counted. They can not delay or fail an answer."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress

from gateway import metrics
from gateway.errors import GatewayError
from gateway.execution.executor import Executor, Run, run
from gateway.execution.tensors import Tensors
from gateway.journal.tee import Tee
from gateway.names import Outcome
from gateway.registry.manifest import MOST_JOINED_ROWS
from gateway.serving.arm import Arm
from gateway.serving.batcher import groups, joined, parts
from gateway.serving.call import Attempt
from gateway.serving.writing import record_of


class Shadows:
    """A bounded queue and the task that empties it. Each waiting copy holds a lease of its own."""

    def __init__(self, tee: Tee, executor: Executor, limit: int, deadline_seconds: float = 5.0) -> None:
        self._tee = tee
        self._executor = executor
        self._limit = limit
        self._deadline_seconds = deadline_seconds
        self._waiting: deque[Attempt] = deque()
        self._arrived = asyncio.Event()
        self._emptied = asyncio.Event()
        self._emptied.set()

    def offer(self, copy: Attempt) -> bool:
        """Queue a copy: the answered call, the shadow's arm, the decision with the shadow's version and role, and the
        answering version's inputs. False (and counted) when the queue is full."""
        generation = copy.call.generation
        if len(self._waiting) >= self._limit:
            metrics.shadow_dropped.labels(generation.model, "queue_full").inc()
            return False
        generation.hold()
        self._waiting.append(copy)
        self._emptied.clear()
        self._arrived.set()
        return True

    async def run(self) -> None:
        """Run copies, what waits together together, for ever; after giving way to whatever the loop has to do."""
        try:
            while True:
                await self._arrived.wait()
                self._arrived.clear()
                while self._waiting:
                    await asyncio.sleep(0)
                    await self._run_some()
                self._emptied.set()
        finally:
            self._drop_all()

    async def drained(self, seconds: float) -> None:
        """Wait until nothing waits, or the time is over; for shutdown."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._emptied.wait()

    async def _run_some(self) -> None:
        taken = [self._waiting.popleft() for _ in range(min(len(self._waiting), MOST_JOINED_ROWS))]
        by_arm: dict[Arm, list[Attempt]] = {}
        for copy in taken:
            by_arm.setdefault(copy.arm, []).append(copy)
        try:
            for arm, copies in by_arm.items():
                await self._run_all(arm, self._fitting(arm, copies))
            self._tee.flush()
        finally:
            for copy in taken:
                copy.call.generation.release()

    def _fitting(self, arm: Arm, copies: list[Attempt]) -> list[Attempt]:
        """Those whose inputs the shadow takes; made anew where its signature differs from the answering version's."""
        fitting: list[Attempt] = []
        for copy in copies:
            try:
                if not arm.reads_like(copy.call.generation.versions[copy.call.decision.version].manifest):
                    copy.prepared = arm.prepare(copy.call.request)
                fitting.append(copy)
            except GatewayError:
                metrics.shadow_dropped.labels(arm.snapshot.model, "failed").inc()
        return fitting

    async def _run_all(self, arm: Arm, copies: list[Attempt]) -> None:
        if not arm.joins:
            for copy in copies:
                self._write(arm, [copy], await self._run(arm, joined([copy])))
            return
        for group in groups(copies):
            ended = await self._run(arm, joined(group)) if group else None
            if ended is None:
                continue
            if ended.outcome is Outcome.ERROR and not ended.is_lost and len(group) > 1:
                for copy in group:
                    self._write(arm, [copy], await self._run(arm, joined([copy])))
            else:
                self._write(arm, group, ended)

    async def _run(self, arm: Arm, tensors: Tensors) -> Run:
        return await run(self._executor, arm.loaded, tensors, self._deadline_seconds)

    def _write(self, arm: Arm, copies: list[Attempt], ended: Run) -> None:
        """Offer the records of one run; what it raised is in them."""
        ends = [ended] if len(copies) == 1 else parts(arm.loaded, copies, ended)
        for copy, end in zip(copies, ends, strict=True):
            record = record_of(copy, end, copy.call.decision.version)
            self._tee.offer(record)
            arm.tally.ran(record.outcome, record.latency_us)

    def _drop_all(self) -> None:
        while self._waiting:
            generation = self._waiting.popleft().call.generation
            metrics.shadow_dropped.labels(generation.model, "shutdown").inc()
            generation.release()
