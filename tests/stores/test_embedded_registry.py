"""Directories as versions: interrupted at every step, raced by processes, damaged on the disk."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.clock import ManualClock, SystemClock
from gateway.errors import CorruptPackage, Unavailable, VersionExists
from gateway.names import ModelName, VersionId
from gateway.registry.package import read_package
from gateway.stores.embedded.registry import DirectoryRegistry
from tests.journal.making import package
from tests.stores.running import program

ELECTRICITY = ModelName("electricity")
_STEPS = ("open", "write", "fsync", "mkdir", "rename", "chmod", "unlink", "rmdir")


class Killed(BaseException):
    """The process is gone: nothing that comes after it happens."""


def _kill_at(patch: pytest.MonkeyPatch, step: int, torn: bool) -> Callable[[], int]:
    """From file operation number `step` on, none happens any more; `torn`: half of that one, when it is a write."""
    done = [0]

    def wrapped(name: str, real: Any) -> Any:
        def operation(*arguments: Any, **options: Any) -> Any:
            done[0] += 1
            if done[0] == step and torn and name == "write":
                real(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
            if done[0] >= step:
                raise Killed
            return real(*arguments, **options)

        return operation

    for name in _STEPS:
        patch.setattr(os, name, wrapped(name, getattr(os, name)))
    return lambda: done[0]


@pytest.mark.parametrize("torn", [False, True])
async def test_a_publish_cut_at_any_step_leaves_no_version_or_a_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torn: bool
) -> None:
    """Invariant 4: checked after each file operation that a publish makes, and by publishing again."""
    first, second = package(tmp_path / "first", seed=1), package(tmp_path / "second", seed=2)
    outcomes = set()
    for step in range(1, 200):
        home = tmp_path / f"registry-{step}"
        await DirectoryRegistry(home, SystemClock()).publish(first)
        with monkeypatch.context() as patch:
            _kill_at(patch, step, torn)
            try:
                DirectoryRegistry(home, SystemClock())._publish(second)
                break
            except Killed:
                pass
        registry = DirectoryRegistry(home, SystemClock())
        numbers = [manifest.number for manifest in await registry.versions(ELECTRICITY)]
        assert numbers in ([1], [1, 2])
        for number in numbers:
            await registry.fetch(VersionId(ELECTRICITY, number), tmp_path / f"cache-{step}")
        if numbers == [1, 2]:
            with pytest.raises(VersionExists, match="electricity@2"):
                await registry.publish(second)
        else:
            assert (await registry.publish(second)).number == 2
        outcomes.add(len(numbers))
    else:
        pytest.fail("the publish never came to its end")
    assert outcomes == {1, 2}
    assert step > 15


async def test_a_version_removed_by_hand_leaves_its_number_unused(tmp_path: Path) -> None:
    """Invariant 4: journal and audit go on naming it."""
    registry = DirectoryRegistry(tmp_path / "registry", SystemClock())
    for seed in (1, 2):
        await registry.publish(package(tmp_path / str(seed), seed))
    shutil.rmtree(tmp_path / "registry" / ELECTRICITY / "1")
    assert str(await registry.publish(package(tmp_path / "3", 3))) == "electricity@3"


async def test_old_leftovers_are_swept_and_young_ones_left_alone(tmp_path: Path) -> None:
    """A killed publisher leaves its copy; one at work must keep it."""
    registry = DirectoryRegistry(tmp_path / "registry", SystemClock())
    incoming = tmp_path / "registry" / ".incoming"
    for name, age in (("old", 2 * 3600), ("young", 60)):
        (incoming / name).mkdir(parents=True)
        (incoming / name / "model.onnx").write_bytes(b"half")
        os.utime(incoming / name, (time.time() - age,) * 2)
    await registry.publish(package(tmp_path / "p"))
    assert [path.name for path in incoming.iterdir()] == ["young"]


_PUBLISHES = """
import asyncio, sys
from pathlib import Path
from gateway.clock import SystemClock
from gateway.errors import VersionExists
from gateway.stores.embedded.registry import DirectoryRegistry
async def main():
    registry = DirectoryRegistry(Path(sys.argv[1]), SystemClock())
    sys.stdin.readline()
    for folder in sys.argv[2:]:
        try:
            print(await registry.publish(Path(folder)))
        except VersionExists as error:
            print("exists", error.existing)
