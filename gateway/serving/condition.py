"""What happened to versions, as this process reads it and writes it down: proven by being champion, or crashed."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from gateway.documents.lease import Condition
from gateway.documents.store import ABSENT, AuditEntry, ConfigStore, condition_name
from gateway.errors import DocumentNotFound, RevisionConflict
from gateway.names import ModelName, Revision, VersionId

_ATTEMPTS = 20


class Conditions:
    """Reads and changes the conditions of versions; of concurrent changes none is lost."""

    def __init__(self, config: ConfigStore) -> None:
        self._config = config

    async def of(self, model: ModelName, numbers: Iterable[int]) -> dict[int, Condition]:
        """The conditions of these versions; those of which nothing is written are left out."""
        found = {}
        for number in numbers:
            condition, revision = await self._read(VersionId(model, number))
            if revision != ABSENT:
                found[number] = condition
        return found

    async def change(
        self, version: VersionId, change: Callable[[Condition], Condition], audit: AuditEntry | None = None
    ) -> Condition:
        """Apply a pure change and return what is stored then. Raises RevisionConflict after many lost races."""
        for attempt in range(_ATTEMPTS):
            before, revision = await self._read(version)
            after = change(before)
            if after == before:
                return before
            try:
                await self._config.put(condition_name(version), msgspec.json.encode(after), revision, audit)
            except RevisionConflict:
                if attempt == _ATTEMPTS - 1:
                    raise
            else:
                return after
        raise AssertionError("unreachable")

    async def _read(self, version: VersionId) -> tuple[Condition, Revision]:
        try:
            document = await self._config.get(condition_name(version))
        except DocumentNotFound:
            return Condition(), ABSENT
        return msgspec.json.decode(document.body, type=Condition), document.revision
