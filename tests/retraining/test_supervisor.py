"""Alerts become jobs, jobs become versions; nothing is lost or done twice, and people can stop it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from msgspec import json

from gateway.clock import ManualClock
from gateway.documents.alert import AlertHandling, Monitoring
from gateway.documents.job import Job, JobState, Retraining
from gateway.documents.lease import Condition
from gateway.documents.policy import Policy
from gateway.documents.rollout import Freeze
from gateway.documents.route import Route, read_route
from gateway.documents.store import (
    ABSENT,
    alert_name,
    condition_name,
    freeze_name,
    job_name,
    monitoring_name,
    policy_name,
    retraining_name,
    route_name,
)
from gateway.errors import NotAllowed
from gateway.execution.admission import AdmissionServer
from gateway.journal.join import LabelledRow
from gateway.journal.journal import START, Offset
from gateway.journal.record import Alert, Decision
from gateway.names import ModelName, Role, VersionId
from gateway.retraining.job.run import first_job, run_job
from gateway.retraining.launch import JobServer
from gateway.retraining.rows.archive import kept_spec
from gateway.retraining.spec import read_progress
from gateway.retraining.supervisor import Supervisor
from gateway.rollout.eligibility import eligible
from gateway.settings import Settings
from gateway.stores.memory import connect_memory
from gateway.stores.stores import Stores

QUICK = ModelName("quick")
Rows = Callable[..., list[LabelledRow]]
Servers = tuple[JobServer, AdmissionServer]
ENDLESS = "def tree():\n    while True:\n        pass\n"


class House:
    """Stores with one served model `quick`, and a supervisor."""

    def __init__(
        self, stores: Stores, clock: ManualClock, settings: Settings, labelled: Rows, servers: Servers
    ) -> None:
        self.servers = servers
        self.stores = stores
        self.clock = clock
        self.settings = settings
        self.tee = stores.open_tee("control", "control")
        self.monitor = stores.open_tee("control", "monitor")
        self.supervisor = self.started()
        self._labelled = labelled
        self._rows = 0

    def started(self) -> Supervisor:
        """A new supervisor over the same stores, as after a restart."""
        stores = self.stores
        return Supervisor(
            stores.config,
            stores.registry,
            stores.control,
            stores.joins,
            self.tee,
            self.clock,
            self.settings,
            self.servers[1],
            self.servers[0],
        )

    async def labels(self, count: int) -> None:
        """So many more labelled rows; their relation is the opposite of the first version's."""
        rows = self._labelled(count, first=self._rows, flipped=True)
        self._rows += count
        await self.stores.joins.commit(Offset(str(self._rows).encode()), b"", labelled=rows)

    def alert(self, alert: str = "a1", **fields: Any) -> None:
        """The monitor's word about version 1."""
        known: dict[str, Any] = {
            "id": alert,
            "model": "quick",
            "version": 1,
            "role": Role.CHAMPION,
            "kind": "concept_drift",
            "detector": "errors",
            "evidence": 1e5,
            "threshold": 1e4,
            "severity": "high",
            "message": "errors rose",
        }
        self.monitor.offer(Alert(**{**known, **fields}))
        self.monitor.flush()

    async def put(self, name: str, body: bytes) -> None:
        """Write a document, whatever was there."""
        names = await self.stores.config.list(name)
        expected = (await self.stores.config.get(name)).revision if name in names else ABSENT
        await self.stores.config.put(name, body, expected)

    async def job(self) -> Job:
        """The only job there is."""
        names = await self.stores.config.list("jobs/")
        assert len(names) == 1, names
        return json.decode((await self.stores.config.get(names[0])).body, type=Job)

    async def jobs(self) -> int:
        """How many jobs there are."""
        return len(await self.stores.config.list("jobs/"))

    async def memory(self) -> Retraining:
        """What the supervisor wrote down about the model."""
        return json.decode((await self.stores.config.get(retraining_name(QUICK))).body, type=Retraining)

    async def decisions(self) -> list[str]:
        """The actions in the control stream, in order."""
        batch = await self.stores.control.read(START, 1000)
        return [entry.record.action for entry in batch.entries if isinstance(entry.record, Decision)]

    async def versions(self) -> int:
        """How many versions the model has."""
        return len(await self.stores.registry.versions(QUICK))

    async def look(self) -> None:
        """One reconcile, and the job that it started to its end."""
        await self.supervisor.reconcile()
        await self.supervisor.settled()


