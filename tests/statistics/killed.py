"""The control process of a gateway, killed with signal 9 at random moments of a job, over and over.

    python -m tests.statistics.killed DIR     the control process: looks until a job has ended, then leaves

A killed process must leave no half version: each version that is listed is whole, byte by byte, and the next start
takes the open job up or ends it.
"""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from msgspec import json

from gateway.clock import SystemClock
from gateway.documents.job import JOB_ENDED, Job, JobState
from gateway.documents.policy import Policy
from gateway.documents.route import Route
from gateway.documents.store import ABSENT, job_name, policy_name, route_name
from gateway.journal.journal import Offset
from gateway.names import ModelName
from gateway.registry.package import read_package
from gateway.retraining.supervisor import Supervisor
from gateway.settings import Settings
from gateway.stores.embedded.connect import connect
from tests.statistics.harm import make_champion, rows

MODEL = ModelName("harm")
LABELS = 1500
POLL_SECONDS = 0.002


@dataclass(frozen=True)
class Killed:
    """kills: while the job was at that step ("": its directory was gone). whole: versions, each read in full."""

    kills: Counter[str]
    whole: int
    jobs: Counter[str]
    left: tuple[str, ...]


def settings_of(place: Path) -> Settings:
    """One data directory, with the recipe beside it."""
    return Settings(data=place / "data", models=place / "models")


async def prepare(place: Path, seed: int) -> None:
    """A served version, labelled rows, a policy."""
    package = await asyncio.to_thread(make_champion, place / "models", seed)
    stores = connect(settings_of(place))
    await stores.registry.publish(package)
    await stores.config.put(route_name(MODEL), Route(champion=1).encode(), ABSENT)
    policy = Policy.model_validate({"model": MODEL, "retraining": {"recipe": "models/harm.py"}})
    await stores.config.put(policy_name(MODEL), policy.encode(), ABSENT)
    await stores.joins.commit(Offset(b"1"), b"", labelled=rows(LABELS, seed + 1))
    stores.close()


async def ask(place: Path, number: int) -> None:
    """Queue a job, as a person does."""
    stores = connect(settings_of(place))
    job = Job(
        id=f"j{number}", model=MODEL, trigger="on_demand", reason="", state=JobState.QUEUED, created=float(number)
    )
    await stores.config.put(job_name(job.id), json.encode(job), ABSENT)
    stores.close()


async def control(place: Path) -> None:
    """Look after the model until no job is open; says `ready` when the job server is loaded."""
    settings = settings_of(place)
    stores = connect(settings)
    tee = stores.open_tee("control", "control")
    supervisor = Supervisor(stores.config, stores.registry, stores.control, stores.joins, tee, SystemClock(), settings)
    await supervisor._server.start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while any(job.state not in JOB_ENDED for job in await jobs_of(place)):
        await supervisor.reconcile()
        await supervisor.settled()
    await supervisor.close()
    stores.close()


async def jobs_of(place: Path) -> list[Job]:
    """Every job there is."""
    stores = connect(settings_of(place))
    names = await stores.config.list("jobs/")
    found = [json.decode((await stores.config.get(name)).body, type=Job) for name in names]
    stores.close()
    return found


def kill_again_and_again(times: int, seed: int) -> Killed:
    """Kill `times` control processes, each after a random part of the time that one job takes; then let one finish."""
    draws, kills = random.Random(seed), Counter[str]()
    with TemporaryDirectory(prefix="gateway-killed-") as directory:
        place = Path(directory)
        asyncio.run(prepare(place, seed))
        asyncio.run(ask(place, 0))
        seconds = _run(place, None)[0]
        for number in range(1, times + 1):
            asyncio.run(ask(place, number))
            _, step = _run(place, draws.uniform(0, seconds))
            kills[step] += 1
            _check_versions(place)
        _run(place, None)
        jobs = Counter(str(job.state) for job in asyncio.run(jobs_of(place)))
        data = place / "data"
        left = tuple(sorted(path.name for path in [*data.glob("jobs/*"), *data.glob("datasets/*/*.draft")]))
        return Killed(kills, _check_versions(place), jobs, left)


def _run(place: Path, seconds: float | None) -> tuple[float, str]:
    """Start a control process and let it end, or kill it so long after its job began.

    Gives how long the job's directory was there, and the step that it was at in the end.
    """
    command = [sys.executable, "-W", "ignore", "-m", "tests.statistics.killed", str(place)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    process.stdout.readline()
    jobs = place / "data" / "jobs"
    while process.poll() is None and not list(jobs.glob("*/out/progress.json")):
        time.sleep(POLL_SECONDS)
    started = time.perf_counter()
    if seconds is None:
        while list(jobs.glob("*")):
            time.sleep(POLL_SECONDS)
    else:
        time.sleep(seconds)
        process.kill()
    took = time.perf_counter() - started
    process.wait()
    process.stdout.close()
    steps = [path.read_text() for path in jobs.glob("*/out/progress.json")]
    return took, json.decode(steps[0])["step"] if steps else ""


def _check_versions(place: Path) -> int:
    """Read every version in full. Raises CorruptPackage."""
    return len([read_package(path) for path in (place / "data" / "registry" / MODEL).iterdir() if path.name.isdigit()])


if __name__ == "__main__":
    asyncio.run(control(Path(sys.argv[1])))
