"""Alerts recomputed from the journal, beside those that were written down.

The traffic is folded from the oldest record that is kept, by the monitor's own fold, on the terms that the monitor
wrote into its checkpoint (`terms`): the policies and sampling rates that were in force. Reads only, beside whatever
runs; what it must remember goes into a scratch index of its own.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

import msgspec
from msgspec.structs import replace

from gateway.documents.alert import Monitoring
from gateway.documents.policy import Policy
from gateway.documents.store import ConfigStore
from gateway.journal.join import JoinIndex, ids_of
from gateway.journal.journal import START, Batch, ControlJournal, Offset, TrafficJournal
from gateway.journal.record import Alert, Entry, TrafficRecord
from gateway.monitor.alerts.present import judged
from gateway.monitor.fold import Context, Folded, fold
from gateway.monitor.lookup import Policies, Versions, versions_of
from gateway.monitor.sampling import EVERYTHING
from gateway.monitor.state import MonitorState, read_state
from gateway.monitor.summary import summarise
from gateway.monitor.terms import Schedule, Term, is_past, policies_of, rate_of, read_text
from gateway.names import ModelName
from gateway.registry.registry import Registry

_PAGE = 2000
_EVER = 2**63 - 1


class State(StrEnum):
    """How an alert of the journal and one that was written down agree.

    missing: the journal gives it, nobody wrote it down. extra: written down, the journal does not give it.
    coming: the journal gives it behind the monitor's checkpoint. not_replayable: older than the traffic that is kept.
    """

    SAME = "same"
    MISSING = "missing"
    EXTRA = "extra"
    COMING = "coming"
    NOT_REPLAYABLE = "not_replayable"


class Compared(msgspec.Struct, frozen=True):
    """One alert and when it fired (where nothing but its record tells, when that was written)."""

    state: State
    time: float
    alert: Alert


@dataclass(frozen=True)
class Replay:
    """What came of it. start_ns: of the oldest record that is kept. policies: by model, how its policy was known."""

    alerts: tuple[Compared, ...]
    entries: int
    start_ns: int
    policies: Mapping[str, str]
    rates: tuple[float, ...]
    monitoring: tuple[Monitoring, ...]

    @property
    def differs(self) -> bool:
        """True when what was written down is not what the journal gives."""
        return any(one.state in (State.MISSING, State.EXTRA) for one in self.alerts)

    def content(self) -> dict[str, Any]:
        """The replay as JSON content."""
        counts = Counter(one.state for one in self.alerts)
        return {
            "differs": self.differs,
            "states": {str(state): counts[state] for state in State},
            "alerts": [_row(one) for one in self.alerts],
            "entries": self.entries,
            "start": self.start_ns / 1e9,
            "policies": dict(self.policies),
            "sampling_rates": list(self.rates),
            "monitoring": [msgspec.to_builtins(one) for one in self.monitoring],
        }


def _row(one: Compared) -> dict[str, Any]:
    return {**msgspec.to_builtins(msgspec.structs.asdict(one.alert)), "time": one.time, "state": str(one.state)}


class Ports(Protocol):
    """What a replay reads."""

    @property
    def config(self) -> ConfigStore:
        """Policies, where the checkpoint has none."""

    @property
    def registry(self) -> Registry:
        """Manifests and references."""

    @property
    def traffic(self) -> TrafficJournal:
        """Predictions and feedback."""

    @property
    def control(self) -> ControlJournal:
        """The alerts that were written down."""

    @property
    def joins(self) -> JoinIndex:
        """The monitor's checkpoint."""


async def replay(
    stores: Ports,
    scratch: JoinIndex,
    cache: Path,
    model: str | None = None,
    since_ns: int | None = None,
    until_ns: int | None = None,
) -> Replay:
    """Recompute the alerts of a period (of one model, when it is named), both ends included.

    scratch: an empty index. cache: a directory for fetched packages.
    """
    place, body = await stores.joins.checkpoint()
    recorded = await _recorded(stores.control)
    folder = _Refold(stores, scratch, cache, read_state(body).terms, place)
    await folder.run(_EVER if until_ns is None else until_ns)
    period = (since_ns or 0) / 1e9, (_EVER if until_ns is None else until_ns) / 1e9
    alerts = compare(folder.fired, recorded, folder.start_ns / 1e9)
    return Replay(
        alerts=tuple(one for one in alerts if period[0] <= one.time <= period[1] and model in (None, one.alert.model)),
        entries=folder.entries,
        start_ns=folder.start_ns,
        policies={name: how for name, how in folder.how.items() if model in (None, name)},
        rates=tuple(dict.fromkeys(folder.rates)),
        monitoring=folder.summaries(model),
    )


async def _recorded(control: ControlJournal) -> dict[str, tuple[float, Alert]]:
    """Every alert that was written down, by id, with its time; one that was written twice, by a restart, is one."""
    found: dict[str, tuple[float, Alert]] = {}
    offset = START
    while (batch := await control.read(offset, _PAGE)).entries:
        offset = batch.offset
        for entry in batch.entries:
            if isinstance(entry.record, Alert):
                found.setdefault(entry.record.id, (entry.time_ns / 1e9, entry.record))
    return found


class Fired(msgspec.Struct, frozen=True):
    """An alert that the journal gives, and when. is_coming: the monitor has not folded that far."""

    time: float
    alert: Alert
    is_coming: bool


