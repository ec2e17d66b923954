"""The monitor's shell: reads traffic, looks up what the fold needs, writes alerts, moves the checkpoint.

One loop for one data directory, in the control process, never in the request path. Delivery is at least once, the
effect exactly once: alerts go to the control stream first, then offset, state and joined labels move in one commit.
A crash between the two repeats the block with the same alert ids, and readers skip repeats. The fold itself runs in
a thread, so a long block does not hold up the admin API beside it.

Knows ports only, no concrete store and no HTTP: webhooks leave through the given `post`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from gateway import metrics
from gateway.clock import Clock
from gateway.documents.alert import Monitoring
from gateway.documents.policy import Policy
from gateway.documents.store import ABSENT, ConfigStore, monitoring_name
from gateway.errors import DocumentNotFound, GatewayError, JournalUnavailable, RevisionConflict
from gateway.journal.join import JoinIndex, ids_of
from gateway.journal.journal import START, Offset, TrafficJournal
from gateway.journal.record import Alert, Cleared, Entry, Prediction, Record, TrafficRecord
from gateway.monitor.alerts.notice import Notices
from gateway.monitor.alerts.present import judged
from gateway.monitor.alerts.webhook import Post, Webhooks
from gateway.monitor.figures import gauges
from gateway.monitor.fold import Context, Folded, fold
from gateway.monitor.lookup import Policies, Versions, remembered, versions_of
from gateway.monitor.sampling import EVERYTHING, Pace, next_pace
from gateway.monitor.state import MonitorState, read_state
from gateway.monitor.summary import summarise
from gateway.monitor.terms import noted, policies_of, rate_of
from gateway.names import ModelName, Revision
from gateway.registry.registry import Registry

BLOCK_ENTRIES = 4000
"""Entries folded at most in one step: some tenths of a second, so that a block's fixed price is shared by many."""

_FIRST_BLOCK = 500
_BLOCK_CELLS = 400_000
"""So many input values are in memory at once, give or take: some tens of megabytes."""

_PUBLISH_SECONDS = 1.0
_TRIM_SECONDS = 60.0
_WAIT_SECONDS = 0.5
_GATHER_SECONDS = 0.1
_FLOOD_ITEMS = 50_000
"""So much feedback without a prediction may be in the index beyond what still waits."""

_log = logging.getLogger(__name__)


class Ports(Protocol):
    """What the monitor needs of the stores."""

    @property
    def config(self) -> ConfigStore:
        """Policies in, summaries out."""

    @property
    def registry(self) -> Registry:
        """Manifests and references."""

    @property
    def traffic(self) -> TrafficJournal:
        """Predictions and feedback."""

    @property
    def joins(self) -> JoinIndex:
        """The monitor's own memory."""


class Control(Protocol):
    """The writing end of the control stream (`gateway.journal.tee.Tee`)."""

    def offer(self, record: Record) -> None:
        """Add to the turn's buffer."""

    def flush(self) -> bool:
        """Hand it to the kernel; False when it could not be written."""


def gather_seconds(lasted: float) -> float:
    """How long to gather entries after a step that lasted so long and left none: a quarter of a core at most is used
    for small blocks, and the next step begins a tenth of a second after this one began, or at once."""
    return max(0.0, min(_GATHER_SECONDS, 4 * lasted) - lasted)


