"""Policy files on their way into the store: at start, when they change, and by `gateway apply`.

The stored policy is the truth. A file is taken over when the stored policy is still the one that the last import wrote;
when the API has changed it since, the file is refused and shown as diverged until somebody says force.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from contextlib import suppress
from enum import StrEnum
from pathlib import Path

import msgspec

from gateway.documents.imported import Imported, imported_name
from gateway.documents.parse import parse_policy
from gateway.documents.policy import Policy, read_policy
from gateway.documents.store import ABSENT, AuditEntry, ConfigStore, Document, policy_name
from gateway.errors import DocumentNotFound, Fault, InvalidConfig, RevisionConflict
from gateway.names import ModelName, Revision, model_name

log = logging.getLogger("gateway")

_LOOK_SECONDS = 1.0
_ACTOR = "file"


class Step(StrEnum):
    """What to do with one file."""

    KEEP = "keep"  # the store holds this already
    TAKE = "take"
    REFUSE = "refuse"  # diverged


def step_for(file: Policy, stored: Policy | None, revision: Revision, last: Imported | None, force: bool) -> Step:
    """What to do with a file, given the stored policy and the last import. Pure."""
    if stored == file:
        return Step.KEEP
    if stored is None or force:
        return Step.TAKE
    return Step.TAKE if last is not None and last.revision == revision else Step.REFUSE


async def import_policies(config: ConfigStore, folder: Path, force: bool = False) -> list[Imported]:
    """Take over every policy file of the folder; one result each, wrong files included. Does not raise for a file."""
    return [await import_file(config, file, force) for file in policy_files(folder)]


def policy_files(folder: Path) -> list[Path]:
    """The policy files of a folder, sorted; of one file, the file itself."""
    if folder.is_file():
        return [folder]
    return sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]) if folder.is_dir() else []


async def import_file(config: ConfigStore, file: Path, force: bool = False) -> Imported:
    """Take over one file, or say why not."""
    try:
        text, policy = read_policy_file(file)
    except InvalidConfig as error:
        return await _note_error(config, file, str(error))
    digest = hashlib.sha256(text.encode()).hexdigest()
    return await _take(config, policy, Imported(model=policy.model, file=str(file), digest=digest), force)


def read_policy_file(file: Path) -> tuple[str, Policy]:
    """A policy file's text and policy. Raises InvalidConfig with file, line and key."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidConfig(f"{file}: can not be read: {error}", [Fault(str(file), "can not be read")]) from error
    policy = parse_policy(text, str(file), model=file.stem)
    if policy.model != file.stem:
        detail = f"the file is called {file.name}, so model must be {file.stem!r}, not {policy.model!r}"
        raise InvalidConfig(f"{file}: {detail}", [Fault(str(file), detail)])
    return text, policy


async def _note_error(config: ConfigStore, file: Path, error: str) -> Imported:
    """Show what is wrong with the file beside its model; the policy stays as it is."""
    try:
        model = model_name(file.stem)
    except ValueError as wrong:
        return Imported(model=file.stem, file=str(file), error=f"{file}: {wrong}")
    last = await _stored(config, imported_name(model))
    before = msgspec.json.decode(last.body, type=Imported) if last else Imported(model=model, file=str(file))
    after = msgspec.structs.replace(before, file=str(file), error=error)
    if after != before:
        await config.put(imported_name(model), msgspec.json.encode(after), last.revision if last else ABSENT)
    return after


async def _take(config: ConfigStore, policy: Policy, found: Imported, force: bool) -> Imported:
    model = ModelName(policy.model)
    stored, last = await _stored(config, policy_name(model)), await _stored(config, imported_name(model))
    before = msgspec.json.decode(last.body, type=Imported) if last else None
    revision = stored.revision if stored else ABSENT
    step = step_for(policy, read_policy(stored.body) if stored else None, revision, before, force)
    if step is Step.REFUSE:
        kept = before or Imported(model=model, file=found.file)
        after = msgspec.structs.replace(kept, file=found.file, diverged=True, error="")
    else:
        if step is Step.TAKE:
            entry = AuditEntry(
                actor=_ACTOR,
                action="policy.import",
                subject=model,
                reason=found.file,
                before=stored.body.decode() if stored else "",
                after=policy.encode().decode(),
            )
            revision = await config.put(policy_name(model), policy.encode(), revision, entry)
        after = msgspec.structs.replace(found, revision=int(revision))
    if after != before:
        await config.put(imported_name(model), msgspec.json.encode(after), last.revision if last else ABSENT)
    return after


async def _stored(config: ConfigStore, name: str) -> Document | None:
    with suppress(DocumentNotFound):
        return await config.get(name)
    return None


class PolicyFolder:
    """Follows the folder of policy files; what can not be taken over is logged once for each change."""

    def __init__(self, config: ConfigStore, folder: Path) -> None:
        self._config = config
        self._folder = folder
        self._seen: dict[Path, tuple[int, int]] = {}

    async def import_all(self) -> list[Imported]:
        """Look at every file that is new or changed since the last look."""
        changed = await asyncio.to_thread(self._changed)
        return [await self._import(file) for file in changed]

    async def run(self, stop: asyncio.Event) -> None:
        """Look once a second until told to stop."""
        while not stop.is_set():
            await self.import_all()
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), _LOOK_SECONDS)

    async def _import(self, file: Path) -> Imported:
        try:
            imported = await import_file(self._config, file)
        except RevisionConflict:  # somebody wrote meanwhile: look at it again
            self._seen.pop(file, None)
            return Imported(model=file.stem, file=str(file), error="changed meanwhile; it is read again")
        if imported.error:
            log.error("policy not taken over: %s", imported.error)
        elif imported.diverged:
            log.warning(
                "%s differs from the stored policy, which the API has changed: `gateway apply --force` takes it over",
                file,
            )
        return imported

    def _changed(self) -> list[Path]:
        found: dict[Path, tuple[int, int]] = {}
        for file in policy_files(self._folder):
            with suppress(OSError):
                stat = file.stat()
                found[file] = (stat.st_mtime_ns, stat.st_size)
        changed = [file for file, mark in found.items() if self._seen.get(file) != mark]
        self._seen = found
        return changed
