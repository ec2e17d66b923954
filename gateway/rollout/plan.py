"""What a rollout does next: a pure decision over what is, and the table of every transition.

    plan(rollout, observed, route, revision, now) -> Action        what to do
    next_rollout(rollout, action, now) -> Rollout                  the document after it
    next_route(rollout, action, route, salt) -> Route              the route after it

Order of the questions: is it frozen, is a route change half-way, did a person end it, does a guard fail (in every
live phase, waits and pauses included), did a person move the weights, is the step over, is its time over.
Knows neither stores nor clocks nor random numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from dataclasses import replace as replace_verdict
from enum import StrEnum

from msgspec.structs import replace

from gateway.documents.lease import Condition
from gateway.documents.policy import Policy
from gateway.documents.rollout import Phase, Rollout, Step
from gateway.documents.route import Route, changed, promoted, restored, with_shadow, with_weights, without
from gateway.errors import NotAllowed
from gateway.registry.manifest import Manifest
from gateway.rollout.evidence import PROMOTION_RUNS, Verdict, assess
from gateway.rollout.observe import Observed, Steps


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
    WRITE = "write"  # go on with a route change that was cut off
    ADOPT = "adopt"  # the cut-off change had reached the route: write that down
    NOTHING = "nothing"


_STEPS = {
    Act.SHADOW: Phase.SHADOW,
    Act.CANARY: Phase.CANARY,
    Act.APPROVE: Phase.APPROVING,
    Act.PROMOTE: Phase.PROMOTED,
}
_ALWAYS = {Act.ROLL_BACK: Phase.ROLLED_BACK, Act.PAUSE: Phase.PAUSED, Act.END: Phase.PROMOTED}

TRANSITIONS: Mapping[Phase, Mapping[Act, Phase]] = {
    Phase.WAITING: {**_STEPS, **_ALWAYS},
    Phase.SHADOW: {**_STEPS, **_ALWAYS, Act.HOLD: Phase.HELD},
    Phase.CANARY: {**_STEPS, **_ALWAYS, Act.HOLD: Phase.HELD},
    Phase.HELD: {**_STEPS, **_ALWAYS},
    Phase.APPROVING: {Act.PROMOTE: Phase.PROMOTED, **_ALWAYS},
    Phase.PAUSED: {**_STEPS, **_ALWAYS, Act.START: Phase.WAITING},
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

MOVES_ROUTE = frozenset({Act.SHADOW, Act.CANARY, Act.PROMOTE, Act.ROLL_BACK, Act.RESTORE, Act.FINISH, Act.WRITE})
"""Acts that write the route."""


@dataclass(frozen=True, slots=True)
class Action:
    """What to do, why, and the verdict it rests on. step: the place in the plan that it leads to."""

    act: Act
    reason: str = ""
    step: int = -1
    verdict: Verdict = field(default_factory=lambda: Verdict("inconclusive", ""))


def plan(
    rollout: Rollout,
    observed: Observed,
    route: Route,
    revision: int,
    now: float,
    frozen: bool = False,
    quarantined: str = "",
) -> Action:
    """What the rollout does next. revision: the route's. Calling it again after the act is done gives NOTHING.

    quarantined: why the version on trial is in quarantine, which fails it like a guard; empty: it is not.
    """
    verdict = judge(rollout, observed)
    if quarantined:
        verdict = replace_verdict(verdict, result="fail", reason=f"it is quarantined ({quarantined})")
    if frozen:
        return Action(Act.NOTHING, "frozen", rollout.step, verdict)
    if rollout.pending:
        return _unfinished(rollout, route, revision, verdict)
    if not rollout.is_live:
        return Action(Act.NOTHING, "", rollout.step, verdict)
    if rollout.phase is Phase.PROMOTED:
        return _after_promotion(rollout, observed, route, verdict)
    ended = _ended_by_hand(rollout, route, revision, verdict)
    if ended is not None:
        return ended
    if verdict.result == "fail":
        return Action(Act.ROLL_BACK, verdict.reason, rollout.step, verdict)
    if rollout.phase is Phase.PAUSED:
        return Action(Act.NOTHING, rollout.reason, rollout.step, verdict)
    moved = _moved(rollout, route, revision)
    if moved:
        return Action(Act.PAUSE, moved, rollout.step, verdict)
    if rollout.phase is Phase.APPROVING:
        return Action(Act.NOTHING, rollout.reason, rollout.step, verdict)
    return _along_the_steps(rollout, observed, now, verdict)


def judge(rollout: Rollout, observed: Observed) -> Verdict:
    """The verdict on the version on trial in the rollout's present phase."""
    if rollout.phase is Phase.PROMOTED and not rollout.pending:
        return assess(observed.after, rollout.guards)
    return assess(observed.before, rollout.guards, on_shadow=_step_of(rollout).shadow is not None)


