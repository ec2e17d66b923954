"""Carrying out one action on a rollout: its document, the route, the version's condition, audit and decision record.

A move of the route is announced in the rollout document (`pending`), written, and confirmed, so that a process that
dies in between is continued by the next one. Decides nothing: `plan` did.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from gateway import metrics
from gateway.clock import Clock
from gateway.documents.lease import Condition
from gateway.documents.rollout import Phase, Rollout
from gateway.documents.route import Route, changed
from gateway.documents.store import AuditEntry, ConfigStore, condition_name, rollout_name
from gateway.errors import InvalidConfig, RevisionConflict, RouteRefused
from gateway.journal.record import Decision
from gateway.journal.tee import Tee
from gateway.names import ModelName, Revision, VersionId
from gateway.registry.registry import Registry
from gateway.rollout.change import Changed, RouteWriter
from gateway.rollout.confirm import event
from gateway.rollout.evidence.verdict import RULE, Verdict
from gateway.rollout.hooks import Hooks
from gateway.rollout.present import Present, find, read_present, read_rollout
from gateway.rollout.replay import basis
from gateway.rollout.transition import MOVES_ROUTE, STEPS, WOULD, Act, Action, next_rollout, next_route

T = TypeVar("T")

_ATTEMPTS = 8
FINISH_SECONDS = 2.0
_ENDS = frozenset({Act.PROMOTE, Act.ROLL_BACK, Act.RESTORE})


class Rollouts:
    """The writing side of all rollouts. tee: of the control stream. draw_salt: a fresh random text each time."""

    def __init__(
        self,
        config: ConfigStore,
        registry: Registry,
        tee: Tee,
        writer: RouteWriter,
        clock: Clock,
        draw_salt: Callable[[], str],
        hooks: Hooks | None = None,
    ) -> None:
        """hooks: told of every decision; left out, nobody is."""
        self.hooks = hooks or Hooks(None, clock)
        self._config = config
        self._registry = registry
        self._tee = tee
        self._writer = writer
        self._clock = clock
        self._draw_salt = draw_salt
        self._acting: Counter[ModelName] = Counter()

    async def present(self, model: ModelName, before: Present | None = None) -> Present:
        """Everything there is to know of a model now; manifests and conditions are those of `before`, if given."""
        return await read_present(self._config, self._registry, model, before)

    async def apply(self, present: Present, action: Action, actor: str) -> Rollout:
        """Carry out one action on the rollout. Raises NotAllowed, RevisionConflict.

        A version that a serving process refuses is rolled back with the refusal as the reason.
        """
        self._acting[present.model] += 1
        try:
            return await self._apply(present, action, actor)
        finally:
            self._acting[present.model] -= 1

    def is_acting(self, model: ModelName) -> bool:
        """True while an act of this process is under way: what it announced needs nobody to continue it."""
        return self._acting[model] > 0

    async def _apply(self, present: Present, action: Action, actor: str) -> Rollout:
        rollout, route = present.rollout, present.route
        assert rollout is not None
        assert route is not None
        after = next_rollout(rollout, action, self._clock.now(), present.revision)
        if action.act is Act.ADOPT:
            return await self._adopt(present, after, actor)
        if rollout.dry_run or action.act not in MOVES_ROUTE:
            name = f"would_{action.act}" if rollout.dry_run and action.act in WOULD else action.act
            await self.put(present, after, audit_entry(actor, name, _id(after), after.reason))
            self.record(after, name, after.reason, {"by": actor})
            return after
        act = act_of(after) if action.act is Act.WRITE else action.act
        announced = present.rollout_revision
        if action.act is not Act.WRITE:
            announced = await self._put_rollout(after, announced, None)
        if after.phase is Phase.ROLLED_BACK:
            await self.mark_rolled_back(VersionId(present.model, after.version), after.reason)
        try:
            done = await self._write(present, route, after, act, actor)
        except RouteRefused as refusal:
            return await self._give_up(present, announced, Act.ROLL_BACK, f"hard_stop: {refusal}", actor)
        except InvalidConfig as error:
            return await self._give_up(present, announced, Act.PAUSE, str(error), actor)
        except RevisionConflict:
            return await self._finished_by_another(present.model, after)
        written = self._begun(replace(after, pending=0, written=done.revision), act)
        # The record comes first: a process that dies here writes it once more, with the same id.
        self.record(written, act, written.reason, {"by": actor, "accepted": done.accepted})
        try:
            await self._put_rollout(written, announced, None)
        except RevisionConflict:
            return await self._finished_by_another(present.model, after)
        if act in _ENDS:
            metrics.rollouts.labels(present.model, written.phase).inc()
        return written

    async def _adopt(self, present: Present, after: Rollout, actor: str) -> Rollout:
        """Confirm a change that reached the route while nobody was there to say so."""
        act = act_of(after)
        await self._writer.acknowledged(present.model, present.revision)
        if act is Act.PROMOTE and after.champion != after.version:
            await self.mark_replaced(VersionId(present.model, after.champion))
        after = self._begun(after, act)
        await self.put(present, after, None)
        self.record(after, act, after.reason, {"by": actor})
        return after

    def _begun(self, written: Rollout, act: Act) -> Rollout:
        """The clock of a step starts when the serving processes have said that they serve it, not when it is asked."""
        return replace(written, step_since=self._clock.now()) if act in STEPS else written

    async def _finished_by_another(self, model: ModelName, announced: Rollout) -> Rollout:
        """The announced change, when another process saw it and carried it out first. Else RevisionConflict."""
        until = self._clock.monotonic() + FINISH_SECONDS
        while True:
            stored, revision = await find(self._config, rollout_name(model), read_rollout)
            is_same = stored is not None and _place(stored) == _place(announced)
            if stored is not None and is_same and not stored.pending:
                return stored
            if not is_same or self._clock.monotonic() >= until:
                raise RevisionConflict(rollout_name(model), announced.pending, revision)
            await self._clock.sleep(0.01)

    async def note(self, present: Present, verdict: Verdict) -> None:
        """Write the newest figures into the rollout, for people to see. A lost race does not matter."""
        if present.rollout is None:
            return
        noted = replace(present.rollout, verdict=verdict.result, evidence=verdict.evidence)
        try:
            await self._put_rollout(noted, present.rollout_revision, None)
        except RevisionConflict:
            return

    async def forget_previous(self, present: Present, actor: str) -> Changed:
        """Stop keeping the last champion loaded."""
        assert present.route is not None
        route = changed(present.route, previous=None)
        subject = f"{present.model}@{present.route.previous}"
        audit = audit_entry(actor, "unload_previous", subject, "kept long enough", present.route, route)
        return await self._writer.change(present.model, present.revision, route, audit)

    async def _write(self, present: Present, route: Route, after: Rollout, act: Act, actor: str) -> Changed:
        wanted = next_route(after, route, self._draw_salt())
        name = "promoted_on_gate" if act is Act.PROMOTE and after.plan == "expedited" else act
        audit = audit_entry(actor, name, _id(after), after.reason, route, wanted)
        done = await self._writer.change(present.model, present.revision, wanted, audit)
        if wanted.champion != route.champion:
            await self.mark_replaced(VersionId(present.model, route.champion))
        return done

    async def _give_up(self, present: Present, announced: Revision, act: Act, reason: str, actor: str) -> Rollout:
        """The announced change can not be made: end or pause the rollout as it was before."""
        rollout = present.rollout
        assert rollout is not None
        action = Action(act, reason, rollout.step)
        if act is Act.PAUSE:
            after = next_rollout(rollout, action, self._clock.now(), present.revision)
            await self._put_rollout(after, announced, audit_entry(actor, act, _id(after), reason))
            self.record(after, act, reason, {"by": actor})
            return after
        fresh = await self.present(present.model)
        if fresh.rollout_revision != announced:
            raise RevisionConflict(rollout_name(present.model), announced, fresh.rollout_revision)
        return await self._apply(dataclasses.replace(fresh, rollout=rollout), action, actor)

    async def put(self, present: Present, rollout: Rollout, audit: AuditEntry | None) -> Rollout:
        """Write the rollout over the one that was read. Raises RevisionConflict."""
        await self._put_rollout(rollout, present.rollout_revision, audit)
        return rollout

    async def _put_rollout(self, rollout: Rollout, expected: Revision, audit: AuditEntry | None) -> Revision:
        name = rollout_name(ModelName(rollout.model))
        return await self._config.put(name, msgspec.json.encode(rollout), expected, audit)

    async def mark_rolled_back(self, version: VersionId, reason: str) -> None:
        """Remember that the version was rolled back: it never starts by itself again."""
        now = self._clock.now()
        await self.set_condition(
            version,
            lambda before: (
                before if before.rolled_back else replace(before, rolled_back=True, reason=reason, since=now)
            ),
        )

    async def mark_replaced(self, version: VersionId) -> None:
        """Remember that the version is champion no longer, since now: for a while a person may return to it at once."""
        now = self._clock.now()
        await self.set_condition(version, lambda before: replace(before, champion_until=now))

    async def set_condition(
        self, version: VersionId, change: Callable[[Condition], Condition], actor: str = "", action: str = ""
    ) -> Condition:
        """Change what is remembered of a version; audited when an action is named."""
        name = condition_name(version)

        async def act() -> Condition:
            before, revision = await find(self._config, name, lambda body: msgspec.json.decode(body, type=Condition))
            after = change(before or Condition())
            if after != before:
                audit = audit_entry(actor, action, str(version), after.reason) if action else None
                await self._config.put(name, msgspec.json.encode(after), revision, audit)
            return after

        return await self.until_first(act)

    async def until_first(self, act: Callable[[], Awaitable[T]]) -> T:
        """Decide again on the new state after each lost race; raises the last RevisionConflict."""
        for _ in range(_ATTEMPTS - 1):
            try:
                return await act()
            except RevisionConflict:
                await self._clock.sleep(0.005)
        return await act()

    def record(self, rollout: Rollout, act: str, reason: str, extra: Mapping[str, object]) -> None:
        """A decision record; its id is made from what was decided, so a repeat is the same decision."""
        place = f"{rollout.step}/{rollout.phase}/{rollout.written}"
        if rollout.dry_run:
            place = f"{place}/{act}"
        self._tee.offer(
            Decision(
                id=f"rollout/{rollout.model}/{rollout.number}/{place}",
                model=rollout.model,
                actor="rollout",
                action=str(act),
                reason=reason,
                version=rollout.version,
                revision=rollout.written,
                rule=RULE,
                evidence={
                    **rollout.evidence,
                    **extra,
                    "weight": rollout.weight,
                    "plan": rollout.plan,
                    "since": rollout.since,
                    "offset": rollout.offset,
                    "rollout": basis(rollout),
                },
            )
        )
        self._tee.flush()
        self._tell(rollout, act, reason, place)

    def _tell(self, rollout: Rollout, act: str, reason: str, place: str) -> None:
        """Post the decision to the hooks that want to hear of it; the place makes a repeat the same event."""
        model = ModelName(rollout.model)
        facts = {"act": str(act), "reason": reason, "verdict": rollout.verdict, "evidence": rollout.evidence}
        moments = ["event", "after_roll_back"] if act in {Act.ROLL_BACK, Act.RESTORE} else ["event"]
        for moment in moments:
            self.hooks.tell(model, moment, event(rollout, moment, f"{place}/{moment}", self._clock.now(), facts))


def audit_entry(
    actor: str,
    action: str,
    subject: str,
    reason: str,
    before: Route | None = None,
    after: Route | None = None,
) -> AuditEntry:
    """Who did what to which version, and the route before and after."""
    return AuditEntry(
        actor=actor,
        action=str(action),
        subject=subject,
        reason=reason,
        before=before.encode().decode() if before else "",
        after=after.encode().decode() if after else "",
    )


def act_of(rollout: Rollout) -> Act:
    """The act by which a rollout came to its phase, for records of what was written to the route."""
    if rollout.phase is Phase.PROMOTED:
        return Act.PROMOTE if rollout.guarding or rollout.after_promotion_requests == 0 else Act.FINISH
    if rollout.phase is Phase.ROLLED_BACK:
        return Act.ROLL_BACK
    return {Phase.SHADOW: Act.SHADOW, Phase.CANARY: Act.CANARY}.get(rollout.phase, Act.WRITE)


def _place(rollout: Rollout) -> tuple[int, int, Phase, int]:
    return rollout.number, rollout.version, rollout.phase, rollout.step


def _id(rollout: Rollout) -> str:
    return f"{rollout.model}@{rollout.version}"
