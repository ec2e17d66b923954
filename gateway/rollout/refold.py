"""Reads the journal again for every decision of a rollout and puts the outcomes together; `replay` compares.

The decisions of one rollout rest on growing stretches from the same start, so the traffic is folded once. Reads
only, beside whatever runs; gives way to other tasks after each piece.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from gateway.documents.rollout import Guards
from gateway.documents.store import rollout_name
from gateway.errors import DocumentNotFound
from gateway.journal.journal import START, ControlJournal, Offset, TrafficJournal
from gateway.journal.merge import decode_offset
from gateway.journal.record import Decision
from gateway.names import ModelName
from gateway.registry.manifest import Manifest
from gateway.registry.registry import Registry
from gateway.rollout.evidence.observe import Observed, Observer, observer_of
from gateway.rollout.evidence.verdict import RULE
from gateway.rollout.plan import judge
from gateway.rollout.replay import Replayed, Rests, State, compare, not_compared, number_of, rests_on

_PIECE = 500
"""So many records are folded in one turn of the event loop: some milliseconds."""

_CONTROL_PAGE = 2000


@dataclass(frozen=True, slots=True)
class Replay:
    """A rollout's decisions in their order, each recorded and recomputed. number: which rollout of the model."""

    model: ModelName
    number: int
    decisions: tuple[Replayed, ...]

    @property
    def differs(self) -> bool:
        """True when a record says something else than the journal."""
        return any(one.state is State.DIFFERS for one in self.decisions)

    def content(self) -> dict[str, Any]:
        """The replay as JSON content."""
        states = [one.state for one in self.decisions]
        return {
            "model": self.model,
            "rollout": self.number,
            "rule": RULE,
            "differs": self.differs,
            "states": {str(state): states.count(state) for state in State},
            "decisions": [_row(one) for one in self.decisions],
        }


def _row(one: Replayed) -> dict[str, Any]:
    decision = one.decision
    return {
        "id": decision.id,
        "time": one.time_ns / 1e9,
        "action": decision.action,
        "version": decision.version,
        "by": decision.evidence.get("by", ""),
        "reason": decision.reason,
        "rule": decision.rule,
        "state": str(one.state),
        "why": one.why,
        "recorded": one.recorded,
        "recomputed": one.recomputed,
        "differences": [difference._asdict() for difference in one.differences],
    }


async def replay(
    control: ControlJournal,
    traffic: TrafficJournal,
    registry: Registry,
    model: ModelName,
    number: int | None = None,
) -> Replay:
    """Recompute every decision of a rollout. number: None is the newest that the journal knows.

    Raises DocumentNotFound when the journal holds no decision of it.
    """
    recorded = await _decisions(control, model)
    numbers = {number_of(decision) for _, decision in recorded}
    chosen = max(numbers, default=0) if number is None else number
    if chosen not in numbers:
        which = "a rollout" if number is None else f"rollout {number}"
        raise DocumentNotFound(rollout_name(model), f"the journal holds no decision of {which} of {model}")
    refold = _Refold(traffic, {manifest.number: manifest for manifest in await registry.versions(model)})
    wanted = [(time_ns, decision) for time_ns, decision in recorded if number_of(decision) == chosen]
    return Replay(model, chosen, tuple([await refold.decide(decision, time_ns) for time_ns, decision in wanted]))


async def _decisions(control: ControlJournal, model: ModelName) -> list[tuple[int, Decision]]:
    """The rollout decisions of a model, oldest first. One that was written twice, by a restart, is given once."""
    found: dict[bytes, tuple[int, Decision]] = {}
    offset = START
    while (batch := await control.read(offset, _CONTROL_PAGE)).entries:
        offset = batch.offset
        for entry in batch.entries:
            record = entry.record
            if isinstance(record, Decision) and record.actor == "rollout" and record.model == model:
                found.setdefault(msgspec.msgpack.encode(record), (entry.time_ns, record))
    return list(found.values())


@dataclass(slots=True)
class _Folded:
    """How far one comparison is folded. found: records that there were since the start."""

    observer: Observer
    start: Offset
    champion: int
    version: int
    guards: Guards
    offset: Offset
    found: int = 0


class _Refold:
    """Folds stretches of traffic, and goes on where the last one ended when it can."""

    def __init__(self, traffic: TrafficJournal, manifests: Mapping[int, Manifest]) -> None:
        self._traffic = traffic
        self._manifests = manifests
        self._folded: _Folded | None = None

    async def decide(self, decision: Decision, time_ns: int) -> Replayed:
        """The decision beside the one that its traffic gives."""
        rests = rests_on(decision)
        if not isinstance(rests, Rests):
            return not_compared(decision, time_ns, *rests)
        gone = [number for number in _versions(rests) if number not in self._manifests]
        if gone:
            why = f"version {gone[0]} is not in the registry any more"
            return not_compared(decision, time_ns, State.NOT_REPLAYABLE, why)
        try:
            observed, missing = await self._observe(rests)
        except ValueError as error:
            return not_compared(decision, time_ns, State.DIFFERS, f"its stretch of the journal is wrong: {error}")
        return compare(decision, time_ns, rests, judge(rests.rollout, observed), missing)

    async def _observe(self, rests: Rests) -> tuple[Observed, int]:
        """What the stretch says, and how many of its records are gone. Raises ValueError for a wrong offset."""
        folded = self._folded
        if folded is None or not _continues(folded, rests):
            rollout = rests.rollout
            observer = observer_of(rollout, self._manifests)
            folded = _Folded(
                observer, rests.start, rollout.champion, rollout.version, rollout.guards, offset=rests.start
            )
            self._folded = folded
        expected = _records(rests.start, rests.until)
        await self._fold(folded, rests.until)
        return folded.observer.observed(), max(0, expected - folded.found)

    async def _fold(self, folded: _Folded, until: Offset) -> None:
        """Fold up to `until`."""
        limit = _PIECE
        while folded.offset != until:
            batch = await self._traffic.read(folded.offset, limit)
            if batch.offset == folded.offset:
                break
            if _is_behind(batch.offset, until):
                if limit == 1:
                    break
                limit = max(1, limit // 2)
                continue
            folded.observer.fold(batch.entries)
            folded.found += len(batch.entries)
            folded.offset = batch.offset
            await asyncio.sleep(0)


def _versions(rests: Rests) -> tuple[int, int]:
    return rests.rollout.version, rests.rollout.champion


def _continues(folded: _Folded, rests: Rests) -> bool:
    """True when the next decision rests on the same traffic and more of it."""
    rollout = rests.rollout
    same = (folded.start, folded.champion, folded.version, folded.guards)
    return same == (rests.start, rollout.champion, rollout.version, rollout.guards) and not _is_behind(
        folded.offset, rests.until
    )


def _is_behind(offset: Offset, until: Offset) -> bool:
    """True when something before `offset` is not before `until`. Raises ValueError when these are no offsets."""
    last = decode_offset(until)
    return any(sequence > last.get(spool, 0) for spool, sequence in decode_offset(offset).items())


def _records(start: Offset, until: Offset) -> int:
    """How many records lie in a stretch."""
    first = decode_offset(start)
    return sum(max(0, sequence - first.get(spool, 0)) for spool, sequence in decode_offset(until).items())
