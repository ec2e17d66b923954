"""Versions in memory: the port `gateway.registry.registry`. `fetch` writes real files, as callers load from files."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from gateway.clock import Clock
from gateway.errors import CorruptPackage, VersionExists, VersionNotFound
from gateway.names import ModelName, VersionId, model_name
from gateway.registry.manifest import Manifest
from gateway.registry.package import MANIFEST_FILE, encode_manifest, read_files, read_package
from gateway.stores.memory.signal import Signal


class MemoryRegistry:
    """See `Registry`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._packages: dict[VersionId, tuple[Manifest, dict[str, bytes]]] = {}
        self._published: Signal[VersionId] = Signal()

    async def publish(self, package: Path) -> VersionId:
        """See `Registry`."""
        manifest, contents = read_files(package)
        try:
            model = model_name(manifest.model)
        except ValueError as error:
            raise CorruptPackage(f"{MANIFEST_FILE}: model: {error}") from error
        known = await self.versions(model)
        for other in known:
            if other.digest == manifest.digest:
                raise VersionExists(str(other.version))
        created = manifest.created or self._clock.now()
        manifest = msgspec.structs.replace(manifest, number=len(known) + 1, created=created)
        self._packages[manifest.version] = (manifest, contents)
        self._published.send(manifest.version)
        return manifest.version

    async def fetch(self, version: VersionId, into: Path) -> tuple[Manifest, Path]:
        """See `Registry`."""
        if version not in self._packages:
            raise VersionNotFound(f"there is no version {version}")
        manifest, contents = self._packages[version]
        target = into / version.model / str(version.number)
        if target.exists():
            with suppress(CorruptPackage):
                if read_package(target) == manifest:
                    return manifest, target
            shutil.rmtree(target)
        target.mkdir(parents=True)
        for name, content in {**contents, MANIFEST_FILE: encode_manifest(manifest)}.items():
            (target / name).write_bytes(content)
        return read_package(target), target

    async def models(self) -> Sequence[ModelName]:
        """See `Registry`."""
        return sorted({version.model for version in self._packages})

    async def versions(self, model: ModelName) -> Sequence[Manifest]:
        """See `Registry`."""
        manifests = [manifest for manifest, _ in self._packages.values() if manifest.model == model]
        return sorted(manifests, key=lambda manifest: manifest.number)

    def watch(self) -> AsyncIterator[VersionId]:
        """See `Registry`."""
        return self._published.receive()