def enter(rollout: Rollout, place: int, reason: str, verdict: Verdict | None = None) -> Action:
    """The action that begins a step of the plan."""
    step = rollout.steps[place]
    act = Act.SHADOW if step.shadow is not None else Act.CANARY if step.canary is not None else Act.PROMOTE
    if step.promote == "approve":
        act = Act.APPROVE
        reason = f"waits for a person: {reason}; say yes with: gateway rollout promote {rollout.model}"
    return Action(act, reason, place, verdict or Verdict("inconclusive", reason))


def _along_the_steps(rollout: Rollout, observed: Observed, now: float, verdict: Verdict) -> Action:
    if rollout.phase is Phase.WAITING:
        return enter(rollout, 0, rollout.reason, verdict)
    if verdict.question:
        act = Act.NOTHING if rollout.phase is Phase.HELD else Act.HOLD
        return Action(act, verdict.question, rollout.step, verdict)
    step = _step_of(rollout)
    done = _done(step, observed.since(rollout.written), verdict)
    if done:
        return enter(rollout, rollout.step + 1, done, verdict)
    is_late = step.at_most_seconds is not None and now - rollout.step_since > step.at_most_seconds
    if is_late and rollout.phase is not Phase.HELD:
        missing = f"not enough evidence within {step.at_most_seconds:g} s: {verdict.reason}"
        act = Act.ROLL_BACK if rollout.without_evidence == "roll_back" else Act.HOLD
        return Action(act, missing, rollout.step, verdict)
    return Action(Act.NOTHING, verdict.reason, rollout.step, verdict)


def _done(step: Step, counts: Steps, verdict: Verdict) -> str:
    """Why the step is over; empty: it is not. Counts of the plan, or else the promotion evidence."""
    if step.until_quality is not None and step.until_quality not in verdict.shown:
        return ""
    if step.until_requests is None and step.until_pairs is None and step.until_quality is None:
        runs = counts.pairs if step.shadow is not None else counts.canary
        return verdict.reason if verdict.result == "pass" and runs >= PROMOTION_RUNS else ""
    if counts.canary < (step.until_requests or 0) or counts.pairs < (step.until_pairs or 0):
        return ""
    shown = f", quality {step.until_quality}" if step.until_quality else ""
    return f"step ended on counts ({counts.pairs} pairs, {counts.canary} canary answers){shown}, no guard failed"


def _after_promotion(rollout: Rollout, observed: Observed, route: Route, verdict: Verdict) -> Action:
    if route.champion != rollout.version:
        return Action(Act.END, "a person changed the champion: guards end", rollout.step, verdict)
    if verdict.result == "fail" and route.previous is not None:
        reason = f"{verdict.reason}; {rollout.model}@{route.previous} is champion again"
        return Action(Act.RESTORE, reason, rollout.step, verdict)
    answered = observed.since(rollout.written).promoted
    if answered >= rollout.after_promotion_requests:
        return Action(Act.FINISH, f"no guard failed in {answered} answers as champion", rollout.step, verdict)
    return Action(Act.NOTHING, rollout.reason, rollout.step, verdict)


def _ended_by_hand(rollout: Rollout, route: Route, revision: int, verdict: Verdict) -> Action | None:
    if route.champion == rollout.version:
        return Action(Act.END, "a person made it champion", rollout.step, verdict)
    is_gone = rollout.version not in route.challengers and position(rollout) is not None
    if is_gone and revision != rollout.written:
        return Action(Act.ROLL_BACK, "a person took it out of the route", rollout.step, verdict)
    return None


def _moved(rollout: Rollout, route: Route, revision: int) -> str:
    """What a person changed since the controller wrote the route last; empty: nothing that concerns this rollout."""
    if revision == rollout.written:
        return ""
    if route.champion != rollout.champion:
        return f"a person changed the champion from {rollout.champion} to {route.champion}"
    held = position(rollout)
    if held is None:
        return f"a person put version {rollout.version} into the route" if _held_by(route, rollout) else ""
    found = _held_by(route, rollout)
    if found == held:
        return ""
    before, after = (f"{role} at {percent:g} %" for role, percent in (held, found or ("nothing", 0.0)))
    return f"a person moved version {rollout.version} from {before} to {after}"


def position(rollout: Rollout) -> tuple[str, float] | None:
    """What the version holds by the plan: ("shadow" or "canary", percent); None before the first such step."""
    for step in reversed(rollout.steps[: rollout.step + 1]):
        if step.canary is not None:
            return "canary", step.canary
        if step.shadow is not None:
            return "shadow", step.shadow
    return None


def _held_by(route: Route, rollout: Rollout) -> tuple[str, float] | None:
    for canary in route.canaries:
        if canary.version == rollout.version:
            return "canary", canary.weight
    for shadow in route.shadows:
        if shadow.version == rollout.version:
            return "shadow", shadow.share
    return None


def _step_of(rollout: Rollout) -> Step:
    return rollout.steps[rollout.step] if 0 <= rollout.step < len(rollout.steps) else Step()