pytestmark = pytest.mark.asyncio(loop_scope="module")  # the servers take seconds to load


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def servers() -> AsyncIterator[Servers]:
    """The preloaded processes, shared by all tests here."""
    jobs = JobServer()
    with AdmissionServer() as admission:
        yield jobs, admission
    await jobs.close()


@pytest_asyncio.fixture(loop_scope="module")
async def house(tmp_path: Path, quick_path: Path, labelled: Rows, servers: Servers) -> AsyncIterator[House]:
    """`quick@1` serves; it was trained from a file before the first row of traffic."""
    clock = ManualClock()
    stores = connect_memory(clock)
    settings = Settings(data=tmp_path / "data", models=quick_path.parent)
    lines = [f"{row.inputs[0]},{row.inputs[1]},{row.label}" for row in labelled(400)]
    (tmp_path / "first.csv").write_text("\n".join(["a,b,y", *lines]) + "\n")
    first = first_job(quick_path, tmp_path / "first.csv", None, tmp_path / "first")
    assert first.state is JobState.PUBLISHED
    await stores.registry.publish(tmp_path / "first" / "package")
    made = House(stores, clock, settings, labelled, servers)
    await made.put(route_name(QUICK), Route(champion=1).encode())
    policy = {"model": "quick", "retraining": {"recipe": "models/quick.py", "triggers": {"error_drift": True}}}
    await made.put(policy_name(QUICK), Policy.model_validate(policy).encode())
    yield made
    await made.supervisor.close()


async def test_alert_becomes_a_published_version_that_names_it(house: House) -> None:
    """The whole way: alert, window, job in its process, gate, admission, registry; the route is not touched."""
    await house.labels(400)
    house.alert()
    await house.look()
    job = await house.job()
    assert job.state is JobState.PUBLISHED, job
    assert (job.trigger, job.alert, job.version, job.rows, job.attempts) == ("error_drift", "a1", 2, 400, 1)
    manifest = (await house.stores.registry.versions(QUICK))[1]
    assert (manifest.lineage.alert, manifest.lineage.parent, manifest.lineage.job) == ("a1", 1, job.id)
    assert manifest.lineage.data_digest == job.data_digest != ""
    assert manifest.gate.metrics["accuracy"] > 0.9
    assert manifest.gate.champion == {"accuracy": 0.0, "agreement": 0.0, "loss": 1.0}  # it learned the opposite
    assert read_route((await house.stores.config.get(route_name(QUICK))).body) == Route(champion=1)
    assert await house.decisions() == ["start", "publish"]
    assert list((house.settings.data / "jobs").iterdir()) == []
    audit = [entry.action for entry in await house.stores.config.audit(0, 100)]
    assert [action for action in audit if action.startswith("job.")] == ["job.start", "job.end"]
    memory = await house.memory()
    assert (memory.pending_alert, memory.labels, memory.rejections) == ("", 400, 0)

    # A repeat of the same alert is the same alert, for the next supervisor too.
    await house.supervisor.close()
    house.supervisor = house.started()
    house.alert()
    await house.labels(400)
    await house.look()
    assert await house.jobs() == 1


@pytest.mark.parametrize(
    "fields",
    [{"advisory": True}, {"version": 7}, {"kind": "data_quality"}, {"kind": "data_drift"}, {"verdict": "bad_release"}],
    ids=["advisory", "another version", "quality", "data", "bad release"],
)
async def test_alert_that_trains_nothing(house: House, fields: dict[str, Any]) -> None:
    """Second opinions, other versions, broken data, what the rollout takes back."""
    await house.labels(400)
    house.alert(**fields)
    await house.look()
    assert await house.jobs() == 0


