"""The last act: a version that learnt nothing is published and rolled out, and must be rolled back.

Rows of the stream are sent once more, under new ids and counted in no accuracy, because a rollout moves on requests
and labels. Knows the gateway by its commands, its admin API and `/predict`.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gateway.client import AsyncClient, Conflict, rollout_call, rollout_verb_call
from gateway.clock import Clock
from gateway.demo.send import Pace, Pause, Sender, replay
from gateway.demo.server import Server, run_command
from gateway.demo.stream import Course, LateLabels, Row, write_shuffled
from gateway.demo.watch import View, Watch, until_answered
from gateway.errors import GatewayError
from gateway.names import VersionId

SHUFFLED_ROWS = 2_000
"""The version learns from so many of the last rows."""

MOST_ROWS = 4_000
"""So many rows are sent at most until the road is free, and again until the rollout has ended."""

_LAST_ROWS = 1_000
"""Rows that are sent again and again: three weeks of Electricity. With more, the jump back would itself be drift."""

_ROWS_PER_SECOND = 500.0
_SEED = 7
_ATTEMPTS = 10


class Encore:
    """The last rows of the stream once more, numbered on, so that ids stay fresh and labels late."""

    def __init__(self, rows: Sequence[Row], last: int = _LAST_ROWS) -> None:
        self._rows: Iterator[tuple[int, Row]] = enumerate(itertools.cycle(rows[-last:]), start=len(rows) + 1)

    def take(self, count: int) -> list[Row]:
        """The next `count` rows."""
        return [row._replace(number=number) for number, row in itertools.islice(self._rows, count)]


@dataclass
class Stage:
    """What the last act needs of the run around it."""

    server: Server
    folder: Path
    course: Course
    admin: AsyncClient
    sender: Sender
    watch: Watch
    pause: Pause
    clock: Clock
    encore: Encore
    say: Callable[[str], None]
    pace: Pace = field(init=False)

    def __post_init__(self) -> None:
        # Slower than the stream: every look of the controller is then a few dozen rows after the last one.
        self.pace = Pace(_ROWS_PER_SECOND, self.clock)

    async def send_until(self, is_over: Callable[[View], bool], *, labelled: bool = True) -> bool:
        """Send rows until the view says so, `MOST_ROWS` at most; whether it did."""
        view = self.watch.view
        await replay(
            self.encore.take(MOST_ROWS),
            self.sender,
            LateLabels(self.course.delay_rows) if labelled else None,
            pause=self.pause,
            pace=self.pace,
            answered=lambda row, answer: None,
            until=lambda: is_over(view),
        )
        return is_over(await self.watch.look())


async def free_the_road(stage: Stage) -> None:
    """Let jobs and a rollout under way end; a rollout that does not end on more rows is rolled back by hand.

    These rows get no labels: the steps and the guards count answers, and without labels no new job begins.
    """
    await stage.watch.until_idle()
    if not stage.watch.view.is_rolling_out:
        return
    if not await stage.send_until(lambda view: not view.is_rolling_out, labelled=False):
        stage.say("A rollout did not end on its own; it makes room for the last act.")
        call = rollout_verb_call(stage.course.name, "roll-back", "makes room for the last act of the demo")
        with contextlib.suppress(Conflict):  # it ended in between
            await until_answered(lambda: stage.admin.send(call), stage.clock)


async def publish_shuffled(stage: Stage, rows: Sequence[Row]) -> int:
    """Train a version on shuffled labels and publish it without a gate; its number."""
    file = stage.server.data / "shuffled.csv"
    write_shuffled(file, rows[-SHUFFLED_ROWS:], stage.course.label, _SEED)
    out = await run_command(
        [
            *("train", stage.course.name, "--csv", str(file), "--no-gate"),
            *("--url", f"http://{stage.server.admin}", "--token", stage.server.token),
        ],
        stage.folder,
    )
    return published_version(out)


def published_version(out: str) -> int:
    """The number in `electricity@12`, which `gateway train` and `gateway publish` print first."""
    try:
        return VersionId.parse(out.split(maxsplit=1)[0]).number
    except (IndexError, ValueError) as error:
        raise GatewayError(f"the command did not print the version it published: {out[:500]!r}") from error


async def roll_out(stage: Stage, version: int) -> str:
    """Start the standard plan for the version and send rows until it is rolled back; why, empty when it never was."""
    call = rollout_call(stage.course.name, version, "steps", "the demo's last act: trained on shuffled labels")
    for _ in range(_ATTEMPTS):
        try:
            await until_answered(lambda: stage.admin.send(call), stage.clock)
            break
        except Conflict:
            view = await stage.watch.look()
            if view.is_rolling_out and view.rollout["version"] == version:
                break  # the first answer was lost, the rollout had started
            # A job ended in between and its version is on its way: let it.
            await free_the_road(stage)
    await stage.send_until(lambda view: version in view.rolled_back)
    return stage.watch.view.rolled_back.get(version, "")
