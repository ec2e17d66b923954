"""The hash chain of the audit trail: each entry is bound to the one before it, so a quiet edit shows.

The hash of an entry is the SHA-256, in hex, of the JSON array

    [previous, number, time, actor, action, subject, reason, before, after]

without spaces, in ASCII (other characters as \\uXXXX), numbers as the shortest decimals that read back the same.
`previous` is the hash of the entry before. Entries of before the chain have no hash. The first entry that has one
starts the chain: its `previous` is "start" and the hash that the last entry before it would have if the older
entries, with "" before the first, made a chain of their own; just "start" when there are none. So the chain
vouches for the older entries too, as they were when it started.

What it can not see by itself: the newest entries cut off, and a trail that was written anew as a whole. For these,
keep the newest hash (`head`) elsewhere and ask later whether it is still in the chain. Pure; knows no store.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from gateway.documents.store import AuditEntry

_START: Final = "start"


@dataclass(frozen=True, slots=True)
class Broken:
    """The first place where the trail is not as it was written. number: of the entry; why: a sentence."""

    number: int
    why: str


def link(previous: str, entry: AuditEntry) -> str:
    """The hash of an entry behind `previous`. Its own field `hash` does not count."""
    content = [
        previous,
        entry.number,
        float(entry.time),
        entry.actor,
        entry.action,
        entry.subject,
        entry.reason,
        entry.before,
        entry.after,
    ]
    return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()


def seal(older: Iterable[AuditEntry]) -> str:
    """What the first entry of a chain has for a previous hash. older: every entry before it, oldest first."""
    last = ""
    for entry in older:
        last = link(last, entry)
    return _START + last


def linked(previous: str, entry: AuditEntry) -> AuditEntry:
    """The entry with its hash. previous: the hash of the entry before, or the `seal` of all when that has none."""
    return replace(entry, hash=link(previous, entry))


class Chain:
    """A trail that is checked entry by entry, from number 1 on.

    checked: entries found in order. started: number of the first entry with a hash, 0: none so far. head: the newest
    hash. broken: the first broken place; nothing behind it is looked at. wanted: a hash that should be in the chain.
    """

    def __init__(self, wanted: str = "") -> None:
        self.checked = 0
        self.started = 0
        self.head = ""
        self.broken: Broken | None = None
        self.has_wanted = not wanted
        self._wanted = wanted.strip().lower()
        self._older = ""

    def add(self, entries: Iterable[AuditEntry]) -> Broken | None:
        """Check the next entries; the first broken place so far, or None."""
        for entry in entries:
            if self.broken is None:
                self.broken = self._add(entry)
        return self.broken

    def _add(self, entry: AuditEntry) -> Broken | None:
        expected = self.checked + 1
        if entry.number > expected:
            return Broken(
                expected, f"entry {expected} is missing: {entry.number} follows {self.checked or 'the start'}"
            )
        if entry.number < expected:
            return Broken(entry.number, f"entry {entry.number} comes again or out of order, behind {self.checked}")
        if not entry.hash and self.started:
            return Broken(entry.number, f"entry {entry.number} has no hash, though the chain started at {self.started}")
        if entry.hash:
            found = self._check_hash(entry)
            if found is not None:
                return found
            self.started = self.started or entry.number
            self.head = entry.hash
            self.has_wanted = self.has_wanted or entry.hash == self._wanted
        else:
            self._older = link(self._older, entry)
        self.checked = entry.number
        return None

    def _check_hash(self, entry: AuditEntry) -> Broken | None:
        if entry.hash == link(self.head or _START + self._older, entry):
            return None
        if self.started or entry.number == 1:
            return Broken(entry.number, f"entry {entry.number} does not hold what was written, or the one before it")
        return Broken(
            entry.number, f"entry {entry.number} starts the chain and does not fit the older entries: one was changed"
        )


def verify(entries: Iterable[AuditEntry]) -> Broken | None:
    """The first broken place of a whole trail, oldest entry first; None: it is as it was written."""
    return Chain().add(entries)
