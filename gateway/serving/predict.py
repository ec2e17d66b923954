"""The request path: lease, decide, check, run, write down, answer.

Knows neither HTTP nor stores: inputs come decoded, records go to the tee, errors are those of `gateway.errors`.
One write to the journal covers all answers of one turn of the event loop, before any of them leaves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gateway.clock import Clock
from gateway.documents.policy import Fallback, Policy
from gateway.errors import (
    DeadlineExceeded,
    ExecutionError,
    GatewayError,
    ModelNotFound,
    Unavailable,
    VersionNotLoaded,
)
from gateway.execution.contract import Prepared
from gateway.execution.executor import Executor, Run, run
from gateway.execution.session import LoadedVersion
from gateway.execution.tensors import Tensors
from gateway.journal.record import Feedback, Prediction
from gateway.journal.tee import Tee
from gateway.names import ModelName, Outcome, Reason, Role
from gateway.registry.manifest import Manifest
from gateway.routing.decide import Decision, Facts, decide
from gateway.serving.access import TokenCheck
from gateway.serving.generation import Generation
from gateway.serving.identity import RecentIds, RequestIds
from gateway.serving.measure import Measures
from gateway.serving.request import Answer, PredictRequest, ServedModel, first_record, prepare
from gateway.serving.shadow import ShadowCopy, Shadows
from gateway.serving.turn import Turn
from gateway.serving.writing import record_of, value_record_of

__all__ = ["Answer", "PredictRequest", "ServedModel", "Serving"]


@dataclass(frozen=True, slots=True)
class _Attempt:
    """One version asked for one request, and how that ended."""

    decision: Decision
    prepared: Prepared
    run: Run
    record: Prediction


class Serving:
    """What one process serves; `generations` is swapped by the pickup loop, one model at a time."""

    def __init__(self, tee: Tee, executor: Executor, clock: Clock, shadows: Shadows, verify_token: TokenCheck) -> None:
        self.generations: dict[ModelName, Generation] = {}
        self.refusals: dict[ModelName, str] = {}
        self.lease_until = float("inf")
        self.is_draining = False
        self._turn = Turn(tee)
        self._executor = executor
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
        started = self._clock.monotonic()
        generation = self._generation(request.model)
        with generation.lease():
            facts, flags = self._facts(request)
            first = await self._attempt(generation, request, decide(generation.snapshot, facts), facts, flags)
            answered, records = await self._with_fallbacks(generation, request, first, facts, flags)
            journal = await self._write(records, generation.snapshot.policy)
            last = records[-1]
            self._measures.answered(last, self._clock.monotonic() - started)
            if answered is None:
                raise _failure(first.run)
            self._copy_to_shadows(generation, first, facts, request)
            return Answer(
                id=facts.request,
                model=generation.model,
                version=last.version or None,
                role=last.role,
                reason=last.reason,
                outputs=answered,
                listed=last.outputs,
                flags=last.flags,
                journal=journal,
            )

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
            raise ModelNotFound(f"model {model[:100]!r} is not served here")
        return found

    def _loaded(self, generation: Generation, version: int) -> LoadedVersion:
        loaded = generation.versions.get(version)
        if loaded is None:
            there = ", ".join(map(str, sorted(generation.versions)))
            raise VersionNotLoaded(f"{generation.model}@{version} is not loaded; loaded are {there}")
        return loaded

    def _facts(self, request: PredictRequest) -> tuple[Facts, tuple[str, ...]]:
        made = self._ids.next()
        flags = ("duplicate_id",) if request.id is not None and self._recent.seen(request.id) else ()
        facts = Facts(
            request=request.id if request.id is not None else made,
            draw=made,
            key=request.key,
            pinned=request.pinned,
            headers=request.headers,
            fields=first_record(request.inputs),
            challengers_allowed=self._clock.monotonic() <= self.lease_until,
        )
        return facts, flags

    async def _attempt(
        self,
        generation: Generation,
        request: PredictRequest,
        decision: Decision,
        facts: Facts,
        flags: tuple[str, ...],
    ) -> _Attempt:
        loaded = self._loaded(generation, decision.version)
        prepared = prepare(request, loaded.manifest, generation.snapshot.policy)
        ended = await run(self._executor, loaded, prepared.tensors, _deadline_seconds(request, generation))
        record = record_of(generation.snapshot, decision, prepared, ended, facts, flags, request.trace)
        return _Attempt(decision, prepared, ended, record)

    async def _with_fallbacks(
        self,
        generation: Generation,
        request: PredictRequest,
        first: _Attempt,
        facts: Facts,
        flags: tuple[str, ...],
    ) -> tuple[Tensors | None, list[Prediction]]:
        """The outputs to answer with (None: everything failed) and one record for each attempt, the answer last."""
        records = [first.record]
        if first.run.outputs is not None:
            return first.run.outputs, records
        for fallback in generation.snapshot.policy.fallback:
            if fallback.value is not None:
                records.append(value_record_of(first.record, fallback))
                return {name: np.asarray(value) for name, value in fallback.value.items()}, records
            decision = _fallback_decision(generation, fallback, first.decision)
            if decision is not None:
                attempt = await self._attempt(generation, request, decision, facts, flags)
                records.append(attempt.record)
                if attempt.run.outputs is not None:
                    return attempt.run.outputs, records
        return None, records

    async def _write(self, records: Sequence[Prediction], policy: Policy) -> str:
        written = await self._turn.offer(records)
        if not written:
            if policy.journal.on_failure == "refuse":
                raise Unavailable("the journal can not take the record and the policy refuses to answer without it")
            return "dropped"
        if policy.journal.durability == "strict":
            return "strict" if await self._turn.synced() else "dropped"
        return "process"

    def _copy_to_shadows(self, generation: Generation, first: _Attempt, facts: Facts, request: PredictRequest) -> None:
        for version in first.decision.shadows:
            if version in generation.versions:
                self._shadows.offer(generation, ShadowCopy(version, first.decision, first.prepared, facts, request))


def _deadline_seconds(request: PredictRequest, generation: Generation) -> float:
    policy_ms = generation.snapshot.policy.deadline_ms
    return min(request.deadline_ms or policy_ms, policy_ms) / 1000


def _fallback_decision(generation: Generation, fallback: Fallback, first: Decision) -> Decision | None:
    route = generation.snapshot.route
    named = {"previous": route.previous, "champion": route.champion}
    version = named.get(fallback.version) if isinstance(fallback.version, str) else fallback.version
    if version is None or version == first.version or version not in generation.versions:
        return None
    role = generation.snapshot.roles.get(version, Role.PREVIOUS)
    return Decision(version, role, Reason.FALLBACK_VERSION, first.bucket, first.keyed, ())


def _failure(ended: Run) -> GatewayError:
    if ended.outcome is Outcome.DEADLINE:
        return DeadlineExceeded("the deadline passed before the model answered", retry_after_seconds=1.0)
    return ExecutionError(ended.error or "the model failed on these inputs")
