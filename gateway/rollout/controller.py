"""The loop that moves weights by itself: reads the whole present state, decides by `plan`, does at most one change.

Level-triggered: an event only wakes it, and running it twice changes nothing more. All it remembers is how far it
has folded the traffic of a rollout, and it can do without: a new process folds again from the rollout's offset.
Writes routes as an operator does and never speaks to a serving process.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from msgspec.structs import replace

from gateway.clock import Clock
from gateway.documents.rollout import Phase, Rollout
from gateway.documents.store import ConfigStore
from gateway.errors import GatewayError, InvalidConfig, NotAllowed, RevisionConflict
from gateway.journal.journal import ControlJournal, Offset, TrafficJournal
from gateway.names import ModelName
from gateway.registry.manifest import Manifest
from gateway.registry.registry import Registry
from gateway.rollout.alarm import Alarms
from gateway.rollout.confirm import confirmed, event, listeners, moment_of
from gateway.rollout.eligibility import choose, plan_name
from gateway.rollout.evidence.observe import Observer, observer_of
from gateway.rollout.evidence.verdict import Verdict
from gateway.rollout.gauge import show_weights
from gateway.rollout.operation import Operations
from gateway.rollout.plan import plan
from gateway.rollout.present import Present
from gateway.rollout.replay import judged
from gateway.rollout.transition import Act, Action
from gateway.rollout.wake import StepClock, first, model_of_document, model_of_version

ACTOR = "rollout"
"""How the controller signs its audit entries."""

READ_ENTRIES = 2000
IDLE_SECONDS = 5.0
RETRY_SECONDS = 1.0
LIVE_SECONDS = 0.5
NOTE_SECONDS = 1.0
REREAD_SECONDS = 1.0
"""Manifests and conditions are read again at least so often, besides whenever something hints at a change."""

GATHER_SECONDS = 0.02
"""After a wake-up so much traffic is gathered before it is looked at: a look costs some store reads."""

_logger = logging.getLogger(__name__)


@dataclass
class _Watched:
    """How far the traffic of one rollout is folded."""

    rollout: Rollout
    observer: Observer
    alarms: Alarms
    offset: Offset

    def is_of(self, rollout: Rollout) -> bool:
        """True while the fold answers the questions of this rollout."""
        before = self.rollout
        return (before.number, before.version, before.champion, before.offset) == (
            rollout.number,
            rollout.version,
            rollout.champion,
            rollout.offset,
        )


@dataclass
class _Model:
    """What the controller keeps of a model between two looks; nothing here is needed to decide rightly."""

    watched: _Watched | None = None
    present: Present | None = None
    read: float = float("-inf")
    noted: float = float("-inf")
    said: str = ""
    shown: set[tuple[str, str]] = field(default_factory=set)
    clock: StepClock = field(default_factory=StepClock)
    woken: asyncio.Event = field(default_factory=asyncio.Event)


class RolloutController:
    """Moves the rollouts of all models. `operations` does the writing."""

    def __init__(
        self,
        config: ConfigStore,
        registry: Registry,
        traffic: TrafficJournal,
        control: ControlJournal,
        operations: Operations,
        clock: Clock,
    ) -> None:
        self._config = config
        self._registry = registry
        self._traffic = traffic
        self._control = control
        self._operations = operations
        self._hooks = operations.rollouts.hooks
        self._clock = clock
        self._models: dict[ModelName, _Model] = {}

    async def reconcile(self, model: ModelName, only_traffic: bool = False) -> float:
        """Bring one model's rollout one change further; seconds until it wants to look again (0: at once).

        only_traffic: nothing but traffic hinted at a change, so manifests and conditions may be those of the last look.
        """
        known = self._models.setdefault(model, _Model())
        is_recent = self._clock.monotonic() - known.read < REREAD_SECONDS
        before = known.present if only_traffic and is_recent else None
        if before is None:
            known.read = self._clock.monotonic()
        present = known.present = await self._operations.rollouts.present(model, before)
        self._hooks.learn(model, present.policy.rollout.hooks)
        if present.freeze.frozen:
            known.shown = show_weights(model, present.route, known.shown)
            return IDLE_SECONDS
        try:
            return await self._step(known, present)
        except RevisionConflict:
            return 0.0
        finally:
            known.shown = show_weights(model, present.route, known.shown)

    async def run(self, stop: asyncio.Event) -> None:
        """Look after every model until `stop` is set; a change in progress is finished first."""
        tasks: dict[ModelName, asyncio.Task[None]] = {}
        arrived = asyncio.Event()
        watchers = [
            asyncio.create_task(self._wake_on(lambda: self._config.watch(""), model_of_document, arrived)),
            asyncio.create_task(self._wake_on(self._registry.watch, model_of_version, arrived)),
        ]
        try:
            while not stop.is_set():
                arrived.clear()
                for model in await self._registry.models():
                    if model not in tasks:
                        self._models.setdefault(model, _Model())
                        tasks[model] = asyncio.create_task(self._look_after(model, stop))
                await first(stop.wait(), arrived.wait(), seconds=REREAD_SECONDS)
            await asyncio.gather(*tasks.values())
        finally:
            for task in (*watchers, *tasks.values()):
                task.cancel()
            await asyncio.gather(*watchers, *tasks.values(), return_exceptions=True)

    # One look.

    async def _step(self, known: _Model, present: Present) -> float:
        if present.route is None:
            return await self._introduce(present)
        started = await self._start(known, present)
        if started is not None:
            return started
        rollout = present.rollout
        if rollout is None or not (rollout.is_live or rollout.pending):
            known.watched = None
            return await self._forget_previous(present)
        return await self._move(known, present, rollout)

    async def _introduce(self, present: Present) -> float:
        """Take the first version into service, where the policy says so."""
        if present.policy.first_version != "serve":
            return IDLE_SECONDS
        for number in sorted(present.manifests):
            condition = present.condition(number)
            if not (condition.quarantined or condition.rolled_back):
                await self._operations.introduce(present.model, number, "first version", ACTOR)
                return 0.0
        return IDLE_SECONDS

    async def _start(self, known: _Model, present: Present) -> float | None:
        """Begin the rollout of an eligible version; ends the one under way first, if it comes before it."""
        assert present.route is not None
        chosen = choose(present.policy, present.route, present.rollout, present.manifests, present.conditions)
        if chosen is None:
            return None
        rollout = present.rollout
        if rollout is not None and (rollout.is_live or rollout.pending):
            return await self._supersede(present, rollout, chosen)
        known.watched = None
        reason = f"answers alert {chosen.lineage.alert}" if chosen.lineage.alert else "passed its gate"
        await self._operations.start_rollout(
            present.model, chosen.number, plan_name(chosen), reason, ACTOR, by_hand=False
        )
        return 0.0

    async def _supersede(self, present: Present, rollout: Rollout, chosen: Manifest) -> float | None:
        if rollout.pending:
            return None
        answers = f", which answers alert {chosen.lineage.alert}" if chosen.lineage.alert else ""
        reason = f"superseded by {chosen.version}{answers}"
        act = Act.FINISH if rollout.phase is Phase.PROMOTED else Act.STOP if rollout.dry_run else Act.ROLL_BACK
        await self._operations.rollouts.apply(present, Action(act, reason, rollout.step), ACTOR)
        return 0.0

    async def _move(self, known: _Model, present: Present, rollout: Rollout) -> float:
        assert present.route is not None
        if rollout.pending and self._operations.rollouts.is_acting(present.model):
            return GATHER_SECONDS
        watched = self._watch(known, present, rollout)
        has_more = await self._fold(watched)
        if has_more:
            return 0.0
        observed = watched.observer.observed()
        now = known.clock.now(rollout, self._clock.now(), self._clock.monotonic())
        condition = present.condition(rollout.version)
        crashed = condition.suspect and not condition.quarantined and condition.since >= rollout.started
        action = plan(
            rollout,
            observed,
            present.route,
            present.revision,
            now,
            quarantined=condition.reason if condition.quarantined else "",
            alert=watched.alarms.first,
            crashed=condition.reason if crashed else "",
        )
        action = dataclasses.replace(action, verdict=self._dated(action.verdict, watched, present))
        wanted, action = action, self._asked(present, rollout, action, now)
        if action.act is Act.NOTHING:
            waits_for = "" if wanted.act is Act.NOTHING else action.reason
            await self._note(known, present, replace(rollout, waits_for=waits_for), action.verdict)
            return LIVE_SECONDS
        evidence = {**action.verdict.evidence, "step_seconds": round(now - rollout.step_since, 3)}
        action = dataclasses.replace(action, verdict=dataclasses.replace(action.verdict, evidence=evidence))
        await self._operations.rollouts.apply(present, action, ACTOR)
        return 0.0

    def _asked(self, present: Present, rollout: Rollout, action: Action, now: float) -> Action:
        """The action after its hooks were heard, as far as they have answered; never waits for one."""
        moment = moment_of(action)
        if rollout.dry_run or not moment:
            if action.act is not Act.NOTHING:
                self._hooks.forget(present.model)
            return action
        facts = {"act": str(action.act), "to_step": action.step, "reason": action.reason}
        place = f"{action.step}/{moment}/{rollout.written}"
        body = event(rollout, moment, place, self._clock.now(), facts)
        asked = listeners(present.policy.rollout.hooks, moment, confirm=True)
        if asked:
            question = (rollout.number, action.step, rollout.step_since, moment)
            action = confirmed(rollout, action, self._hooks.answers(present.model, question, asked, body), now)
        if action.act is not Act.NOTHING:
            self._hooks.forget(present.model)
        if moment_of(action):
            self._hooks.tell(present.model, moment, body)
        return action

    def _watch(self, known: _Model, present: Present, rollout: Rollout) -> _Watched:
        watched = known.watched
        if watched is None or not watched.is_of(rollout):
            observer = observer_of(rollout, present.manifests)
            offset = Offset(bytes.fromhex(rollout.offset))
            watched = known.watched = _Watched(rollout, observer, Alarms(rollout), offset)
        return watched

    async def _fold(self, watched: _Watched) -> bool:
        """Fold what traffic there is. True when more is waiting: guards see everything before anything is decided."""
        await watched.alarms.read(self._control)
        batch = await self._traffic.read(watched.offset, READ_ENTRIES)
        watched.observer.fold(batch.entries)
        watched.offset = batch.offset
        return len(batch.entries) >= READ_ENTRIES

    def _dated(self, verdict: Verdict, watched: _Watched, present: Present) -> Verdict:
        """The verdict with what is needed to compute it again: the stretch of the journal, how the rollout stood,
        and for an expedited plan the gate's result, which is its evidence."""
        manifest = present.manifests.get(watched.rollout.version)
        gate = {"gate": dict(manifest.gate.metrics)} if manifest and watched.rollout.plan == "expedited" else {}
        stretch = {"from": watched.rollout.offset, "until": watched.offset.hex()}
        how = {"judged": judged(present.rollout or watched.rollout, verdict)}
        return dataclasses.replace(verdict, evidence={**verdict.evidence, **gate, **stretch, **how})

    async def _note(self, known: _Model, present: Present, rollout: Rollout, verdict: Verdict) -> None:
        """Show people the newest figures, at most once a second, and at once what it waits for; only what changed."""
        now = self._clock.monotonic()
        is_same = replace(rollout, verdict=verdict.result, evidence=verdict.evidence) == present.rollout
        is_news = present.rollout is None or rollout.waits_for != present.rollout.waits_for
        if is_same or (not is_news and now - known.noted < NOTE_SECONDS):
            return
        known.noted = now
        await self._operations.rollouts.note(dataclasses.replace(present, rollout=rollout), verdict)

    async def _forget_previous(self, present: Present) -> float:
        """Unload the last champion once it has been kept for the policy's time."""
        rollout, route = present.rollout, present.route
        if rollout is None or route is None or route.previous is None or route.champion != rollout.version:
            return IDLE_SECONDS
        left = rollout.since + present.policy.rollout.previous_kept - self._clock.now()
        if left > 0:
            return min(left, IDLE_SECONDS)
        await self._operations.rollouts.forget_previous(present, ACTOR)
        return 0.0

    # Waiting.

    async def _look_after(self, model: ModelName, stop: asyncio.Event) -> None:
        known = self._models[model]
        delay = 0.0
        while not stop.is_set():
            only_traffic = delay > 0 and not known.woken.is_set()
            known.woken.clear()
            try:
                delay = await self.reconcile(model, only_traffic)
                known.said = ""
            except (InvalidConfig, NotAllowed) as error:
                if known.said != str(error):  # it is tried again and again, and told once
                    _logger.info("rollout of %s: %s", model, error)
                known.said = str(error)
                delay = RETRY_SECONDS
            except Exception:  # one model's trouble must not end the care for it, nor for the others
                _logger.exception("rollout of %s", model)
                delay = RETRY_SECONDS
            if delay > 0:
                await self._wait(known, stop, delay)

    async def _wait(self, known: _Model, stop: asyncio.Event, seconds: float) -> None:
        """Until something may have changed: a document, a version, or the traffic of a live rollout."""
        await self._clock.sleep(min(GATHER_SECONDS, seconds))
        if known.watched is None:
            await first(known.woken.wait(), stop.wait(), seconds=seconds)
        else:
            news = self._traffic.wait(known.watched.offset, seconds)
            await first(known.woken.wait(), stop.wait(), news, seconds=seconds)

    async def _wake_on(
        self,
        watch: Callable[[], AsyncIterator[object]],
        model_of: Callable[[object], str | None],
        arrived: asyncio.Event,
    ) -> None:
        """Wake the model that a hint speaks of, or the search for new models, for ever."""
        while True:
            try:
                async for hint in watch():
                    model = model_of(hint)
                    known = self._models.get(ModelName(model or ""))
                    if known is not None:
                        known.woken.set()
                    elif model:
                        arrived.set()
            except GatewayError:
                _logger.exception("hints of changes were lost; looking again without them")
            await self._clock.sleep(RETRY_SECONDS)
