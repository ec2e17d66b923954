"""The request path: lease, decide, check, run, write down, answer.

One chain of plain functions for every door: `submit` is called back, `predict` waits for it. Nothing between a request
and its answer is a task of its own; the steps meet where requests of one turn share a run and a write.

Knows neither HTTP nor stores: inputs come decoded, records go to the tee, errors are those of `gateway.errors`.
One write to the journal covers all answers of one turn of the event loop, before any of them leaves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
from msgspec import Struct

from gateway import metrics
from gateway.clock import Clock
from gateway.documents.policy import Fallback
from gateway.errors import (
    DeadlineExceeded,
    ExecutionError,
    GatewayError,
    ModelNotFound,
    Unavailable,
    VersionNotLoaded,
)
from gateway.execution.contract import Prepared
from gateway.execution.executor import Executor, Run
from gateway.execution.session import LoadedVersion
from gateway.execution.tensors import Tensors
from gateway.journal.record import Feedback, Prediction
from gateway.journal.tee import Tee
from gateway.names import ModelName, Outcome, Reason, Role
from gateway.registry.manifest import Manifest
from gateway.routing.decide import Decision, Facts, decide
from gateway.serving.access import TokenCheck
from gateway.serving.batcher import Batcher
from gateway.serving.generation import Generation
from gateway.serving.identity import RecentIds, RequestIds
from gateway.serving.measure import Measures
from gateway.serving.request import Answer, PredictRequest, ServedModel, first_record, prepare
from gateway.serving.shadow import ShadowCopy, Shadows
from gateway.serving.turn import Turn
from gateway.serving.writing import record_of, value_record_of

__all__ = ["Answer", "PredictRequest", "ServedModel", "Serving"]

_NOT_WRITTEN = "the journal can not take the record and the policy refuses to answer without it"


Done = Callable[[Answer | Exception], None]
"""Told the answer, or why there is none."""


class _Call(Struct):
    """One request on its way. records: one for each attempt so far. first: what the first attempt was given."""

    request: PredictRequest
    generation: Generation
    facts: Facts
    flags: tuple[str, ...]
    decision: Decision
    started: float
    done: Done
    records: list[Prediction]
    fallbacks: Iterator[Fallback]
    first: Prepared | None = None
    failed: Run | None = None


class Serving:
    """What one process serves; `generations` is swapped by the pickup loop, one model at a time."""

    def __init__(self, tee: Tee, executor: Executor, clock: Clock, shadows: Shadows, verify_token: TokenCheck) -> None:
        self.generations: dict[ModelName, Generation] = {}
        self.refusals: dict[ModelName, str] = {}
        self.lease_until = float("inf")
        self.is_draining = False
        self._turn = Turn(tee)
        self._batcher = Batcher(executor, self._end_turn)
        self._syncing: set[asyncio.Task[bool]] = set()
        self._clock = clock
        self._shadows = shadows
        self.verify_token = verify_token
        self._ids = RequestIds(clock)
        self._recent = RecentIds(100_000)
        self._measures = Measures()

    async def predict(self, request: PredictRequest) -> Answer:
        """Answer one request; its record is in the kernel (or counted as dropped) when this returns.

        Raises RequestError, Unavailable or ExecutionError.
        """
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

        def done(ended: Answer | Exception) -> None:
            if answered.done():  # the caller was cancelled
                return
            if isinstance(ended, Exception):
                answered.set_exception(ended)
            else:
                answered.set_result(ended)

        self.submit(request, done)
        return await answered

    def submit(self, request: PredictRequest, done: Done) -> None:
        """Answer one request: `done` is called once, in this event loop, after the turn's write to the journal.

        Raises RequestError for what is wrong before anything ran; `done` is not called then.
        """
        started = self._clock.monotonic()
        generation = self._generation(request.model)
        facts, flags = self._facts(request, started)
        decision = decide(generation.snapshot, facts)
        fallbacks = iter(generation.snapshot.policy.fallback)
        call = _Call(request, generation, facts, flags, decision, started, done, [], fallbacks)
        generation.hold()
        try:
            self._attempt(call, decision)
        except BaseException:
            generation.release()
            raise

    def feedback(self, items: Sequence[Feedback]) -> bool:
        """Write labels and values down. False when the journal could not take them."""
        return self._turn.write(items)

    def models(self) -> list[ServedModel]:
        """What is served now, by name."""
        return [
            ServedModel(
                name=name,
                champion=generation.snapshot.champion,
                revision=generation.snapshot.revision,
                route=generation.snapshot.route,
                manifests={number: loaded.manifest for number, loaded in generation.versions.items()},
            )
            for name, generation in sorted(self.generations.items())
        ]

    def manifest(self, model: str, version: int | None) -> Manifest:
        """The manifest of a served version, the champion's when none is named."""
        generation = self._generation(model)
        return self._loaded(generation, version or generation.snapshot.champion).manifest

    def readiness(self) -> tuple[bool, list[str]]:
        """True when every champion answers; else the reasons."""
        reasons = ["draining"] if self.is_draining else []
        reasons += [f"{model}: {reason}" for model, reason in sorted(self.refusals.items()) if reason]
        return not reasons, reasons

    def _generation(self, model: str | None) -> Generation:
        if model is None:
            if len(self.generations) == 1:
                return next(iter(self.generations.values()))
            names = ", ".join(sorted(self.generations)) or "none yet"
            raise ModelNotFound(f"name a model: served are {names}")
        found = self.generations.get(ModelName(model))
        if found is None:
            if refusal := self.refusals.get(ModelName(model)):
                raise Unavailable(f"model {model} has no version that may answer: {refusal}")
            raise ModelNotFound(f"model {model[:100]!r} is not served here")
        return found

    def _loaded(self, generation: Generation, version: int) -> LoadedVersion:
        loaded = generation.versions.get(version)
        if loaded is None:
            there = ", ".join(map(str, sorted(generation.versions)))
            raise VersionNotLoaded(f"{generation.model}@{version} is not loaded; loaded are {there}")
        return loaded

    def _facts(self, request: PredictRequest, now: float) -> tuple[Facts, tuple[str, ...]]:
        made = self._ids.next()
        flags = ("duplicate_id",) if request.id is not None and self._recent.seen(request.id) else ()
        facts = Facts(
            request.id if request.id is not None else made,
            made,
            request.key,
            request.pinned,
            request.headers,
            first_record(request.inputs),
            now <= self.lease_until,
        )
        return facts, flags

    def _attempt(self, call: _Call, decision: Decision) -> None:
        """Check the inputs by this version's contract and let it run. Raises RequestError."""
        generation = call.generation
        loaded = self._loaded(generation, decision.version)
        prepared = prepare(call.request, loaded.manifest, generation.snapshot.policy)
        if call.first is None:
            call.first = prepared
        deadline = _deadline_seconds(call.request, generation)
        self._batcher.add(
            loaded, prepared.tensors, prepared.rows, deadline, partial(self._ended, call, decision, prepared)
        )

    def _ended(self, call: _Call, decision: Decision, prepared: Prepared, ended: Run) -> None:
        """A version has run, or failed: write it down, or ask the next fallback."""
        try:
            snapshot = call.generation.snapshot
            call.records.append(
                record_of(snapshot, decision, prepared, ended, call.facts, call.flags, call.request.trace)
            )
            if ended.outputs is not None:
                self._turn.add(call.records, partial(self._written, call, ended.outputs))
            else:
                if call.failed is None or call.failed.is_lost:
                    call.failed = ended
                self._fall_back(call)
        except Exception as error:  # noqa: BLE001 - whatever fails here, the caller gets an answer
            self._leave(call, error)

    def _fall_back(self, call: _Call) -> None:
        """Ask what the policy names next; when nothing is left the failure itself is written and answered."""
        for fallback in call.fallbacks:
            if fallback.value is not None:
                call.records.append(value_record_of(call.records[0], fallback))
                outputs = {name: np.asarray(value) for name, value in fallback.value.items()}
                return self._turn.add(call.records, partial(self._written, call, outputs))
            decision = _fallback_decision(call.generation, fallback, call.decision)
            if decision is not None:
                return self._attempt(call, decision)
        rescue = _rescue(call)
        if rescue is not None:
            metrics.champion_rescues.labels(call.generation.model, str(call.decision.version)).inc()
            return self._attempt(call, rescue)
        return self._turn.add(call.records, partial(self._written, call, None))

    def _written(self, call: _Call, outputs: Tensors | None, is_written: bool) -> None:
        """The turn's write is over: answer as the policy says."""
        journal = call.generation.snapshot.policy.journal
        if not is_written:
            if journal.on_failure == "refuse":
                self._leave(call, Unavailable(_NOT_WRITTEN))
            else:
                self._answer(call, outputs, "dropped")
        elif journal.durability == "strict":
            syncing = asyncio.get_running_loop().create_task(self._turn.synced())
            self._syncing.add(syncing)
            syncing.add_done_callback(partial(self._synced, call, outputs))
        else:
            self._answer(call, outputs, "process")

    def _synced(self, call: _Call, outputs: Tensors | None, syncing: asyncio.Task[bool]) -> None:
        self._syncing.discard(syncing)
        is_safe = not syncing.cancelled() and syncing.exception() is None and syncing.result()
        self._answer(call, outputs, "strict" if is_safe else "dropped")

    def _answer(self, call: _Call, outputs: Tensors | None, journal: str) -> None:
        last = call.records[-1]
        self._measures.answered(last, self._clock.monotonic() - call.started)
        if outputs is None:
            assert call.failed is not None
            return self._leave(call, _failure(call.failed))
        answer = Answer(
            id=call.facts.request,
            model=call.generation.model,
            version=last.version or None,
            role=last.role,
            reason=last.reason,
            outputs=outputs,
            listed=last.outputs,
            flags=last.flags,
            journal=journal,
        )
        if call.decision.shadows:
            self._copy_to_shadows(call)
        return self._leave(call, answer)

    def _leave(self, call: _Call, ended: Answer | Exception) -> None:
        call.generation.release()
        call.done(ended)

    def _end_turn(self) -> None:
        self._turn.flush()
        self._measures.flush()

    def _copy_to_shadows(self, call: _Call) -> None:
        assert call.first is not None
        for version in call.decision.shadows:
            if version in call.generation.versions:
                copy = ShadowCopy(version, call.decision, call.first, call.facts, call.request)
                self._shadows.offer(call.generation, copy)


