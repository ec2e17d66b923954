"""The record of a run: what happened, with everything that analysis and replay need. Pure values."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

from gateway.documents.policy import Fallback
from gateway.execution.contract import Prepared
from gateway.execution.executor import Run
from gateway.execution.tensors import to_json
from gateway.journal.record import Prediction
from gateway.names import Outcome, Reason, Role
from gateway.routing.decide import Decision, Facts
from gateway.routing.snapshot import Snapshot

_ENCODER = msgspec.msgpack.Encoder()


def record_of(
    snapshot: Snapshot,
    decision: Decision,
    prepared: Prepared,
    ended: Run,
    facts: Facts,
    flags: tuple[str, ...] = (),
    trace: str = "",
) -> Prediction:
    """The record of one run that answers, or tried to."""
    if ended.listed is not None:
        outputs, non_finite = ended.listed, 0
    else:
        outputs, non_finite = to_json(ended.outputs) if ended.outputs is not None else ({}, 0)
    inputs, digest = prepared.values, ""
    if not prepared.is_small:
        inputs, digest = _kept(inputs, snapshot.policy.journal.max_record_bytes)
    own = prepared.flags
    if flags or non_finite:
        own = (*own, *flags, *(("non_finite",) if non_finite else ()))
    return Prediction(
        id=facts.request,
        model=snapshot.model,
        version=decision.version,
        role=decision.role,
        reason=decision.reason,
        revision=snapshot.revision,
        outcome=ended.outcome,
        latency_us=ended.latency_us,
        rows=prepared.rows,
        contract=decision.version,
        inputs=inputs,
        outputs=outputs,
        split=snapshot.split,
        bucket=decision.bucket,
        keyed=decision.keyed,
        flags=own,
        inputs_digest=digest,
        trace=trace,
        error=ended.error,
        draw="" if facts.key is not None else facts.draw,
    )


def shadow_record_of(
    snapshot: Snapshot, decision: Decision, version: int, prepared: Prepared, ended: Run, facts: Facts
) -> Prediction:
    """The record of a shadow's run. Its inputs are those of the answer with the same id: not written twice."""
    shadowed = decision._replace(version=version, role=Role.SHADOW)
    record = record_of(snapshot, shadowed, prepared, ended, facts)
    return msgspec.structs.replace(record, inputs=None, inputs_digest="", contract=decision.version)


def value_record_of(failed: Prediction, fallback: Fallback) -> Prediction:
    """The record of an answer by a fixed value, after this run failed."""
    value: Mapping[str, Any] = fallback.value or {}
    return msgspec.structs.replace(
        failed,
        version=0,
        reason=Reason.FALLBACK_VALUE,
        outcome=Outcome.OK,
        latency_us=0,
        outputs=dict(value),
        error="",
    )


def _kept(values: Any, max_record_bytes: int) -> tuple[Any, str]:
    encoded = _ENCODER.encode(values)
    if len(encoded) <= max_record_bytes:
        return values, ""
    return None, hashlib.sha256(encoded).hexdigest()
