"""Twenty-four hours in which the model is wrong all the time and no training helps: the supervisor's own code, a clock
that is set, stores in memory, and a job server that only says how jobs ended.

Every second brings a label; the alert is raised anew for every 250 of them, as the monitor does while errors stay.
Where jobs publish, the version becomes champion at once and is as wrong as the one before.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

from msgspec import json

from gateway.clock import ManualClock
from gateway.documents.job import JobState, Retraining
from gateway.documents.policy import Policy
from gateway.documents.route import Route
from gateway.documents.store import ABSENT, policy_name, retraining_name, route_name
from gateway.execution.admission import AdmissionServer
from gateway.journal.journal import Offset
from gateway.journal.record import Alert
from gateway.journal.tee import Tee
from gateway.names import ModelName, Role
from gateway.retraining.launch import JobServer, Order
from gateway.retraining.spec import JobResult, JobSpec, write_whole
from gateway.retraining.supervisor import Supervisor
from gateway.settings import Settings
from gateway.stores.memory import connect_memory
from gateway.stores.stores import Stores
from tests.statistics.harm import make_champion, rows

MODEL = ModelName("harm")
HOURS = 24
ALERT_LABELS = 250
STEP_SECONDS = 50


class UselessServer(JobServer):
    """Jobs that end at once, as told."""

    def __init__(self, state: JobState) -> None:
        super().__init__()
        self._state = state

    async def start(self) -> None:
        """Nothing to load."""

    async def run(self, order: Order) -> int:
        """Write how the job ended."""
        spec = json.decode(await asyncio.to_thread(Path(order.spec).read_bytes), type=JobSpec)
        out = Path(spec.out)
        await asyncio.to_thread(lambda: out.mkdir(parents=True, exist_ok=True))
        result = JobResult(state=self._state, detail="useless")
        await asyncio.to_thread(write_whole, out / "result.json", json.encode(result))
        return 0


@dataclass(frozen=True)
class Night:
    """What happened. starts: label counts at which jobs were started; asked: when a person was first asked."""

    starts: tuple[int, ...]
    asked: int
    budget: int

    @property
    def least_distance(self) -> int:
        """Labels between two jobs at least."""
        return min((later - earlier for earlier, later in pairwise(self.starts)), default=0)


async def night(seed: int, jobs_a_day: int = 200, hours: int = HOURS) -> Night:
    """Every job is rejected."""
    with TemporaryDirectory(prefix="gateway-night-") as place:
        package = await asyncio.to_thread(make_champion, Path(place) / "champion", seed)
        clock = ManualClock()
        stores = connect_memory(clock)
        await stores.registry.publish(package)
        await stores.config.put(route_name(MODEL), Route(champion=1).encode(), ABSENT)
        policy = {"model": MODEL, "retraining": {"recipe": "harm.py", "guards": {"jobs_a_day": jobs_a_day}}}
        await stores.config.put(policy_name(MODEL), Policy.model_validate(policy).encode(), ABSENT)
        tees = stores.open_tee("control", "control"), stores.open_tee("control", "monitor")
        with AdmissionServer() as admission:
            server = UselessServer(JobState.REJECTED)
            settings = Settings(data=Path(place) / "data", models=Path(place))
            supervisor = Supervisor(
                stores.config,
                stores.registry,
                stores.control,
                stores.joins,
                tees[0],
                clock,
                settings,
                admission,
                server,
            )
            found = await _lived(stores, supervisor, clock, tees[1], seed, jobs_a_day, hours)
            await supervisor.close()
        return found


async def _lived(
    stores: Stores, supervisor: Supervisor, clock: ManualClock, monitor: Tee, seed: int, budget: int, hours: int
) -> Night:
    starts, asked, labels = list[int](), 0, 0
    coming = iter(rows(hours * 3600, seed))
    while labels < hours * 3600:
        batch = [next(coming) for _ in range(STEP_SECONDS)]
        labels += STEP_SECONDS
        clock.advance(STEP_SECONDS)
        await stores.joins.commit(Offset(str(labels).encode()), b"", labelled=batch)
        if labels % ALERT_LABELS == 0:
            monitor.offer(_alert(labels))
            monitor.flush()
        before = len(await stores.config.list("jobs/"))
        await supervisor.reconcile()
        await supervisor.settled()
        if len(await stores.config.list("jobs/")) > before:
            starts.append(labels)
        if not asked and await _is_asked(stores):
            asked = labels
    return Night(tuple(starts), asked, budget)


async def _is_asked(stores: Stores) -> bool:
    names = await stores.config.list(retraining_name(MODEL))
    if not names:
        return False
    state = json.decode((await stores.config.get(names[0])).body, type=Retraining)
    return bool(state.asks_for_a_person)


def _alert(labels: int) -> Alert:
    return Alert(
        id=f"a{labels}",
        model=MODEL,
        version=1,
        role=Role.CHAMPION,
        kind="concept_drift",
        detector="errors",
        evidence=1e6,
        threshold=1e5,
        severity="high",
        message="errors stay",
    )
