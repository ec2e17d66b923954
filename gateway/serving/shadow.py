"""Shadow copies: run after the reply, bounded, dropped first and counted. They can not delay or fail an answer."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from dataclasses import dataclass

from gateway import metrics
from gateway.errors import GatewayError
from gateway.execution.contract import Prepared
from gateway.execution.executor import Executor, run
from gateway.execution.session import LoadedVersion
from gateway.journal.tee import Tee
from gateway.routing.decide import Decision, Facts
from gateway.serving.generation import Generation
from gateway.serving.measure import Measures
from gateway.serving.request import PredictRequest, prepare
from gateway.serving.writing import shadow_record_of


@dataclass(frozen=True, slots=True)
class ShadowCopy:
    """What a shadow gets: the inputs as the answering version got them, and the decision they came from."""

    version: int
    decision: Decision
    prepared: Prepared
    facts: Facts
    request: PredictRequest


class Shadows:
    """A bounded queue and the task that empties it. Each waiting copy holds its own lease."""

    def __init__(self, tee: Tee, executor: Executor, limit: int, deadline_seconds: float = 5.0) -> None:
        self._tee = tee
        self._executor = executor
        self._limit = limit
        self._deadline_seconds = deadline_seconds
        self._waiting: deque[tuple[Generation, ShadowCopy]] = deque()
        self._arrived = asyncio.Event()
        self._emptied = asyncio.Event()
        self._emptied.set()
        self._measures = Measures()

    def offer(self, generation: Generation, copy: ShadowCopy) -> bool:
        """Queue a copy. False (and counted) when the queue is full."""
        if len(self._waiting) >= self._limit:
            metrics.shadow_dropped.labels(generation.model, "queue_full").inc()
            return False
        generation.hold()
        self._waiting.append((generation, copy))
        self._emptied.clear()
        self._arrived.set()
        return True

    async def run(self) -> None:
        """Run copies, one at a time, for ever; each after giving way to whatever the loop has to do."""
        try:
            while True:
                await self._arrived.wait()
                self._arrived.clear()
                while self._waiting:
                    await asyncio.sleep(0)
                    await self._run_one(*self._waiting.popleft())
                self._emptied.set()
        finally:
            self._drop_all()

    async def drained(self, seconds: float) -> None:
        """Wait until nothing waits, or the time is over; for shutdown."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._emptied.wait()

    async def _run_one(self, generation: Generation, copy: ShadowCopy) -> None:
        try:
            loaded = generation.versions[copy.version]
            prepared = _prepared_for(loaded, generation, copy)
            ended = await run(self._executor, loaded, prepared.tensors, self._deadline_seconds)
            snapshot = generation.snapshot
            record = shadow_record_of(snapshot, copy.decision, copy.version, prepared, ended, copy.facts)
            self._tee.offer(record)
            self._tee.flush()
            self._measures.shadowed(record)
        except GatewayError:  # the failure is the shadow's alone; what its run raised is in its record
            metrics.shadow_dropped.labels(generation.model, "failed").inc()
        finally:
            generation.release()

    def _drop_all(self) -> None:
        while self._waiting:
            generation, _ = self._waiting.popleft()
            metrics.shadow_dropped.labels(generation.model, "shutdown").inc()
            generation.release()


def _prepared_for(loaded: LoadedVersion, generation: Generation, copy: ShadowCopy) -> Prepared:
    """The copy's tensors; made anew when the shadow's signature differs from the answering version's."""
    answering = generation.versions[copy.decision.version].manifest
    if (answering.inputs, answering.features) == (loaded.manifest.inputs, loaded.manifest.features):
        return copy.prepared
    return prepare(copy.request, loaded.manifest, generation.snapshot.policy)
