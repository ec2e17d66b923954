"""Every act on an experiment, used by its loop and the admin API alike: start, stop, and what `plan` decided.

A move of the route is announced in the experiment's document (`pending`), written, and confirmed, so that a process
that dies in between is continued by the next one. All writes are compare-and-swap: an act that lost a race is decided
again on what is there then.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
from msgspec.structs import replace

from gateway.clock import Clock
from gateway.documents.experiment import Arm, Experiment, Metric, Phase, Terms, experiment_name
from gateway.documents.store import AuditEntry, ConfigStore
from gateway.errors import InvalidConfig, NotAllowed, RevisionConflict, RouteRefused, VersionNotFound
from gateway.journal.journal import TrafficJournal
from gateway.journal.record import Decision
from gateway.journal.tee import Tee
from gateway.names import ModelName, Revision, VersionId
from gateway.rollout.apply import FINISH_SECONDS, audit_entry
from gateway.rollout.experiment.plan import (
    MOVES_ROUTE,
    WINNERS_PLAN,
    Act,
    Move,
    check_terms,
    check_weights,
    next_experiment,
    wanted_route,
    with_figures,
)
from gateway.rollout.experiment.verdict import RULE, Judged
from gateway.rollout.operation import Operations
from gateway.rollout.overlap import read_experiment, under_way
from gateway.rollout.present import Present, find
from gateway.rollout.start import check_version

ACTOR = "experiment"
"""How the loop signs its audit entries."""


@dataclass(frozen=True, slots=True)
class At:
    """A model as it is now, and its experiment. revision: to write the experiment against; 0: there was none."""

    present: Present
    experiment: Experiment | None
    revision: Revision


class Experiments:
    """The acts on all experiments. tee: of the control stream."""

    def __init__(
        self, config: ConfigStore, traffic: TrafficJournal, tee: Tee, operations: Operations, clock: Clock
    ) -> None:
        self._config = config
        self._traffic = traffic
        self._tee = tee
        self._operations = operations
        self._clock = clock

    async def at(self, model: ModelName, before: Present | None = None) -> At:
        """Everything there is to know now; manifests and conditions are those of `before`, if given."""
        experiment, revision = await find(self._config, experiment_name(model), read_experiment)
        return At(await self._operations.rollouts.present(model, before), experiment, revision)

    async def start(
        self, model: ModelName, weights: Mapping[int, float], terms: Terms, reason: str, actor: str
    ) -> Experiment:
        """Begin an experiment: challengers by number with their percent, against the champion.

        The split is drawn anew. Raises NotAllowed, VersionNotFound, InvalidConfig, RouteRefused.
        """

        async def act() -> Experiment:
            at = await self.at(model)
            wanted = {number: round(weight, 2) for number, weight in weights.items()}
            self._check_start(at, wanted, terms)
            fresh = await self._new(at, wanted, terms, reason, actor)
            return await self._begin(at, fresh, actor)

        return await self._operations.rollouts.until_first(act)

    async def stop(self, model: ModelName, reason: str, actor: str) -> Experiment:
        """End the experiment now, on the figures noted last. Raises NotAllowed when none is under way."""

        async def act() -> Experiment:
            at = await self.at(model)
            experiment = at.experiment
            if experiment is None or experiment.phase is Phase.ENDED:
                raise NotAllowed(f"{model} has no experiment under way")
            judged = Judged(experiment.verdict, experiment.winner, experiment.reason, experiment.report)
            return await self.apply(at, Move(Act.END, reason or "stopped by hand"), judged, actor)

        return await self._operations.rollouts.until_first(act)

    async def apply(self, at: At, move: Move, judged: Judged, actor: str = ACTOR) -> Experiment:
        """Carry out one move. Raises RevisionConflict, RouteRefused."""
        experiment = at.experiment
        assert experiment is not None
        if move.act is Act.PROMOTE:
            return await self._promote(at, move)
        after = next_experiment(experiment, move, judged, self._clock.now(), at.present.revision)
        if move.act is Act.TAKE_OUT:
            version = VersionId(at.present.model, move.version)
            await self._operations.rollouts.mark_rolled_back(version, move.reason)
        if move.act in MOVES_ROUTE:
            revision = await self._put(after, at.revision, None)
            return await self._write(at, after, revision, move, actor)
        if move.act is Act.WRITE:
            return await self._go_on(at, after, move, actor)
        act = _act_of(after) if move.act is Act.ADOPT else Act.END
        audit = None if move.act is Act.ADOPT else _audit(actor, act, after, move)
        self._record(after, act, move, actor)
        await self._put(after, at.revision, audit)
        return after

    async def note(self, at: At, judged: Judged) -> None:
        """Write the newest figures into the experiment, for people to see. A lost race does not matter."""
        assert at.experiment is not None
        try:
            await self._put(with_figures(at.experiment, judged), at.revision, None)
        except RevisionConflict:
            return

    async def _begin(self, at: At, fresh: Experiment, actor: str) -> Experiment:
        revision = await self._put(fresh, at.revision, None)
        try:
            return await self._write(at, fresh, revision, Move(Act.START, fresh.reason), actor)
        except RouteRefused as refusal:
            await self._give_up(fresh, revision, str(refusal))
            raise
        except RevisionConflict:
            reason = f"the route of {fresh.model} was changed at the same time"
            await self._give_up(fresh, revision, reason)
            raise NotAllowed(f"{reason}: look at it and start again") from None

    async def _go_on(self, at: At, after: Experiment, move: Move, actor: str) -> Experiment:
        try:
            return await self._write(at, after, at.revision, Move(_act_of(after), move.reason), actor)
        except RouteRefused as refusal:
            return await self._give_up(after, at.revision, str(refusal))

    async def _give_up(self, fresh: Experiment, revision: Revision, reason: str) -> Experiment:
        """It never began: say so in the document, unless somebody else went on with it."""
        ended = replace(fresh, phase=Phase.ENDED, reason=reason, pending=0)
        with contextlib.suppress(RevisionConflict):
            await self._put(ended, revision, None)
        return ended

    async def _write(self, at: At, after: Experiment, announced: Revision, move: Move, actor: str) -> Experiment:
        """Bring the announced change into the route and confirm it. announced: the document's revision."""
        present = at.present
        assert present.route is not None
        wanted = wanted_route(after, present.route)
        try:
            audit = _audit(actor, move.act, after, move)
            audit = msgspec.structs.replace(
                audit, before=present.route.encode().decode(), after=wanted.encode().decode()
            )
            done = await self._operations.writer.change(present.model, present.revision, wanted, audit)
            written = replace(after, pending=0, written=done.revision, first=after.first or done.revision)
            # The record comes first: a process that dies here writes it once more, with the same id.
            self._record(written, move.act, move, actor)
            await self._put(written, announced, None)
        except RevisionConflict:
            return await self._finished_by_another(after)
        return written

    async def _finished_by_another(self, announced: Experiment) -> Experiment:
        """The announced change, when another process saw it and carried it out first. Else RevisionConflict."""
        name = experiment_name(ModelName(announced.model))
        until = self._clock.monotonic() + FINISH_SECONDS
        while True:
            stored, revision = await find(self._config, name, read_experiment)
            is_same = stored is not None and _place(stored) == _place(announced)
            if stored is not None and is_same and not stored.pending:
                return stored
            if not is_same or self._clock.monotonic() >= until:
                raise RevisionConflict(name, announced.pending, revision)
            await self._clock.sleep(0.01)

    async def _promote(self, at: At, move: Move) -> Experiment:
        """Start the rollout of the winner; where that is refused, the reason is written down and it ends there."""
        experiment = at.experiment
        assert experiment is not None
        rollout = at.present.rollout
        after = replace(experiment, promoting=0)
        if not (rollout is not None and rollout.version == move.version and rollout.started >= experiment.since):
            reason = f"won experiment {experiment.number}: {experiment.reason}"
            try:
                await self._operations.start_rollout(at.present.model, move.version, WINNERS_PLAN, reason, ACTOR)
            except (NotAllowed, VersionNotFound, InvalidConfig) as refusal:
                after = replace(after, reason=f"{experiment.reason}; its rollout did not start: {refusal}")
        await self._put(after, at.revision, None)
        return after

    async def _new(self, at: At, weights: Mapping[int, float], terms: Terms, reason: str, actor: str) -> Experiment:
        present, now = at.present, self._clock.now()
        assert present.route is not None
        fresh = Experiment(
            model=present.model,
            champion=present.route.champion,
            arms=tuple(Arm(version=number, weight=weight) for number, weight in sorted(weights.items())),
            terms=terms,
            phase=Phase.RUNNING,
            reason=reason,
            salt=self._operations.draw_salt(),
            number=at.experiment.number + 1 if at.experiment else 1,
            guards=present.policy.rollout.guards.guards,
            offset=(await self._traffic.end()).hex(),
            started=now,
            since=now,
            pending=present.revision,
            actor=actor,
        )
        owned = wanted_route(fresh, present.route).ownership
        return replace(fresh, arms=tuple(replace(arm, ranges=owned[arm.version]) for arm in fresh.arms))

    def _check_start(self, at: At, weights: dict[int, float], terms: Terms) -> None:
        present, model = at.present, at.present.model
        if present.route is None:
            raise NotAllowed(f"{model} has no champion yet: take a version into service first")
        if present.freeze.frozen:
            raise NotAllowed(f"{model} is frozen ({present.freeze.reason}): unfreeze it first")
        if at.experiment is not None and at.experiment.is_live:
            raise NotAllowed(under_way(at.experiment))
        rollout = present.rollout
        if rollout is not None and (rollout.is_live or rollout.pending):
            what = "still guarded after its promotion" if rollout.guarding else rollout.phase
            raise NotAllowed(f"a rollout of {model}@{rollout.version} is under way ({what}): let it end first")
        check_weights(present.route.champion, weights)
        check_terms(terms)
        others = [canary.version for canary in present.route.canaries if canary.version not in weights]
        if others:
            raise NotAllowed(f"version {others[0]} is a canary already: take it out, or make it an arm")
        for number in weights:
            check_version(present, number)
        if terms.metric is Metric.LABEL:
            _check_classes(present, [present.route.champion, *weights])

    async def _put(self, experiment: Experiment, expected: Revision, audit: AuditEntry | None) -> Revision:
        name = experiment_name(ModelName(experiment.model))
        return await self._config.put(name, msgspec.json.encode(experiment), expected, audit)

    def _record(self, experiment: Experiment, act: str, move: Move, actor: str) -> None:
        """A decision record; its id is made from what was decided, so a repeat is the same decision."""
        out = sum(1 for arm in experiment.arms if arm.out)
        self._tee.offer(
            Decision(
                id=f"experiment/{experiment.model}/{experiment.number}/{act}/{out}",
                model=experiment.model,
                actor=ACTOR,
                action=str(act),
                reason=move.reason,
                version=move.version or experiment.winner,
                revision=experiment.written,
                rule=RULE,
                evidence={
                    **experiment.report,
                    "by": actor,
                    "number": experiment.number,
                    "terms": msgspec.to_builtins(experiment.terms),
                    "guards": msgspec.to_builtins(experiment.guards),
                    "offset": experiment.offset,
                    "first": experiment.first,
                },
            )
        )
        self._tee.flush()


def _check_classes(present: Present, numbers: list[int]) -> None:
    for number in numbers:
        manifest = present.manifests.get(number)
        prediction = manifest.prediction if manifest else None
        if prediction is None or prediction.kind != "class":
            raise InvalidConfig(
                f"metric: version {number} predicts no class, so no answer of it is right or wrong; "
                "compare by value or errors"
            )


def _act_of(experiment: Experiment) -> Act:
    """The act by which an experiment came to where it is, for records of what was written to the route."""
    if experiment.phase is Phase.ENDED:
        return Act.END
    return Act.TAKE_OUT if any(arm.out for arm in experiment.arms) else Act.START


def _audit(actor: str, act: str, experiment: Experiment, move: Move) -> AuditEntry:
    versions = ",".join(str(arm.version) for arm in experiment.arms)
    subject = f"{experiment.model}@{move.version or versions}"
    return audit_entry(actor, f"experiment.{act}", subject, move.reason)


def _place(experiment: Experiment) -> tuple[int, Phase, tuple[str, ...]]:
    return experiment.number, experiment.phase, tuple(arm.out for arm in experiment.arms)
