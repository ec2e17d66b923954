"""The last act: rows go on until the rollout has ended, and only a real roll-back counts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.client import AsyncClient
from gateway.clock import ManualClock
from gateway.demo.client import Client
from gateway.demo.last_act import (
    MOST_ROWS,
    Encore,
    Stage,
    free_the_road,
    published_version,
    roll_out,
)
from gateway.demo.send import Pause, Sender, Tally
from gateway.demo.stream import COURSES, Row
from gateway.demo.watch import Watch
from gateway.errors import GatewayError

ROWS = [Row(n, {"nswprice": n % 4 / 3}, label=int(n % 4 > 1)) for n in range(1, 101)]
ROLLOUT = "/admin/models/electricity/rollout"


def rollout(phase: str, version: int = 9, guarding: bool = False) -> dict[str, Any]:
    return {"number": 1, "version": version, "phase": phase, "guarding": guarding, "reason": "worse", "verdict": "fail"}


def audit(action: str) -> dict[str, Any]:
    return {"entries": [{"number": 1, "action": action, "subject": "electricity@9", "reason": "worse"}]}


@pytest.fixture
async def stage(fake: Any) -> AsyncIterator[Stage]:
    """A stage around the fake gateway, with nothing under way."""
    clock = ManualClock()
    pause = Pause(clock)
    fake.documents = {
        "/admin/jobs": {"jobs": []},
        "/admin/models/electricity": {"versions": [], "weights": {}, "route": None},
        "/admin/audit": {"entries": []},
        "/admin/models/electricity/monitoring": {"time": 1e12, "alerts": []},
        ROLLOUT: rollout("promoted", version=3),
    }
    async with AsyncClient(f"http://{fake.address}") as admin, Client(fake.address) as client:
        watch = Watch(admin, "electricity", pause, clock)
        sender = Sender(client, Tally(), clock, model="electricity", run="r")
        encore = Encore(ROWS)
        # The server is not needed for what is tested here.
        yield Stage(
            None,  # type: ignore[arg-type]
            Path(),
            COURSES["electricity"],
            admin,
            sender,
            watch,
            pause,
            clock,
            encore,
            lambda what: None,
        )


def test_the_encore_goes_on_where_the_stream_ended() -> None:
    """Numbers go on, so ids stay fresh and labels wait their day; the rows begin again when they are over."""
    encore = Encore(ROWS, last=10)
    taken = encore.take(7) + encore.take(8)
    assert [row.number for row in taken] == list(range(101, 116))
    assert [row.features for row in taken] == [ROWS[90 + place % 10].features for place in range(15)]


@pytest.mark.parametrize("out", ["", "oops\n", "electricity\n", "electricity@x"])
def test_a_command_that_prints_no_version_is_an_error(out: str) -> None:
    """The first word is what scripts rely on."""
    with pytest.raises(GatewayError):
        published_version(out)


def test_the_version_is_read_from_the_first_word() -> None:
    """What happens next is said after it."""
    assert published_version("electricity@12 is published.\nNext: ...") == 12


async def test_rows_go_on_until_the_rollout_has_ended(stage: Stage, fake: Any) -> None:
    """A rollout moves on requests: without rows it would wait for ever."""
    fake.documents["/admin/audit"] = lambda: audit("roll_back" if len(fake.predictions) >= 64 else "shadow")
    looking = asyncio.create_task(stage.watch.run())
    assert await stage.send_until(lambda view: 9 in view.rolled_back)
    looking.cancel()
    assert 64 <= len(fake.predictions) < MOST_ROWS
    assert sum(map(len, fake.feedback)) == len(fake.predictions)


async def test_a_rollout_is_started_and_followed_to_its_end(stage: Stage, fake: Any) -> None:
    """On the standard plan, after a first refusal because another one was still guarded."""
    fake.post_statuses = [409]
    fake.documents["/admin/audit"] = lambda: audit("roll_back" if len(fake.posts) > 1 else "shadow")
    # Another version's rollout is the newest one by then.
    fake.documents[ROLLOUT] = rollout("promoted", version=10)
    assert await roll_out(stage, 9) == "worse"
    assert [path for path, _ in fake.posts] == [ROLLOUT, ROLLOUT]
    assert fake.posts[-1][1]["plan"] == "steps"
    assert fake.posts[-1][1]["version"] == 9


async def test_a_start_whose_answer_was_lost_is_not_taken_for_anothers(stage: Stage, fake: Any) -> None:
    """Freeing the road sends rows without labels: the bad version would be promoted on them."""
    fake.post_statuses = [503, 409]
    fake.documents[ROLLOUT] = rollout("shadow")
    fake.documents["/admin/audit"] = lambda: audit("roll_back" if fake.feedback else "shadow")
    assert await roll_out(stage, 9) == "worse"
    assert [path for path, _ in fake.posts] == [ROLLOUT, ROLLOUT]


@pytest.mark.parametrize("action", ["shadow", "promote", "start"])
async def test_only_a_roll_back_counts(stage: Stage, fake: Any, action: str) -> None:
    """A bad version that was promoted, or that nobody judged, must end the demo with code 1."""
    fake.documents["/admin/audit"] = audit(action)
    assert await roll_out(stage, 9) == ""


async def test_the_road_is_free_when_jobs_and_rollouts_have_ended(stage: Stage, fake: Any) -> None:
    """A live job is waited for; a rollout that never ends is rolled back by hand, once."""
    looks: list[int] = []

    def jobs() -> dict[str, Any]:
        looks.append(1)
        return {"jobs": [{"id": "a", "trigger": "labels", "state": "running" if len(looks) < 5 else "published"}]}

    fake.documents["/admin/jobs"] = jobs
    fake.documents[ROLLOUT] = rollout("held", version=3)
    await free_the_road(stage)
    assert len(looks) >= 5
    assert [path for path, _ in fake.posts] == [f"{ROLLOUT}/roll-back"]
    assert len(fake.predictions) == MOST_ROWS
    assert fake.feedback == [], "labels would start the next job"
