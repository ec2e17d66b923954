"""The leased document of this process: what it serves, renewed while it lives.

A process that can not renew stops serving challengers when its lease is over, and goes on with champions: whoever
waits for a roll-back may count on that after LEASE_SECONDS.
"""

from __future__ import annotations

import asyncio

import msgspec

from gateway.clock import Clock
from gateway.documents.lease import LEASE_SECONDS, GatewayLease, Served
from gateway.documents.store import ABSENT, ConfigStore, gateway_name
from gateway.errors import ConfigError, DocumentNotFound, RevisionConflict
from gateway.names import ModelName, Revision
from gateway.serving.predict import Serving

RENEW_SECONDS = 0.25


class Lease:
    """Writes `gateways/<id>`: soon after each change, and every RENEW_SECONDS."""

    def __init__(self, config: ConfigStore, serving: Serving, clock: Clock, gateway: str, pid: int) -> None:
        self._config = config
        self._serving = serving
        self._clock = clock
        self._document = GatewayLease(id=gateway, pid=pid, started=clock.now(), renewed=clock.now())
        self._revision: Revision = ABSENT
        self._changed = asyncio.Event()

    def report(self, model: ModelName, served: Served) -> None:
        """Tell the others what this process serves of a model; written at once."""
        models = {**self._document.models, model: served}
        self._document = msgspec.structs.replace(self._document, models=models)
        self._changed.set()

    def drain(self) -> None:
        """Tell the others that this process is leaving."""
        self._document = msgspec.structs.replace(self._document, draining=True)
        self._changed.set()

    async def run(self) -> None:
        """Renew for ever."""
        while True:
            self._changed.clear()
            await self.renew()
            try:
                await asyncio.wait_for(self._changed.wait(), RENEW_SECONDS)
            except TimeoutError:
                continue

    async def renew(self) -> None:
        """Write the document once. A store that does not answer leaves the lease to run out."""
        asked = self._clock.monotonic()
        self._document = msgspec.structs.replace(self._document, renewed=self._clock.now())
        name, body = gateway_name(self._document.id), msgspec.json.encode(self._document)
        try:
            self._revision = await self._config.put(name, body, self._revision)
            self._serving.lease_until = asked + LEASE_SECONDS
        except RevisionConflict as conflict:
            self._revision = Revision(conflict.actual)
            self._changed.set()
        except (ConfigError, OSError):
            await self._clock.sleep(RENEW_SECONDS / 5)

    async def release(self) -> None:
        """Give the lease up, so that nobody waits for it."""
        released = msgspec.structs.replace(self._document, renewed=0.0, draining=True)
        try:
            name = gateway_name(self._document.id)
            self._revision = await self._config.put(name, msgspec.json.encode(released), self._revision)
        except (ConfigError, DocumentNotFound, OSError):
            return
