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
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from gateway import metrics
from gateway.clock import Clock
from gateway.documents.alert import Monitoring
from gateway.documents.policy import Policy, read_policy
from gateway.documents.store import ABSENT, ConfigStore, monitoring_name, policy_name
from gateway.errors import DocumentNotFound, GatewayError, InvalidConfig, JournalUnavailable, RevisionConflict
from gateway.journal.join import JoinIndex, WaitingPrediction, ids_of
from gateway.journal.journal import START, Offset, TrafficJournal
from gateway.journal.record import Alert, Entry, Prediction, Record, TrafficRecord
from gateway.monitor import gauges
from gateway.monitor.fold import Context, Folded, fold
from gateway.monitor.panel import Plan
from gateway.monitor.state import MonitorState, read_state
from gateway.monitor.summary import summarise
from gateway.monitor.version import Version
from gateway.monitor.webhook import Post, Webhooks
from gateway.names import ModelName, Revision, VersionId
from gateway.registry.reference import REFERENCE_FILE, read_reference
from gateway.registry.registry import Registry

BLOCK_ENTRIES = 500
"""Entries folded at most in one step."""

_PUBLISH_SECONDS = 1.0
_TRIM_SECONDS = 60.0
_WAIT_SECONDS = 0.5

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
        self._known = _Versions(stores.registry, cache)
        self._summaries = _Summaries(stores.config)
        self._posts = Webhooks(post, clock)
        self._block = block
        self._offset: Offset = START
        self._state: MonitorState | None = None
        self._policies: dict[str, Policy] = {}
        self._touched: set[ModelName] = set()
        self._published = -_PUBLISH_SECONDS
        self._trimmed = 0.0

    async def run(self, stop: asyncio.Event) -> None:
        """Fold until told to stop; goes on from the checkpoint. A store that fails is tried again."""
        try:
            while not stop.is_set():
                try:
                    if not await self.step():
                        await self._stores.traffic.wait(self._offset, _WAIT_SECONDS)
                except GatewayError as error:
                    _log.warning("the monitor tries again: %s", error)
                    await self._clock.sleep(_WAIT_SECONDS)
            await self._publish(self._clock.now())
        finally:
            await self._posts.close()

    async def step(self) -> int:
        """Fold one block; how many entries it had. 0: everything that is readable was folded."""
        if self._state is None:
            self._offset, body = await self._stores.joins.checkpoint()
            self._state = read_state(body)
            await self._known.of(_remembered(self._state))
        batch = await self._stores.traffic.read(self._offset, self._block)
        if batch.entries:
            context = await self._context(batch.entries)
            folded = await asyncio.to_thread(fold, self._state, batch.entries, context)
            self._raise(folded.alerts)
            joined = folded.joined
            await self._stores.joins.commit(
                batch.offset, folded.state.encode(), joined.waiting, joined.early, joined.labelled
            )
            self._offset, self._state = batch.offset, folded.state
            self._tell(folded, context)
        self._offset = batch.offset  # past damaged records too
        await self._housekeeping()
        return len(batch.entries)

    def _raise(self, alerts: Sequence[Alert]) -> None:
        """Into the control stream, before the commit: an alert may come twice there, never not at all."""
        for alert in alerts:
            self._control.offer(alert)
        if alerts and not self._control.flush():
            raise JournalUnavailable("an alert could not be written to the control stream; the block is repeated")

    def _tell(self, folded: Folded, context: Context) -> None:
        self._touched |= folded.models
        for (model, outcome), count in folded.joined.counts.items():
            metrics.labels.labels(model or "unknown", outcome).inc(count)
        for alert in folded.alerts:
            metrics.alerts.labels(alert.model, alert.kind, alert.detector).inc()
            for hook in context.policy(alert.model).monitoring.alerts:
                self._posts.send(hook.webhook, msgspec.json.encode(msgspec.structs.asdict(alert)))

    async def _context(self, entries: Sequence[Entry[TrafficRecord]]) -> Context:
        ids = ids_of(entries)
        waiting = await self._stores.joins.find(ids)
        early = await self._stores.joins.find_feedback(ids)
        wanted = _versions_of(entries, waiting.values())
        for model in {version.model for version in wanted}:
            self._policies[model] = await self._policy(model)
        return Context(dict(self._policies), await self._known.of(wanted), waiting, early)

    async def _policy(self, model: ModelName) -> Policy:
        try:
            return read_policy((await self._stores.config.get(policy_name(model))).body)
        except DocumentNotFound:
            return Policy(model=model)
        except ValueError as error:
            _log.warning("the stored policy of %s can not be read, the last good one is used: %s", model, error)
            return self._policies.get(model) or Policy(model=model)

    async def _housekeeping(self) -> None:
        """Summaries at most once a second, old rows out of the index once a minute."""
        now = self._clock.monotonic()
        if now - self._published >= _PUBLISH_SECONDS:
            self._published = now
            await self._publish(self._clock.now())
        if now - self._trimmed >= _TRIM_SECONDS:
            self._trimmed = now
            await self._trim(self._clock.now())

    async def _publish(self, now: float) -> None:
        lag = await self._stores.traffic.lag_seconds(self._offset)
        metrics.journal_lag.labels("monitor").set(lag)
        touched, self._touched = self._touched, set()
        if self._state is None:
            return
        for model in touched:
            summary = await asyncio.to_thread(self._summary, self._state, model, now, lag)
            gauges.show(summary)
            await self._summaries.put(summary)

    def _summary(self, state: MonitorState, model: ModelName, now: float, lag: float) -> Monitoring:
        return summarise(
            model,
            state.of(model),
            (self._policies.get(model) or Policy(model=model)).monitoring,
            self._known.known(model),
            unknown=state.unknown.get("unknown", 0),
            now=now,
            offset=self._offset.hex(),
            lag_seconds=lag,
        )

    async def _trim(self, now: float) -> None:
        names = await self._stores.config.list(policy_name(ModelName("")))
        models = [ModelName(name.partition("/")[2]) for name in names]
        policies = [Policy(model="default"), *[await self._policy(model) for model in models]]
        wait, keep = max(one.labels.wait for one in policies), max(one.journal.keep for one in policies)
        await self._stores.joins.trim(int((now - wait) * 1e9), int((now - keep) * 1e9))


