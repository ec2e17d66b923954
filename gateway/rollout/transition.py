"""Every transition of a rollout, and what an action makes of its document and of the route. Decides nothing.

`next_rollout` gives the document after an action, `next_route` the route that the phase of a rollout asks for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from msgspec.structs import replace

from gateway.documents.rollout import Phase, Rollout, Step
from gateway.documents.route import Route, changed, promoted, restored, with_shadow, with_weights, without
from gateway.errors import NotAllowed
from gateway.rollout.evidence.verdict import Verdict


class Act(StrEnum):
    """What an action does. The ones up to `restore` are the words of decision records and of the audit trail."""

    START = "start"
    SHADOW = "shadow"
    CANARY = "canary"
    APPROVE = "approve"  # wait for a person's yes
    PROMOTE = "promote"
    ROLL_BACK = "roll_back"
    HOLD = "hold"
    PAUSE = "pause"
    RESTORE = "restore"
    FINISH = "finish"
    END = "end"  # a person decided it in the route itself
    STOP = "stop"  # a dry run is over
    WRITE = "write"  # go on with a route change that was cut off
    ADOPT = "adopt"  # the cut-off change had reached the route: write that down
    NOTHING = "nothing"


STEPS = {
    Act.SHADOW: Phase.SHADOW,
    Act.CANARY: Phase.CANARY,
    Act.APPROVE: Phase.APPROVING,
    Act.PROMOTE: Phase.PROMOTED,
}
_ALWAYS = {Act.ROLL_BACK: Phase.ROLLED_BACK, Act.PAUSE: Phase.PAUSED, Act.END: Phase.PROMOTED}

TRANSITIONS: Mapping[Phase, Mapping[Act, Phase]] = {
    Phase.WAITING: {**STEPS, **_ALWAYS, Act.HOLD: Phase.HELD},
    Phase.SHADOW: {**STEPS, **_ALWAYS, Act.HOLD: Phase.HELD},
    Phase.CANARY: {**STEPS, **_ALWAYS, Act.HOLD: Phase.HELD},
    Phase.HELD: {**STEPS, **_ALWAYS, Act.HOLD: Phase.HELD, Act.START: Phase.WAITING},
    Phase.APPROVING: {Act.PROMOTE: Phase.PROMOTED, **_ALWAYS},
    Phase.PAUSED: {**STEPS, **_ALWAYS, Act.START: Phase.WAITING},
    Phase.PROMOTED: {
        Act.RESTORE: Phase.ROLLED_BACK,
        Act.FINISH: Phase.PROMOTED,
        Act.END: Phase.PROMOTED,
        Act.ROLL_BACK: Phase.ROLLED_BACK,  # these two: only while the promotion has not reached the route
        Act.PAUSE: Phase.PAUSED,
    },
    Phase.ROLLED_BACK: {},
}
"""Every transition there is. `promoted` moves only while its guards go on or its route is not written yet."""

WOULD = frozenset({Act.SHADOW, Act.CANARY, Act.APPROVE, Act.PROMOTE, Act.ROLL_BACK, Act.HOLD})
"""Acts that a dry run writes down instead of doing them."""

_SEEN = {Act.SHADOW: Phase.SHADOW, Act.CANARY: Phase.CANARY, Act.APPROVE: Phase.APPROVING}
_OVER = {Act.END: Phase.PROMOTED, Act.STOP: Phase.ROLLED_BACK}

DRY_TRANSITIONS: Mapping[Phase, Mapping[Act, Phase]] = {
    phase: {act: _SEEN.get(act, phase) for act in WOULD} | _OVER
    for phase in (Phase.WAITING, Phase.SHADOW, Phase.CANARY, Phase.APPROVING)
}
"""Those of a dry run: the phase is the one it would be in; a promotion or a roll-back leaves it where it is."""

MOVES_ROUTE = frozenset({Act.SHADOW, Act.CANARY, Act.PROMOTE, Act.ROLL_BACK, Act.RESTORE, Act.FINISH, Act.WRITE})
"""Acts that write the route."""


@dataclass(frozen=True, slots=True)
class Action:
    """What to do, why, and the verdict it rests on. step: the place in the plan that it leads to.

    counted: pairs and canary answers so far, for a dry run, whose steps all have the same route. refused: a hook said
    no, so that only a person goes on.
    """

    act: Act
    reason: str = ""
    step: int = -1
    verdict: Verdict = field(default_factory=lambda: Verdict("inconclusive", ""))
    counted: tuple[int, int] = (0, 0)
    refused: bool = False


def position(rollout: Rollout) -> tuple[str, float] | None:
    """What the version holds by the plan: ("shadow" or "canary", percent); None before the first such step."""
    for step in reversed(rollout.steps[: rollout.step + 1]):
        if step.canary is not None:
            return "canary", step.canary
        if step.shadow is not None:
            return "shadow", step.shadow
    return None


def held_by(route: Route, rollout: Rollout) -> tuple[str, float] | None:
    """What the route gives the version on trial: ("shadow" or "canary", percent); None: nothing."""
    for canary in route.canaries:
        if canary.version == rollout.version:
            return "canary", canary.weight
    for shadow in route.shadows:
        if shadow.version == rollout.version:
            return "shadow", shadow.share
    return None


def step_of(rollout: Rollout) -> Step:
    """The step under way; an empty one before the first."""
    return rollout.steps[rollout.step] if 0 <= rollout.step < len(rollout.steps) else Step()


def is_written(rollout: Rollout, route: Route) -> bool:
    """True when the route says what the rollout's phase asks for."""
    if rollout.phase is Phase.PROMOTED:
        is_finished = rollout.guarding or route.previous not in {shadow.version for shadow in route.shadows}
        return route.champion == rollout.version and is_finished
    if rollout.phase is Phase.ROLLED_BACK:
        can_restore = route.champion == rollout.version and route.previous is not None
        return rollout.version not in route.challengers and not can_restore
    return held_by(route, rollout) == position(rollout)


