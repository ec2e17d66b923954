"""The record of a run: what happened, with everything that analysis and replay need. Pure values."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

from gateway.documents.policy import Fallback
from gateway.execution.executor import Run
from gateway.execution.tensors import to_json
from gateway.journal.record import Prediction
from gateway.names import Outcome, Reason
from gateway.serving.call import Attempt

_ENCODER = msgspec.msgpack.Encoder()


def record_of(attempt: Attempt, ended: Run, answering: int = 0) -> Prediction:
    """The record of one run that answers, or tried to.

    answering: of a shadow's run, the version that answered. Its record has the same id and the inputs: they are not
    written twice.
    """
    call, decision, snapshot = attempt.call, attempt.decision, attempt.arm.snapshot
    facts, prepared, flags = call.facts, attempt.prepared, call.flags
    assert prepared is not None, "what does not fit is not run"
    if ended.listed is not None:
        outputs, non_finite = ended.listed, 0
    else:
        outputs, non_finite = to_json(ended.outputs or {})
    inputs, digest = None if answering else prepared.values, ""
    if not (answering or prepared.is_small):
        inputs, digest = _kept(inputs, snapshot.policy.journal.max_record_bytes)
    own = prepared.flags
    if flags or non_finite:
        own = (*own, *flags, *(("non_finite",) if non_finite else ()))
    return Prediction(  # by position: names cost a third of a microsecond here
        facts.request,
        snapshot.model,
        decision.version,
        decision.role,
        decision.reason,
        snapshot.revision,
        ended.outcome,
        ended.latency_us,
        prepared.rows,
        answering or decision.version,
        inputs,
        outputs,
        snapshot.split,
        decision.bucket,
        decision.keyed,
        own,
        digest,
        call.request.trace,
        ended.error,
        "" if facts.key is not None else facts.draw,
    )


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
