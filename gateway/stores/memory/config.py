"""Documents and audit trail in memory: the port `gateway.documents.store`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import msgspec

from gateway.clock import Clock
from gateway.documents.chain import linked, seal
from gateway.documents.store import AuditEntry, Document
from gateway.errors import DocumentNotFound, RevisionConflict
from gateway.names import Revision
from gateway.stores.memory.signal import Signal


class MemoryConfigStore:
    """See `ConfigStore`. A put happens within one turn of the event loop, so writers can not overlap."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._documents: dict[str, Document] = {}
        self._audit: list[AuditEntry] = []
        self._revision = 0
        self._changed: Signal[str] = Signal()

    async def get(self, name: str) -> Document:
        """See `ConfigStore`."""
        try:
            return self._documents[name]
        except KeyError:
            raise DocumentNotFound(name) from None

    async def list(self, prefix: str) -> Sequence[str]:
        """See `ConfigStore`."""
        return sorted(name for name in self._documents if name.startswith(prefix))

    async def put(self, name: str, body: bytes, expected: Revision, audit: AuditEntry | None = None) -> Revision:
        """See `ConfigStore`."""
        known = self._documents.get(name)
        actual = known.revision if known is not None else 0
        if actual != expected:
            raise RevisionConflict(name, expected, actual)
        self._revision += 1
        self._documents[name] = Document(bytes(body), Revision(self._revision))
        if audit is not None:
            number = len(self._audit) + 1
            previous = self._audit[-1].hash if self._audit else seal(())
            entry = msgspec.structs.replace(audit, number=number, time=self._clock.now())
            self._audit.append(linked(previous, entry))
        self._changed.send(name)
        return Revision(self._revision)

    async def audit(self, after: int, limit: int) -> Sequence[AuditEntry]:
        """See `ConfigStore`."""
        return self._audit[max(0, after) : max(0, after) + limit]

    def watch(self, prefix: str) -> AsyncIterator[str]:
        """See `ConfigStore`."""
        return self._changed.receive(lambda name: name.startswith(prefix))
