"""Plans that can never end, or that say nothing sensible: found when a policy is read, not when a version hangs in one.

Pure. Every fault names the key's place below the plan and says what to write instead.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from gateway.documents.policy import PlanStep, RolloutPolicy

PLANS = ("steps", "expedited", "blue_green")
"""The plans of a policy, as `plan` names them when a rollout starts."""

Fault = tuple[tuple[str | int, ...], str]
"""A place (keys and numbers) and what is wrong there."""


def rollout_faults(policy: RolloutPolicy) -> Iterator[Fault]:
    """What is wrong with the plans of a policy; places are below `rollout`."""
    for name in PLANS:
        for place, detail in plan_faults(name, getattr(policy, name)):
            yield (name, *place), detail


def plan_faults(name: str, steps: Sequence[PlanStep]) -> Iterator[Fault]:
    """What is wrong with one plan; places are below it: (2, "until")."""
    highest = 0.0
    for place, step in enumerate(steps):
        for key, detail in _step_faults(step):
            yield (place, key), detail
        if step.canary is not None:
            if name == "blue_green":
                yield (place, "canary"), "blue_green switches at once; callers are moved in parts by the plan `steps`"
            if step.canary < highest:
                detail = f"{step.canary:g} % comes after {highest:g} %: weights only rise, or callers go to and fro"
                yield (place, "canary"), f"{detail}; to take a version back, roll it back"
            highest = max(highest, step.canary)
        if step.shadow is not None and highest:
            yield (place, "shadow"), "comes after a canary step and takes its callers away again; put it before them"


def _step_faults(step: PlanStep) -> Iterator[tuple[str, str]]:
    if step.at_most == 0:
        yield "at_most", "is over before the step began; write a longer time or leave it out"
    if step.promote is not None:
        yield from _promote_faults(step)
        return
    if step.hold is not None and step.at_most is not None and step.hold > step.at_most:
        longer = f"lasts longer than at_most ({step.hold:g} s against {step.at_most:g} s)"
        yield "hold", f"{longer}, so the step could never end"
    if step.hold == math.inf:
        yield "hold", "never ends; write a duration such as 10m, or promote: approve to wait for a person"
    if step.canary == 100:
        nothing = "leaves the champion nothing to be compared with, so the step would never end"
        yield "canary", f"{nothing}; write promote, or a weight below 100"
    until = step.until
    if until is not None and step.canary is not None and until.pairs:
        nothing = "a canary answers alone: there are no pairs to count and the step would never end"
        yield "until", f"{nothing}; write until: {{requests: {until.pairs}}}"
    if until is not None and step.shadow is not None and until.requests:
        nothing = "a shadow answers nobody: there are no requests to count and the step would never end"
        yield "until", f"{nothing}; write until: {{pairs: {until.requests}}}"


def _promote_faults(step: PlanStep) -> Iterator[tuple[str, str]]:
    for key in ("until", "hold"):
        if getattr(step, key) is not None:
            yield key, "has no meaning on promote, which ends the plan; put it on the step before"
    if step.at_most and step.promote == "auto":
        yield "at_most", "has no meaning on promote: auto, which waits for nothing; put it on the step before"