def compare(fired: Iterable[Fired], recorded: Mapping[str, tuple[float, Alert]], start: float) -> list[Compared]:
    """Both sides put together by id, in order of time. start: seconds of the oldest traffic that is kept."""
    found = []
    given = set()
    for one in fired:
        given.add(one.alert.id)
        unwritten = State.COMING if one.is_coming else State.MISSING
        found.append(Compared(State.SAME if one.alert.id in recorded else unwritten, one.time, one.alert))
    for id_, (time, alert) in recorded.items():
        if id_ not in given:
            found.append(Compared(State.NOT_REPLAYABLE if time < start else State.EXTRA, time, alert))
    return sorted(found, key=lambda one: one.time)


@dataclass
class _Refold:
    """Folds the whole journal. checkpoint: how far the monitor came."""

    stores: Ports
    scratch: JoinIndex
    cache: Path
    terms: Sequence[Term]
    checkpoint: Offset
    fired: list[Fired] = field(default_factory=list)
    entries: int = 0
    start_ns: int = 0
    how: dict[str, str] = field(default_factory=dict)
    rates: list[float] = field(default_factory=list)
    state: MonitorState = field(default_factory=MonitorState)

    def __post_init__(self) -> None:
        self._versions = Versions(self.stores.registry, self.cache)
        self._stored = Policies(self.stores.config)
        self._schedule = Schedule(self.terms)
        self._policies: dict[str, Policy] = {}
        self._is_coming = False

    async def run(self, until_ns: int) -> None:
        """Fold what is kept, up to a moment; gives way to other tasks after each piece."""
        offset = START
        while (batch := await self._read(offset)).entries:
            offset = batch.offset
            self.start_ns = self.start_ns or batch.entries[0].time_ns
            wanted = [entry for entry in batch.entries if entry.time_ns <= until_ns]
            if wanted:
                await self._fold(wanted)
            if len(wanted) < len(batch.entries):
                break
            await asyncio.sleep(0)

    async def _read(self, offset: Offset) -> Batch[TrafficRecord]:
        """The next piece: on one set of terms, and not across the monitor's checkpoint."""
        limit = _PAGE
        while True:
            batch = await self.stores.traffic.read(offset, limit)
            stop = self._next_stop()
            if not batch.entries or stop is None or not is_past(batch.offset, stop):
                return batch
            if limit > 1:
                limit //= 2
            else:
                limit = _PAGE
                self._pass_stop()

    def _next_stop(self) -> Offset | None:
        coming = self._schedule.next_offset
        return self.checkpoint if coming is None and not self._is_coming else coming

    def _pass_stop(self) -> None:
        if self._schedule.next_offset is not None:
            self._schedule.pass_next()
        else:
            self._is_coming = True

    def summaries(self, model: str | None) -> tuple[Monitoring, ...]:
        """What the monitor's documents say at the end, but for the moment of writing and the lag."""
        rate = rate_of(self._schedule.in_force)
        return tuple(
            replace(self._summary(name), sampled=rate < EVERYTHING, sampling_rate=rate)
            for name in sorted(self.state.models)
            if model in (None, name)
        )

    def _summary(self, name: str) -> Monitoring:
        policy, remembered = self._policies.get(name) or Policy(model=name), self.state.of(name)
        summary = summarise(
            name,
            remembered,
            policy.monitoring,
            self._versions.known(name),
            unknown=self.state.unknown.get("unknown", 0),
            now=0.0,
            offset="",
            lag_seconds=0.0,
        )
        return judged(summary, remembered, policy)

    async def _fold(self, entries: Sequence[Entry[TrafficRecord]]) -> None:
        ids = ids_of(entries)
        waiting, early = await self.scratch.find(ids), await self.scratch.find_feedback(ids)
        wanted = versions_of(entries, waiting.values())
        policies = await self._in_force({version.model for version in wanted})
        rate = rate_of(self._schedule.in_force)
        self.rates.append(rate)
        context = Context(policies, await self._versions.of(wanted), waiting, early, rate)
        folded = fold(self.state, entries, context)
        joined = folded.joined
        await self.scratch.commit(START, b"", joined.waiting, joined.early, joined.labelled)
        self.state = folded.state
        self.entries += len(entries)
        self.fired += _fired(folded, entries[-1].time_ns / 1e9, self._is_coming)

    async def _in_force(self, models: Iterable[ModelName]) -> dict[str, Policy]:
        """The policies of these models at this place of the journal, and how each is known."""
        passed = policies_of(self._schedule.in_force)
        first = {term.model: term.policy for term in reversed(self.terms) if term.model}
        for model in models:
            if model in passed:
                self._policies[model] = passed[model]
                self.how.setdefault(model, "as it was")
            elif model in first:
                self._policies[model] = read_text(first[model])
                self.how[model] = "as it was; before it was first written down, the first one"
            elif model not in self._policies:
                self._policies |= await self._stored.of([model])
                self.how[model] = "as it is stored now; the checkpoint has none"
        return dict(self._policies)


def _fired(folded: Folded, now: float, is_coming: bool) -> Iterable[Fired]:
    for alert in folded.alerts:
        raised = (one for one in folded.state.of(alert.model).alerts if one.alert.id == alert.id)
        yield Fired(next((one.time for one in raised), now), alert, is_coming)