def next_rollout(rollout: Rollout, action: Action, now: float, revision: int) -> Rollout:
    """The rollout after the action. revision: the route's before it; a change of it is announced as `pending`.

    Raises NotAllowed for a transition that the table does not hold.
    """
    if action.act in {Act.NOTHING, Act.WRITE}:
        return rollout
    if action.act is Act.ADOPT:
        return replace(rollout, pending=0, written=revision)
    table = DRY_TRANSITIONS if rollout.dry_run else TRANSITIONS
    phase = table.get(rollout.phase, {}).get(action.act)
    if phase is None or not (rollout.is_live or rollout.pending):
        kind = "dry run" if rollout.dry_run else "rollout"
        raise NotAllowed(
            f"{action.act.replace('_', ' ')}: the {kind} of {rollout.model}@{rollout.version} is {rollout.phase}"
        )
    if rollout.dry_run:
        return _dry(rollout, action, phase, now)
    return replace(
        rollout,
        phase=phase,
        reason=action.reason,
        step=action.step,
        weight=_weight(rollout, action),
        since=now,
        step_since=now if action.act in STEPS else rollout.step_since,
        guarding=action.act is Act.PROMOTE and rollout.after_promotion_requests > 0,
        verdict=action.verdict.result,
        evidence=action.verdict.evidence or rollout.evidence,
        resume_to=rollout.phase if action.act is Act.PAUSE else None,
        pending=revision if action.act in MOVES_ROUTE else 0,
        refused=action.refused,
        waits_for="",
    )


def _dry(rollout: Rollout, action: Action, phase: Phase, now: float) -> Rollout:
    begins = action.act in _SEEN
    return replace(
        rollout,
        phase=phase,
        reason=action.reason,
        step=action.step,
        since=now,
        step_since=now if begins else rollout.step_since,
        would=action.act if action.act in WOULD else rollout.would,
        counted=action.counted if begins else rollout.counted,
        verdict=action.verdict.result,
        evidence=action.verdict.evidence or rollout.evidence,
    )


def _weight(rollout: Rollout, action: Action) -> float:
    if action.act is Act.CANARY:
        return rollout.steps[action.step].canary or 0.0
    return {Act.SHADOW: 0.0, Act.ROLL_BACK: 0.0, Act.RESTORE: 0.0, Act.PROMOTE: 100.0}.get(action.act, rollout.weight)


def next_route(rollout: Rollout, route: Route, salt: str) -> Route:
    """The route that the rollout's phase asks for. salt: the new one, used when the first step begins.

    After a promotion the last champion stays as a shadow while guards go on: both then see the same requests, and
    what hits both can not look like a fall. Raises InvalidConfig when the weights do not fit beside other canaries.
    """
    step = step_of(rollout)
    if rollout.phase is Phase.ROLLED_BACK:
        return restored(route) if route.champion == rollout.version else without(route, rollout.version)
    if rollout.phase is Phase.PROMOTED:
        return _promoted_route(rollout, route)
    fresh = changed(route, salt=salt) if rollout.step == 0 and position(rollout) and salt else route
    if step.shadow is not None:
        return with_shadow(fresh, rollout.version, step.shadow)
    return with_weights(fresh, {rollout.version: step.canary or 0.0})


def _promoted_route(rollout: Rollout, route: Route) -> Route:
    if route.champion != rollout.version:
        after = promoted(route, rollout.version)
        return with_shadow(after, route.champion, 100.0) if rollout.guarding else after
    if rollout.guarding:
        return route
    return changed(route, shadows=tuple(shadow for shadow in route.shadows if shadow.version != route.previous))
