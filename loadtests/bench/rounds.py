"""Rounds: in each one every subject is started, asked, warmed, loaded and ended, one after another.

Nothing else of the bench runs meanwhile, so that a subject has its core for itself; every round also measures the
start. The order turns from round to round, so that no subject always follows the same neighbour.
"""

from __future__ import annotations

import resource
import shutil
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path

from loadtests.bench import load, machine, server
from loadtests.bench.answers import checker, version_of
from loadtests.bench.environments import Ready
from loadtests.bench.load import Load, LoadFailed, Outcome, Request
from loadtests.bench.material import Material
from loadtests.bench.sample import CASES, Case, Sample, clean_rounds_short
from loadtests.bench.server import Check, Server, StartFailed
from loadtests.bench.subjects import Route, Subject, fill

_CANARY_TRIES = 400
"""A 5 % canary answers none of so many requests once in 10^9 runs."""


@dataclass(frozen=True)
class Bench:
    """What a run knows: the material, prepared data directories, environments, cores, the load and its warm-up."""

    folder: Path
    made: Material
    templates: Mapping[Route, Path]
    ready: Mapping[str, Ready]
    load: Load
    warm_up_seconds: float
    server_core: int
    load_core: int


@dataclass
class Results:
    """Samples so far, and what was left out and why. failed: subjects that will not be tried again."""

    samples: list[Sample] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    failed: set[str] = field(default_factory=set)

    def note(self, text: str) -> None:
        """Say it once, in one line."""
        text = " ".join(text.split())
        if text not in self.notes:
            self.notes.append(text)
            print(f"  left out: {text}", flush=True)


def run(
    bench: Bench, subjects: Sequence[Subject], wanted: int, most: int, results: Results, saved: Callable[[], object]
) -> None:
    """Rounds until every subject has `wanted` clean ones, `most` at most. saved: called after each round."""
    for number in range(1, most + 1):
        turned = [*subjects[number % len(subjects) :], *subjects[: number % len(subjects)]]
        for subject in turned:
            if subject.key not in results.failed:
                _one(bench, subject, number, results)
        saved()
        if number >= wanted and not clean_rounds_short(results.samples, wanted):
            break


def _one(bench: Bench, subject: Subject, number: int, results: Results) -> None:
    try:
        for sample in measure(bench, subject, number, results.note):
            results.samples.append(sample)
            print(describe(sample), flush=True)
    except (StartFailed, LoadFailed, OSError, HTTPException) as error:
        results.failed.add(subject.key)
        results.note(f"{subject.title}: {error}")


def describe(sample: Sample) -> str:
    """One line as the run goes on."""
    clean = "clean" if sample.is_clean else f"disturbed by {sample.other_cores + sample.stolen_cores:.2f} cores"
    return (
        f"round {sample.round:>2}  {sample.subject:<20} {CASES[sample.case]:<22} "
        f"{sample.requests_per_second:>9,.0f}/s  p50 {sample.p50_us:>8,.0f} us  p99 {sample.p99_us:>8,.0f} us  "
        f"CPU {sample.cpu_us:>8,.1f} us  {clean}"
    )


