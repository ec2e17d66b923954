"""Who is told of an alert, and in which words; silence is silence."""

from __future__ import annotations

import asyncio
import json
import logging

import msgspec
import pytest

from gateway.clock import ManualClock
from gateway.documents.alert import AlertHandling
from gateway.documents.policy import Webhook
from gateway.documents.store import ABSENT, alert_name
from gateway.journal.record import Alert, Cleared
from gateway.monitor.alerts.notice import Notices
from gateway.monitor.alerts.webhook import Webhooks
from gateway.monitor.signals.finding import Told
from gateway.names import Role
from gateway.stores.memory import connect_memory

ALERT = Alert("a1", "sea", 3, Role.CHAMPION, "concept_drift", "errors", 2e5, 1e5, "high", "errors rose")
CLEARED = Cleared("c1", "a1", "sea", 3, Role.CHAMPION, "concept_drift", "errors are as proven")
JUDGED = msgspec.structs.replace(ALERT, verdict="concept_drift", response="retrain_since_change")
HOOKS = (Webhook(webhook="http://user:word@hook.test/a?key=secret"),)


class Office:
    """Notices over stores in memory; `posted` is what arrived."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.config = connect_memory(self.clock).config
        self.posted: list[bytes] = []
        self.hooks = Webhooks(self.post, self.clock)
        self.notices = Notices(self.config, self.hooks, self.clock)

    async def post(self, url: str, body: bytes) -> None:
        self.posted.append(body)

    async def tell(self, *told: Told) -> None:
        for one in told:
            await self.notices.tell(one, HOOKS)
        for _ in range(5):
            await asyncio.sleep(0)

    async def silence(self, until: float) -> None:
        body = msgspec.json.encode(AlertHandling(alert="a1", silenced_until=until))
        await self.config.put(alert_name("a1"), body, ABSENT)


async def test_an_alert_and_its_end_are_cloud_events() -> None:
    """What listens to rollouts understands alerts, too; (source, id) tells a repeat from a new one."""
    office = Office()
    await office.tell(Told(1_500_000_000, JUDGED), Told(2_000_000_000, CLEARED))
    raised, cleared = map(json.loads, office.posted)
    assert {name: raised[name] for name in raised if name != "data"} == {
        "specversion": "1.0",
        "id": "a1",
        "source": "/models/sea/monitoring",
        "type": "gateway.alert.raised",
        "subject": "sea@3",
        "time": "1970-01-01T00:00:01.500000+00:00",
        "datacontenttype": "application/json",
    }
    assert (raised["data"]["verdict"], raised["data"]["role"]) == ("concept_drift", "champion")
    assert (cleared["type"], cleared["id"], cleared["data"]["alert"]) == ("gateway.alert.cleared", "c1", "a1")


async def test_a_silenced_alert_is_posted_to_nobody_until_the_silence_ends() -> None:
    office = Office()
    await office.silence(office.clock.now() + 60)
    await office.tell(Told(1, ALERT), Told(2, CLEARED))
    assert office.posted == []
    office.clock.advance(61)
    await office.tell(Told(2, CLEARED))
    assert len(office.posted) == 1


async def test_each_is_one_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """A warning when somebody is asked to act; second opinions and ends are for information."""
    office = Office()
    advisory = msgspec.structs.replace(ALERT, advisory=True)
    shared = msgspec.structs.replace(ALERT, role=Role.SHADOW, verdict="concept_drift", response="watch")
    with caplog.at_level(logging.INFO):
        await office.tell(Told(1, JUDGED), Told(1, advisory), Told(1, shared), Told(2, CLEARED))
    assert [(one.levelname, one.getMessage()) for one in caplog.records] == [
        (
            "WARNING",
            "alert a1 (high) on sea@3 as champion: errors rose; verdict concept_drift, response retrain_since_change",
        ),
        ("INFO", "advisory alert a1 (high) on sea@3 as champion: errors rose"),
        ("INFO", "alert a1 (high) on sea@3 as shadow: errors rose; verdict concept_drift, response watch"),
        ("INFO", "alert a1 on sea@3 as champion is cleared: errors are as proven"),
    ]


async def test_a_hook_that_fails_is_named_without_its_secrets(caplog: pytest.LogCaptureFixture) -> None:
    office = Office()

    async def refuse(url: str, body: bytes) -> None:
        raise OSError(f"nobody listens at {url}")

    hooks = Webhooks(refuse, office.clock)
    hooks.send(HOOKS[0].webhook, b"{}")
    while "(1 of 3)" not in caplog.text:  # noqa: ASYNC110 - the task's own progress
        await asyncio.sleep(0)
    await hooks.close()
    assert "http://hook.test/a" in caplog.text
    assert "secret" not in caplog.text
    assert "word" not in caplog.text