asyncio.run(main())
"""


async def test_processes_that_publish_at_once_get_numbers_without_gap_or_twin(tmp_path: Path) -> None:
    """Promise 5 with real processes; half of the packages are the same for both."""
    folders = [package(tmp_path / f"p{number}", seed=number) for number in range(9)]
    mine, theirs = [*folders[:6]], [*folders[3:]]
    home = tmp_path / "registry"
    with program(_PUBLISHES, home, *mine) as one, program(_PUBLISHES, home, *theirs) as other:
        for process in (one, other):
            assert process.stdin is not None
            process.stdin.write(b"go\n")
            process.stdin.flush()
        said = [line.decode().strip() for process in (one, other) for line in process.communicate()[0].splitlines()]
    assert sorted(line for line in said if not line.startswith("exists")) == sorted(
        f"electricity@{number}" for number in range(1, 10)
    )
    assert len(said) == 12
    manifests = await DirectoryRegistry(home, SystemClock()).versions(ELECTRICITY)
    assert len({manifest.digest for manifest in manifests}) == 9


async def test_a_bit_flipped_in_a_version_is_never_served(tmp_path: Path) -> None:
    """Every byte of the model, some of the manifest; the other versions stay available."""
    registry = DirectoryRegistry(tmp_path / "registry", SystemClock())
    await registry.publish(package(tmp_path / "a", seed=1))
    await registry.publish(package(tmp_path / "b", seed=2))
    model = tmp_path / "registry" / "electricity" / "2" / "model.onnx"
    content = model.read_bytes()
    for place in range(0, len(content), 37):
        model.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(CorruptPackage):
            await registry.fetch(VersionId(ELECTRICITY, 2), tmp_path / "cache")
        assert not (tmp_path / "cache" / "electricity" / "2").exists()
    await registry.fetch(VersionId(ELECTRICITY, 1), tmp_path / "cache")
    manifest = model.with_name("manifest.json")
    manifest.write_bytes(manifest.read_bytes()[:-5])
    fresh = DirectoryRegistry(tmp_path / "registry", SystemClock())
    assert [one.number for one in await fresh.versions(ELECTRICITY)] == [1]
    assert (await fresh.publish(package(tmp_path / "c", seed=3))).number == 3


async def test_a_version_in_the_wrong_place_is_refused(tmp_path: Path) -> None:
    """Somebody copied a directory by hand."""
    registry = DirectoryRegistry(tmp_path / "registry", SystemClock())
    await registry.publish(package(tmp_path / "a"))
    home = tmp_path / "registry" / "electricity"
    (home / "1").rename(home / "2")
    with pytest.raises(CorruptPackage, match="electricity@1 where electricity@2"):
        await registry.fetch(VersionId(ELECTRICITY, 2), tmp_path / "cache")


async def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The publisher can try again."""
    registry = DirectoryRegistry(tmp_path / "registry", ManualClock())

    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(Unavailable, match="No space left"):
            await registry.publish(package(tmp_path / "a"))
    assert list((tmp_path / "registry" / ".incoming").iterdir()) == []
    assert await registry.models() == []
    assert (await registry.publish(tmp_path / "a")).number == 1


async def test_a_cache_on_another_disk_gets_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hard links end at a file system's border."""
    registry = DirectoryRegistry(tmp_path / "registry", SystemClock())
    version = await registry.publish(package(tmp_path / "a"))

    def other_disk(*_: Any) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", other_disk)
    manifest, directory = await registry.fetch(version, tmp_path / "cache")
    assert read_package(directory) == manifest
    assert (directory / "model.onnx").stat().st_nlink == 1
