"""One model in memory: stores, a controller, and traffic that a test writes record by record."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.clock import ManualClock
from gateway.documents.lease import Condition, GatewayLease, Proposal, Served
from gateway.documents.policy import Policy
from gateway.documents.rollout import Phase, Rollout
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
from gateway.journal.journal import START
from gateway.journal.record import Alert, Decision, Feedback, Prediction, TrafficRecord
from gateway.names import BUCKETS, ModelName, Outcome, Reason, Revision, Role, VersionId
from gateway.registry.manifest import GateReport, Lineage, Manifest, PredictionSpec
from gateway.rollout.change import RouteWriter
from gateway.rollout.controller import RolloutController
from gateway.rollout.hooks import Hooks
from gateway.rollout.operation import Operations
from gateway.stores.memory.config import MemoryConfigStore
from gateway.stores.memory.connect import connect_memory

MODEL = ModelName("m")


class WatchedConfig(MemoryConfigStore):
    """Says what was written, and can be this process's end.

    dies_after: name of the document whose next write is the last thing that this process does.
    """

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.puts: list[str] = []
        self.dies_after: str | None = None

    async def get(self, name: str) -> Document:
        await asyncio.sleep(0)  # so that others may act between a reading and a write
        return await super().get(name)

    async def put(self, name: str, body: bytes, expected: Revision, audit: AuditEntry | None = None) -> Revision:
        revision = await super().put(name, body, expected, audit)
        self.puts.append(name)
        if self.dies_after == name:
            self.dies_after = None
            raise KeyboardInterrupt
        await asyncio.sleep(0)
        return revision

    @property
    def documents(self) -> Mapping[str, Document]:
        return self._documents

    @property
    def entries(self) -> Sequence[AuditEntry]:
        return self._audit


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


class AskedClock:
    """Sleeps until the test has moved the world's clock so far, and not a turn less."""

    def __init__(self, world: ManualClock) -> None:
        self._world = world

    def now(self) -> float:
        return self._world.now()

    def monotonic(self) -> float:
        return self._world.monotonic()

    async def sleep(self, seconds: float) -> None:
        until = self.monotonic() + seconds
        while self.monotonic() < until:  # noqa: ASYNC110 - time passes only when the test moves it
            await asyncio.sleep(0)


