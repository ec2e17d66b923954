"""The request path: lease, decide, check, run, write down, answer.

One chain of plain functions for every door: `submit` is called back, `predict` waits for it. Nothing between a request
and its answer is a task of its own; the steps meet where requests of one turn share a run and a write.

Knows neither HTTP nor stores: inputs come decoded, records go to the tee, errors are those of `gateway.errors`.
One write to the journal covers all answers of one turn of the event loop, before any of them leaves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

import numpy as np
from msgspec.structs import replace

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
from gateway.execution.executor import Executor, Run
from gateway.execution.session import LoadedVersion
from gateway.journal.record import Feedback
from gateway.journal.tee import Tee
from gateway.names import Lookup, ModelName, Outcome, Reason, Role
from gateway.registry.manifest import Manifest
from gateway.routing.decide import Decision, Facts, decide
from gateway.serving.access import TokenCheck
from gateway.serving.arm import Arm
from gateway.serving.batcher import Batcher
from gateway.serving.cache import ResponseCache, key_of
from gateway.serving.call import Attempt, Call, Done
from gateway.serving.generation import Generation
from gateway.serving.identity import RecentIds, RequestIds
from gateway.serving.measure import Measures
from gateway.serving.pressure import Pressure
from gateway.serving.request import Answer, PredictRequest, ServedModel, first_record
from gateway.serving.shadow import Shadows
from gateway.serving.turn import Turn
from gateway.serving.writing import record_of, value_record_of

__all__ = ["Answer", "PredictRequest", "ServedModel", "Serving"]

_NOT_WRITTEN = "the journal can not take the record and the policy refuses to answer without it"


class Serving:
    """What one process serves; `install` is called by the pickup loop, one model at a time."""

    def __init__(
        self,
        tee: Tee,
        executor: Executor,
        clock: Clock,
        shadows: Shadows,
        verify_token: TokenCheck,
        wait_seconds: float = 0.25,
    ) -> None:
        """wait_seconds: a request that would wait longer before it runs is refused."""
        self.generations: dict[ModelName, Generation] = {}
        self.refusals: dict[ModelName, str] = {}
        self.lease_until = float("inf")
        self.is_draining = False
        self._turn = Turn(tee, clock.monotonic, self._written)
        self._pressure = Pressure(wait_seconds * 1e6)  # of this event loop
        self._executor = executor
        self._batcher = Batcher(executor, clock.monotonic, self._ended, self._refused, self._wake)
        self._is_due = False  # the end of this turn is scheduled
        self._syncing: set[asyncio.Task[bool]] = set()
        self._clock = clock
        self._monotonic = clock.monotonic
        self._shadows = shadows
        self.verify_token = verify_token
        self._ids = RequestIds(clock)
        self._recent = RecentIds(100_000)
        self._measures = Measures()

    def prepare(self, generation: Generation) -> None:
        """Make its arms, so that the first request is like any other. The one thing here that any thread may do."""
        for version in generation.versions:
            self._arm(generation, version)

    def install(self, generation: Generation) -> None:
        """Serve this from now on."""
        self.generations[generation.model] = generation
        self.refusals[generation.model] = ""

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

        Raises RequestError for what is wrong before a version was found; `done` is not called then.
        """
        started = self._monotonic()
        generation = self._generation(request.model)
        facts, flags = self._facts(request, generation, started)
        decision = decide(generation.snapshot, facts)
        arm = self._arm(generation, decision.version)
        expires = started + _deadline_seconds(request, generation)
        call = Call(request, generation, facts, flags, decision, arm, started, expires, done, [])
        if arm.cache is not None and self._look_up(call, arm.cache):
            return
        self._find_room(call)
        self._begin(call)
        self._batcher.add(Attempt(call, call.arm, call.decision))

    def _find_room(self, call: Call) -> None:
        """Where a challenger has no room, the champion answers in its place, unless the caller pinned it.

        Raises Overloaded.
        """
        patience_us = (call.expires - call.started) * 1e6
        full = call.arm.no_room(patience_us)
        if full is None:
            return
        rescue = _champion_instead(call)
        champion = None if rescue is None else self._arm(call.generation, rescue.version)
        if rescue is None or champion is None or champion.no_room(patience_us) is not None:
            raise full
        _count_rescue(call)
        call.decision, call.arm = rescue, champion

    def _begin(self, call: Call) -> None:
        call.generation.hold()
        call.arm.in_flight += 1

    def _look_up(self, call: Call, cache: ResponseCache) -> bool:
        """Answer the call with what is kept for its inputs. Whoever pins a version wants it to run."""
        key = key_of(call.request) if call.request.pinned is None else None
        kept = None if key is None else cache.get(key, call.started)
        if kept is None:
            call.cache_key, call.lookup = key, Lookup.BYPASS if key is None else Lookup.MISS
            return False
        call.lookup = Lookup.HIT
        self._begin(call)
        self._ended(Attempt(call, call.arm, replace(call.decision, reason=Reason.CACHE), kept.prepared), kept.run)
        return True

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
        return _loaded(generation, version or generation.snapshot.champion).manifest

    def hand_over_counts(self) -> None:
        """Bring the metrics up to date with what was answered."""
        self._measures.hand_over()

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

    def _arm(self, generation: Generation, version: int) -> Arm:
        arm = generation.arms.get(version)
        if arm is None:
            loaded = _loaded(generation, version)
            snapshot = generation.snapshot
            tally = self._measures.of(snapshot.model, version, snapshot.roles.get(version, Role.PREVIOUS))
            is_here = self._executor.at_once(loaded) == 0
            pressure = self._pressure if is_here else Pressure(self._pressure.limit_us)
            arm = generation.arms[version] = Arm(loaded, snapshot, tally, pressure)
        return arm

    def _facts(self, request: PredictRequest, generation: Generation, now: float) -> tuple[Facts, tuple[str, ...]]:
        made = self._ids.next()
        allowed = now <= self.lease_until
        fields = first_record(request.inputs) if generation.snapshot.policy.rules else {}
        if request.id is None:
            return Facts(made, made, request.key, request.pinned, request.headers, fields, allowed), ()
        flags = ("duplicate_id",) if self._recent.seen(request.id) else ()
        return Facts(request.id, made, request.key, request.pinned, request.headers, fields, allowed), flags

    def _wake(self) -> None:
        """What is waiting now is dealt with once everything that came in together has been read."""
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._end_turn)

    def _end_turn(self) -> None:
        try:
            self._batcher.flush()
        finally:
            self._turn.flush()
            self._measures.turn_over()
            self._is_due = False
            if self._batcher.has_waiting:
                self._wake()

    def _refused(self, attempt: Attempt, error: Exception) -> None:
        """The inputs do not fit the version."""
        self._leave(attempt.call, error)

    def _ended(self, attempt: Attempt, run: Run) -> None:
        """A version has run, or failed: write it down, or ask the next fallback."""
        call = attempt.call
        try:
            call.records.append(record_of(attempt, run))
            call.tally = attempt.arm.tally
            if call.first is None:
                call.first = attempt.prepared
            if run.whole is not None:
                call.answered = run
                self._keep(attempt, run)
                self._write(call)
            else:
                if call.failed is None or call.failed.is_lost:
                    call.failed = run
                self._fall_back(call)
        except Exception as error:  # noqa: BLE001 - whatever fails here, the caller gets an answer
            self._leave(call, error)

    def _keep(self, attempt: Attempt, run: Run) -> None:
        call, cache = attempt.call, attempt.call.arm.cache
        if call.cache_key is not None and cache is not None and attempt.arm is call.arm:
            assert attempt.prepared is not None, "it has run"
            cache.put(call.cache_key, attempt.prepared, run, self._monotonic())

    def _write(self, call: Call) -> None:
        self._turn.add(call)
        self._wake()

    def _fall_back(self, call: Call) -> None:
        """Ask what the policy names next; when nothing is left the failure itself is written and answered."""
        if call.fallbacks is None:
            call.fallbacks = iter(call.generation.snapshot.policy.fallback)
        for fallback in call.fallbacks:
            if fallback.value is not None:
                call.records.append(value_record_of(call.records[0], fallback))
                outputs = {name: np.asarray(value) for name, value in fallback.value.items()}
                call.answered = Run(outputs, Outcome.OK, 0)
                return self._write(call)
            decision = _fallback_decision(call.generation, fallback, call.decision)
            if decision is not None:
                return self._batcher.add(Attempt(call, self._arm(call.generation, decision.version), decision))
        rescue = _rescue(call)
        if rescue is not None:
            _count_rescue(call)
            return self._batcher.add(Attempt(call, self._arm(call.generation, rescue.version), rescue))
        return self._write(call)

    def _written(self, call: Call, is_written: bool, now: float) -> None:
        """The turn's write is over: answer as the policy says."""
        journal = call.generation.snapshot.policy.journal
        if not is_written:
            if journal.on_failure == "refuse":
                self._leave(call, Unavailable(_NOT_WRITTEN))
            else:
                self._answer(call, "dropped", now)
        elif journal.durability == "strict":
            syncing = asyncio.get_running_loop().create_task(self._turn.synced())
            self._syncing.add(syncing)
            syncing.add_done_callback(partial(self._synced, call))
        else:
            self._answer(call, "process", now)

    def _synced(self, call: Call, syncing: asyncio.Task[bool]) -> None:
        self._syncing.discard(syncing)
        is_safe = not syncing.cancelled() and syncing.exception() is None and syncing.result()
        self._answer(call, "strict" if is_safe else "dropped", self._monotonic())
        self._measures.turn_over()

    def _answer(self, call: Call, journal: str, now: float) -> None:
        last = call.records[-1]
        tally = call.tally if last.version else self._measures.of(last.model, 0, last.role)
        assert tally is not None, "something has been tried"
        tally.answered(last.outcome, last.latency_us, now - call.started, call.lookup)
        if call.answered is None:
            assert call.failed is not None
            return self._leave(call, _failure(call.failed))
        if call.decision.shadows:
            self._copy_to_shadows(call)
        return self._leave(call, Answer(last, call.answered, journal))

    def _leave(self, call: Call, ended: Answer | Exception) -> None:
        call.generation.release()
        call.arm.in_flight -= 1
        call.done(ended)

    def _copy_to_shadows(self, call: Call) -> None:
        if self._pressure.is_high:
            metrics.shadow_dropped.labels(call.generation.model, "overload").inc(len(call.decision.shadows))
            return
        for version in call.decision.shadows:
            if version in call.generation.versions:
                decision = replace(call.decision, version=version, role=Role.SHADOW)
                self._shadows.offer(Attempt(call, self._arm(call.generation, version), decision, call.first))