async def test_frozen_or_silenced_starts_nothing_by_itself_and_says_why(house: House) -> None:
    """Freeze means hands off; the reason is kept where people look, once."""
    await house.labels(400)
    await house.put(freeze_name(QUICK), json.encode(Freeze(frozen=True)))
    house.alert()
    await house.look()
    await house.look()
    assert (await house.memory()).refused == "the model is frozen"
    assert await house.decisions() == ["refuse"]
    await house.put(freeze_name(QUICK), json.encode(Freeze(frozen=False)))
    await house.put(alert_name("a1"), json.encode(AlertHandling(alert="a1", silenced_until=house.clock.now() + 60)))
    await house.look()
    assert await house.jobs() == 0
    assert "silenced" in (await house.memory()).refused


async def test_alert_that_was_cleared_while_it_waited_is_forgotten(house: House) -> None:
    """Errors that are as proven again need no new version."""
    house.alert()
    await house.look()
    assert (await house.memory()).pending_alert == "a1"
    over = Monitoring(model=QUICK, alerts=[{"id": "a1", "state": "cleared"}])
    await house.put(monitoring_name(QUICK), json.encode(over))
    await house.labels(400)
    await house.look()
    assert await house.jobs() == 0
    assert ((await house.memory()).pending_alert, (await house.memory()).refused) == ("", "alert a1: it was cleared")


async def test_alert_waits_until_there_are_enough_new_labels(house: House) -> None:
    """No job is spent on what can only end as too_few_new_labels."""
    await house.labels(150)
    house.alert()
    await house.look()
    assert await house.jobs() == 0
    assert "too_few_new_labels" in (await house.memory()).refused
    assert (await house.memory()).pending_alert == "a1"
    await house.labels(100)
    await house.look()
    assert (await house.job()).state is JobState.PUBLISHED


async def test_cancelled_job_ends_at_once_and_leaves_nothing(house: House, quick_path: Path) -> None:
    """DELETE sets a flag; the process is killed, no version appears, no file stays."""
    make_endless(quick_path)
    await house.labels(400)
    house.alert()
    await house.supervisor.reconcile()
    job = await house.job()
    assert job.state is JobState.RUNNING
    await house.put(job_name(job.id), json.encode(job_with_cancel(job)))
    await until(lambda: house.servers[0].child > 0)
    await house.look()
    job = await house.job()
    assert job.state is JobState.CANCELLED, job
    assert await house.versions() == 1
    assert list((house.settings.data / "jobs").iterdir()) == []


async def until(is_so: Callable[[], bool]) -> None:
    """Return once it is so; processes come and go in their own time."""
    for _ in range(6000):
        if is_so():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never became so")


def make_endless(recipe: Path) -> None:
    """A candidate that never comes back."""
    text = recipe.read_text()
    recipe.write_text(text[: text.index("def tree")] + ENDLESS + text[text.index("recipe =") :])


def make_broken(recipe: Path) -> None:
    """A recipe that can not be loaded."""
    recipe.write_text("x = 1 / 0\n")


def job_with_cancel(job: Job) -> Job:
    """What the admin API writes."""
    from msgspec.structs import replace

    return replace(job, cancel=True)


async def test_queued_job_that_was_cancelled_never_starts(house: House) -> None:
    """It waited, and nobody wants it any more."""
    job = Job(id="j1", model="quick", trigger="on_demand", reason="", state=JobState.QUEUED, cancel=True)
    await house.put(job_name("j1"), json.encode(job))
    await house.look()
    assert (await house.job()).state is JobState.CANCELLED


async def test_on_demand_job_runs_although_the_model_is_frozen(house: House) -> None:
    """A person outranks the freeze; the version answers no alert, so it takes the long plan."""
    await house.labels(400)
    await house.put(freeze_name(QUICK), json.encode(Freeze(frozen=True)))
    job = Job(id="j1", model="quick", trigger="on_demand", reason="try", state=JobState.QUEUED, actor="ann")
    await house.put(job_name("j1"), json.encode(job))
    await house.look()
    job = await house.job()
    assert (job.state, job.actor, job.version) == (JobState.PUBLISHED, "ann", 2)
    assert (await house.stores.registry.versions(QUICK))[1].lineage.alert == ""


