"""What the supervisor did, as decisions in the control stream: people see them as events, and a year later.

Each has an id made from what it is about, so that a repeat after a crash is the same decision.
"""

from __future__ import annotations

import logging

from gateway.documents.job import Job
from gateway.journal.record import Decision
from gateway.journal.tee import Tee
from gateway.retraining.memory import Memory
from gateway.retraining.triggers import Refused

RULE = "retraining/1"
MOST_CHARACTERS = 1000

log = logging.getLogger("gateway.retraining")


def tell_refusal(tee: Tee, memory: Memory, refused: Refused, alert: str) -> None:
    """A cause was not followed, and why. alert: the one that waited for it."""
    decision = Decision(
        id=f"retraining-{memory.model}-refuse-{memory.revision}",
        model=memory.model,
        actor="retraining",
        action="refuse",
        reason=refused.reason[:MOST_CHARACTERS],
        rule=RULE,
        evidence={"alert": alert, "pending": refused.keep},
    )
    _tell(tee, decision)


def tell_question(tee: Tee, memory: Memory) -> None:
    """A person is needed: in the log, and as an event."""
    question = memory.state.asks_for_a_person
    log.warning("%s asks for a person: %s", memory.model, question)
    decision = Decision(
        id=f"retraining-{memory.model}-ask-{memory.revision}",
        model=memory.model,
        actor="retraining",
        action="ask",
        reason=question[:MOST_CHARACTERS],
        rule=RULE,
        evidence={"rejections": memory.state.rejections},
    )
    _tell(tee, decision)


def tell_job(tee: Tee, job: Job, action: str, reason: str, version: int = 0) -> None:
    """A job started or ended. action: start, publish, hold or reject."""
    decision = Decision(
        id=f"{job.id}-{action}-{job.attempts}",
        model=job.model,
        actor="retraining",
        action=action,
        reason=reason[:MOST_CHARACTERS],
        version=version,
        rule=RULE,
        evidence={
            "job": job.id,
            "trigger": job.trigger,
            "alert": job.alert,
            "state": str(job.state),
            "rows": job.rows,
            "data_digest": job.data_digest,
        },
    )
    _tell(tee, decision)


def _tell(tee: Tee, decision: Decision) -> None:
    tee.offer(decision)
    tee.flush()
