"""What the demo reads from the admin API, and when the stream's clock stands."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.client import AsyncClient, NotAuthorized, NotReachable, TryAgain
from gateway.clock import ManualClock
from gateway.demo.send import Pause
from gateway.demo.watch import View, Watch, until_answered


def job(id: str, state: str, trigger: str = "error_drift") -> dict[str, Any]:
    return {"id": id, "state": state, "trigger": trigger}


def rollout(number: int, phase: str, guarding: bool = False) -> dict[str, Any]:
    return {"number": number, "phase": phase, "guarding": guarding, "version": number + 1}


MODEL: dict[str, Any] = {
    "versions": [{"number": 1}, {"number": 2}],
    "weights": {"1": 50.0, "2": 50.0},
    "route": {"champion": 1},
}
AUDIT: dict[str, Any] = {"entries": [{"number": 3, "action": "promote", "subject": "electricity@2", "reason": ""}]}


@pytest.mark.parametrize("state", ["queued", "running", "published", "rejected", "failed", "cancelled"])
@pytest.mark.parametrize("trigger", ["error_drift", "labels", "schedule", "on_demand"])
def test_the_clock_stands_only_for_live_jobs_that_answer_an_alert(state: str, trigger: str) -> None:
    """Waiting for every job would make the loop look better than it is."""
    view = View()
    view.see_jobs({"jobs": [job("a", state, trigger), job("b", "published")]})
    assert view.is_answering_alert == (trigger == "error_drift" and state in {"queued", "running"})
    assert (view.job is None) == (state not in {"queued", "running"})


def test_jobs_and_alerts_are_counted_once_and_kept() -> None:
    """The API shows the newest ones only; the closing figures are about all of them."""
    view = View()
    view.see_jobs({"jobs": [job("a", "queued")]})
    view.see_jobs({"jobs": [job("b", "running"), job("a", "published")]})
    view.see_monitoring({"time": 1.0, "alerts": [{"id": "x"}, {"id": "y", "advisory": True}]})
    view.see_monitoring({"time": 2.0, "alerts": [{"id": "z"}, {"id": "x"}]})
    assert view.job_ends == {"published": 1, "running": 1}
    assert view.alerts == {"x": False, "y": True, "z": False}


def test_every_end_of_a_rollout_is_counted_once() -> None:
    """Rollouts follow each other within milliseconds: only the audit trail holds every end. One version may be both."""
    view = View()
    entries = [
        {"number": 4, "action": "publish", "subject": "electricity@2", "reason": ""},
        {"number": 5, "action": "promoted_on_gate", "subject": "electricity@2", "reason": "counts"},
        {"number": 6, "action": "job.start", "subject": "electricity", "reason": ""},
        {"number": 8, "action": "restore", "subject": "electricity@2", "reason": "fell"},
    ]
    view.see_audit({"entries": entries[:3], "next": 6})
    view.see_audit({"entries": entries[3:], "next": 8})
    view.see_audit({"entries": [], "next": None})
    view.see_audit({"entries": [{"number": 9, "action": "roll_back", "subject": "electricity@3", "reason": "worse"}]})
    assert view.promoted == {2}
    assert view.rolled_back == {2: "fell", 3: "worse"}
    assert view.audited == 9


@pytest.mark.parametrize(
    ("phase", "guarding", "under_way"),
    [
        ("waiting", False, True),
        ("held", False, True),
        ("promoted", True, True),
        ("promoted", False, False),
        ("rolled_back", False, False),
    ],
)
def test_a_guarded_promotion_is_still_under_way(phase: str, guarding: bool, under_way: bool) -> None:
    """The gateway refuses a new rollout while the guards of the last one go on."""
    view = View()
    assert not view.is_rolling_out
    view.see_rollout(rollout(1, phase, guarding))
    assert view.is_rolling_out == under_way


def test_the_line_names_weights_and_the_rollout() -> None:
    """What a person sees beside the bar."""
    view = View()
    view.see_model(MODEL)
    view.see_rollout(rollout(1, "canary"))
    assert "@1 50% @2 50%" in view.line()
    assert "canary @2" in view.line()
    assert (view.versions, view.champion) == (2, 1)


async def test_the_watch_holds_and_releases_the_clock(fake: Any) -> None:
    """From the API's answers alone; no rollout so far is no error."""
    clock = ManualClock()
    pause = Pause(clock)
    async with AsyncClient(f"http://{fake.address}") as admin:
        fake.documents = {
            "/admin/jobs": {"jobs": [job("a", "queued")]},
            "/admin/models/electricity": MODEL,
            "/admin/audit": AUDIT,
            "/admin/models/electricity/monitoring": {"time": 1.0, "alerts": [{"id": "x"}]},
        }
        watch = Watch(admin, "electricity", pause, clock)
        await watch.look()
        held = [pause.is_held]
        fake.documents["/admin/jobs"] = {"jobs": [job("a", "published")]}
        view = await watch.look()
        held.append(pause.is_held)
        assert held == [True, False]
        assert list(view.alerts) == ["x"]


