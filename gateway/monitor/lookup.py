"""What a fold needs besides the entries, read from the stores: policies, and versions with their references.

Reads only, and remembers what can not change. Shared by the live loop and by replays.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from gateway.documents.policy import Policy, read_policy
from gateway.documents.store import ConfigStore, policy_name
from gateway.errors import DocumentNotFound, GatewayError, Unavailable
from gateway.journal.join import WaitingPrediction
from gateway.journal.record import Entry, Prediction, TrafficRecord
from gateway.monitor.detectors.panel import Plan
from gateway.monitor.state import MonitorState
from gateway.monitor.version import Version
from gateway.names import ModelName, VersionId
from gateway.registry.reference import REFERENCE_FILE, read_reference
from gateway.registry.registry import Registry

_log = logging.getLogger(__name__)


def versions_of(entries: Iterable[Entry[TrafficRecord]], waiting: Iterable[WaitingPrediction]) -> set[VersionId]:
    """Every version that a block speaks of, as answer or as contract."""
    answers = {
        (record.model, record.version, record.contract)
        for record in (entry.record for entry in entries)
        if isinstance(record, Prediction)
    }
    found = {(model, number) for model, version, contract in answers for number in (version, contract)}
    found |= {(one.model, answer[0]) for one in waiting for answer in one.answers}
    return {VersionId(ModelName(model), number) for model, number in found if number > 0}


def remembered(state: MonitorState) -> set[VersionId]:
    """Every version that a checkpoint has figures of: a summary shows also those that answer no more."""
    return {VersionId(ModelName(model), number) for model in state.models for number in state.of(model).judged}


class Policies:
    """Stored policies by model, parsed once as long as they do not change."""

    def __init__(self, config: ConfigStore) -> None:
        self._config = config
        self._read: dict[str, tuple[bytes, Policy]] = {}
        self._refused: dict[str, bytes] = {}

    async def of(self, models: Collection[ModelName]) -> dict[str, Policy]:
        """The policy of each; the defaults where none is stored. One that can not be read is left out and told once."""
        found = {model: await self._one(model) for model in models}
        return {model: policy for model, policy in found.items() if policy is not None}

    async def all(self) -> list[Policy]:
        """Every stored policy that can be read."""
        names = await self._config.list(policy_name(ModelName("")))
        return list((await self.of([ModelName(name.partition("/")[2]) for name in names])).values())

    async def _one(self, model: ModelName) -> Policy | None:
        try:
            body = (await self._config.get(policy_name(model))).body
        except DocumentNotFound:
            body = b""
        known = self._read.get(model)
        if known is None or known[0] != body:
            try:
                known = self._read[model] = (body, read_policy(body) if body else Policy(model=model))
            except ValueError as error:
                if self._refused.get(model) != body:
                    self._refused[model] = body
                    _log.warning("the stored policy of %s can not be read, the last good one is used: %s", model, error)
                return None
        return known[1]


class Versions:
    """Manifests and compiled references, read once: they are immutable. cache: a directory for fetched packages."""

    def __init__(self, registry: Registry, cache: Path) -> None:
        self._registry = registry
        self._cache = cache
        self._versions: dict[str, dict[int, Version]] = {}
        self._told: set[VersionId] = set()

    def known(self, model: str) -> Mapping[int, Version]:
        """The versions of a model that were needed so far."""
        return self._versions.get(model, {})

    async def of(self, wanted: Iterable[VersionId]) -> dict[str, dict[int, Version]]:
        """These and all earlier ones, by model. What the registry does not have is left out: counted, not monitored.

        Raises Unavailable when the registry can not be asked now: leaving a version out then would be a gap in its
        figures that no replay shows.
        """
        for version in wanted:
            numbers = self._versions.setdefault(version.model, {})
            if version.number not in numbers:
                try:
                    numbers[version.number] = await self._fetch(version)
                except Unavailable:
                    raise
                except GatewayError as error:
                    self._tell(version, f"is not monitored: {error}")
        return {model: dict(numbers) for model, numbers in self._versions.items()}

    async def _fetch(self, version: VersionId) -> Version:
        manifest, package = await self._registry.fetch(version, self._cache)
        try:
            body = await asyncio.to_thread((package / REFERENCE_FILE).read_bytes)
            reference = read_reference(body)
            return Version(manifest, reference, await asyncio.to_thread(Plan, reference))
        except FileNotFoundError:
            return Version(manifest)
        except (GatewayError, OSError, ValueError, ArithmeticError, LookupError) as error:
            self._tell(version, f"has a reference that can not be read: {error}")
            return Version(manifest)

    def _tell(self, version: VersionId, what: str) -> None:
        if version not in self._told:
            self._told.add(version)
            _log.warning("%s %s", version, what)