def _loaded(generation: Generation, version: int) -> LoadedVersion:
    loaded = generation.versions.get(version)
    if loaded is None:
        there = ", ".join(map(str, sorted(generation.versions)))
        raise VersionNotLoaded(f"{generation.model}@{version} is not loaded; loaded are {there}")
    return loaded


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


def _rescue(call: Call) -> Decision | None:
    """The champion's turn when a challenger's process was away: that is the gateway's fault, not these inputs'.

    Whoever pinned the version wants that one and no other; a passed deadline leaves no time; once is enough.
    """
    failed, champion = call.failed, call.generation.snapshot.champion
    is_asked = any(record.version == champion for record in call.records)
    if failed is None or not failed.is_lost or failed.outcome is Outcome.DEADLINE or is_asked:
        return None
    return _champion_instead(call)


def _champion_instead(call: Call) -> Decision | None:
    if call.decision.reason is Reason.PINNED:
        return None
    return _fallback_decision(call.generation, Fallback(version="champion"), call.decision)


def _count_rescue(call: Call) -> None:
    metrics.champion_rescues.labels(call.generation.model, str(call.decision.version)).inc()


def _failure(ended: Run) -> GatewayError:
    if ended.outcome is Outcome.DEADLINE:
        return DeadlineExceeded("the deadline passed before the model answered", retry_after_seconds=1.0)
    if ended.is_lost:
        return Unavailable(ended.error)
    return ExecutionError(ended.error or "the model failed on these inputs")
