"""One model in memory: stores, a controller, and traffic that a test writes record by record."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.clock import ManualClock
from gateway.documents.lease import Condition, GatewayLease, Proposal, Served
from gateway.documents.policy import Policy
from gateway.documents.rollout import Rollout
from gateway.documents.route import Route, read_route
from gateway.documents.store import (
    ABSENT,
    AuditEntry,
    Document,
    condition_name,
    gateway_name,
    policy_name,
    proposal_name,
    rollout_name,
    route_name,
)
from gateway.errors import DocumentNotFound, RevisionConflict
from gateway.journal.journal import Batch, Offset
from gateway.journal.record import Decision, Entry, Feedback, Place, Prediction, Record, TrafficRecord
from gateway.names import BUCKETS, ModelName, Outcome, Reason, Revision, Role, VersionId
from gateway.registry.manifest import GateReport, Lineage, Manifest, PredictionSpec
from gateway.rollout.change import RouteWriter
from gateway.rollout.controller import RolloutController
from gateway.rollout.operation import Operations

MODEL = ModelName("m")


class FakeConfig:
    """Documents in a dict. dies_after: name of the document whose next write is this process's last act."""

    def __init__(self) -> None:
        self.documents: dict[str, Document] = {}
        self.entries: list[AuditEntry] = []
        self.puts: list[str] = []
        self.dies_after: str | None = None
        self._counter = 0

    async def get(self, name: str) -> Document:
        await asyncio.sleep(0)
        if name not in self.documents:
            raise DocumentNotFound(name)
        return self.documents[name]

    async def list(self, prefix: str) -> Sequence[str]:
        return sorted(name for name in self.documents if name.startswith(prefix))

    async def put(self, name: str, body: bytes, expected: Revision, audit: AuditEntry | None = None) -> Revision:
        actual = self.documents[name].revision if name in self.documents else ABSENT
        if actual != expected:
            raise RevisionConflict(name, expected, actual)
        self._counter += 1
        revision = Revision(self._counter)
        self.documents[name] = Document(body, revision)
        self.puts.append(name)
        if audit is not None:
            self.entries.append(audit)
        if self.dies_after == name:
            self.dies_after = None
            raise KeyboardInterrupt
        await asyncio.sleep(0)
        return revision

    async def audit(self, after: int, limit: int) -> Sequence[AuditEntry]:
        return self.entries[after : after + limit]

    async def watch(self, prefix: str) -> AsyncIterator[str]:
        seen = len(self.puts)
        while True:
            for name in self.puts[seen:]:
                seen += 1
                if name.startswith(prefix):
                    yield name
            await asyncio.sleep(0)


class FakeRegistry:
    """Manifests only."""

    def __init__(self) -> None:
        self.manifests: dict[int, Manifest] = {}

    async def publish(self, package: Path) -> VersionId:
        raise NotImplementedError

    async def fetch(self, version: VersionId, into: Path) -> tuple[Manifest, Path]:
        raise NotImplementedError

    async def models(self) -> Sequence[ModelName]:
        return [MODEL] if self.manifests else []

    async def versions(self, model: ModelName) -> Sequence[Manifest]:
        return [self.manifests[number] for number in sorted(self.manifests)] if model == MODEL else []

    async def watch(self) -> AsyncIterator[VersionId]:
        known = set(self.manifests)
        while True:
            for number in sorted(set(self.manifests) - known):
                known.add(number)
                yield VersionId(MODEL, number)
            await asyncio.sleep(0)


class FakeTraffic:
    """A list of entries; an offset is its length."""

    def __init__(self) -> None:
        self.entries: list[Entry[TrafficRecord]] = []
        self.written = asyncio.Event()

    def write(self, *records: TrafficRecord) -> None:
        for record in records:
            number = len(self.entries)
            self.entries.append(Entry(record, number * 1_000_000, Place("g", 1, number)))
        self.written.set()

    async def read(self, after: Offset, limit: int) -> Batch[TrafficRecord]:
        first = int(after or b"0")
        entries = self.entries[first : first + limit]
        return Batch(entries, Offset(str(first + len(entries)).encode()))

    async def wait(self, after: Offset, timeout_seconds: float) -> None:
        while int(after or b"0") >= len(self.entries):
            self.written.clear()
            await self.written.wait()

    async def seek(self, time_ns: int) -> Offset:
        return Offset(b"")

    async def end(self) -> Offset:
        return Offset(str(len(self.entries)).encode())

    async def lag_seconds(self, after: Offset) -> float:
        return 0.0

    async def trim(self, before: Offset) -> None:
        raise NotImplementedError


