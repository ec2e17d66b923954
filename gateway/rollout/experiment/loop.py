"""The loop that looks after experiments: reads the whole present state, decides by `plan`, does at most one change.

Level-triggered, as the rollout controller: running it twice changes nothing more. All it remembers is how far it has
folded the traffic, and it can do without: a new process folds again from the experiment's offset. While the model is
frozen it counts and shows, and does nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass

from msgspec.structs import replace

from gateway.clock import Clock
from gateway.documents.experiment import Experiment, Phase, experiment_name
from gateway.documents.store import ConfigStore
from gateway.errors import GatewayError, RevisionConflict
from gateway.journal.journal import Offset, TrafficJournal
from gateway.names import ModelName
from gateway.rollout.evidence.observe import prediction_reader
from gateway.rollout.experiment.observe import ExperimentObserver, Seen
from gateway.rollout.experiment.operation import At, Experiments
from gateway.rollout.experiment.plan import Act, plan, with_figures
from gateway.rollout.experiment.verdict import Judged, failing, judge
from gateway.rollout.present import Present

READ_ENTRIES = 2000
LIVE_SECONDS = 0.5
IDLE_SECONDS = 2.0
NOTE_SECONDS = 1.0
REREAD_SECONDS = 1.0
"""Manifests and conditions are read again so often."""

PATIENCE_SECONDS = 5.0
"""An announced change that is younger is left to the process that announced it."""

_logger = logging.getLogger(__name__)


@dataclass
class _Watched:
    """How far the traffic of one experiment is folded."""

    number: int
    first: int
    observer: ExperimentObserver
    offset: Offset


@dataclass
class _Model:
    """What the loop keeps of a model between two looks; nothing here is needed to decide rightly."""

    watched: _Watched | None = None
    present: Present | None = None
    read: float = float("-inf")
    noted: float = float("-inf")


class ExperimentLoop:
    """Looks after the experiments of all models. `experiments` does the writing."""

    def __init__(self, config: ConfigStore, traffic: TrafficJournal, experiments: Experiments, clock: Clock) -> None:
        self._config = config
        self._traffic = traffic
        self._experiments = experiments
        self._clock = clock
        self._models: dict[ModelName, _Model] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Look after every experiment until `stop` is set."""
        while not stop.is_set():
            seconds = await self.look()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), seconds)

    async def look(self) -> float:
        """Look at every experiment once; seconds until the next look (0: at once)."""
        seconds = IDLE_SECONDS
        prefix = experiment_name(ModelName(""))
        for name in await self._config.list(prefix):
            model = ModelName(name.removeprefix(prefix))
            try:
                seconds = min(seconds, await self.reconcile(model))
            except GatewayError as error:  # one model's trouble must not end the care for the others
                _logger.warning("experiment of %s: %s", model, error)
                seconds = min(seconds, LIVE_SECONDS)
        return seconds

    async def reconcile(self, model: ModelName) -> float:
        """Bring one model's experiment one change further; seconds until it wants to look again (0: at once)."""
        known = self._models.setdefault(model, _Model())
        is_recent = self._clock.monotonic() - known.read < REREAD_SECONDS
        at = await self._experiments.at(model, known.present if is_recent else None)
        if not is_recent:
            known.read = self._clock.monotonic()
        known.present = at.present
        experiment = at.experiment
        if experiment is None or not experiment.is_live or at.present.route is None:
            known.watched = None
            return IDLE_SECONDS
        try:
            return await self._step(known, at, experiment)
        except RevisionConflict:
            return 0.0

    async def _step(self, known: _Model, at: At, experiment: Experiment) -> float:
        present, now = at.present, self._clock.now()
        assert present.route is not None
        if experiment.pending and abs(now - experiment.since) < PATIENCE_SECONDS:
            return LIVE_SECONDS
        judged, rejected = _noted(experiment), None
        if experiment.phase is Phase.RUNNING and experiment.first:
            watched = self._watch(known, present, experiment)
            if await self._fold(watched):
                return 0.0
            seen = watched.observer.seen()
            judged = self._dated(judge(experiment, seen), watched, experiment)
            rejected = _rejected(present, experiment, seen)
        if present.freeze.frozen:
            await self._note(known, at, judged)
            return LIVE_SECONDS
        move = plan(experiment, judged, rejected, present.route, present.revision, now)
        if move.act is Act.NOTHING:
            await self._note(known, at, judged)
            return LIVE_SECONDS
        await self._experiments.apply(at, move, judged)
        return 0.0

    def _watch(self, known: _Model, present: Present, experiment: Experiment) -> _Watched:
        watched = known.watched
        if watched is None or (watched.number, watched.first) != (experiment.number, experiment.first):
            specs = {number: manifest.prediction for number, manifest in present.manifests.items()}
            observer = ExperimentObserver(experiment, prediction_reader(specs))
            offset = Offset(bytes.fromhex(experiment.offset))
            watched = known.watched = _Watched(experiment.number, experiment.first, observer, offset)
        return watched

    async def _fold(self, watched: _Watched) -> bool:
        """Fold what traffic there is. True when more is waiting: guards see everything before anything is decided."""
        batch = await self._traffic.read(watched.offset, READ_ENTRIES)
        watched.observer.fold(batch.entries)
        watched.offset = batch.offset
        return len(batch.entries) >= READ_ENTRIES

    def _dated(self, judged: Judged, watched: _Watched, experiment: Experiment) -> Judged:
        """The verdict with the stretch of the journal that is needed to compute it again."""
        stretch = {"from": experiment.offset, "until": watched.offset.hex()}
        return Judged(judged.verdict, judged.winner, judged.reason, {**judged.report, **stretch})

    async def _note(self, known: _Model, at: At, judged: Judged) -> None:
        """Show the newest figures to people, at most once a second and only when they changed."""
        experiment = at.experiment
        assert experiment is not None
        now = self._clock.monotonic()
        is_same = _without_place(with_figures(experiment, judged)) == _without_place(experiment)
        if is_same or now - known.noted < NOTE_SECONDS:
            return
        known.noted = now
        await self._experiments.note(at, judged)


def _noted(experiment: Experiment) -> Judged:
    return Judged(experiment.verdict, experiment.winner, experiment.reason, experiment.report)


def _rejected(present: Present, experiment: Experiment, seen: Seen) -> tuple[int, str] | None:
    """The first challenger that a quarantine or a guard rejects, and why."""
    for arm in experiment.taking_part:
        condition = present.condition(arm.version)
        if condition.quarantined:
            return arm.version, f"it is quarantined ({condition.reason})"
    return failing(experiment, seen)


def _without_place(experiment: Experiment) -> Experiment:
    """The figures without the place in the journal, which moves with other models' traffic."""
    return replace(experiment, report={key: value for key, value in experiment.report.items() if key != "until"})
