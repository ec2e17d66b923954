"""What the monitor sees of a model, and what people do about its alerts."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.responses import Response

from gateway.api.admin.call import Asked, Call
from gateway.api.admin.state import find_as, read_handling, versions_of
from gateway.api.problems import json_response
from gateway.documents.alert import AlertHandling, Monitoring
from gateway.documents.duration import seconds
from gateway.documents.store import ABSENT, AuditEntry, alert_name, monitoring_name
from gateway.documents.token import Scope
from gateway.errors import DocumentNotFound, Fault, InvalidInput
from gateway.names import ModelName

MAX_SILENCE_SECONDS = 90 * 86400.0


class AcknowledgeBody(msgspec.Struct, forbid_unknown_fields=True):
    """Why, in a person's words."""

    reason: str = ""


class SilenceBody(msgspec.Struct, forbid_unknown_fields=True, rename={"for_": "for"}):
    """How long (`1h`, or seconds) and why. 0 ends a silence."""

    for_: str | float = "1h"
    reason: str = ""


async def show_monitoring(asked: Asked) -> Response:
    """Detectors, alerts, live performance, label coverage and delay, per version and role."""
    await versions_of(asked.ports, asked.model)
    found = await find_as(asked.ports, monitoring_name(asked.model), Monitoring)
    monitoring = found or Monitoring(model=asked.model, monitored=False, note="nothing was predicted yet")
    handling = await read_handling(asked.ports, monitoring)
    alerts = [_with_handling(alert, handling.get(str(alert.get("id", "")))) for alert in monitoring.alerts]
    return json_response({**msgspec.structs.asdict(monitoring), "alerts": alerts})


def _with_handling(alert: dict[str, Any], handling: AlertHandling | None) -> dict[str, Any]:
    if handling is None:
        return alert
    return {
        **alert,
        "acknowledged": handling.acknowledged,
        "acknowledged_by": handling.acknowledged_by,
        "silenced_until": handling.silenced_until,
    }


async def acknowledge(asked: Asked) -> Response:
    """Somebody has seen the alert."""
    body = await asked.json(AcknowledgeBody)
    return await _handle(asked, "alert.acknowledge", body.reason, acknowledged=True, acknowledged_by=asked.actor)


async def silence(asked: Asked) -> Response:
    """The alert triggers nothing for a while."""
    body = await asked.json(SilenceBody)
    try:
        duration = min(seconds(body.for_), MAX_SILENCE_SECONDS)
    except ValueError as error:
        raise InvalidInput(f"/for {error}", [Fault("/for", str(error))]) from None
    until = asked.ports.clock.now() + duration if duration else 0.0
    return await _handle(asked, "alert.silence", body.reason, silenced_until=until)


async def _handle(asked: Asked, action: str, reason: str, **changes: Any) -> Response:
    alert = asked.request.path_params["alert"]
    await _check_known(asked, alert)
    name = alert_name(alert)
    stored = await asked.stored(name)
    before = msgspec.json.decode(stored.body, type=AlertHandling) if stored else AlertHandling(alert=alert)
    after = msgspec.structs.replace(before, reason=reason, **changes)
    body = msgspec.json.encode(after)
    entry = AuditEntry(
        actor=asked.actor,
        action=action,
        subject=alert,
        reason=reason,
        before=stored.body.decode() if stored else "",
        after=body.decode(),
    )
    await asked.ports.config.put(name, body, stored.revision if stored else ABSENT, entry)
    return json_response(after)


async def _check_known(asked: Asked, alert: str) -> None:
    for name in await asked.ports.config.list(monitoring_name(ModelName(""))):
        monitoring = await find_as(asked.ports, name, Monitoring)
        if monitoring is not None and any(known.get("id") == alert for known in monitoring.alerts):
            return
    raise DocumentNotFound(alert_name(alert), f"there is no alert {alert[:100]!r}")


CALLS = (
    Call("GET", "/admin/models/{model}/monitoring", Scope.READ, show_monitoring),
    Call("POST", "/admin/alerts/{alert}/acknowledge", Scope.OPERATE, acknowledge),
    Call("POST", "/admin/alerts/{alert}/silence", Scope.OPERATE, silence),
)
