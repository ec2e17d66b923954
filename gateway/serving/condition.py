"""What happened to versions, as this process reads it and writes it down: proven by being champion, or crashed.

A crash of a whole serving process makes what it was running suspect: it may have been another version's fault, so each
is tried in a process of its own, where the next crash is its own and counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import msgspec

from gateway.clock import Clock
from gateway.documents.lease import Condition
from gateway.documents.store import ABSENT, AuditEntry, ConfigStore, condition_name
from gateway.errors import DocumentNotFound, RevisionConflict
from gateway.names import ModelName, Revision, VersionId
from gateway.serving.running import read_deaths

ACTOR = "serving"
"""How serving processes sign their audit entries."""

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


def suspected(condition: Condition, reason: str, now: float) -> Condition:
    """The condition of a version that may have ended a process: suspect at most, whatever was known before. Pure."""
    if condition.suspect or condition.quarantined:
        return condition
    return msgspec.structs.replace(condition, suspect=True, reason=reason, since=now)


async def write_down_deaths(conditions: Conditions, directory: Path, clock: Clock) -> None:
    """Make suspect what ran in processes that died, as the parent noted it below `directory`."""
    for path, death in read_deaths(directory):
        for model, number in death.versions:
            version = VersionId(ModelName(model), number)
            audit = AuditEntry(actor=ACTOR, action="crash", subject=str(version), reason=death.reason)
            await conditions.change(version, partial(suspected, reason=death.reason, now=clock.now()), audit)
        path.unlink(missing_ok=True)
