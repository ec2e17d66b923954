"""The promises of `gateway.registry.registry.Registry`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.errors import CorruptPackage, VersionExists, VersionNotFound
from gateway.names import ModelName, VersionId
from gateway.registry.package import read_package
from gateway.stores import Stores
from tests.journal.making import package

ELECTRICITY = ModelName("electricity")


async def test_what_was_published_is_fetched(stores: Stores, tmp_path: Path) -> None:
    """Manifest, number and every file."""
    version = await stores.registry.publish(package(tmp_path / "p"))
    manifest, directory = await stores.registry.fetch(version, tmp_path / "cache")
    assert str(version) == "electricity@1"
    assert manifest.version == version
    assert manifest.created > 0
    assert (directory / "model.onnx").read_bytes() == (tmp_path / "p" / "model.onnx").read_bytes()
    assert read_package(directory) == manifest


async def test_numbers_are_given_in_order_for_each_model(stores: Stores, tmp_path: Path) -> None:
    """Promise 2."""
    versions = [await stores.registry.publish(package(tmp_path / str(seed), seed)) for seed in range(3)]
    other = await stores.registry.publish(package(tmp_path / "other", 0, model="covertype"))
    assert [str(version) for version in [*versions, other]] == [
        "electricity@1", "electricity@2", "electricity@3", "covertype@1",
    ]  # fmt: skip
    assert await stores.registry.models() == ["covertype", "electricity"]
    assert [one.number for one in await stores.registry.versions(ELECTRICITY)] == [1, 2, 3]
    assert await stores.registry.versions(ModelName("nobody")) == []


async def test_the_same_model_and_contract_are_the_same_version(stores: Stores, tmp_path: Path) -> None:
    """Promise 3; another contract around the same model is another version."""
    await stores.registry.publish(package(tmp_path / "a", seed=1))
    await stores.registry.publish(package(tmp_path / "b", seed=2))
    with pytest.raises(VersionExists) as exists:
        await stores.registry.publish(package(tmp_path / "c", seed=1))
    assert exists.value.existing == "electricity@1"
    assert str(await stores.registry.publish(package(tmp_path / "d", seed=1, low=-1.0))) == "electricity@3"


async def test_a_damaged_package_is_refused_and_leaves_nothing(stores: Stores, tmp_path: Path) -> None:
    """Promise 1: not even a number."""
    damaged = package(tmp_path / "p")
    (damaged / "model.onnx").write_bytes(b"something else")
    with pytest.raises(CorruptPackage, match=r"model\.onnx"):
        await stores.registry.publish(damaged)
    assert await stores.registry.models() == []
    with pytest.raises(CorruptPackage, match="model"):
        await stores.registry.publish(package(tmp_path / "q", model="../up"))
    assert str(await stores.registry.publish(package(tmp_path / "r"))) == "electricity@1"


async def test_an_unknown_version_is_said_to_be_unknown(stores: Stores, tmp_path: Path) -> None:
    """By its name."""
    with pytest.raises(VersionNotFound, match="electricity@7"):
        await stores.registry.fetch(VersionId(ELECTRICITY, 7), tmp_path / "cache")


async def test_a_damaged_cache_is_replaced(stores: Stores, tmp_path: Path) -> None:
    """Promise 4: what `fetch` returns was checked now, not when it was copied."""
    version = await stores.registry.publish(package(tmp_path / "p"))
    _, directory = await stores.registry.fetch(version, tmp_path / "cache")
    content = (directory / "model.onnx").read_bytes()
    (directory / "model.onnx").unlink()
    (directory / "model.onnx").write_bytes(b"x" + content[1:])
    _, again = await stores.registry.fetch(version, tmp_path / "cache")
    assert (again / "model.onnx").read_bytes() == content


async def test_concurrent_publishers_get_different_numbers(stores: Stores, tmp_path: Path) -> None:
    """Promise 5; of those with one package, one wins."""
    packages = [package(tmp_path / str(number), seed=number // 2) for number in range(8)]
    outcomes = await asyncio.gather(*map(stores.registry.publish, packages), return_exceptions=True)
    numbers = sorted(outcome.number for outcome in outcomes if isinstance(outcome, VersionId))
    assert numbers == [1, 2, 3, 4]
    assert sum(isinstance(outcome, VersionExists) for outcome in outcomes) == 4
    assert [one.number for one in await stores.registry.versions(ELECTRICITY)] == numbers


async def test_a_watcher_hears_of_new_versions(stores: Stores, tmp_path: Path) -> None:
    """Promise 6; those that were there before the call are no news."""
    await stores.registry.publish(package(tmp_path / "a", seed=1))
    watching = stores.registry.watch()
    published = await stores.registry.publish(package(tmp_path / "b", seed=2))
    assert await asyncio.wait_for(anext(watching), 5) == published
    published = await stores.registry.publish(package(tmp_path / "c", seed=3))
    assert await asyncio.wait_for(anext(watching), 5) == published
