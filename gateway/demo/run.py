"""The demo: one command starts a gateway, streams real data through it, and shows the loop close.

    train and publish the first version -> stream rows, their labels later -> alerts, jobs, rollouts by themselves
    -> the last act: a version trained on shuffled labels is rolled back -> the figures beside the baselines

A client program: it speaks HTTP and runs commands, and imports nothing that the gateway runs on.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import uvloop
from rich.console import Console

from gateway.client import AsyncClient, ClientError, model_path
from gateway.clock import Clock, SystemClock
from gateway.demo.baseline import last_label_accuracy, never_retrained
from gateway.demo.client import Client
from gateway.demo.last_act import (
    Encore,
    Stage,
    free_the_road,
    publish_shuffled,
    published_version,
    roll_out,
)
from gateway.demo.live import Live
from gateway.demo.report import Result, as_json, faults, print_table
from gateway.demo.schedule import write_scheduled
from gateway.demo.send import Pace, Pause, Sender, Tally, replay
from gateway.demo.server import Server, fresh_directory, project, run_command, running
from gateway.demo.stream import COURSES, Course, LateLabels, Row, Score, read_stream
from gateway.demo.watch import Watch, until_answered
from gateway.errors import GatewayError, InvalidConfig

FAST_ROWS = 12_000
ROWS_PER_SECOND = 150.0
"""The replay's speed when none is asked for. What the gateway does takes it some tenths of a second: to start a process
for a version, to move a route and hear that it was heard, half a second for a whole rollout. In that time an old
version answers a day and a half of the stream at this speed, three days at twice the speed (half a point on
Electricity), and weeks at 1,500 rows a second (two points)."""

FAST_ROWS_PER_SECOND = 300.0

INTERRUPTED = 130
_SERVE_SECONDS = 60.0


@dataclass(frozen=True)
class Options:
    """What was asked for. rows: how many rows of the stream to use, those of the first version included; None: all.

    schedule: train in so many labels, whatever the alerts say; 0: as the policy says. rows_per_second: 0 is as fast
    as answers come.
    acknowledged: a file that gets the id of every answered row, a line each, as soon as it is answered.
    """

    course: Course = COURSES["electricity"]
    schedule: int = 0
    rows: int | None = None
    rows_per_second: float = ROWS_PER_SECOND
    data: Path | None = None
    workers: int = 1
    keep: bool = False
    as_json: bool = False
    acknowledged: Path | None = None


def main(
    *,
    stream: str,
    fast: bool,
    keep: bool,
    as_json: bool,
    rows_per_second: float | None,
    data: Path | None,
    schedule: int = 0,
    rows: int | None = None,
    workers: int = 1,
    acknowledged: Path | None = None,
) -> int:
    """Run the demo; the exit code: 0, 1 when something is not as it should be, 130 when it was interrupted.

    stream: one of COURSES. Raises InvalidConfig for another.
    """
    if stream not in COURSES:
        raise InvalidConfig(f"stream: there is no {stream!r}, only {', '.join(COURSES)}")
    options = Options(
        course=COURSES[stream],
        schedule=schedule,
        rows=rows or (FAST_ROWS if fast else None),
        rows_per_second=(FAST_ROWS_PER_SECOND if fast else ROWS_PER_SECOND)
        if rows_per_second is None
        else rows_per_second,
        data=data,
        workers=workers,
        keep=keep,
        as_json=as_json,
        acknowledged=acknowledged,
    )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_until_interrupted(options))


async def _until_interrupted(options: Options) -> int:
    demo = asyncio.create_task(_demo(options, SystemClock(), _console(options.as_json)))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, demo.cancel)
    try:
        return await demo
    except asyncio.CancelledError:
        Console(stderr=True).print("Interrupted; the gateway has ended.")
        return INTERRUPTED


async def _demo(options: Options, clock: Clock, console: Console) -> int:
    started = clock.monotonic()
    folder = project(options.course.name)
    rows = _rows(options, folder)
    data = fresh_directory(options.data)
    try:
        config = write_scheduled(folder, data, options.course.name, options.schedule) if options.schedule else None
        async with running(data, folder, clock, config=config, workers=options.workers, keep=options.keep) as server:
            console.print(f"Gateway http://{server.listen}  admin http://{server.admin}  data {data}", soft_wrap=True)
            result = await Run(options, clock, console, folder, server, rows, started).whole()
            wrong = faults(result)
            _show(result, wrong, options, console)
            if options.keep:
                _say_goodbye(server, console)
    except (GatewayError, ClientError):
        console.print(f"The data directory is left for a look: {data}", soft_wrap=True)
        raise
    except asyncio.CancelledError:
        _remove(data, options)
        raise
    if not wrong and not options.keep:
        _remove(data, options)
    return 1 if wrong else 0


def _rows(options: Options, folder: Path) -> list[Row]:
    """The rows that were asked for. Raises InvalidConfig when they are too few, or the speed is none."""
    rows = read_stream(folder / "models" / "data" / f"{options.course.name}.csv.gz")[: options.rows]
    first = options.course.first_rows
    if len(rows) <= first:
        raise InvalidConfig(f"rows: the demo needs more than the {first:,} that the first version learns from")
    if options.rows_per_second < 0:
        raise InvalidConfig("rows per second: must be above 0, or 0 to go as fast as answers come")
    return rows


def _remove(data: Path, options: Options) -> None:
    """Remove the data directory when it was made for this run alone."""
    if options.data is None:
        shutil.rmtree(data, ignore_errors=True)


@dataclass(frozen=True)
class Run:
    """One run against a gateway that has just started. started: monotonic seconds at the start of the command."""

    options: Options
    clock: Clock
    console: Console
    folder: Path
    server: Server
    rows: list[Row]
    started: float

    @property
    def course(self) -> Course:
        """The stream that is sent."""
        return self.options.course

    async def whole(self) -> Result:
        """Everything, from the first version to the last act."""
        async with (
            AsyncClient(f"http://{self.server.admin}", token=self.server.token) as admin,
            Client(self.server.listen) as hot,
        ):
            with _noting(self.options.acknowledged) as note:
                return await self._acts(admin, hot, note)

    async def _acts(self, admin: AsyncClient, hot: Client, note: Callable[[str], None]) -> Result:
        tally, score, pause = Tally(), Score(), Pause(self.clock)
        first = await self._publish_first(admin)
        sender = Sender(hot, tally, self.clock, model=self.course.name, run=f"demo{first}", acknowledged=note)
        stream = self.rows[self.course.first_rows :]
        frozen = await never_retrained(stream, sender, first)
        if frozen is None:
            raise GatewayError(f"the first version did not answer: {'; '.join(tally.failures)}")
        watch = Watch(admin, self.course.name, pause, self.clock)
        async with _watching(watch):
            seconds = await self._stream(stream, sender, score, pause, watch) - pause.seconds
            streamed, answers = (await watch.settle()).copy(), dict(tally.by_version)
            encore = Encore(self.rows)
            stage = Stage(
                self.server, self.folder, self.course, admin, sender, watch, pause, self.clock, encore, self._say
            )
            bad, reason = await self._last_act(stage)
        view = await watch.look()
        return Result(
            rows=score.rows,
            accuracy=score.accuracy,
            never_retrained=frozen,
            last_label=last_label_accuracy(self.rows, self.course.first_rows, self.course.delay_rows),
            alerts=len(streamed.alerts),
            advisory_alerts=sum(streamed.alerts.values()),
            jobs=len(streamed.jobs),
            job_ends=streamed.job_ends,
            job_failure=streamed.job_failure,
            later_jobs=len(view.jobs) - len(streamed.jobs),
            published=view.versions,
            promoted=len(view.promoted),
            rolled_back=len(view.rolled_back),
            weights=view.weights,
            failed_requests=tally.failed,
            seconds=self.clock.monotonic() - self.started,
            seconds_waited=pause.seconds,
            rows_per_second=score.rows / max(seconds, 0.001),
            requests=tally.requests,
            retried=tally.retried,
            answers=answers,
            last_act_version=bad,
            last_act=reason,
            failures=tuple(tally.failures),
            stream=self.course.name,
            title=self.course.title,
            alert_kinds=Counter(alert.rpartition("-")[0] for alert in streamed.alerts),
            delay_rows=self.course.delay_rows,
            schedule=self.options.schedule,
        )

    async def _publish_first(self, admin: AsyncClient) -> int:
        model, first = self.course.name, self.course.first_rows
        self._say(f"Training the first version from the first {first:,} rows ...")
        csv = self.folder / "models" / "data" / f"{model}.csv.gz"
        out = await run_command(
            [
                *("train", model, "--csv", str(csv), "--rows", str(first)),
                *("--url", f"http://{self.server.admin}", "--token", self.server.token),
            ],
            self.folder,
        )
        version = published_version(out)
        await self._until_served(admin, version)
        rest, delay = len(self.rows) - first, self.course.delay_rows
        self._say(f"{model}@{version} answers. Streaming {rest:,} rows, labels {delay} rows later.")
        return version

    async def _until_served(self, admin: AsyncClient, version: int) -> None:
        """Until every serving process answers with the version; a request to one that does not would fail."""
        give_up, name = self.clock.monotonic() + _SERVE_SECONDS, self.course.name
        while True:
            shown = await until_answered(lambda: admin.get(model_path(name)), self.clock)
            health = shown["health"]
            is_everywhere = health["ready"] and len(health["processes"]) >= self.options.workers
            if is_everywhere and str(version) in shown["weights"]:
                return
            if self.clock.monotonic() > give_up:
                raise GatewayError(f"{name}@{version} was published but is not served; see {self.server.log}")
            await self.clock.sleep(0.05)

    async def _stream(self, stream: list[Row], sender: Sender, score: Score, pause: Pause, watch: Watch) -> float:
        """Send the stream; the seconds it took, waits included."""
        started = self.clock.monotonic()
        with Live(_console(stderr=True), len(stream)) as live:

            def answered(row: Row, answer: int | None) -> None:
                if answer is not None:
                    score.add(row, answer)
                if row.number % 50 == 0:
                    seen = watch.view.line() + ("  the clock waits" if pause.is_held else "")
                    live.show(row.number - self.course.first_rows, score.accuracy, seen)

            pace = Pace(self.options.rows_per_second, self.clock)
            await replay(stream, sender, LateLabels(self.course.delay_rows), pause=pause, pace=pace, answered=answered)
            live.show(len(stream), score.accuracy, watch.view.line())
        return self.clock.monotonic() - started

    async def _last_act(self, stage: Stage) -> tuple[int, str]:
        """The version trained on shuffled labels, and why it was rolled back."""
        self._say("Last act: a version trained on shuffled labels ...")
        await free_the_road(stage)
        bad = await publish_shuffled(stage, self.rows)
        await free_the_road(stage)
        reason = await roll_out(stage, bad)
        name = f"{self.course.name}@{bad}"
        self._say(f"{name} was rolled back: {reason}" if reason else f"{name} was NOT rolled back.")
        return bad, reason

    def _say(self, what: str) -> None:
        self.console.print(what, soft_wrap=True)


@contextlib.contextmanager
def _noting(file: Path | None) -> Iterator[Callable[[str], None]]:
    """What takes the id of every answered row: a line in the file each, or nothing."""
    if file is None:
        yield lambda request_id: None
        return
    with file.open("w", buffering=1) as lines:
        yield lambda request_id: print(request_id, file=lines)


@contextlib.asynccontextmanager
async def _watching(watch: Watch) -> AsyncIterator[None]:
    """The watch runs meanwhile; when it fails, so does the body."""
    try:
        async with asyncio.TaskGroup() as group:
            looking = group.create_task(watch.run())
            try:
                yield
            finally:
                looking.cancel()
    except ExceptionGroup as several:
        first: Exception = several
        while isinstance(first, ExceptionGroup):
            first = first.exceptions[0]
        raise first from None


def _console(stderr: bool) -> Console:
    """Where the demo prints; a file or a pipe gets lines of a fixed width."""
    console = Console(stderr=stderr, highlight=False, markup=False)
    if not console.is_terminal:
        console.width = 140
    return console


def _say_goodbye(server: Server, console: Console) -> None:
    lines = (
        "The gateway goes on running:",
        f"  status  gateway status --url http://{server.admin} --token $(cat {server.data}/admin-token)",
        f"  page    http://{server.admin}/",
        f"  models  curl http://{server.listen}/models",
        f"  log     {server.log}",
        f"  stop    kill {server.process.pid}",
    )
    for line in lines:
        console.print(line, soft_wrap=True)


def _show(result: Result, wrong: list[str], options: Options, console: Console) -> None:
    print_table(result, console)
    for fault in wrong:
        console.print(f"Not as it should be: {fault}", soft_wrap=True)
    if options.as_json:
        print(as_json(result))