@pytest.mark.parametrize(("attempts", "state"), [(1, JobState.PUBLISHED), (2, JobState.FAILED)])
async def test_job_that_nobody_runs_any_more_is_started_again_once(
    house: House, attempts: int, state: JobState
) -> None:
    """The control process was killed: the document says running, the process is gone, its files lie about."""
    await house.labels(400)
    left = house.settings.data / "jobs" / "quick-1" / "out"
    left.mkdir(parents=True)
    job = Job(
        id="quick-1",
        model="quick",
        trigger="error_drift",
        reason="",
        state=JobState.RUNNING,
        alert="a1",
        attempts=attempts,
    )
    await house.put(job_name(job.id), json.encode(job))
    await house.look()
    found = await house.job()
    assert found.state is state
    assert not left.exists()
    if state is JobState.PUBLISHED:
        assert (found.attempts, (await house.stores.registry.versions(QUICK))[1].lineage.alert) == (2, "a1")


async def test_job_that_had_published_before_the_crash_is_not_run_again(house: House, tmp_path: Path) -> None:
    """Killed between the registry and the document: the version is there, so the job is done."""
    await house.labels(400)
    house.alert()
    await house.look()
    job = await house.job()
    from msgspec.structs import replace

    await house.put(job_name(job.id), json.encode(replace(job, state=JobState.RUNNING, version=0)))
    await house.supervisor.close()
    house.supervisor = house.started()
    await house.look()
    found = await house.job()
    assert (found.state, found.version) == (JobState.PUBLISHED, 2)
    assert await house.versions() == 2


async def test_job_over_its_time_is_ended_and_counts_as_rejection(house: House, quick_path: Path) -> None:
    """A recipe that hangs costs its limit, not the house; repeated failures back off."""
    make_endless(quick_path)
    policy = {"model": "quick", "retraining": {"recipe": "models/quick.py", "guards": {"seconds": 0.5}}}
    await house.put(policy_name(QUICK), Policy.model_validate(policy).encode())
    await house.labels(400)
    house.alert()
    await house.look()
    job = await house.job()
    assert job.state is JobState.FAILED
    assert "longer than 0.5 s" in job.detail
    assert (await house.memory()).rejections == 1


async def test_broken_recipe_fails_the_job_with_file_and_line(house: House, quick_path: Path) -> None:
    """The error and the end of the log are in the document."""
    make_broken(quick_path)
    await house.labels(400)
    house.alert()
    await house.look()
    job = await house.job()
    assert job.state is JobState.FAILED
    assert f"{quick_path}:1" in job.detail
    assert "Traceback" in job.report["log"]


async def test_rows_of_other_versions_are_put_in_the_champions_order(house: House) -> None:
    """A version with an unknown contract is left out instead of being read wrongly."""
    from gateway.registry.manifest import Feature, Manifest
    from gateway.retraining.rows.window import in_order

    rows = house._labelled(1, version=1) + house._labelled(1, first=1, version=2) + house._labelled(1, version=9)
    manifests = {
        1: Manifest(model="quick", number=1, features=(Feature(name="a"), Feature(name="b"))),
        2: Manifest(model="quick", number=2, features=(Feature(name="b"), Feature(name="a"))),
    }
    found = in_order(rows, manifests, ["a", "b"])
    assert [row.inputs for row in found] == [rows[0].inputs, rows[1].inputs[::-1]]


async def test_run_reacts_to_an_alert_and_ends_cleanly(house: House) -> None:
    """The loop itself: woken by the stream, stopped by the event, no process left."""
    await house.labels(400)
    stop = asyncio.Event()
    loop = asyncio.create_task(house.supervisor.run(stop))
    house.alert()
    async for version in house.stores.registry.watch():
        assert version == VersionId(QUICK, 2)
        break
    stop.set()
    await loop
    assert house.supervisor._running is None
    assert house.servers[0].child == 0
    assert (await house.stores.registry.versions(QUICK))[1].version == VersionId(QUICK, 2)


async def test_cut_off_job_of_a_champion_that_is_gone_is_not_run_again(house: House) -> None:
    """Its alert was about a version that answers no longer; the reason is kept."""
    await house.labels(400)
    job = Job(
        id="j1",
        model="quick",
        trigger="error_drift",
        reason="",
        state=JobState.RUNNING,
        alert="a1",
        attempts=1,
        champion=7,
    )
    await house.put(job_name(job.id), json.encode(job))
    await house.look()
    found = await house.job()
    assert (found.state, found.detail) == (JobState.CANCELLED, "version 7 no longer answers")
    assert await house.versions() == 1


