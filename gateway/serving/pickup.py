"""How a process comes to serve something else: from documents and versions to installed generations.

Level-triggered: each pass reads the whole present state of a model and brings this process to it. Make before
break: fetch, verify, load, warm up, then install; when a step fails the last good generation goes on and the
refusal is reported in this process's leased document. `plan` is the pure decision, the rest its shell.

Each model follows two lanes of its own: its route is installed in one, its proposals are prepared in the other. So a
roll-back, which needs no load, waits for no load, neither another model's nor its own. Passes of one lane keep their
order.

A challenger that has never been champion, and any version that has crashed, is loaded into a process of its own; one in
quarantine is refused when it is proposed, and left out of the generation when the route names it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import Executor as Threads
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

import msgspec

from gateway import metrics
from gateway.clock import Clock
from gateway.documents.lease import Proposal, Served
from gateway.documents.policy import Policy, read_policy
from gateway.documents.route import Route, read_route
from gateway.documents.store import ConfigStore, Document, policy_name, proposal_name, route_name
from gateway.errors import DocumentNotFound, RevisionConflict
from gateway.execution.mark import Mark
from gateway.execution.session import load
from gateway.names import ModelName, VersionId
from gateway.registry.registry import Registry
from gateway.routing.snapshot import compile_route
from gateway.serving.condition import Conditions
from gateway.serving.generation import Generation, Shelf, Slot
from gateway.serving.lane import Lane
from gateway.serving.loading import Isolator, Loader, Loading
from gateway.serving.memory import Memory
from gateway.serving.predict import Serving
from gateway.serving.wanted import Asked, Wanted, allowed_route, usable_route


class Changes(NamedTuple):
    """What to do: install the route, prepare the proposed versions, drop what was prepared."""

    prepare: Proposal | None
    install: bool
    drop_prepared: bool


def plan(wanted: Wanted, served: Served, holds_prepared: bool, refused: Asked | None = None) -> Changes:
    """The difference between what is wanted and what is served. refused: what failed last. Pure."""
    proposal = wanted.proposal
    is_answered = proposal is not None and proposal.id in (served.prepared, served.refused)
    is_installed = (served.revision, served.policy_revision, served.left_out, frozenset(served.isolated)) == (
        wanted.revision,
        wanted.policy_revision,
        wanted.left_out,
        wanted.isolated.intersection(served.versions),
    )
    is_refused = served.ready and refused == wanted.asked
    return Changes(
        prepare=proposal if proposal is not None and not is_answered else None,
        install=not is_installed and not is_refused,
        drop_prepared=proposal is None and holds_prepared,
    )


@dataclass
class _Model:
    """What this process knows of one model."""

    served: Served = field(default_factory=Served)
    generation: Generation | None = None
    prepared: frozenset[Slot] = frozenset()
    refused: Asked | None = None
    installing: asyncio.Lock = field(default_factory=asyncio.Lock)
    preparing: asyncio.Lock = field(default_factory=asyncio.Lock)

    def good(self, quarantined: Mapping[int, str]) -> Generation | None:
        """The generation that may go on when a new one fails; none when its champion is in quarantine."""
        generation = self.generation
        return None if generation is None or generation.snapshot.champion in quarantined else generation


class Pickup:
    """The loop of one process. `report` is told the new state of a model after each change."""

    def __init__(
        self,
        config: ConfigStore,
        registry: Registry,
        serving: Serving,
        cache: Path,
        clock: Clock,
        shelf: Shelf,
        report: Callable[[ModelName, Served], None],
        loader: Loader = load,
        isolator: Isolator | None = None,
        threads: Threads | None = None,
        memory: Memory | None = None,
        mark: Mark | None = None,
    ) -> None:
        """isolator: loads versions on trial; None: they run inline like any other. threads: where `loader` runs."""
        self._config = config
        self._serving = serving
        self._shelf = shelf
        self._report = report
        self._loading = Loading(registry, cache, shelf, loader, isolator, threads, memory, mark)
        self._conditions = Conditions(config)
        self._models: dict[ModelName, _Model] = {}
        self._routes = Lane(self._follow_route, clock)
        self._proposals = Lane(self._follow_proposal, clock)

    async def run(self) -> None:
        """Follow the store for ever. A failure of one pass is logged and tried again."""
        changes = self._config.watch("")
        try:
            for name in await self._config.list("routes/"):
                self._routes.hint(ModelName(name.removeprefix("routes/")))
            async for name in changes:
                kind, _, model = name.partition("/")
                if kind in ("policies", "routes", "proposals"):
                    self._routes.hint(ModelName(model))
                elif kind == "conditions":
                    self._routes.hint(ModelName(model.rpartition("@")[0]))
        finally:
            await self._routes.close()
            await self._proposals.close()

    async def pick_up_all(self) -> None:
        """Bring every routed model up to date, side by side."""
        async with asyncio.TaskGroup() as group:
            for name in await self._config.list("routes/"):
                group.create_task(self.pick_up(ModelName(name.removeprefix("routes/"))))

    async def pick_up(self, model: ModelName) -> None:
        """Bring one model up to date with its documents; what fails is reported, not raised."""
        await self._bring_route(model)
        await self._follow_proposal(model)

    async def _follow_route(self, model: ModelName) -> None:
        await self._bring_route(model)
        self._proposals.hint(model)

    async def _bring_route(self, model: ModelName) -> None:
        known = self._models.setdefault(model, _Model())
        async with known.installing:
            wanted = await self._wanted(model)
            if wanted is not None and plan(wanted, known.served, bool(known.prepared), known.refused).install:
                await self._install(model, known, wanted)
                self._report(model, known.served)

    async def _follow_proposal(self, model: ModelName) -> None:
        known = self._models.setdefault(model, _Model())
        async with known.preparing:
            wanted = await self._wanted(model)
            if wanted is None:
                return
            changes = plan(wanted, known.served, bool(known.prepared), known.refused)
            if changes.prepare is not None:
                await self._prepare(model, known, wanted, changes.prepare)
            if changes.drop_prepared:
                self._hold_prepared(known, frozenset())
            if changes.prepare is not None or changes.drop_prepared:
                self._report(model, known.served)

    async def _wanted(self, model: ModelName) -> Wanted | None:
        route = await self._document(route_name(model))
        if route is None:
            return None
        policy = await self._document(policy_name(model))
        proposal = await self._document(proposal_name(model))
        proposed = msgspec.json.decode(proposal.body, type=Proposal) if proposal else None
        if proposed is not None and not proposed.route:
            proposed = None
        present = read_route(route.body)
        named = present.versions | (read_route(proposed.route.encode()).versions if proposed else frozenset())
        return Wanted(
            policy=read_policy(policy.body) if policy else Policy(model=model),
            policy_revision=policy.revision if policy else 0,
            route=present,
            revision=route.revision,
            proposal=proposed,
            conditions=await self._conditions.of(model, sorted(named)),
            isolates=self._loading.can_isolate,
        )

    async def _document(self, name: str) -> Document | None:
        with suppress(DocumentNotFound):
            return await self._config.get(name)
        return None

    async def _prepare(self, model: ModelName, known: _Model, wanted: Wanted, proposal: Proposal) -> None:
        route = read_route(proposal.route.encode())
        if forbidden := wanted.quarantined(route.versions):
            self._refuse_proposal(model, known, proposal, forbidden)
            return
        slots = wanted.slots(model, route)
        async with self._loading.held(slots) as failed:
            if failed:
                self._refuse_proposal(model, known, proposal, failed)
            else:
                self._hold_prepared(known, slots)
                known.served = msgspec.structs.replace(known.served, prepared=proposal.id, reason="")

    def _refuse_proposal(self, model: ModelName, known: _Model, proposal: Proposal, failed: Mapping[int, str]) -> None:
        known.served = msgspec.structs.replace(known.served, refused=proposal.id, reason=_told(model, failed))

    async def _install(self, model: ModelName, known: _Model, wanted: Wanted) -> None:
        quarantined = wanted.quarantined(wanted.route.versions)
        route = allowed_route(wanted.route, quarantined.keys())
        if route is None:
            self._refuse(model, known, wanted, {}, quarantined)
            return
        has_good = known.good(quarantined) is not None
        async with self._loading.held(wanted.slots(model, route), None if has_good else route.champion) as failed:
            usable = usable_route(route, failed.keys(), has_good)
            if usable is None:
                self._refuse(model, known, wanted, failed, quarantined)
                return
            await self._swap(model, known, wanted, usable)
        known.served = msgspec.structs.replace(known.served, refused_reason=_told(model, {**failed, **quarantined}))
        await self._prove(VersionId(model, usable.champion), wanted)

    async def _swap(self, model: ModelName, known: _Model, wanted: Wanted, route: Route) -> None:
        """Install the route, whose versions are all on the shelf: everything is made beside the event loop, and then
        it is one assignment. Not in the threads that load: a roll-back must not stand in line behind a load."""
        policy = wanted.policy.model_copy(update={"model": model})
        snapshot = await asyncio.to_thread(compile_route, policy, route, wanted.revision)
        isolated = wanted.isolated & route.versions
        fresh = Generation(snapshot, wanted.policy_revision, route.versions, self._shelf, isolated)
        try:
            await asyncio.to_thread(self._serving.prepare, fresh)
        except BaseException:
            fresh.retire()  # it would hold its versions for ever
            raise
        retired, known.generation = known.generation, fresh
        self._serving.install(fresh)
        known.refused = None
        known.served = Served(
            revision=wanted.revision,
            policy_revision=wanted.policy_revision,
            versions=tuple(sorted(fresh.versions)),
            left_out=wanted.left_out,
            isolated=tuple(sorted(isolated)),
            ready=True,
            prepared=known.served.prepared,
            refused=known.served.refused,
        )
        if retired is not None:
            retired.retire()
        metrics.revision.labels(model).set(wanted.revision)
        metrics.loaded.set(len(self._shelf))

    def _refuse(
        self,
        model: ModelName,
        known: _Model,
        wanted: Wanted,
        failed: Mapping[int, str],
        quarantined: Mapping[int, str],
    ) -> None:
        """Go on with the last good generation; where there is none the model answers with the reason."""
        reason = _told(model, {**failed, **quarantined})
        known.refused = wanted.asked
        if known.good(quarantined) is None:
            gone, known.generation = known.generation, None
            self._serving.generations.pop(model, None)
            known.served = Served(prepared=known.served.prepared, refused=known.served.refused)
            if gone is not None:
                gone.retire()
        self._serving.refusals[model] = "" if known.generation is not None else reason
        known.served = msgspec.structs.replace(known.served, refused_revision=wanted.revision, refused_reason=reason)

    async def _prove(self, champion: VersionId, wanted: Wanted) -> None:
        """Remember that the version has been champion, so that it runs inline from now on. A lost race is made up."""
        if not wanted.condition(champion.number).proven:
            with suppress(RevisionConflict):
                await self._conditions.change(champion, partial(msgspec.structs.replace, proven=True))

    def _hold_prepared(self, known: _Model, slots: frozenset[Slot]) -> None:
        for slot in slots:
            self._shelf.take(slot)
        before, known.prepared = known.prepared, slots
        for slot in before:
            self._shelf.give_back(slot)


def _told(model: ModelName, failed: Mapping[int, str]) -> str:
    return "; ".join(f"{model}@{number}: {why}" for number, why in sorted(failed.items()))