def _unfinished(rollout: Rollout, route: Route, revision: int, verdict: Verdict) -> Action:
    """A route change was announced in the document and never confirmed: repeat it, confirm it, or yield to a person."""
    if _is_written(rollout, route):
        return Action(Act.ADOPT, rollout.reason, rollout.step, verdict)
    if revision == rollout.pending or rollout.phase is Phase.ROLLED_BACK:
        return Action(Act.WRITE, rollout.reason, rollout.step, verdict)
    return Action(Act.PAUSE, "a person changed the route at the same time", rollout.step, verdict)


def _is_written(rollout: Rollout, route: Route) -> bool:
    """True when the route says what the rollout's phase asks for."""
    if rollout.phase is Phase.PROMOTED:
        is_finished = rollout.guarding or route.previous not in {shadow.version for shadow in route.shadows}
        return route.champion == rollout.version and is_finished
    if rollout.phase is Phase.ROLLED_BACK:
        can_restore = route.champion == rollout.version and route.previous is not None
        return rollout.version not in route.challengers and not can_restore
    return _held_by(route, rollout) == position(rollout)


# What an action makes of the documents.


def next_rollout(rollout: Rollout, action: Action, now: float, revision: int) -> Rollout:
    """The rollout after the action. revision: the route's before it; a change of it is announced as `pending`.

    Raises NotAllowed for a transition that the table does not hold.
    """
    if action.act in {Act.NOTHING, Act.WRITE}:
        return rollout
    if action.act is Act.ADOPT:
        return replace(rollout, pending=0, written=revision)
    phase = TRANSITIONS[rollout.phase].get(action.act)
    if phase is None or not (rollout.is_live or rollout.pending):
        raise NotAllowed(
            f"{action.act.replace('_', ' ')}: the rollout of {rollout.model}@{rollout.version} is {rollout.phase}"
        )
    return replace(
        rollout,
        phase=phase,
        reason=action.reason,
        step=action.step,
        weight=_weight(rollout, action),
        since=now,
        step_since=now if action.act in _STEPS else rollout.step_since,
        guarding=action.act is Act.PROMOTE and rollout.after_promotion_requests > 0,
        verdict=action.verdict.result,
        evidence=action.verdict.evidence or rollout.evidence,
        resume_to=rollout.phase if action.act is Act.PAUSE else None,
        pending=revision if action.act in MOVES_ROUTE else 0,
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
    step = _step_of(rollout)
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


# Which version starts by itself, and what a person is told after a publish.


def eligible(manifest: Manifest, condition: Condition, champion: int) -> str:
    """Why the version may not start a rollout by itself; empty: it may, where the policy says `start: auto`."""
    if manifest.number <= champion:
        return f"it is older than the champion {champion}"
    if condition.quarantined:
        return f"it is quarantined ({condition.reason})"
    if condition.rolled_back:
        return f"it was rolled back ({condition.reason})"
    if not manifest.lineage.data_digest:
        return "its training data are unknown"
    if manifest.lineage.source != "job":
        return "it was not made by a retraining job"
    if manifest.gate.passed is not True:
        return "it did not pass the gate" if manifest.gate.passed is False else "it never met the gate"
    return ""


def choose(
    policy: Policy,
    route: Route,
    rollout: Rollout | None,
    manifests: Mapping[int, Manifest],
    conditions: Mapping[int, Condition],
) -> Manifest | None:
    """The version whose rollout is to start by itself: the newest eligible one.

    While a rollout is under way only a newer version that answers an error alert comes before it, and not while a
    person has paused it.
    """
    if policy.rollout.start != "auto":
        return None
    for number in sorted(manifests, reverse=True):
        if eligible(manifests[number], conditions.get(number, Condition()), route.champion):
            continue
        manifest = manifests[number]
        if rollout is None or not rollout.is_live:
            return manifest
        is_newer = number > rollout.version and rollout.phase is not Phase.PAUSED
        return manifest if is_newer and manifest.lineage.alert else None
    return None


def plan_name(manifest: Manifest) -> str:
    """`expedited` for a version that answers a latched error alert, else `steps`."""
    return "expedited" if manifest.lineage.alert else "steps"


def next_step(policy: Policy, route: Route | None, manifest: Manifest, condition: Condition) -> str:
    """What happens after a publish, and the command that would start a rollout; one sentence for a person."""
    version = str(manifest.version)
    command = f"gateway rollout start {manifest.model} {manifest.number}"
    if condition.quarantined:
        lift = f"gateway versions {manifest.model} --release {manifest.number}"
        return f"{version} is quarantined ({condition.reason}); lift it with: {lift}"
    if route is None:
        if policy.first_version == "serve":
            return f"{version} is the first version: it is taken into service"
        return f"{version} waits: the policy says first_version: hold; take it into service with: {command}"
    if manifest.number == route.champion:
        return f"{version} is the champion already"
    if manifest.number in route.challengers:
        return f"{version} is in the route already, at {route.weight_of(manifest.number):g} %"
    if policy.rollout.start != "auto":
        return f"{version} waits: the policy says rollout.start: manual; start it with: {command}"
    obstacle = eligible(manifest, condition, route.champion)
    if obstacle:
        return f"{version} waits: {obstacle}; start it with: {command}"
    return f"{version} starts its rollout by itself, on the plan `{plan_name(manifest)}`"
