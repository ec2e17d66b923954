"""Versions as directories, `DIRECTORY/<model>/<number>/`: the port `gateway.registry.registry`.

A version is built beside its place, brought to the disk, and gets its name by one rename; nothing is ever changed
below that name. One lock file keeps publishers of all processes apart while they look for the same package and take
the next number.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec

from gateway.clock import Clock
from gateway.errors import CorruptPackage, Unavailable, VersionExists, VersionNotFound
from gateway.journal.spool import sync_directory
from gateway.names import ModelName, VersionId, model_name
from gateway.registry.manifest import Manifest
from gateway.registry.package import MANIFEST_FILE, decode_manifest, encode_manifest, read_files, read_package

_INCOMING: Final = ".incoming"
_LOCK: Final = ".lock"
_CHANGED: Final = ".changed"
_LEFTOVER_SECONDS: Final = 3600.0
_POLL_SECONDS: Final = 0.05
_LOOK_EVERY_POLLS: Final = 40
"""`watch` lists everything so seldom when no publisher left a sign: one may be killed before it leaves it."""


class DirectoryRegistry:
    """See `Registry`. Any number of processes may use one directory."""

    def __init__(self, directory: Path, clock: Clock) -> None:
        self._directory = directory
        self._clock = clock
        self._manifests: dict[VersionId, Manifest] = {}

    async def publish(self, package: Path) -> VersionId:
        """See `Registry`."""
        return await asyncio.to_thread(self._publish, package)

    async def fetch(self, version: VersionId, into: Path) -> tuple[Manifest, Path]:
        """See `Registry`."""
        return await asyncio.to_thread(self._fetch, version, into)

    async def models(self) -> Sequence[ModelName]:
        """See `Registry`."""
        return await asyncio.to_thread(lambda: sorted({version.model for version in self._listed()}))

    async def versions(self, model: ModelName) -> Sequence[Manifest]:
        """See `Registry`. A version whose manifest is damaged is left out; `fetch` says why."""
        return await asyncio.to_thread(self._versions, model)

    def watch(self) -> AsyncIterator[VersionId]:
        """See `Registry`."""
        return self._watch(set(self._listed()))

    def _publish(self, package: Path) -> VersionId:
        manifest, contents = read_files(package)
        try:
            model = model_name(manifest.model)
        except ValueError as error:
            raise CorruptPackage(f"{MANIFEST_FILE}: model: {error}") from error
        try:
            return self._store(model, manifest, contents)
        except OSError as error:
            raise Unavailable(f"the registry can not store the package: {error.strerror}") from error

    def _store(self, model: ModelName, manifest: Manifest, contents: Mapping[str, bytes]) -> VersionId:
        self._refuse_known(model, manifest.digest)
        (self._directory / _INCOMING).mkdir(parents=True, exist_ok=True)
        self._sweep()
        incoming = Path(tempfile.mkdtemp(dir=self._directory / _INCOMING))
        try:
            for name, content in contents.items():
                _write(incoming / name, content)
            with self._alone():
                return self._name(incoming, model, manifest)
        finally:
            shutil.rmtree(incoming, ignore_errors=True)

    def _name(self, incoming: Path, model: ModelName, manifest: Manifest) -> VersionId:
        """Give the files their number and their place."""
        self._refuse_known(model, manifest.digest)
        version = VersionId(model, 1 + max(self._numbers(model), default=0))
        created = manifest.created or self._clock.now()
        numbered = msgspec.structs.replace(manifest, number=version.number, created=created)
        _write(incoming / MANIFEST_FILE, encode_manifest(numbered))
        sync_directory(incoming)
        home = self._directory / model
        home.mkdir(exist_ok=True)
        incoming.chmod(0o755)
        os.rename(incoming, home / str(version.number))  # noqa: PTH104 - fails when the name is taken
        sync_directory(home)
        sync_directory(self._directory)
        with suppress(OSError):
            (self._directory / _CHANGED).write_text(f"{version}\n")
        return version

    def _refuse_known(self, model: ModelName, digest: str) -> None:
        for manifest in self._versions(model):
            if manifest.digest == digest:
                raise VersionExists(str(manifest.version))

    def _fetch(self, version: VersionId, into: Path) -> tuple[Manifest, Path]:
        source = self._directory / version.model / str(version.number)
        if not source.is_dir():
            raise VersionNotFound(f"there is no version {version}")
        target = into / version.model / str(version.number)
        try:
            if target.exists():
                with suppress(CorruptPackage):
                    return _checked(target, version), target
                _discard(target)
            self._copy(source, target, version)
        except OSError as error:
            raise Unavailable(f"{version} can not be fetched: {error.strerror}") from error
        return _checked(target, version), target

    def _copy(self, source: Path, target: Path, version: VersionId) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        incoming = Path(tempfile.mkdtemp(prefix=_INCOMING, dir=target.parent))
        try:
            for path in source.iterdir():
                _link_or_copy(path, incoming / path.name)
            _checked(incoming, version)
            try:
                incoming.rename(target)
            except OSError:
                if not target.exists():
                    raise
                # Another process with this cache was first.
        finally:
            shutil.rmtree(incoming, ignore_errors=True)

    def _versions(self, model: ModelName) -> list[Manifest]:
        numbers = sorted(self._numbers(model))
        manifests = [self._manifest(VersionId(model, number)) for number in numbers]
        return [manifest for manifest in manifests if manifest is not None]

    def _manifest(self, version: VersionId) -> Manifest | None:
        known = self._manifests.get(version)
        if known is None:
            path = self._directory / version.model / str(version.number) / MANIFEST_FILE
            with suppress(OSError, CorruptPackage):
                known = decode_manifest(path.read_bytes())
                self._manifests[version] = known
        return known

    def _numbers(self, model: ModelName) -> list[int]:
        try:
            return [int(path.name) for path in (self._directory / model).iterdir() if path.name.isdecimal()]
        except (FileNotFoundError, NotADirectoryError):
            return []

    def _listed(self) -> list[VersionId]:
        try:
            names = [path.name for path in self._directory.iterdir() if not path.name.startswith(".")]
        except FileNotFoundError:
            return []
        return [VersionId(ModelName(name), number) for name in names for number in self._numbers(ModelName(name))]

    async def _watch(self, seen: set[VersionId]) -> AsyncIterator[VersionId]:
        sign, polls = -1, 0
        while True:
            now = self._sign()
            if now != sign or polls % _LOOK_EVERY_POLLS == 0:
                sign = now
                for version in sorted(set(await asyncio.to_thread(self._listed)) - seen):
                    seen.add(version)
                    yield version
            polls += 1
            await asyncio.sleep(_POLL_SECONDS)

    def _sign(self) -> int:
        try:
            return (self._directory / _CHANGED).stat().st_mtime_ns
        except OSError:
            return 0

    @contextmanager
    def _alone(self) -> Iterator[None]:
        descriptor = os.open(self._directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _sweep(self) -> None:
        """Remove what killed publishers left, once it is too old to be under way."""
        oldest = self._clock.now() - _LEFTOVER_SECONDS
        for path in (self._directory / _INCOMING).iterdir():
            with suppress(OSError):
                if path.stat().st_mtime < oldest:
                    shutil.rmtree(path, ignore_errors=True)


def _checked(directory: Path, version: VersionId) -> Manifest:
    manifest = read_package(directory)
    if manifest.version != version:
        raise CorruptPackage(f"{MANIFEST_FILE}: says {manifest.version} where {version} lies")
    return manifest


def _write(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _discard(target: Path) -> None:
    aside = Path(tempfile.mkdtemp(prefix=_INCOMING, dir=target.parent))
    with suppress(FileNotFoundError):
        target.rename(aside / target.name)
    shutil.rmtree(aside, ignore_errors=True)
