"""The loop that compares challengers with their champion for people: reads routes and traffic, shows the counts.

It begins at the journal's end, so after a restart it counts anew (`since` says from when); a rollout's own evidence is
folded by the controller from the rollout's offset and needs nothing of this.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping

import msgspec

from gateway import metrics
from gateway.clock import Clock
from gateway.documents.comparison import ModelComparison, comparison_name
from gateway.documents.route import read_route
from gateway.documents.store import ConfigStore, route_name
from gateway.errors import GatewayError, RevisionConflict
from gateway.journal.journal import Offset, TrafficJournal
from gateway.names import ModelName, Revision
from gateway.registry.registry import Registry
from gateway.rollout.beside import Beside
from gateway.rollout.evidence.verdict import Compared
from gateway.rollout.present import find, read_present

READ_ENTRIES = 2000
LOOK_SECONDS = 1.0
"""People look no faster, and routes are followed no faster."""

_logger = logging.getLogger(__name__)


class BesideLoop:
    """Compares the challengers of all models."""

    def __init__(self, config: ConfigStore, registry: Registry, traffic: TrafficJournal, clock: Clock) -> None:
        self._config = config
        self._registry = registry
        self._traffic = traffic
        self._clock = clock
        self._offset: Offset | None = None
        self._models: dict[ModelName, Beside] = {}
        self._routes: dict[ModelName, Revision] = {}
        self._shown: dict[ModelName, set[str]] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Compare until `stop` is set."""
        while not stop.is_set():
            try:
                await self.look()
            except GatewayError as error:
                _logger.warning("comparing challengers: %s", error)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), LOOK_SECONDS)

    async def look(self) -> None:
        """Follow the routes, fold all traffic there is, show what it says."""
        await self._follow()
        followed = {model: beside for model, beside in self._models.items() if not beside.is_empty}
        if followed:
            await self._fold(followed)
        else:
            self._offset = None
        for model, beside in self._models.items():
            await self._show(model, beside)
        self._models = followed

    async def _follow(self) -> None:
        prefix = route_name(ModelName(""))
        for name in await self._config.list(prefix):
            model = ModelName(name.removeprefix(prefix))
            route, revision = await find(self._config, name, read_route)
            if route is None or self._routes.get(model) == revision:
                continue
            present = await read_present(self._config, self._registry, model)
            if present.route is not None and (present.route.challengers or model in self._models):
                beside = self._models.setdefault(model, Beside(model))
                beside.follow(present.route, present.policy, present.manifests, self._clock.now())
            self._routes[model] = present.revision

    async def _fold(self, followed: Mapping[ModelName, Beside]) -> None:
        offset = await self._traffic.end() if self._offset is None else self._offset
        while True:
            batch = await self._traffic.read(offset, READ_ENTRIES)
            for beside in followed.values():
                beside.fold(batch.entries)
            offset = self._offset = batch.offset
            if len(batch.entries) < READ_ENTRIES:
                return

    async def _show(self, model: ModelName, beside: Beside) -> None:
        compared = beside.compared()
        self._shown[model] = show_compared(model, compared, self._shown.get(model, set()))
        document = beside.document(compared)
        name = comparison_name(model)
        before, revision = await find(self._config, name, _read)
        if before != document:
            with contextlib.suppress(RevisionConflict):  # another control process shows the same
                await self._config.put(name, msgspec.json.encode(document), revision)


def _read(body: bytes) -> ModelComparison:
    return msgspec.json.decode(body, type=ModelComparison)


def show_compared(model: ModelName, compared: Mapping[int, Compared], before: set[str]) -> set[str]:
    """Set the gauges of these challengers and drop those of versions that left; gives the versions that are set."""
    for number, one in compared.items():
        labels = (model, str(number))
        runs, failed = one.trial.requests + one.shadow.requests, one.trial.errors + one.shadow.errors
        metrics.challenger_pairs.labels(*labels).set(one.pairs)
        metrics.challenger_failures.labels(*labels).set(failed / runs if runs else 0.0)
        metrics.challenger_disagreement.labels(*labels).set(one.disagreements / one.compared if one.compared else 0.0)
        metrics.challenger_distance.labels(*labels).set(one.distance or 0.0)
        metrics.challenger_latency.labels(*labels).set(one.latency_ratio or 0.0)
    shown = {str(number) for number in compared}
    for gone in before - shown:
        for gauge in metrics.CHALLENGER_GAUGES:
            gauge.labels(model, gone).set(0.0)
    return shown
