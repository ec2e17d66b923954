"""Deletes journal segments and joined rows that are older than the settings and policies keep them."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from gateway.clock import Clock
from gateway.documents.policy import Policy
from gateway.documents.store import ConfigStore
from gateway.monitor.lookup import Policies
from gateway.stores.stores import Stores

_EVERY_SECONDS = 600.0


async def longest_wait_seconds(config: ConfigStore) -> float:
    """How long the most patient policy waits for a label. One that can not be read counts as the defaults do."""
    policies = [Policy(model="default"), *await Policies(config).all()]
    return max(policy.labels.wait for policy in policies)


class Retention:
    """One pass at start and every ten minutes."""

    def __init__(self, stores: Stores, clock: Clock, keep_seconds: float) -> None:
        self._stores = stores
        self._clock = clock
        self._keep_seconds = keep_seconds

    async def run(self, stop: asyncio.Event) -> None:
        """Delete what is too old until told to stop."""
        while not stop.is_set():
            await self.once()
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), _EVERY_SECONDS)

    async def once(self) -> None:
        """One pass over both streams and the join index."""
        now = self._clock.now()
        oldest_ns = int((now - self._keep_seconds) * 1e9)
        await self._stores.traffic.trim(await self._stores.traffic.seek(oldest_ns))
        await self._stores.control.trim(await self._stores.control.seek(oldest_ns))
        waited_ns = int((now - await longest_wait_seconds(self._stores.config)) * 1e9)
        await self._stores.joins.trim(waited_ns, oldest_ns)
