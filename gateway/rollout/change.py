"""Changing a route everywhere or nowhere: prepare in all live serving processes, commit, wait until they serve it.

The serving processes are known only through their leased documents. A change that names no version beyond those of
the route in force needs no preparing: a roll-back never waits for a load.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from gateway.clock import Clock
from gateway.documents.lease import GatewayLease, Proposal, Served
from gateway.documents.route import Route, read_route
from gateway.documents.store import (
    ABSENT,
    AuditEntry,
    ConfigStore,
    Document,
    gateway_name,
    proposal_name,
    route_name,
)
from gateway.errors import DocumentNotFound, RevisionConflict, RouteRefused
from gateway.names import ModelName, Revision

PREPARE_SECONDS = 30.0
ACKNOWLEDGE_SECONDS = 10.0
_POLL_SECONDS = 0.01


class Changed(NamedTuple):
    """The route's new revision and the serving processes that reported it."""

    revision: Revision
    accepted: list[str]


class RouteWriter:
    """Writes routes. Proposals of one model queue up in this process; other changes never wait for them."""

    def __init__(self, config: ConfigStore, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._proposing: dict[ModelName, asyncio.Lock] = {}

    async def change(self, model: ModelName, expected: Revision, route: Route, audit: AuditEntry) -> Changed:
        """Write the route over revision `expected` (0: there is none yet), with its audit entry in one transaction.

        Raises RevisionConflict, and RouteRefused when a live serving process can not prepare it: nothing changed then.
        """
        before = await self._find(route_name(model))
        actual = before.revision if before else ABSENT
        if actual != expected:
            raise RevisionConflict(route_name(model), expected, actual)
        # Without a route there is nothing that a bad version could break, and no process follows the model yet.
        if before is None or route.versions <= read_route(before.body).versions:
            revision = await self._config.put(route_name(model), route.encode(), expected, audit)
            return Changed(revision, await self.acknowledged(model, revision))
        async with self._proposing.setdefault(model, asyncio.Lock()):
            return await self._prepare_and_commit(model, expected, route, audit)

    async def live(self) -> Mapping[str, GatewayLease]:
        """Serving processes whose lease holds and that take new requests, by id."""
        found = {}
        for name in await self._config.list(gateway_name("")):
            document = await self._find(name)
            if document is not None:
                lease = msgspec.json.decode(document.body, type=GatewayLease)
                if lease.is_live(self._clock.now()) and not lease.draining:
                    found[lease.id] = lease
        return found

    async def _prepare_and_commit(
        self, model: ModelName, expected: Revision, route: Route, audit: AuditEntry
    ) -> Changed:
        if not await self.live():
            return Changed(await self._config.put(route_name(model), route.encode(), expected, audit), [])
        proposal = Proposal(id=uuid.uuid4().hex, model=model, route=route.encode().decode())
        written = await self._propose(model, proposal)
        try:
            await self._prepared(model, proposal.id, expected)
            revision = await self._config.put(route_name(model), route.encode(), expected, audit)
            accepted = await self.acknowledged(model, revision)
        finally:
            await self._withdraw(model, written)
        return Changed(revision, accepted)

    async def _propose(self, model: ModelName, proposal: Proposal) -> Revision:
        before = await self._find(proposal_name(model))
        expected = before.revision if before else ABSENT
        return await self._config.put(proposal_name(model), msgspec.json.encode(proposal), expected)

    async def _withdraw(self, model: ModelName, written: Revision) -> None:
        empty = Proposal(id="", model=model, route="")
        try:
            await self._config.put(proposal_name(model), msgspec.json.encode(empty), written)
        except RevisionConflict:
            return  # somebody else proposes by now

    async def _prepared(self, model: ModelName, proposal: str, expected: Revision) -> None:
        """Wait until every live process is prepared. Raises RouteRefused, or RevisionConflict as soon as it is lost."""
        until = self._clock.monotonic() + PREPARE_SECONDS
        while True:
            served = {name: lease.models.get(model, Served()) for name, lease in (await self.live()).items()}
            refusals = {name: at.reason for name, at in served.items() if at.refused == proposal}
            if refusals:
                raise _refused(model, refusals)
            waiting = [name for name, at in served.items() if at.prepared != proposal]
            if not waiting:
                return
            await self._still_first(model, proposal, expected)
            if self._clock.monotonic() >= until:
                late = f"not prepared within {PREPARE_SECONDS:g} s"
                raise _refused(model, dict.fromkeys(waiting, late))
            await self._clock.sleep(_POLL_SECONDS)

    async def _still_first(self, model: ModelName, proposal: str, expected: Revision) -> None:
        for name, holds in (
            (route_name(model), lambda document: document.revision == expected),
            (proposal_name(model), lambda document: _proposed(document) == proposal),
        ):
            document = await self._find(name)
            if document is not None and not holds(document):
                raise RevisionConflict(name, expected, document.revision)

    async def acknowledged(self, model: ModelName, revision: Revision) -> list[str]:
        """Wait until every live process reports the revision or its lease has ended; who reported it.

        Returns after ACKNOWLEDGE_SECONDS at the latest.
        """
        until = self._clock.monotonic() + ACKNOWLEDGE_SECONDS
        while True:
            served = {name: lease.models.get(model, Served()) for name, lease in (await self.live()).items()}
            accepted = sorted(name for name, at in served.items() if at.revision >= revision)
            waiting = [name for name, at in served.items() if max(at.revision, at.refused_revision) < revision]
            if not waiting or self._clock.monotonic() >= until:
                return accepted
            await self._clock.sleep(_POLL_SECONDS)

    async def _find(self, name: str) -> Document | None:
        try:
            return await self._config.get(name)
        except DocumentNotFound:
            return None


def _proposed(document: Document) -> str:
    return msgspec.json.decode(document.body, type=Proposal).id


def _refused(model: ModelName, refusals: Mapping[str, str]) -> RouteRefused:
    who = "; ".join(f"{name}: {reason}" for name, reason in sorted(refusals.items()))
    return RouteRefused(f"the route of {model} was not changed: {who}", refusals)
