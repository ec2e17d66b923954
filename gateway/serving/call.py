"""One request on its way, and each version's attempt to answer it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from msgspec import Struct

from gateway.documents.policy import Fallback
from gateway.execution.contract import Prepared
from gateway.execution.executor import Run
from gateway.journal.record import Prediction
from gateway.names import Lookup
from gateway.routing.decide import Decision, Facts
from gateway.serving.arm import Arm
from gateway.serving.generation import Generation
from gateway.serving.measure import Tally
from gateway.serving.request import Answer, PredictRequest

Done = Callable[[Answer | Exception], None]
"""Told the answer, or why there is none."""


class Call(Struct, eq=False):
    """One request. started, expires: monotonic seconds. records: one for each attempt that has ended.

    first: what shadows get. failed: how the first attempt failed. answered: what the caller gets, once there is
    something. tally: of the newest attempt. arm: of the first one. cache_key: under which the answer will be kept.
    """

    request: PredictRequest
    generation: Generation
    facts: Facts
    flags: tuple[str, ...]
    decision: Decision
    arm: Arm
    started: float
    expires: float
    done: Done
    records: list[Prediction]
    fallbacks: Iterator[Fallback] | None = None
    first: Prepared | None = None
    failed: Run | None = None
    answered: Run | None = None
    tally: Tally | None = None
    lookup: Lookup = Lookup.BYPASS
    cache_key: bytes | None = None


class Attempt(Struct, eq=False):
    """A version's turn at one call. prepared: set once the inputs are checked. is_over: it has ended, or is late.

    cost_us: what it will take of its worker's time, estimated. is_watched: a timer ends it at its deadline.
    """

    call: Call
    arm: Arm
    decision: Decision
    prepared: Prepared | None = None
    cost_us: float = 0.0
    is_over: bool = False
    is_watched: bool = False
