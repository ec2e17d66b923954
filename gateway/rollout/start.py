"""What a rollout is when it begins: its steps from the policy, its guards, and why it may not begin. Pure."""

from __future__ import annotations

from gateway.documents.plan import PLANS, plan_faults
from gateway.documents.policy import PlanStep, Policy
from gateway.documents.rollout import Phase, Rollout, Step
from gateway.errors import InvalidConfig, NotAllowed, VersionNotFound
from gateway.rollout.present import Present

DATA_DRIFT = "data_drift"
"""The trigger of a retraining job whose version is only shadowed (policy: `data_drift: shadow_only`)."""


def new_rollout(
    present: Present,
    version: int,
    plan: str,
    reason: str,
    actor: str,
    now: float,
    by_hand: bool = True,
    dry_run: bool = False,
) -> Rollout:
    """A rollout that waits for its first step. Raises InvalidConfig where the policy has no such plan.

    A person's return to a recent champion has the last step of the plan only; a version that was trained because the
    inputs moved is only shadowed until a person approves it. dry_run: so, or where the policy says so.
    """
    policy = present.policy.rollout
    steps = tuple(step.step for step in steps_of(present.policy, plan))
    returns = was_champion(present, version, now) if by_hand else ""
    if returns:
        steps = steps[-1:]
        reason = f"{reason}: {returns}" if reason else returns
    elif not by_hand and present.manifests[version].lineage.trigger == DATA_DRIFT:
        steps = only_shadowed(steps)
    return Rollout(
        model=present.model,
        version=version,
        champion=present.route.champion if present.route is not None else version,
        plan=plan,
        steps=steps,
        phase=Phase.WAITING,
        reason=reason,
        number=present.rollout.number + 1 if present.rollout else 1,
        since=now,
        started=now,
        step_since=now,
        written=present.revision,
        guards=policy.guards.guards,
        after_promotion_requests=policy.after_promotion.requests,
        without_evidence=policy.without_evidence,
        answers=present.manifests[version].lineage.alert,
        actor=actor,
        dry_run=dry_run or policy.dry_run,
        slices=present.policy.monitoring.slices,
    )


def only_shadowed(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """The plan's shadow steps, and a promotion that waits for a person: nobody knows that the champion fails."""
    shadows = tuple(step for step in steps if step.shadow is not None)
    return (*(shadows or (Step(shadow=100, until_pairs=500),)), Step(promote="approve"))


def was_champion(present: Present, version: int, now: float) -> str:
    """Why the version may skip the steps: it was champion within the policy's window; empty: it may not.

    A version that fell or crashed since never skips, nor one whose time lies ahead of a clock that was put back.
    """
    condition, window = present.condition(version), present.policy.rollout.rollback_window
    ago = now - condition.champion_until
    if condition.rolled_back or condition.quarantined or condition.suspect or not condition.champion_until:
        return ""
    if not 0 <= ago < window:
        return ""
    return f"it was champion until {ago:.0f} s ago, within rollback_window ({window:g} s), so its steps are skipped"


def steps_of(policy: Policy, plan: str) -> tuple[PlanStep, ...]:
    """The policy's steps of a plan. Raises InvalidConfig for another name, or for a plan that could never end."""
    if plan not in PLANS:
        raise InvalidConfig(f"plan: {plan!r} is not a plan; write {', '.join(PLANS[:-1])} or {PLANS[-1]}")
    steps: tuple[PlanStep, ...] = getattr(policy.rollout, plan)
    for (place, key), detail in plan_faults(plan, steps):
        raise InvalidConfig(f"rollout.{plan}[{place}].{key}: {detail}")
    return steps


def check_version(present: Present, number: int) -> None:
    """Raises VersionNotFound, and NotAllowed for a version in quarantine."""
    if number not in present.manifests:
        raise VersionNotFound(f"there is no version {present.model}@{number}")
    condition = present.condition(number)
    if condition.quarantined:
        raise NotAllowed(
            f"{present.model}@{number} is quarantined ({condition.reason}); "
            f"lift it with: gateway versions {present.model} --release {number}"
        )


def check_start(present: Present, version: int) -> None:
    """Raises VersionNotFound, and NotAllowed with the reason, where a rollout of the version can not begin now."""
    check_version(present, version)
    model, rollout = present.model, present.rollout
    if present.freeze.frozen:
        raise NotAllowed(f"{model} is frozen ({present.freeze.reason}): unfreeze it, or set weights by hand")
    if present.route is not None and present.route.champion == version:
        raise NotAllowed(f"{model}@{version} is the champion already")
    if rollout is not None and rollout.is_live:
        what = "still guarded after its promotion" if rollout.guarding else rollout.phase
        raise NotAllowed(f"{model}@{rollout.version} is under way ({what}): roll it back or let it end first")
