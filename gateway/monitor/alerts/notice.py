"""Alerts and clearings on their way to people: one log line each, and CloudEvents to the policy's webhooks.

A silenced alert is told to nobody: its clearing is logged, not posted. What is told may come twice after a crash, with
the same id. Knows the config store for what people did about alerts, no HTTP.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import msgspec

from gateway.clock import Clock
from gateway.documents.alert import AlertHandling
from gateway.documents.cloud_event import cloud_event
from gateway.documents.policy import Webhook
from gateway.documents.store import ConfigStore, alert_name
from gateway.errors import GatewayError
from gateway.journal.record import Alert, Cleared
from gateway.monitor.alerts.webhook import Webhooks
from gateway.monitor.signals.finding import Told

_log = logging.getLogger("gateway.monitor.alert")


class Notices:
    """Tells what the fold came to."""

    def __init__(self, config: ConfigStore, posts: Webhooks, clock: Clock) -> None:
        self._config = config
        self._posts = posts
        self._clock = clock

    async def tell(self, one: Told, hooks: Sequence[Webhook]) -> None:
        """Log one alert or clearing, and post it unless its alert is silenced."""
        _log.log(logging.INFO if is_quiet(one) else logging.WARNING, "%s", line(one))
        if hooks and not await self._is_silenced(one):
            for hook in hooks:
                self._posts.send(hook.webhook, event(one))

    async def _is_silenced(self, one: Told) -> bool:
        alert = one.record.alert if isinstance(one.record, Cleared) else one.record.id
        try:
            body = (await self._config.get(alert_name(alert))).body
        except GatewayError:  # nobody did anything about it, or nobody can tell now
            return False
        return msgspec.json.decode(body, type=AlertHandling).silenced_until > self._clock.now()


def is_quiet(one: Told) -> bool:
    """True for what asks nobody to act: clearings, advisory alerts, and what a version on trial shares with all."""
    return isinstance(one.record, Cleared) or one.record.advisory or one.record.response == "watch"


def line(one: Told) -> str:
    """The log line."""
    record = one.record
    about = f"{record.model}@{record.version} as {record.role}"
    if isinstance(record, Cleared):
        return f"alert {record.alert} on {about} is cleared: {record.reason}"
    named = f"; verdict {record.verdict}, response {record.response}" if record.verdict else ""
    advisory = "advisory " if record.advisory else ""
    return f"{advisory}alert {record.id} ({record.severity}) on {about}: {record.message}{named}"


def event(one: Told) -> bytes:
    """The CloudEvent: `gateway.alert.raised` with the alert as data, or `gateway.alert.cleared` with the clearing."""
    record = one.record
    moment = "raised" if isinstance(record, Alert) else "cleared"
    return cloud_event(
        id=record.id,
        source=f"/models/{record.model}/monitoring",
        type=f"gateway.alert.{moment}",
        subject=f"{record.model}@{record.version}",
        time=one.time_ns / 1e9,
        data=msgspec.structs.asdict(record),
    )
