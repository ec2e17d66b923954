"""What hooks are told and what their answers mean. Pure: the posting is `hooks`'.

A confirming hook is asked before an act. `yes` from all of them lets it happen; `no` before a step holds the rollout
until a person goes on, and before the promotion rolls it back; anything else is `wait`, within the step's time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from gateway.documents.cloud_event import cloud_event
from gateway.documents.hook import Hook, shown
from gateway.documents.rollout import Phase, Rollout
from gateway.rollout.transition import Act, Action, step_of

MAX_ANSWER_BYTES = 65_536
"""A longer answer is no answer."""

_SHOWN_CHARACTERS = 300

_MOMENTS = {
    Act.SHADOW: "before_step",
    Act.CANARY: "before_step",
    Act.APPROVE: "before_promotion",
    Act.PROMOTE: "before_promotion",
}

Word = Literal["yes", "no", "wait"]


class Answer(NamedTuple):
    """What a hook said, or why it counts as `wait`. url: without what may be secret in it."""

    url: str
    word: Word
    reason: str


class _Said(msgspec.Struct):
    answer: Literal["yes", "no", "wait"]
    reason: str = ""


def moment_of(action: Action) -> str:
    """`before_step` or `before_promotion`, for acts that hooks are asked about; empty: they are not.

    An approval comes behind the hooks: nobody is asked for a yes that a hook would not let count.
    """
    return _MOMENTS.get(action.act, "")


def listeners(hooks: Sequence[Hook], moment: str, confirm: bool) -> list[Hook]:
    """The hooks that want to hear of this moment, and whose answer counts (or not)."""
    return [hook for hook in hooks if moment in hook.on and hook.confirm is confirm]


def read_answer(url: str, status: int, body: bytes) -> Answer:
    """The answer in a reply. What can not be understood is `wait`, and says why."""
    if status != 200:
        return Answer(shown(url), "wait", f"answered with status {status}")
    if len(body) > MAX_ANSWER_BYTES:
        return Answer(shown(url), "wait", f"answered with more than {MAX_ANSWER_BYTES} bytes")
    try:
        said = msgspec.json.decode(body, type=_Said)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Answer(shown(url), "wait", 'answered with something else than {"answer": "yes", "no" or "wait"}')
    return Answer(shown(url), said.answer, said.reason[:_SHOWN_CHARACTERS])


def confirmed(rollout: Rollout, action: Action, answers: Sequence[Answer], now: float) -> Action:
    """The action after the hooks were asked: itself, or what their answers make of it."""
    evidence = {**action.verdict.evidence, "hooks": [answer._asdict() for answer in answers]}
    verdict = dataclasses.replace(action.verdict, evidence=evidence)
    for answer in answers:
        if answer.word == "no":
            return _refused(rollout, dataclasses.replace(action, verdict=verdict), answer)
    waiting = [answer for answer in answers if answer.word == "wait"]
    if not waiting:
        return dataclasses.replace(action, verdict=verdict)
    reason = f"hook: {_told(waiting[0])}"
    if not _is_late(rollout, now) or rollout.phase is Phase.HELD:
        return Action(Act.NOTHING, reason, rollout.step, action.verdict)
    act = Act.ROLL_BACK if rollout.without_evidence == "roll_back" else Act.HOLD
    return Action(act, f"not confirmed in time, {reason}", rollout.step, verdict)


def _refused(rollout: Rollout, action: Action, answer: Answer) -> Action:
    reason = f"hook: {_told(answer)}"
    if moment_of(action) == "before_promotion":
        return Action(Act.ROLL_BACK, reason, rollout.step, action.verdict)
    goes_on = f"go on with: gateway rollout resume {rollout.model}"
    return Action(Act.HOLD, f"{reason}; {goes_on}", rollout.step, action.verdict, refused=True)


def _told(answer: Answer) -> str:
    said = f"waits for {answer.url}" if answer.word == "wait" else f"{answer.url} said {answer.word}"
    return f"{said}: {answer.reason}" if answer.reason else said


def _is_late(rollout: Rollout, now: float) -> bool:
    """True when the step under way, or the first one that is still to begin, is over its time."""
    step = rollout.steps[0] if rollout.step < 0 else step_of(rollout)
    return step.at_most_seconds is not None and now - rollout.step_since > step.at_most_seconds


def event(rollout: Rollout, moment: str, place: str, now: float, facts: Mapping[str, Any]) -> bytes:
    """What a hook is sent. place: makes its id, so that a repeat is the same event."""
    return cloud_event(
        id=f"rollout/{rollout.model}/{rollout.number}/{place}",
        source=f"/models/{rollout.model}/rollout",
        type=f"gateway.rollout.{moment}",
        subject=f"{rollout.model}@{rollout.version}",
        time=now,
        data={
            "model": rollout.model,
            "version": rollout.version,
            "champion": rollout.champion,
            "number": rollout.number,
            "plan": rollout.plan,
            "phase": str(rollout.phase),
            "step": rollout.step,
            "weight": rollout.weight,
            "dry_run": rollout.dry_run,
            **facts,
        },
    )