def next_block(block: int, largest: int, entries: int, cells: int) -> int:
    """How many entries to ask for after a block of so many entries and input values.

    Twice as many when it was full (the loop is behind), half when its values took too much memory.
    """
    if cells > _BLOCK_CELLS:
        return max(1, block // 2)
    return min(largest, 2 * block) if entries >= block and 2 * cells <= _BLOCK_CELLS else block


def cells_of(entries: Sequence[Entry[TrafficRecord]]) -> int:
    """How many input values these entries hold: rows times columns, as far as they are lists of rows."""
    inputs = [entry.record.inputs for entry in entries if isinstance(entry.record, Prediction)]
    return sum(
        len(rows) * len(rows[0]) for rows in inputs if rows and isinstance(rows, list) and isinstance(rows[0], list)
    )


class MonitorLoop:
    """Folds traffic for ever. control: where alerts are written. cache: a directory for fetched packages."""

    def __init__(
        self,
        stores: Ports,
        clock: Clock,
        control: Control,
        cache: Path,
        post: Post | None = None,
        block: int = BLOCK_ENTRIES,
    ) -> None:
        self._stores = stores
        self._clock = clock
        self._control = control
        self._policies = Policies(stores.config)
        self._versions = Versions(stores.registry, cache)
        self._summaries = _Summaries(stores.config)
        self._posts = Webhooks(post, clock)
        self._notices = Notices(stores.config, self._posts, clock)
        self._largest = block
        self._block = min(block, _FIRST_BLOCK)
        self._offset: Offset = START
        self._state: MonitorState | None = None
        self._pace = Pace()
        self._touched: set[ModelName] = set()
        self._published = -_PUBLISH_SECONDS
        self._trimmed = 0.0
        self._trimmed_early = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Fold until told to stop; goes on from the checkpoint. A store that fails is tried again."""
        try:
            while not stop.is_set():
                try:
                    started = self._clock.monotonic()
                    limit = self._block
                    folded = await self.step()
                    if not folded:
                        await self._stores.traffic.wait(self._offset, _WAIT_SECONDS)
                    elif folded < limit:
                        # A block has its price, however small: what comes in the meantime shares the next one.
                        await self._clock.sleep(gather_seconds(self._clock.monotonic() - started))
                except GatewayError as error:
                    _log.warning("the monitor tries again: %s", error)
                    await self._clock.sleep(_WAIT_SECONDS)
            await self._publish(self._clock.now())
        finally:
            await self._posts.close()

    async def step(self) -> int:
        """Fold one block; how many entries it had. 0: everything that is readable was folded."""
        state = self._state or await self._resume()
        batch = await self._stores.traffic.read(self._offset, self._block)
        if batch.entries:
            context, state = await self._look_up(batch.entries, state)
            folded, body = await asyncio.to_thread(_fold, state, batch.entries, context)
            self._raise([one.record for one in folded.told])
            joined = folded.joined
            await self._stores.joins.commit(batch.offset, body, joined.waiting, joined.early, joined.labelled)
            self._offset, self._state = batch.offset, folded.state
            await self._tell(folded, context)
            self._block = next_block(self._block, self._largest, len(batch.entries), cells_of(batch.entries))
        self._offset = batch.offset  # past damaged records too
        await self._housekeeping()
        return len(batch.entries)

    async def _resume(self) -> MonitorState:
        offset, body = await self._stores.joins.checkpoint()
        state = read_state(body)
        await self._versions.of(remembered(state))
        self._pace = Pace(rate=rate_of(state.terms), since=self._clock.monotonic())
        metrics.monitor_sampling.set(self._pace.rate)
        self._touched |= {ModelName(model) for model in state.models}  # the last summary may be older than the commit
        self._offset, self._state = offset, state
        return state

    def _raise(self, records: Sequence[Alert | Cleared]) -> None:
        """Into the control stream, before the commit: an alert may come twice there, never not at all."""
        for record in records:
            self._control.offer(record)
        if records and not self._control.flush():
            raise JournalUnavailable("an alert could not be written to the control stream; the block is repeated")

    async def _tell(self, folded: Folded, context: Context) -> None:
        self._touched |= folded.models
        for (model, outcome), count in folded.joined.counts.items():
            metrics.labels.labels(model or "unknown", outcome).inc(count)
        for alert in folded.alerts:
            metrics.alerts.labels(alert.model, alert.kind, alert.detector).inc()
        for one in folded.told:
            await self._notices.tell(one, context.policy(one.record.model).monitoring.alerts)

    async def _look_up(
        self, entries: Sequence[Entry[TrafficRecord]], state: MonitorState
    ) -> tuple[Context, MonitorState]:
        """What the fold needs, and the state with the terms it is folded on."""
        ids = ids_of(entries)
        waiting = await self._stores.joins.find(ids)
        early = await self._stores.joins.find_feedback(ids)
        wanted = versions_of(entries, waiting.values())
        policies = await self._policies.of({version.model for version in wanted})
        terms = noted(state.terms, self._offset, policies, self._pace.rate, state.models)
        if terms is not state.terms:
            state = msgspec.structs.replace(state, terms=terms)
        versions = await self._versions.of(wanted)
        return Context(policies_of(terms), versions, waiting, early, self._pace.rate), state

    async def _housekeeping(self) -> None:
        """Pace and summaries at most once a second, old rows out of the index once a minute, floods at once."""
        now = self._clock.monotonic()
        if now - self._published >= _PUBLISH_SECONDS:
            self._published = now
            await self._publish(self._clock.now())
        early = self._state.early.items if self._state is not None else 0
        if now - self._trimmed >= _TRIM_SECONDS or early - self._trimmed_early >= _FLOOD_ITEMS:
            self._trimmed, self._trimmed_early = now, early
            await self._trim(self._clock.now())

    async def _publish(self, now: float) -> None:
        lag = await self._stores.traffic.lag_seconds(self._offset)
        metrics.journal_lag.labels("monitor").set(lag)
        self._set_pace(next_pace(self._pace, lag, self._clock.monotonic()), lag)
        if self._state is None:
            return
        for model in sorted(self._touched):
            summary = await asyncio.to_thread(self._summary, self._state, model, now, lag)
            gauges.show(summary)
            await self._summaries.put(summary)
            self._touched.discard(model)  # not before: a store that fails is tried again

    def _set_pace(self, pace: Pace, lag: float) -> None:
        """The rate counts from the next block on, which writes it down."""
        before, self._pace = self._pace.rate, pace
        if pace.rate != before:
            metrics.monitor_sampling.set(pace.rate)
            text = "the monitor is %.1f s behind: detectors see %.4g of the predictions from now on, before %.4g"
            _log.warning(text, lag, pace.rate, before)

    def _summary(self, state: MonitorState, model: ModelName, now: float, lag: float) -> Monitoring:
        policy, kept = policies_of(state.terms).get(model) or Policy(model=model), state.of(model)
        summary = summarise(
            model,
            kept,
            policy.monitoring,
            self._versions.known(model),
            unknown=state.unknown.get("unknown", 0),
            now=now,
            offset=self._offset.hex(),
            lag_seconds=lag,
        )
        rate = rate_of(state.terms)
        summary = msgspec.structs.replace(summary, sampled=rate < EVERYTHING, sampling_rate=rate)
        return judged(summary, kept, policy)

    async def _trim(self, now: float) -> None:
        policies = [Policy(model="default"), *await self._policies.all()]
        wait, keep = max(one.labels.wait for one in policies), max(one.journal.keep for one in policies)
        early_ns = self._state.early.floor_ns if self._state is not None else 0
        await self._stores.joins.trim(int((now - wait) * 1e9), int((now - keep) * 1e9), early_ns)


def _fold(state: MonitorState, entries: Sequence[Entry[TrafficRecord]], context: Context) -> tuple[Folded, bytes]:
    """The fold and the body of its checkpoint."""
    folded = fold(state, entries, context)
    return folded, folded.state.encode()


class _Summaries:
    """Writes `monitoring/<model>`. Only the monitor does, so a conflict means a restart: read the revision again."""

    def __init__(self, config: ConfigStore) -> None:
        self._config = config
        self._revisions: dict[str, Revision] = {}

    async def put(self, summary: Monitoring) -> None:
        """Replace the model's summary."""
        name, body = monitoring_name(ModelName(summary.model)), msgspec.json.encode(summary)
        for _ in range(3):
            expected = self._revisions.get(name)
            if expected is None:
                expected = await self._revision(name)
            try:
                self._revisions[name] = await self._config.put(name, body, expected)
                return
            except RevisionConflict:
                self._revisions.pop(name, None)

    async def _revision(self, name: str) -> Revision:
        try:
            return (await self._config.get(name)).revision
        except DocumentNotFound:
            return ABSENT
