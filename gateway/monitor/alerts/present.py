"""How detectors, alerts and verdicts are shown in the monitor's summary. Pure: state in, plain values out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from gateway.documents.alert import Monitoring
from gateway.documents.policy import MonitoringPolicy, Policy
from gateway.monitor.alerts.alerting import judgement
from gateway.monitor.signals.label_share import LEARNED_LABELS, label_plan
from gateway.monitor.state import ModelState, PanelState, Raised, key_of
from gateway.monitor.version import Version
from gateway.names import Role


def judged(summary: Monitoring, state: ModelState, policy: Policy) -> Monitoring:
    """The summary with what stands against each version now: the champion's verdict, and one of each with latches.

    It moves on, as an alert's own does not: suspected becomes benign when labels came and errors stayed quiet.
    """
    now = judgement(state, policy, state.champion, Role.CHAMPION)
    verdicts = []
    for version, role in dict.fromkeys((one.version, one.role) for one in state.latches if not one.advisory):
        verdict, response = judgement(state, policy, version, role)
        alerts = [
            one.alerts[-1] for one in state.latches if (one.version, one.role) == (version, role) and not one.advisory
        ]
        verdicts.append({"version": version, "role": role, "verdict": verdict, "response": response, "alerts": alerts})
    return msgspec.structs.replace(summary, verdict=now.verdict, response=now.response, verdicts=verdicts)


def panels(state: ModelState, policy: MonitoringPolicy, versions: Mapping[int, Version]) -> list[dict[str, Any]]:
    """The rows of the panels: the champion's, the challengers', and that of the labels."""
    threshold = float(policy.false_alarm_every_events)
    champion = versions.get(state.champion)
    rows = []
    if "panel" in policy.detectors:
        first = key_of(state.champion, Role.CHAMPION)
        shown = {first: state.panel} if champion is not None and champion.plan is not None else {}
        for key, kept in (shown | state.panels).items():
            version, _, role = key.partition("/")
            rows.append(_panel("panel", int(version), role, kept, threshold))
    if champion is not None and state.share.labels:
        row = _panel("labels", state.champion, Role.CHAMPION, state.share.panel, threshold)
        learning = {"learned": len(state.share.learned), "learned_of": LEARNED_LABELS}
        rows.append(row if label_plan(champion, state.share) is not None else row | learning)
    return rows


def unwatched(state: ModelState, champion: Version | None) -> list[str]:
    """What of the champion is not watched, and why."""
    if champion is None or champion.spec is None:
        return []
    notes = []
    if champion.plan is not None:
        notes += [f"{name} {reason}" for name, reason in champion.plan.unwatched.items()]
        held = {column.name for column in champion.plan.reference.features}
        absent = [feature.name for feature in champion.manifest.features if feature.name not in held]
        notes += [f"{name} not monitored because the reference does not hold it" for name in absent]
    if champion.reference is not None and champion.spec.kind != "class" and champion.label_plan is None:
        notes.append("labels not monitored because the reference holds none")
    return notes


def alert(one: Raised) -> dict[str, Any]:
    """An alert with its time and state."""
    fields = {**msgspec.structs.asdict(one.alert), "role": str(one.alert.role), "time": one.time, "state": "raised"}
    if one.cleared:
        fields |= {"state": "cleared", "cleared": one.cleared, "cleared_because": one.reason}
    return fields


def _panel(name: str, version: int, role: str, kept: PanelState, threshold: float) -> dict[str, Any]:
    return {
        "name": name,
        "version": version,
        "role": str(role),
        "events": kept.events,
        "evidence": float(f"{kept.evidence:.4g}"),
        "threshold": threshold,
        "alarmed": bool(kept.latched),
        "latched": kept.latched,
    }