async def test_version_that_falls_on_golden_rows_is_held_until_a_person_releases_it(
    house: House, quick_path: Path
) -> None:
    """It is in the registry, starts nothing, answers the alert so that no second one is made, and asks for a person."""
    give_golden_rows(quick_path, house._labelled(200, first=9000))
    policy = {"model": "quick", "rollout": {"start": "auto"}, "retraining": {"recipe": "models/quick.py"}}
    await house.put(policy_name(QUICK), Policy.model_validate(policy).encode())
    await house.labels(400)
    house.alert()
    await house.look()
    job = await house.job()
    assert (job.state, job.version) == (JobState.HELD, 2), job.detail
    assert await house.decisions() == ["start", "hold", "ask"]
    assert "version 2 waits to be released" in (await house.memory()).asks_for_a_person
    manifest = (await house.stores.registry.versions(QUICK))[1]
    assert "release" in eligible(manifest, Condition(), 1)
    assert eligible(manifest, Condition(released=True), 1) == ""
    house.alert("a2")  # raised once more: there is an answer already, whenever a person has time
    await house.labels(400)
    await house.look()
    assert await house.jobs() == 1
    assert "version 2" in (await house.memory()).refused


async def test_a_version_whose_rollout_is_about_to_start_answers_the_next_alert_too(house: House) -> None:
    """The controller starts it a moment later; another job meanwhile would put an end to it."""
    policy = {"model": "quick", "rollout": {"start": "auto"}, "retraining": {"recipe": "models/quick.py"}}
    await house.put(policy_name(QUICK), Policy.model_validate(policy).encode())
    await house.labels(400)
    house.alert()
    await house.look()
    assert (await house.job()).state is JobState.PUBLISHED
    house.alert("a2")
    await house.labels(400)
    await house.look()
    assert await house.jobs() == 1
    assert (await house.memory()).refused == "version 2 is being rolled out"
    await house.put(condition_name(VersionId(QUICK, 2)), json.encode(Condition(rolled_back=True)))
    await house.look()
    assert await house.jobs() == 2


def give_golden_rows(recipe: Path, rows: list[LabelledRow]) -> None:
    """Put rows beside the recipe, and their file's name into it."""
    recipe.write_text(recipe.read_text().replace('label="y"', 'label="y", golden="golden.csv"'))
    lines = [f"{row.inputs[0]},{row.inputs[1]},{row.label}" for row in rows]
    (recipe.parent / "golden.csv").write_text("\n".join(["a,b,y", *lines]) + "\n")


async def test_version_is_made_again_from_what_was_kept_of_its_job(
    house: House, quick_path: Path, tmp_path: Path
) -> None:
    """The recipe may have changed and more labels come since: the rows, the recipe and the spec are its own."""
    await house.labels(400)
    house.alert()
    await house.look()
    await house.labels(300)
    make_broken(quick_path)
    manifest = (await house.stores.registry.versions(QUICK))[1]
    result = run_job(kept_spec(house.settings.data, manifest, tmp_path / "again"))
    assert (result.model_digest, result.data_digest) == (manifest.digest, manifest.lineage.data_digest)
    with pytest.raises(NotAllowed, match="not kept"):
        kept_spec(house.settings.data, (await house.stores.registry.versions(QUICK))[0], tmp_path)


async def test_progress_of_a_running_job_is_in_its_document(house: House, quick_path: Path) -> None:
    """People see what it is doing; it costs no audit entry."""
    make_endless(quick_path)
    await house.labels(400)
    house.alert()
    await house.supervisor.reconcile()
    directory = house.settings.data / "jobs" / (await house.job()).id / "out"
    await until(lambda: (progress := read_progress(directory)) is not None and progress.total > 0)
    await house.supervisor.reconcile()
    progress = (await house.job()).progress
    assert (progress["step"], progress["done"]) == ("try tree on since_change", 0)
    assert [entry.action for entry in await house.stores.config.audit(0, 100) if entry.action.startswith("job")] == [
        "job.start"
    ]
    await house.put(job_name((await house.job()).id), json.encode(job_with_cancel(await house.job())))
    await house.look()
