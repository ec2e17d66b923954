"""How a process comes to serve something else: from documents and versions to installed generations.

Level-triggered: each pass reads the whole present state of a model and brings this process to it. Make before
break: fetch, verify, load, warm up, then install; when a step fails the last good generation goes on and the
refusal is reported in this process's leased document. `plan` is the pure decision, the rest its shell.

A challenger that has never been champion is loaded into a process of its own; one in quarantine is refused when it is
proposed, and left out of the generation when the route names it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Executor as Threads
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import msgspec

from gateway import metrics
from gateway.clock import Clock
from gateway.documents.lease import Condition, Proposal, Served
from gateway.documents.policy import Policy, read_policy
from gateway.documents.route import Route, read_route, without
from gateway.documents.store import ConfigStore, Document, policy_name, proposal_name, route_name
from gateway.errors import DocumentNotFound, ExecutionError, RegistryError, RevisionConflict
from gateway.execution.session import LoadedVersion, load
from gateway.names import ModelName, VersionId
from gateway.registry.manifest import Manifest
from gateway.registry.registry import Registry
from gateway.routing.snapshot import compile_route
from gateway.serving.condition import Conditions
from gateway.serving.generation import Generation, Shelf, Slot
from gateway.serving.memory import Memory
from gateway.serving.predict import Serving

Loader = Callable[[Manifest, Path], LoadedVersion]
Isolator = Callable[[Manifest, Path], Awaitable[LoadedVersion]]


class Wanted(NamedTuple):
    """What the documents ask of this process for one model. `proposal` is None when nothing is to be prepared."""

    policy: Policy
    policy_revision: int
    route: Route
    revision: int
    proposal: Proposal | None
    conditions: Mapping[int, Condition] = MappingProxyType({})

    @property
    def left_out(self) -> tuple[int, ...]:
        """Challengers of the route that are quarantined."""
        return tuple(sorted(n for n in self.route.challengers if self.condition(n).quarantined))

    def condition(self, number: int) -> Condition:
        """What happened to the version; nothing special by default."""
        return self.conditions.get(number, Condition())

    def slots(self, model: ModelName, route: Route) -> frozenset[Slot]:
        """The versions of a route, each in its place: on trial in its own process, proven ones inline."""
        return frozenset(
            Slot(VersionId(model, n), n in route.challengers and not self.condition(n).proven) for n in route.versions
        )

    def quarantined(self, numbers: frozenset[int]) -> dict[int, str]:
        """Why some of these versions may not be loaded."""
        found = {n: self.condition(n) for n in numbers}
        return {n: f"it is quarantined ({c.reason})" for n, c in found.items() if c.quarantined}


class Changes(NamedTuple):
    """What to do, in this order: prepare the proposed versions, install the route, drop what was prepared."""

    prepare: Proposal | None
    install: bool
    drop_prepared: bool


def plan(wanted: Wanted, served: Served, holds_prepared: bool) -> Changes:
    """The difference between what is wanted and what is served. Pure."""
    proposal = wanted.proposal
    is_answered = proposal is not None and proposal.id in (served.prepared, served.refused)
    is_installed = (served.revision, served.policy_revision, served.left_out) == (
        wanted.revision,
        wanted.policy_revision,
        wanted.left_out,
    )
    is_refused = served.ready and served.refused_revision == wanted.revision
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
    ) -> None:
        """isolator: loads versions on trial; None: they run inline like any other. threads: where `loader` runs."""
        self._config = config
        self._registry = registry
        self._serving = serving
        self._cache = cache
        self._clock = clock
        self._shelf = shelf
        self._report = report
        self._loader = loader
        self._isolator = isolator
        self._threads = threads
        self._memory = memory
        self._conditions = Conditions(config)
        self._models: dict[ModelName, _Model] = {}

    async def run(self) -> None:
        """Follow the store for ever. A failure of one pass is logged in the lease and tried again."""
        await self.pick_up_all()
        async for name in self._config.watch(""):
            kind, _, model = name.partition("/")
            if kind in ("policies", "routes", "proposals"):
                await self.pick_up(ModelName(model))
            elif kind == "conditions":
                await self.pick_up(ModelName(model.rpartition("@")[0]))

    async def pick_up_all(self) -> None:
        """Bring every routed model up to date."""
        for name in await self._config.list("routes/"):
            await self.pick_up(ModelName(name.removeprefix("routes/")))

    async def pick_up(self, model: ModelName) -> None:
        """Bring one model up to date with its documents; what fails is reported, not raised."""
        wanted = await self._wanted(model)
        if wanted is None:
            return
        known = self._models.setdefault(model, _Model())
        changes = plan(wanted, known.served, bool(known.prepared))
        if changes.install:
            await self._install(model, known, wanted)
        if changes.prepare is not None:
            await self._prepare(model, known, wanted, changes.prepare)
        if changes.drop_prepared:
            self._drop_prepared(known)
        if any(changes):
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
        )

    async def _document(self, name: str) -> Document | None:
        with suppress(DocumentNotFound):
            return await self._config.get(name)
        return None

    async def _prepare(self, model: ModelName, known: _Model, wanted: Wanted, proposal: Proposal) -> None:
        route = read_route(proposal.route.encode())
        slots = self._slots(model, wanted, route)
        failed = wanted.quarantined(route.versions) or await self._load_missing(slots)
        if failed:
            known.served = msgspec.structs.replace(known.served, refused=proposal.id, reason=_told(model, failed))
            self._shelf.sweep()
            return
        self._hold_prepared(known, slots)
        known.served = msgspec.structs.replace(known.served, prepared=proposal.id, reason="")

    async def _install(self, model: ModelName, known: _Model, wanted: Wanted) -> None:
        left_out = wanted.quarantined(frozenset(wanted.left_out))
        route = wanted.route
        for number in left_out:
            route = without(route, number)
        slots = self._slots(model, wanted, route)
        last_hope = None if known.generation is not None else route.champion
        failed = await self._load_missing(slots, last_hope)
        usable = _usable_route(route, failed, has_good=known.generation is not None)
        if usable is None:
            reason = _told(model, failed)
            known.served = msgspec.structs.replace(
                known.served, refused_revision=wanted.revision, refused_reason=reason
            )
            self._serving.refusals[model] = "" if known.generation is not None else reason
            self._shelf.sweep()
            return
        snapshot = compile_route(wanted.policy.model_copy(update={"model": model}), usable, wanted.revision)
        isolated = frozenset(slot.version.number for slot in slots if slot.isolated)
        fresh = Generation(snapshot, wanted.policy_revision, usable.versions, self._shelf, isolated)
        retired, known.generation = known.generation, fresh
        self._serving.generations[model] = fresh
        self._serving.refusals[model] = ""
        known.served = Served(
            revision=wanted.revision,
            policy_revision=wanted.policy_revision,
            versions=tuple(sorted(fresh.versions)),
            left_out=wanted.left_out,
            ready=True,
            prepared=known.served.prepared,
            refused=known.served.refused,
            refused_reason=_told(model, {**failed, **left_out}),
        )
        if retired is not None:
            retired.retire()
        self._shelf.sweep()
        metrics.revision.labels(model).set(wanted.revision)
        metrics.loaded.set(len(self._shelf))
        await self._prove(VersionId(model, usable.champion), wanted)

    async def _prove(self, champion: VersionId, wanted: Wanted) -> None:
        """Remember that the version has been champion, so that it runs inline from now on. A lost race is made up."""
        if not wanted.condition(champion.number).proven:
            with suppress(RevisionConflict):
                await self._conditions.change(champion, partial(msgspec.structs.replace, proven=True))

    def _slots(self, model: ModelName, wanted: Wanted, route: Route) -> frozenset[Slot]:
        slots = wanted.slots(model, route)
        return slots if self._isolator is not None else frozenset(Slot(slot.version) for slot in slots)

    def _hold_prepared(self, known: _Model, slots: frozenset[Slot]) -> None:
        for slot in slots:
            self._shelf.take(slot)
        before, known.prepared = known.prepared, slots
        for slot in before:
            self._shelf.give_back(slot)

    def _drop_prepared(self, known: _Model) -> None:
        before, known.prepared = known.prepared, frozenset()
        for slot in before:
            self._shelf.give_back(slot)

    async def _load_missing(self, slots: frozenset[Slot], last_hope: int | None = None) -> dict[int, str]:
        """Load what is not on the shelf. Returns why each number that failed could not be loaded.

        last_hope: the version without which nothing would answer; no limit of memory keeps it out.
        """
        failed: dict[int, str] = {}
        for slot in sorted(slots):
            if slot in self._shelf:
                continue
            model, number = slot.version
            try:
                loaded = await self._load(slot)
                self._shelf.put(slot, loaded)
                refusal = self._memory.refusal() if self._memory is not None and number != last_hope else ""
                if refusal:
                    self._shelf.drop(slot)
                    raise ExecutionError(refusal)
                metrics.loads.labels(model, "ok").inc()
            except (RegistryError, ExecutionError, OSError) as error:
                failed[number] = str(error)
                metrics.loads.labels(model, "failed").inc()
        return failed

    async def _load(self, slot: Slot) -> LoadedVersion:
        manifest, directory = await self._registry.fetch(slot.version, self._cache)
        if slot.isolated and self._isolator is not None:
            return await self._isolator(manifest, directory)
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._loader, manifest, directory)


def _told(model: ModelName, failed: Mapping[int, str]) -> str:
    return "; ".join(f"{model}@{number}: {why}" for number, why in sorted(failed.items()))


def _usable_route(route: Route, failed: dict[int, str], has_good: bool) -> Route | None:
    """The route to install when some versions failed to load; None keeps the last good generation.

    A process that has nothing yet serves what it can: the champion without the challengers that failed, or
    `previous` when the champion itself failed.
    """
    if not failed:
        return route
    if has_good:
        return None
    champion = route.champion if route.champion not in failed else route.previous
    if champion is None or champion in failed:
        return None
    return Route(
        champion=champion,
        canaries=tuple(c for c in route.canaries if c.version not in failed and c.version != champion),
        shadows=tuple(s for s in route.shadows if s.version not in failed and s.version != champion),
        previous=route.previous if route.previous not in failed and route.previous != champion else None,
        salt=route.salt,
    )
