"""Policy files on their way into the store: taken over, kept, or shown as diverged."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from gateway.app.policies import PolicyFolder, Step, import_file, import_policies, policy_files, step_for
from gateway.clock import ManualClock
from gateway.documents.imported import Imported, imported_name
from gateway.documents.policy import Policy, read_policy
from gateway.documents.store import ConfigStore, policy_name
from gateway.errors import DocumentNotFound
from gateway.names import ModelName, Revision
from gateway.stores import connect_memory

MODEL = ModelName("e")
ONE, OTHER = Policy(model="e", deadline_ms=1), Policy(model="e", deadline_ms=2)
LAST = Imported(model="e", file="e.yaml", revision=5)


@pytest.mark.parametrize(
    ("stored", "revision", "last", "force", "step"),
    [
        (None, 0, None, False, Step.TAKE),
        (ONE, 5, None, False, Step.KEEP),
        (ONE, 5, LAST, False, Step.KEEP),
        (OTHER, 5, LAST, False, Step.TAKE),
        (OTHER, 6, LAST, False, Step.REFUSE),
        (OTHER, 6, None, False, Step.REFUSE),
        (OTHER, 6, LAST, True, Step.TAKE),
    ],
)
def test_a_file_wins_only_over_what_the_last_file_wrote(
    stored: Policy | None, revision: int, last: Imported | None, force: bool, step: Step
) -> None:
    assert step_for(ONE, stored, Revision(revision), last, force) is step


@pytest.fixture
def config() -> ConfigStore:
    return connect_memory(ManualClock()).config


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, 10)
    return tmp_path


def write(folder: Path, deadline_ms: float, name: str = "e") -> Path:
    file = folder / f"{name}.yaml"
    file.write_text(f"deadline_ms: {deadline_ms}\n")
    return file


async def deadline(config: ConfigStore) -> float:
    return read_policy((await config.get(policy_name(MODEL))).body).deadline_ms


async def change_by_api(config: ConfigStore, deadline_ms: float) -> None:
    document = await config.get(policy_name(MODEL))
    await config.put(policy_name(MODEL), Policy(model="e", deadline_ms=deadline_ms).encode(), document.revision)


async def test_a_file_is_taken_over_again_when_it_changes(config: ConfigStore, folder: Path) -> None:
    assert [done.diverged for done in await import_policies(config, folder)] == [False]
    assert await deadline(config) == 10
    write(folder, 20)
    await import_policies(config, folder)
    assert await deadline(config) == 20
    entries = await config.audit(0, 10)
    assert [(entry.actor, entry.action) for entry in entries] == [("file", "policy.import")] * 2


async def test_what_the_api_changed_stays_until_force(config: ConfigStore, folder: Path) -> None:
    """The stored policy is the truth: a restart must not undo what somebody did in the night."""
    await import_policies(config, folder)
    await change_by_api(config, 77)
    [done] = await import_policies(config, folder)
    assert done.diverged
    assert await deadline(config) == 77
    stored = msgspec.json.decode((await config.get(imported_name(MODEL))).body, type=Imported)
    assert stored.diverged
    [done] = await import_policies(config, folder, force=True)
    assert not done.diverged
    assert await deadline(config) == 10
    write(folder, 30)
    assert [one.diverged for one in await import_policies(config, folder)] == [False]


async def test_a_file_that_says_the_same_as_the_api_is_in_step_again(config: ConfigStore, folder: Path) -> None:
    await import_policies(config, folder)
    await change_by_api(config, 50)
    write(folder, 50)
    assert not (await import_policies(config, folder))[0].diverged
    write(folder, 60)
    await import_policies(config, folder)
    assert await deadline(config) == 60


async def test_a_wrong_file_keeps_the_policy_and_names_its_place(config: ConfigStore, folder: Path) -> None:
    """One bad file must not take the others with it."""
    await import_policies(config, folder)
    (folder / "e.yaml").write_text("deadline_ms: 5\nstiky: none\n")
    write(folder, 5, "other")
    bad, good = await import_policies(config, folder)
    assert f"{folder}/e.yaml:2:1: stiky" in bad.error
    assert not good.error
    assert await deadline(config) == 10
    shown = msgspec.json.decode((await config.get(imported_name(MODEL))).body, type=Imported)
    assert "e.yaml:2:1: stiky" in shown.error
    write(folder, 11)
    assert not (await import_policies(config, folder))[0].error
    assert await deadline(config) == 11


async def test_a_file_belongs_to_the_model_it_is_called_by(config: ConfigStore, tmp_path: Path) -> None:
    (tmp_path / "e.yaml").write_text("model: f\n")
    [done] = await import_policies(config, tmp_path)
    assert "model must be 'e'" in done.error
    with pytest.raises(DocumentNotFound):
        await config.get(policy_name(ModelName("f")))


async def test_a_file_that_is_no_text_is_named(config: ConfigStore, tmp_path: Path) -> None:
    (tmp_path / "e.yaml").write_bytes(b"\xff\xfe\x00")
    assert "can not be read" in (await import_file(config, tmp_path / "e.yaml")).error


async def test_the_folder_is_looked_at_only_where_it_changed(config: ConfigStore, folder: Path) -> None:
    follower = PolicyFolder(config, folder)
    assert len(await follower.import_all()) == 1
    assert await follower.import_all() == []
    write(folder, 12345)
    assert len(await follower.import_all()) == 1
    assert await deadline(config) == 12345


def test_a_folder_that_is_not_there_has_no_files(tmp_path: Path) -> None:
    assert policy_files(tmp_path / "none") == []
    file = write(tmp_path, 1)
    assert policy_files(file) == [file]