class FakeTee:
    """Keeps what was flushed."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def offer(self, record: Record) -> None:
        self.records.append(record)

    def flush(self) -> bool:
        return True

    async def synced(self) -> bool:
        return True

    def close(self) -> None:
        return

    @property
    def actions(self) -> list[str]:
        return [record.action for record in self.records if isinstance(record, Decision)]


@dataclass
class World:
    """Everything of one model, with the steps that tests repeat."""

    config: FakeConfig = field(default_factory=FakeConfig)
    registry: FakeRegistry = field(default_factory=FakeRegistry)
    traffic: FakeTraffic = field(default_factory=FakeTraffic)
    tee: FakeTee = field(default_factory=FakeTee)
    clock: ManualClock = field(default_factory=ManualClock)
    requests: int = 0

    def __post_init__(self) -> None:
        self.writer = RouteWriter(self.config, self.clock)
        salts = (f"salt-{number}" for number in range(1_000_000))
        self.operations = Operations(
            self.config, self.registry, self.traffic, self.tee, self.writer, self.clock, lambda: next(salts)
        )
        self.restart()

    def restart(self) -> None:
        """A new controller that remembers nothing."""
        self.controller = RolloutController(self.config, self.registry, self.traffic, self.operations, self.clock)

    def publish(self, number: int, gate: bool | None = True, **lineage: Any) -> Manifest:
        """A version; from a job with known data unless `lineage` says otherwise."""
        source = {"source": "job", "data_digest": "d"} | lineage
        manifest = Manifest(
            model=MODEL,
            number=number,
            prediction=PredictionSpec(output="label", kind="class", classes=(0, 1)),
            lineage=Lineage(**source),
            gate=GateReport(passed=gate, metrics={"accuracy": 0.8}),
        )
        self.registry.manifests[number] = manifest
        return manifest

    async def write(self, name: str, body: bytes) -> None:
        """Write a document over whatever is there."""
        before = self.config.documents.get(name)
        await self.config.put(name, body, before.revision if before else ABSENT)

    async def set_policy(self, **rollout: Any) -> None:
        """The policy, with these keys of `rollout`."""
        policy = Policy.model_validate({"model": MODEL, "rollout": rollout})
        await self.write(policy_name(MODEL), policy.encode())

    async def set_route(self, **fields: Any) -> None:
        """Write the route as a person with a text editor would."""
        await self.write(route_name(MODEL), Route.model_validate(fields).encode())

    @property
    def route(self) -> Route:
        return read_route(self.config.documents[route_name(MODEL)].body)

    @property
    def revision(self) -> Revision:
        return self.config.documents[route_name(MODEL)].revision

    @property
    def rollout(self) -> Rollout:
        return msgspec.json.decode(self.config.documents[rollout_name(MODEL)].body, type=Rollout)

    def condition(self, number: int) -> Condition:
        document = self.config.documents.get(condition_name(VersionId(MODEL, number)))
        return msgspec.json.decode(document.body, type=Condition) if document else Condition()

    async def settle(self) -> None:
        """Reconcile until nothing is left to do at once."""
        for _ in range(50):
            if await self.controller.reconcile(MODEL) > 0:
                return
        raise AssertionError("the controller never comes to rest")

    def serve(self, version: int, failed: bool = False, predicted: int = 1, label: int | None = None) -> None:
        """One request answered by `version` under the present route, with its shadow copies and its label."""
        self.requests += 1
        request = f"r{self.requests}"
        route = self.route
        role = Role.CHAMPION if version == route.champion else Role.CANARY
        self.traffic.write(self.answer(request, version, role, failed, predicted))
        for shadow in route.shadows:
            self.traffic.write(self.answer(request, shadow.version, Role.SHADOW))
        if label is not None:
            self.traffic.write(Feedback(request, 0, label))

    def serve_pairs(
        self, count: int, shadow_predicted: int = 1, shadow_failed: bool = False, label: int | None = None
    ) -> None:
        """Requests answered by the champion with label 1, and by each shadow as told."""
        for _ in range(count):
            self.requests += 1
            request = f"r{self.requests}"
            self.traffic.write(self.answer(request, self.route.champion, Role.CHAMPION))
            for shadow in self.route.shadows:
                record = self.answer(request, shadow.version, Role.SHADOW, shadow_failed, shadow_predicted)
                self.traffic.write(record)
            if label is not None:
                self.traffic.write(Feedback(request, 0, label))

    def answer(self, request: str, version: int, role: Role, failed: bool = False, predicted: int = 1) -> Prediction:
        """One record as a serving process writes it."""
        return Prediction(
            id=request,
            model=MODEL,
            version=version,
            role=role,
            reason=Reason.WEIGHT,
            revision=self.revision,
            outcome=Outcome.ERROR if failed else Outcome.OK,
            latency_us=100,
            rows=1,
            contract=version,
            inputs=[[0.0]],
            outputs={} if failed else {"label": [predicted]},
            split=tuple((c.version, c.buckets * BUCKETS // BUCKETS) for c in self.route.canaries),
        )

    async def renew(self, gateway: str, **served: Any) -> None:
        """The lease of a serving process, as of now."""
        lease = GatewayLease(id=gateway, pid=1, started=0.0, renewed=self.clock.now(), models={MODEL: Served(**served)})
        await self.write(gateway_name(gateway), msgspec.json.encode(lease))

    async def until(self, holds: Callable[[], bool]) -> None:
        """Let the other tasks run until the claim holds."""
        for _ in range(100_000):
            if holds():
                return
            await asyncio.sleep(0)
        raise AssertionError("it never came to that")

    async def serving_process(self, gateway: str, refuses: str = "") -> None:
        """A serving process for ever: prepares what is proposed (or refuses it) and picks routes up."""
        prepared = refused = ""
        while True:
            proposal = self.config.documents.get(proposal_name(MODEL))
            if proposal is not None:
                asked = msgspec.json.decode(proposal.body, type=Proposal).id
                prepared, refused = ("", asked) if refuses else (asked, "")
            revision = self.config.documents[route_name(MODEL)].revision if self.config.documents else 0
            await self.renew(gateway, revision=revision, prepared=prepared, refused=refused, reason=refuses)
            await asyncio.sleep(0)


@pytest.fixture
async def world() -> World:
    """Version 1 in service, version 2 published, policy with short steps that a person starts."""
    made = World()
    made.publish(1)
    made.publish(2)
    await made.set_policy(
        steps=[
            {"shadow": 100, "until": {"pairs": 20}},
            {"canary": 5, "until": {"requests": 20}},
            {"canary": 50, "until": {"requests": 20}},
            {"promote": "auto"},
        ],
        after_promotion={"requests": 30},
    )
    await made.operations.introduce(MODEL, 1, "first version", "test")
    return made
