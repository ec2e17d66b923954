"""Any version over the traffic that the journal has: what it would have answered, beside what was answered, and labels.

Rows that the version was trained on are in no figure that needs a label. What was answered by canaries, by a rule, or
for want of the champion is in the agreement, not in the comparison with the champion.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from msgspec import Struct

from gateway.comparison.tally import Comparison, Row, Tally, log_loss
from gateway.documents.store import ConfigStore
from gateway.errors import ExecutionError, InvalidConfig, RegistryError
from gateway.execution.contract import Contract, Prepared
from gateway.execution.executor import Run
from gateway.execution.tensors import to_json
from gateway.journal.journal import START, TrafficJournal
from gateway.journal.record import Prediction
from gateway.monitor.version import answers
from gateway.names import ModelName, Reason, Role
from gateway.offline.again import Requests, Why
from gateway.offline.chosen import Chosen, choose
from gateway.offline.engine import Runs, Start, fetched_and_started, started
from gateway.offline.traffic import Answer, Traffic
from gateway.registry.manifest import Manifest, PredictionSpec
from gateway.registry.registry import Registry
from gateway.rollout.evidence.slices import Slicer

_NOT_COMPARED = frozenset({Reason.PINNED, Reason.RULE, Reason.FALLBACK_VERSION, Reason.FALLBACK_VALUE})
_NOT_TIMED = frozenset({Reason.CACHE, Reason.FALLBACK_VALUE})


_TIMED_REQUESTS = 1000
"""So many requests are run by the present champion too, for its run time."""


class RunTimes(Struct, frozen=True):
    """Run times of requests, in microseconds."""

    requests: int
    p50: float
    p99: float


class Report(Struct, frozen=True, kw_only=True):
    """What a replay found.

    requests: answers of the stretch; replayed: of those; not_replayed: by reason (`Why`); failed: the version had no
    answer. rows: replayed. trained: labelled rows that it was trained on, left out. champions: rows compared, by the
    version that was champion then. comparison: the version (own) beside what was answered (other). run_time and
    champion_run_time: processor time here, of the version and of the present champion, on the same machine at the same
    time (None: the version is the champion). journaled_run_time: of the champion then, as it was measured in service.
    """

    model: str
    version: int
    since: float
    requests: int
    replayed: int
    not_replayed: dict[str, int]
    failed: int
    rows: int
    trained: int
    champions: dict[str, int]
    kind: str
    comparison: Comparison
    run_time: RunTimes | None
    champion_run_time: RunTimes | None
    journaled_run_time: RunTimes | None


Progress = Callable[[int, int | None, int], None]
"""Told behind each page: requests done, of how many, and rows replayed."""


async def replay(
    config: ConfigStore,
    registry: Registry,
    journal: TrafficJournal,
    model: ModelName,
    number: int | None,
    since_ns: int | None,
    limit: int | None,
    progress: Progress,
    start: Start = started,
) -> Report:
    """Replay the newest `limit` requests since a moment (None: all).

    number: None is the champion. Raises what `choose` and the engine raise, and InvalidConfig for a version that does
    not say which of its outputs is the prediction.
    """
    chosen = await choose(config, registry, model, number)
    if chosen.manifest.prediction is None:
        raise InvalidConfig(f"{chosen.manifest.version} does not say which output holds its prediction")
    begin = START if since_ns is None else await journal.seek(since_ns)
    traffic = Traffic(journal, model, begin, since_ns or 0, int(chosen.policy.labels.wait * 1e9))
    await traffic.read_labels()
    skip = 0 if limit is None else max(0, traffic.answers - limit)
    fold = _Fold(chosen, chosen.manifest.prediction)
    async with fetched_and_started(registry, chosen.manifest, start) as engine:
        async for page in traffic.read(skip):
            await fold.add(page, engine)
            progress(fold.requests, traffic.answers - skip, fold.rows)
    champion_us = await _champion_times(chosen, registry, traffic, skip, start)
    return fold.report((since_ns or 0) / 1e9, champion_us)


async def _champion_times(
    chosen: Chosen, registry: Registry, traffic: Traffic, skip: int, start: Start
) -> array[float]:
    """Run times of the present champion on the first requests; none where it is the version itself, or can not run."""
    times = array("d")
    champion = None if chosen.route is None else chosen.manifests.get(chosen.route.champion)
    if champion is None or champion.number == chosen.manifest.number:
        return times
    requests = Requests(Contract(champion, chosen.policy.inputs), chosen.manifests, chosen.policy.journal.redact)
    try:
        async with fetched_and_started(registry, champion, start) as engine:
            async for page in traffic.read(skip):
                found = [requests.prepare(answer.record) for answer in page[: _TIMED_REQUESTS - len(times)]]
                runs = await engine.run([one.tensors for one in found if isinstance(one, Prepared)])
                times.extend(run.latency_us for run in runs if run.outputs is not None)
                if len(times) >= _TIMED_REQUESTS or not found:
                    break
    except (ExecutionError, RegistryError):  # the comparison with its answers stands all the same
        return array("d")
    return times


class _Fold:
    """What was replayed so far."""

    def __init__(self, chosen: Chosen, spec: PredictionSpec) -> None:
        manifest, policy = chosen.manifest, chosen.policy
        self.requests = self.rows = 0
        self._manifest, self._manifests, self._spec = manifest, chosen.manifests, spec
        self._requests = Requests(Contract(manifest, policy.inputs), chosen.manifests, policy.journal.redact)
        positive = spec.classes[-1] if len(spec.classes) == 2 else None
        self._tally = Tally(spec.kind == "class", positive)
        features = {number: one.features for number, one in chosen.manifests.items()}
        self._slicer = Slicer(policy.monitoring.slices, features)
        self._trained_until_ns = _trained_until_ns(manifest)
        self._not_replayed: Counter[str] = Counter()
        self._champions: Counter[str] = Counter()
        self._failed = self._trained = 0
        self._own_us, self._journaled_us = array("d"), array("d")

    async def add(self, page: Sequence[Answer], engine: Runs) -> None:
        """Replay a page of answers. Raises ExecutionError when the engine is gone."""
        ready: list[tuple[Answer, Prepared]] = []
        for answer in page:
            self.requests += 1
            prepared = self._requests.prepare(answer.record)
            if isinstance(prepared, Why):
                self._not_replayed[prepared] += 1
            else:
                ready.append((answer, prepared))
        runs = await engine.run([prepared.tensors for _, prepared in ready])
        for (answer, prepared), run in zip(ready, runs, strict=True):
            self._count(answer, prepared.rows, run)

    def _count(self, answer: Answer, rows: int, run: Run) -> None:
        record = answer.record
        if record.role == Role.CHAMPION and record.reason not in _NOT_TIMED:
            self._journaled_us.append(record.latency_us)
        parts = self._slicer.of(record)
        if run.outputs is None:
            self._failed += 1
            return
        self._own_us.append(run.latency_us)
        self.rows += rows
        is_paired = record.role == Role.CHAMPION and record.reason not in _NOT_COMPARED
        now, now_chances = answers(to_json(run.outputs)[0], self._spec, rows)
        then_spec = _spec_of(record, self._manifests)
        then, then_chances = answers(record.outputs, then_spec, rows)
        for row in range(rows):
            label = self._unseen(answer, row)
            self._tally.add(
                Row(
                    own=now[row],
                    other=then[row],
                    label=label,
                    own_log_loss=_log_loss(label, now_chances[row], self._spec),
                    other_log_loss=_log_loss(label, then_chances[row], then_spec),
                    parts=parts[row] if row < len(parts) else (),
                    is_paired=is_paired,
                )
            )
            if label is not None and is_paired:
                self._champions[f"{record.model}@{record.version}"] += 1

    def _unseen(self, answer: Answer, row: int) -> Any:
        """The row's label, unless the version may have been trained on it."""
        label = answer.labels[row] if row < len(answer.labels) else None
        if label is not None and answer.time_ns < self._trained_until_ns:
            self._trained += 1
            return None
        return label

    def report(self, since: float, champion_us: array[float]) -> Report:
        """What was found. since: seconds since 1970. champion_us: run times of the present champion here."""
        left_out = sum(self._not_replayed.values())
        return Report(
            model=self._manifest.model,
            version=self._manifest.number,
            since=since,
            requests=self.requests,
            replayed=self.requests - left_out - self._failed,
            not_replayed=dict(self._not_replayed),
            failed=self._failed,
            rows=self.rows,
            trained=self._trained,
            champions=dict(self._champions),
            kind=self._spec.kind,
            comparison=self._tally.comparison(),
            run_time=_run_times(self._own_us),
            champion_run_time=_run_times(champion_us),
            journaled_run_time=_run_times(self._journaled_us),
        )


def _spec_of(record: Prediction, manifests: dict[int, Manifest]) -> PredictionSpec | None:
    manifest = manifests.get(record.version)
    return None if manifest is None else manifest.prediction


def _log_loss(label: Any, chances: Any, spec: PredictionSpec | None) -> float | None:
    return None if label is None or spec is None or spec.kind != "class" else log_loss(label, chances, spec)


def _trained_until_ns(manifest: Manifest) -> int:
    """When the last label that the version was fitted on was known; 0 when it was not fitted on traffic."""
    until = manifest.lineage.parameters.get("trained_until_ns", 0)
    return until if isinstance(until, int) else 0


def _run_times(times: array[float]) -> RunTimes | None:
    if not times:
        return None
    p50, p99 = np.quantile(np.frombuffer(times), (0.5, 0.99))
    return RunTimes(len(times), float(p50), float(p99))
