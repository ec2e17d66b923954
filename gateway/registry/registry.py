"""The port for versions. An implementation promises, each with a contract test:

1. A version is complete or absent, for every reader, at every moment, also after kill -9 during `publish`.
2. Numbers of a model are 1, 2, 3 ... in the order of publishing and are never reused.
3. The same digest (model file and contract) again raises VersionExists that names the first version.
4. `fetch` checks every file against its digest and raises CorruptPackage; what it returns is whole.
5. Concurrent publishers both succeed, with different numbers (or one VersionExists).
6. `watch` is a hint to look again, never the truth.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Protocol

from gateway.names import ModelName, VersionId
from gateway.registry.manifest import Manifest


class Registry(Protocol):
    """Immutable model versions."""

    async def publish(self, package: Path) -> VersionId:
        """Copy a package directory (manifest without number) in as the next version. VersionExists, CorruptPackage."""

    async def fetch(self, version: VersionId, into: Path) -> tuple[Manifest, Path]:
        """The package's files in a directory below `into` (a cache; there already: checked again). VersionNotFound."""

    async def models(self) -> Sequence[ModelName]:
        """Models with at least one version, sorted."""

    async def versions(self, model: ModelName) -> Sequence[Manifest]:
        """All manifests of a model, by number; empty for an unknown model."""

    def watch(self) -> AsyncIterator[VersionId]:
        """Versions published after the call, for ever."""