async def test_the_view_settles_when_the_monitor_is_done_and_no_job_is_left(fake: Any) -> None:
    """The monitor writes its summary once a second: an alert of the last rows must still be counted."""
    clock = ManualClock()
    looks: list[float] = []

    def monitoring() -> dict[str, Any]:
        looks.append(clock.now())
        return {"time": clock.now() - 0.35, "alerts": [{"id": "late"}] if len(looks) > 4 else []}

    async with AsyncClient(f"http://{fake.address}") as admin:
        fake.documents = {
            "/admin/jobs": lambda: {"jobs": [job("a", "running" if len(looks) < 7 else "published")]},
            "/admin/models/electricity": MODEL,
            "/admin/audit": AUDIT,
            "/admin/models/electricity/monitoring": monitoring,
        }
        view = await Watch(admin, "electricity", Pause(clock), clock).settle()
    assert list(view.alerts) == ["late"]
    assert view.job is None


async def test_a_monitor_that_says_nothing_is_not_waited_for_for_ever(fake: Any) -> None:
    """It may have been killed: the run ends all the same."""
    clock = ManualClock()
    async with AsyncClient(f"http://{fake.address}") as admin:
        fake.documents = {
            "/admin/jobs": {"jobs": []},
            "/admin/models/electricity": MODEL,
            "/admin/audit": AUDIT,
            "/admin/models/electricity/monitoring": {"time": 0.0, "alerts": []},
        }
        start = clock.monotonic()
        await Watch(admin, "electricity", Pause(clock), clock).settle()
    assert 3.0 <= clock.monotonic() - start < 4.0


def test_the_last_failure_is_told() -> None:
    """A table that says `10 failed` and not why sends people to the log."""
    view = View()
    view.see_jobs({"jobs": [{**job("a", "failed"), "detail": "no rows"}, job("b", "published")]})
    assert view.job_failure == "no rows"


async def test_the_watch_looks_until_it_is_cancelled(fake: Any) -> None:
    """The background task lives as long as the stream."""
    fake.documents = {
        "/admin/jobs": {"jobs": []},
        "/admin/models/electricity": MODEL,
        "/admin/audit": AUDIT,
        "/admin/models/electricity/rollout": rollout(1, "promoted", guarding=True),
        "/admin/models/electricity/monitoring": {"time": 1.0, "alerts": []},
    }
    looked = asyncio.Event()

    class Noting(View):
        def see_monitoring(self, content: Any) -> None:
            looked.set()

    clock = ManualClock()
    async with AsyncClient(f"http://{fake.address}") as admin:
        watch = Watch(admin, "electricity", Pause(clock), clock)
        watch.view = Noting()
        looking = asyncio.create_task(watch.run())
        for _ in range(3):
            await looked.wait()
            looked.clear()
        assert watch.view.versions == 2
        assert watch.view.promoted == {2}
        looking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await looking


async def test_a_gateway_that_is_away_is_asked_again() -> None:
    """The control process may be killed and started again during the demo."""
    failures = [NotReachable("away"), TryAgain(503, {})]

    async def call() -> str:
        if failures:
            raise failures.pop()
        return "here"

    assert await until_answered(call, ManualClock()) == "here"


async def test_a_gateway_that_stays_away_is_given_up() -> None:
    """Else the demo would hang for ever with the clock standing."""

    async def call() -> None:
        raise NotReachable("away")

    with pytest.raises(NotReachable):
        await until_answered(call, ManualClock())


async def test_a_refusal_is_an_answer() -> None:
    """A wrong token does not become right by asking again."""
    asked = []

    async def call() -> None:
        asked.append(1)
        raise NotAuthorized(401, {})

    with pytest.raises(NotAuthorized):
        await until_answered(call, ManualClock())
    assert len(asked) == 1
