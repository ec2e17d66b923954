"""Every act on a route or a rollout, used by the controller and the admin API alike.

Each act reads the present state, lets `plan` say what becomes of it, and writes with compare-and-swap: an act that
lost a race is decided again on what is there then. `apply` carries it out.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping

import msgspec
from msgspec.structs import replace

from gateway.clock import Clock
from gateway.documents.lease import Condition
from gateway.documents.rollout import Freeze, Phase, Rollout
from gateway.documents.route import Route, changed, restored, with_weights
from gateway.documents.store import ABSENT, ConfigStore, freeze_name
from gateway.errors import InvalidConfig, NotAllowed, RevisionConflict, VersionNotFound
from gateway.journal.journal import ControlJournal, TrafficJournal
from gateway.journal.tee import Tee
from gateway.names import ModelName, Revision, VersionId
from gateway.registry.registry import Registry
from gateway.rollout.apply import Rollouts, audit_entry
from gateway.rollout.change import Changed, RouteWriter
from gateway.rollout.hooks import Hooks
from gateway.rollout.overlap import refuse_during_experiment
from gateway.rollout.plan import enter
from gateway.rollout.present import Present, find
from gateway.rollout.start import check_start, check_version, new_rollout
from gateway.rollout.transition import Act, Action, next_rollout


class Operations:
    """The acts. tee: of the control stream. draw_salt: a fresh random text for each rollout."""

    def __init__(
        self,
        config: ConfigStore,
        registry: Registry,
        traffic: TrafficJournal,
        tee: Tee,
        writer: RouteWriter,
        clock: Clock,
        draw_salt: Callable[[], str],
        control: ControlJournal | None = None,
        hooks: Hooks | None = None,
    ) -> None:
        """control: of the alerts, so that those of before a rollout do not count; else its start time says so.

        hooks: asked and told by the policy's `rollout.hooks`; left out, nobody is told and no question is answered.
        """
        self._config = config
        self._control = control
        self._traffic = traffic
        self.rollouts = Rollouts(config, registry, tee, writer, clock, draw_salt, hooks)
        self._writer = writer
        self._clock = clock
        self._draw_salt = draw_salt
        self.writer, self.draw_salt = writer, draw_salt  # experiments move routes too

    # Rollouts.

    async def introduce(self, model: ModelName, version: int, reason: str, actor: str) -> Changed:
        """Take a model's first version into service. Raises NotAllowed when there is a champion already."""
        present = await self.rollouts.present(model)
        if present.route is not None:
            raise NotAllowed(f"{model} has the champion {present.route.champion}: start a rollout of {version} instead")
        check_version(present, version)
        route = Route(champion=version, salt=self._draw_salt())
        audit = audit_entry(actor, "introduce", f"{model}@{version}", reason, None, route)
        return await self._writer.change(model, ABSENT, route, audit)

    async def start_rollout(
        self,
        model: ModelName,
        version: int,
        plan: str,
        reason: str,
        actor: str,
        by_hand: bool = True,
        dry_run: bool = False,
    ) -> Rollout:
        """Begin a rollout on a plan of the policy; it waits until the controller takes its first step.

        A model without a champion takes the version into service at once. by_hand: a person asks for it, who may
        return to a recent champion without its steps. dry_run: it writes down what it would do and moves nothing.
        Raises VersionNotFound, NotAllowed, InvalidConfig.
        """

        async def act() -> Rollout:
            await refuse_during_experiment(self._config, model)
            present = await self.rollouts.present(model)
            check_start(present, version)
            rollout = new_rollout(present, version, plan, reason, actor, self._clock.now(), by_hand, dry_run)
            if present.route is None:
                if rollout.dry_run:
                    raise NotAllowed(f"{model} has no champion yet that a dry run could compare {version} with")
                done = await self.introduce(model, version, reason, actor)
                rollout = replace(rollout, phase=Phase.PROMOTED, written=done.revision, weight=100.0)
                return await self.rollouts.put(present, rollout, None)
            alerts = (await self._control.end()).hex() if self._control is not None else ""
            rollout = replace(rollout, offset=(await self._traffic.end()).hex(), control_offset=alerts)
            await self.rollouts.put(
                present, rollout, audit_entry(actor, Act.START, f"{model}@{version}", rollout.reason)
            )
            self.rollouts.record(rollout, Act.START, rollout.reason, {"by": actor})
            return rollout

        return await self.rollouts.until_first(act)

    async def pause(self, model: ModelName, reason: str, actor: str) -> Rollout:
        """Stop moving; guards go on. Raises NotAllowed when no rollout is under way."""
        return await self._steer(model, actor, lambda rollout: Action(Act.PAUSE, reason, rollout.step))

    async def resume(self, model: ModelName, reason: str, actor: str) -> Rollout:
        """Go on with a paused or held rollout: its step begins again, with the weight of the plan.

        Where the champion changed meanwhile, the comparison begins anew with the present one.
        """

        async def act() -> Rollout:
            present, rollout = await self._under_way(model)
            if rollout.phase not in {Phase.PAUSED, Phase.HELD}:
                raise NotAllowed(f"the rollout of {model}@{rollout.version} is {rollout.phase}, not paused or held")
            assert present.route is not None
            if present.route.champion != rollout.champion:
                offset = (await self._traffic.end()).hex()
                rollout = replace(rollout, champion=present.route.champion, offset=offset)
            text = reason or "resumed"
            waits = Action(Act.START, text, -1)
            action = waits if rollout.step < 0 else enter(rollout, rollout.step, text)
            if action.act is Act.START:
                rollout = replace(rollout, written=present.revision)
            return await self.rollouts.apply(dataclasses.replace(present, rollout=rollout), action, actor)

        return await self.rollouts.until_first(act)

    async def promote(self, model: ModelName, reason: str, actor: str) -> Rollout:
        """Make the version on trial champion now, whatever steps are left."""
        return await self._steer(
            model, actor, lambda rollout: Action(Act.PROMOTE, reason or "promoted by hand", len(rollout.steps) - 1)
        )

    async def roll_back(self, model: ModelName, reason: str, actor: str) -> Rollout | None:
        """Take the version on trial out; with none under way restore `previous` (the result then is None).

        Raises NotAllowed when there is nothing to go back to.
        """

        async def act() -> Rollout | None:
            present = await self.rollouts.present(model)
            rollout = present.rollout
            if rollout is not None and rollout.is_live:
                action = Action(_way_back(rollout), reason or "rolled back by hand", rollout.step)
                return await self.rollouts.apply(present, action, actor)
            if present.route is None or present.route.previous is None:
                raise NotAllowed(f"{model} has no rollout under way and no previous champion to restore")
            champion = present.route.champion
            await self.rollouts.mark_rolled_back(VersionId(model, champion), reason)
            route = restored(present.route)
            audit = audit_entry(actor, Act.RESTORE, f"{model}@{champion}", reason, present.route, route)
            await self._writer.change(model, present.revision, route, audit)
            return None

        return await self.rollouts.until_first(act)

    # Routes.

    async def set_weights(
        self,
        model: ModelName,
        weights: Mapping[int, float],
        reason: str,
        actor: str,
        expected: Revision | None = None,
    ) -> Changed:
        """Change canary weights (percent) in one step; 0 takes a canary out, which counts as a roll-back.

        Raises NotAllowed, VersionNotFound, InvalidConfig, RouteRefused, and RevisionConflict when `expected` is stale.
        """

        async def act() -> Changed:
            present = await self.rollouts.present(model)
            if present.route is None:
                raise NotAllowed(f"{model} has no champion yet: take a version into service first")
            if expected is not None and expected != present.revision:
                raise RevisionConflict(f"routes/{model}", expected, present.revision)
            for number, weight in weights.items():
                if not (math.isfinite(weight) and 0 <= weight <= 100):
                    raise InvalidConfig(f"weights: {weight:g} for version {number} is not between 0 and 100")
                if weight > 0:
                    check_version(present, number)
            route = with_weights(present.route, {number: round(weight, 2) for number, weight in weights.items()})
            return await self._move(present, route, "weights", reason, actor)

        return await (self.rollouts.until_first(act) if expected is None else act())

    async def put_route(self, model: ModelName, route: Route, reason: str, actor: str, expected: Revision) -> Changed:
        """Replace the whole route. `previous` and `salt` may be left out: the old route gives them."""
        present = await self.rollouts.present(model)
        if present.revision != expected:
            raise RevisionConflict(f"routes/{model}", expected, present.revision)
        before = present.route
        for number in route.versions - (before.versions if before else frozenset()):
            check_version(present, number)
        if before is None:
            fresh = changed(route, salt=route.salt or self._draw_salt())
            audit = audit_entry(actor, "route", f"{model}@{route.champion}", reason, None, fresh)
            return await self._writer.change(model, ABSENT, fresh, audit)
        previous = before.champion if route.champion != before.champion else route.previous or before.previous
        fresh = changed(
            before,
            champion=route.champion,
            canaries=route.canaries,
            shadows=route.shadows,
            previous=None if previous == route.champion else previous,
            salt=route.salt or before.salt,
        )
        return await self._move(present, fresh, "route", reason, actor)

    # Models and versions.

    async def freeze(self, model: ModelName, reason: str, actor: str) -> Freeze:
        """Stop every automatic act for the model; serving, monitoring and manual moves go on."""
        return await self._set_freeze(model, Freeze(frozen=True, actor=actor, reason=reason, since=self._clock.now()))

    async def unfreeze(self, model: ModelName, reason: str, actor: str) -> Freeze:
        """Allow automatic acts again."""
        return await self._set_freeze(model, Freeze(frozen=False, actor=actor, reason=reason, since=self._clock.now()))

    async def release(self, version: VersionId, reason: str, actor: str) -> Condition:
        """Lift a version's quarantine, the mark that it was rolled back, or the hold of its gate.

        Raises VersionNotFound, NotAllowed.
        """
        present = await self.rollouts.present(version.model)
        if version.number not in present.manifests:
            raise VersionNotFound(f"there is no version {version}")
        before = present.condition(version.number)
        is_held = bool(present.manifests[version.number].gate.hold) and not before.released
        if not (before.quarantined or before.rolled_back or before.suspect or is_held):
            raise NotAllowed(f"{version} is neither quarantined nor rolled back nor held for a person")
        released = before.released or is_held
        clean = Condition(proven=before.proven, reason=reason, since=self._clock.now(), released=released)
        return await self.rollouts.set_condition(version, lambda _: clean, actor, "release")

    async def _move(self, present: Present, route: Route, action: str, reason: str, actor: str) -> Changed:
        """Write a route that a person wants. A canary that is taken out is rolled back, its rollout included."""
        before, model = present.route, present.model
        assert before is not None
        gone = {canary.version for canary in before.canaries} - route.versions
        rollout = present.rollout
        is_tried = rollout is not None and rollout.is_live and not rollout.dry_run
        if rollout is not None and is_tried and rollout.version in before.challengers - route.versions:
            gone.add(rollout.version)
        subject = f"{model}@{','.join(map(str, sorted(route.challengers | gone))) or route.champion}"
        name = Act.ROLL_BACK if gone and not route.challengers else action
        audit = audit_entry(actor, name, subject, reason, before, route)
        done = await self._writer.change(model, present.revision, route, audit)
        if route.champion != before.champion:
            await self.rollouts.mark_replaced(VersionId(model, before.champion))
        gone |= {number for number in present.manifests if route.champion < number <= before.champion}
        for number in gone:
            await self.rollouts.mark_rolled_back(VersionId(model, number), reason or "taken out by hand")
        await self.rollouts.until_first(lambda: self._end_if_gone(model, gone, reason, actor))
        return done

    async def _end_if_gone(self, model: ModelName, gone: set[int], reason: str, actor: str) -> None:
        present = await self.rollouts.present(model)
        rollout = present.rollout
        if rollout is None or rollout.phase is Phase.PROMOTED or not rollout.is_live or rollout.version not in gone:
            return
        if rollout.dry_run:
            await self.rollouts.apply(present, Action(Act.STOP, reason or "taken out by hand", rollout.step), actor)
            return
        action = Action(Act.ROLL_BACK, reason or "taken out by hand", rollout.step)
        after = next_rollout(rollout, action, self._clock.now(), present.revision)
        after = replace(after, pending=0, written=present.revision)
        await self.rollouts.put(present, after, None)
        self.rollouts.record(after, Act.ROLL_BACK, after.reason, {"by": actor})

    async def _steer(self, model: ModelName, actor: str, act: Callable[[Rollout], Action]) -> Rollout:
        async def steer() -> Rollout:
            present, rollout = await self._under_way(model)
            return await self.rollouts.apply(present, act(rollout), actor)

        return await self.rollouts.until_first(steer)

    async def _under_way(self, model: ModelName) -> tuple[Present, Rollout]:
        present = await self.rollouts.present(model)
        rollout = present.rollout
        if rollout is None or not rollout.is_live:
            raise NotAllowed(f"{model} has no rollout under way")
        if rollout.phase is Phase.PROMOTED:
            raise NotAllowed(f"{model}@{rollout.version} is promoted already; roll back to restore the last champion")
        if rollout.dry_run:
            raise NotAllowed(
                f"{model}@{rollout.version} is a dry run, which moves nothing: end it with "
                f"`gateway rollout roll-back {model}` and start one without --dry-run"
            )
        return present, rollout

    async def _set_freeze(self, model: ModelName, freeze: Freeze) -> Freeze:
        name = freeze_name(model)
        action = "freeze" if freeze.frozen else "unfreeze"

        async def act() -> Freeze:
            _, revision = await find(self._config, name, bytes)
            audit = audit_entry(freeze.actor, action, model, freeze.reason)
            await self._config.put(name, msgspec.json.encode(freeze), revision, audit)
            return freeze

        return await self.rollouts.until_first(act)


def _way_back(rollout: Rollout) -> Act:
    """The act that takes a rollout back, whatever it has come to."""
    if rollout.dry_run:
        return Act.STOP
    return Act.RESTORE if rollout.phase is Phase.PROMOTED else Act.ROLL_BACK