@dataclass
class World:
    """Everything of one model, with the steps that tests repeat."""

    clock: ManualClock = field(default_factory=ManualClock)
    registry: FakeRegistry = field(default_factory=FakeRegistry)
    requests: int = 0
    replies: dict[str, tuple[int, bytes] | Exception | None] = field(default_factory=dict)
    posts: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        stores = connect_memory(self.clock)
        self.config = WatchedConfig(self.clock)
        self.traffic, self.control = stores.traffic, stores.control
        self.tee = stores.open_tee("control", "control")
        self._serving = stores.open_tee("traffic", "g")
        self.writer = RouteWriter(self.config, self.clock)
        self.hooks = Hooks(self._ask, AskedClock(self.clock))
        salts = (f"salt-{number}" for number in range(1_000_000))
        self._draw_salt = lambda: next(salts)
        self.operations = self._new_operations(self.writer)
        self.restart()

    def _new_operations(self, writer: RouteWriter) -> Operations:
        return Operations(
            self.config,
            self.registry,
            self.traffic,
            self.tee,
            writer,
            self.clock,
            self._draw_salt,
            self.control,
            self.hooks,
        )

    async def _ask(self, url: str, body: bytes) -> tuple[int, bytes]:
        """A hook: answers what `replies` says for its address (None: never), yes where it says nothing."""
        self.posts.append((url, msgspec.json.decode(body)))
        reply = self.replies.get(url, (200, b'{"answer": "yes"}'))
        if isinstance(reply, Exception):
            raise reply
        if reply is None:
            await asyncio.Event().wait()
        assert reply is not None
        return reply

    def controller_elsewhere(self) -> RolloutController:
        """A controller of another process: it shares nothing but the stores."""
        operations = self._new_operations(RouteWriter(self.config, self.clock))
        return self._new_controller(operations)

    def _new_controller(self, operations: Operations) -> RolloutController:
        return RolloutController(self.config, self.registry, self.traffic, self.control, operations, self.clock)

    def restart(self) -> None:
        """A new controller that remembers nothing."""
        self.controller = self._new_controller(self.operations)

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

    def is_in(self, phase: Phase) -> bool:
        """True when the rollout is in this phase."""
        return self.rollout.phase is phase

    def condition(self, number: int) -> Condition:
        document = self.config.documents.get(condition_name(VersionId(MODEL, number)))
        return msgspec.json.decode(document.body, type=Condition) if document else Condition()

    async def settle(self) -> None:
        """Reconcile until nothing is left to do at once, and hooks that answer have done so."""
        rested = 0
        for _ in range(60):
            rested = rested + 1 if await self.controller.reconcile(MODEL) > 0 else 0
            if rested > (len(self.replies) > 0) * 3:
                return
            for _ in range(5 if self.replies else 0):
                await asyncio.sleep(0)
        raise AssertionError("the controller never comes to rest")

    def write_traffic(self, *records: TrafficRecord) -> None:
        """Records of a serving process."""
        for record in records:
            self._serving.offer(record)
        self._serving.flush()

    def alert(self, number: int = 1, **fields: Any) -> Alert:
        """Write an alert of the monitor on version 2 as a shadow, unless `fields` say otherwise."""
        about: dict[str, Any] = {"version": 2, "role": Role.SHADOW, "kind": "data_quality"} | fields
        alert = Alert(
            id=f"alert-{number}",
            model=about.pop("model", MODEL),
            detector="quality",
            evidence=30.0,
            threshold=20.0,
            severity="high",
            message="missing values rose",
            **about,
        )
        self.tee.offer(alert)
        self.tee.flush()
        return alert

    async def decisions(self) -> list[Decision]:
        """Every decision record so far."""
        batch = await self.control.read(START, 1000)
        return [entry.record for entry in batch.entries if isinstance(entry.record, Decision)]

    async def actions(self) -> list[str]:
        """What was decided so far."""
        return [decision.action for decision in await self.decisions()]

    def serve(self, version: int, failed: bool = False, predicted: int = 1, label: int | None = None) -> None:
        """One request answered by `version` under the present route, with its shadow copies and its label."""
        self.requests += 1
        request = f"r{self.requests}"
        route = self.route
        role = Role.CHAMPION if version == route.champion else Role.CANARY
        self.write_traffic(self.answer(request, version, role, failed, predicted))
        for shadow in route.shadows:
            self.write_traffic(self.answer(request, shadow.version, Role.SHADOW))
        if label is not None:
            self.write_traffic(Feedback(request, 0, label))

    def serve_pairs(
        self, count: int, shadow_predicted: int = 1, shadow_failed: bool = False, label: int | None = None
    ) -> None:
        """Requests answered by the champion with label 1, and by each shadow as told."""
        for _ in range(count):
            self.requests += 1
            request = f"r{self.requests}"
            self.write_traffic(self.answer(request, self.route.champion, Role.CHAMPION))
            for shadow in self.route.shadows:
                record = self.answer(request, shadow.version, Role.SHADOW, shadow_failed, shadow_predicted)
                self.write_traffic(record)
            if label is not None:
                self.write_traffic(Feedback(request, 0, label))

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

    async def serving_process(self, gateway: str, refuses: str = "", late_seconds: float = 0.0) -> None:
        """A serving process for ever: prepares what is proposed (or refuses it) and picks routes up, some time late."""
        shown, seen = self.revision, self.clock.now()
        prepared = refused = ""
        while True:
            proposal = self.config.documents.get(proposal_name(MODEL))
            if proposal is not None:
                asked = msgspec.json.decode(proposal.body, type=Proposal).id
                prepared, refused = ("", asked) if refuses else (asked, "")
            if self.revision != shown and self.clock.now() - seen >= late_seconds:
                shown = self.revision
            if self.revision == shown:
                seen = self.clock.now()
            await self.renew(gateway, revision=shown, prepared=prepared, refused=refused, reason=refuses)
            await asyncio.sleep(0)


@pytest.fixture
async def world() -> AsyncIterator[World]:
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
    yield made
    await made.hooks.close()