def _deadline_seconds(request: PredictRequest, generation: Generation) -> float:
    policy_ms = generation.snapshot.policy.deadline_ms
    asked_ms = request.deadline_ms
    return (policy_ms if asked_ms is None or asked_ms > policy_ms else asked_ms) / 1000


def _fallback_decision(generation: Generation, fallback: Fallback, first: Decision) -> Decision | None:
    route = generation.snapshot.route
    named = {"previous": route.previous, "champion": route.champion}
    version = named.get(fallback.version) if isinstance(fallback.version, str) else fallback.version
    if version is None or version == first.version or version not in generation.versions:
        return None
    role = generation.snapshot.roles.get(version, Role.PREVIOUS)
    return Decision(version, role, Reason.FALLBACK_VERSION, first.bucket, first.keyed, ())


def _rescue(call: _Call) -> Decision | None:
    """The champion's turn when a challenger's process was away: that is the gateway's fault, not these inputs'.

    Whoever pinned the version wants that one and no other; a passed deadline leaves no time; once is enough.
    """
    failed, champion = call.failed, call.generation.snapshot.champion
    is_asked = any(record.version == champion for record in call.records)
    if failed is None or not failed.is_lost or failed.outcome is Outcome.DEADLINE or is_asked:
        return None
    if call.decision.reason is Reason.PINNED:
        return None
    return _fallback_decision(call.generation, Fallback(version="champion"), call.decision)


def _failure(ended: Run) -> GatewayError:
    if ended.outcome is Outcome.DEADLINE:
        return DeadlineExceeded("the deadline passed before the model answered", retry_after_seconds=1.0)
    if ended.is_lost:
        return Unavailable(ended.error)
    return ExecutionError(ended.error or "the model failed on these inputs")