def _versions_of(entries: Iterable[Entry[TrafficRecord]], waiting: Iterable[WaitingPrediction]) -> set[VersionId]:
    """Every version that the block speaks of, as answer or as contract."""
    found: set[VersionId] = set()
    for entry in entries:
        record = entry.record
        if isinstance(record, Prediction):
            found |= {VersionId(ModelName(record.model), number) for number in (record.version, record.contract)}
    for one in waiting:
        found |= {VersionId(ModelName(one.model), answer[0]) for answer in one.answers}
    return {version for version in found if version.number > 0}


def _remembered(state: MonitorState) -> set[VersionId]:
    """Every version that a checkpoint has figures of: a summary shows also those that answer no more."""
    return {VersionId(ModelName(model), number) for model in state.models for number in state.of(model).judged}


class _Versions:
    """Manifests and compiled references, read once: they are immutable."""

    def __init__(self, registry: Registry, cache: Path) -> None:
        self._registry = registry
        self._cache = cache
        self._versions: dict[str, dict[int, Version]] = {}

    def known(self, model: str) -> Mapping[int, Version]:
        """The versions of a model that were needed so far."""
        return self._versions.get(model, {})

    async def of(self, wanted: Iterable[VersionId]) -> dict[str, dict[int, Version]]:
        """These and all earlier ones, by model. What can not be fetched is left out: counted, not monitored."""
        for version in wanted:
            numbers = self._versions.setdefault(version.model, {})
            if version.number not in numbers:
                try:
                    numbers[version.number] = await self._fetch(version)
                except GatewayError as error:
                    _log.warning("%s is not monitored: %s", version, error)
        return {model: dict(numbers) for model, numbers in self._versions.items()}

    async def _fetch(self, version: VersionId) -> Version:
        manifest, package = await self._registry.fetch(version, self._cache)
        try:
            body = await asyncio.to_thread((package / REFERENCE_FILE).read_bytes)
            reference = read_reference(body)
            return Version(manifest, reference, await asyncio.to_thread(Plan, reference))
        except FileNotFoundError:
            return Version(manifest)
        except InvalidConfig as error:
            _log.warning("%s has a reference that can not be read: %s", version, error)
            return Version(manifest)


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