def measure(bench: Bench, subject: Subject, number: int, note: Callable[[str], None]) -> Iterator[Sample]:
    """Start the subject and yield a sample for each of its cases. Raises StartFailed, LoadFailed."""
    folder = Path(tempfile.mkdtemp(prefix=f"{subject.key}-", dir=bench.folder))
    try:
        with _started(bench, subject, folder) as (started, admin):
            first = next(iter(subject.requests))
            seconds = started.wait(subject.requests[first], _check(bench, subject, first))
            if subject.route == "canary":
                _see_canary(started, subject.requests["one"])
            for case, request in subject.requests.items():
                wrong = _wrong(started, request, _check(bench, subject, case))
                if wrong is not None:
                    note(f"{subject.title}, {CASES[case]}: {wrong[:300]}")
                    continue
                _loaded(bench, started, request, bench.warm_up_seconds, folder)
                scrape = scraping(admin) if subject.is_scraped else nullcontext()
                with scrape:
                    yield _sample(bench, subject, case, number, started, seconds, folder)
                wrong = _wrong(started, request, _check(bench, subject, case))
                if wrong is not None:
                    raise LoadFailed(f"{CASES[case]}, after the load: {wrong[:300]}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _started(bench: Bench, subject: Subject, folder: Path) -> Iterator[tuple[Server, int]]:
    port, admin = server.free_ports(2)
    values = {"port": str(port), "admin": str(admin), "model": str(bench.made.champion)}
    if subject.route is not None:
        data = folder / "data"
        shutil.copytree(bench.templates[subject.route], data)
        values |= {"data": str(data), "config": str(bench.folder / "policies")}
    if subject.environment is not None:
        ready = bench.ready[subject.environment]
        values |= {"program": ready.program, "environment": str(ready.folder)}
    variables = {name: value.format_map(values) for name, value in subject.variables.items()}
    command = fill(subject.program, values)
    with server.running(command, folder, bench.server_core, {"OMP_NUM_THREADS": "1", **variables}, port) as started:
        yield started, admin


def _check(bench: Bench, subject: Subject, case: Case) -> Check:
    made, request = bench.made, subject.requests[case]
    answers = made.one_answers if case in ("one", "record", "v2") else made.batch_answers
    check = checker(request.protocol, answers if subject.route else answers[:1], request.bodies[0])
    if subject.route is None:
        return check

    def journaled(body: bytes, headers: Mapping[str, str]) -> str | None:
        if headers.get("x-journal") != "process":
            return f"X-Journal is {headers.get('x-journal')!r}: the answer was not journaled"
        return check(body, headers)

    return journaled


def _wrong(started: Server, request: Request, check: Check) -> str | None:
    """What is wrong with any of the bodies' answers."""
    for body in range(len(request.bodies)):
        wrong = started.ask(request, check, body)
        if wrong is not None:
            return wrong
    return None


def _see_canary(started: Server, request: Request) -> None:
    """Full features mean that the canary answers too. Raises StartFailed."""
    for _ in range(_CANARY_TRIES):
        status, _, body = server.post(started.port, request)
        if status == 200 and version_of(body) == 2:
            return
    raise StartFailed(f"the canary answered none of {_CANARY_TRIES} requests")


def _sample(
    bench: Bench, subject: Subject, case: Case, number: int, started: Server, start_seconds: float, folder: Path
) -> Sample:
    """Load, with readings before and after it."""
    trees = {"server": started.process.pid}
    own, tool = time.process_time(), _children_seconds()
    before = machine.read(trees)
    outcome = _loaded(bench, started, subject.requests[case], bench.load.seconds, folder)
    after = machine.read(trees)
    tool = _children_seconds() - tool
    usage = machine.between(before, after, known_seconds=tool + time.process_time() - own)
    pss, rss = machine.tree_megabytes(started.process.pid)
    lasted = after.at_seconds - before.at_seconds
    return Sample(
        round=number,
        subject=subject.key,
        case=case,
        requests_per_second=outcome.requests_per_second,
        p50_us=outcome.p50_us,
        p99_us=outcome.p99_us,
        cpu_us=usage.own["server"] * lasted / outcome.requests * 1e6,
        pss_mb=pss,
        rss_mb=rss,
        start_seconds=start_seconds,
        other_cores=usage.other,
        stolen_cores=usage.stolen,
        load_cores=tool / outcome.seconds,
    )


def _loaded(bench: Bench, started: Server, request: Request, seconds: float, folder: Path) -> Outcome:
    """Run the load tool on its core. Raises LoadFailed."""
    asked = Load(bench.load.tool, bench.load.connections, seconds)
    return load.run(asked, request, started.port, folder, bench.load_core)


def _children_seconds() -> float:
    """CPU seconds of ended children: the load tool's, when read before and after it."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@contextmanager
def scraping(admin: int, every_seconds: float = 1.0) -> Iterator[None]:
    """Read `/metrics` again and again, 15 times as often as Prometheus does. Raises LoadFailed without a page."""
    over = threading.Event()
    pages: list[int] = []

    def scrape() -> None:
        while True:
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{admin}/metrics", timeout=10) as page:
                pages.append(len(page.read()))
            if over.wait(every_seconds):
                return

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    if not pages:
        raise LoadFailed("/metrics was not answered")
