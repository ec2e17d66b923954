"""A model's state as the document that people and pages read. Pure: state in, `Monitoring` out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gateway.documents.alert import Live, Monitoring, SliceLive
from gateway.documents.policy import MonitoringPolicy
from gateway.monitor.alerts import present
from gateway.monitor.figures import online
from gateway.monitor.figures.performance import by_slice, live
from gateway.monitor.figures.slices import not_cut
from gateway.monitor.signals.errors_watch import LEARNED_ROWS
from gateway.monitor.state import ErrorState, ModelState
from gateway.monitor.version import Version
from gateway.names import Role

NO_REFERENCE = "not monitored: no reference"

_SELDOM = frozenset({"no_row", "no_label", "wrong_type", "unknown_class", "no_prediction"})
"""Outcomes of feedback that are shown only where there are any."""


def summarise(
    model: str,
    state: ModelState,
    policy: MonitoringPolicy,
    versions: Mapping[int, Version],
    *,
    unknown: int,
    now: float,
    offset: str,
    lag_seconds: float,
) -> Monitoring:
    """The summary of one model. unknown: feedback of all models whose prediction is not known."""
    champion = versions.get(state.champion)
    monitored = champion is not None and champion.plan is not None
    joined = state.labels.get("joined", 0)
    live, slices = _live(state, versions)
    return Monitoring(
        model=model,
        time=now,
        offset=offset,
        predictions=state.predictions,
        labels={
            **{outcome: count for outcome, count in state.labels.items() if outcome in _SELDOM},
            "joined": joined,
            "pending": max(0, state.answered_rows - joined),
            "unknown": unknown,
            "duplicate": state.labels.get("duplicate", 0),
            "late": state.labels.get("late", 0),
            "reused_id": state.labels.get("reused", 0),
        },
        delay_seconds=_delays(state.delays),
        coverage=round(joined / state.answered_rows, 6) if state.answered_rows else 0.0,
        monitored=monitored,
        note=_note(state, policy, champion),
        detectors=_detectors(state, policy, versions),
        live=live,
        alerts=[present.alert(one) for one in state.alerts],
        lag_seconds=lag_seconds,
        slices=slices,
        online=online.shown(state.online, policy.online_model),
    )


def _delays(delays: Sequence[float]) -> dict[str, float]:
    if not delays:
        return {}
    p50, p90, p99 = np.quantile(delays, (0.5, 0.9, 0.99)).tolist()
    return {"p50": round(p50, 3), "p90": round(p90, 3), "p99": round(p99, 3)}


def _note(state: ModelState, policy: MonitoringPolicy, champion: Version | None) -> str:
    """What is not watched, and why; empty when everything is."""
    notes = []
    if state.champion and (champion is None or champion.plan is None):
        notes.append(NO_REFERENCE)
    errors = state.errors.get(f"{state.champion}/{Role.CHAMPION}")
    if champion is not None and champion.proven is None:
        if champion.spec is None or (champion.spec.kind != "class" and champion.reference is None):
            notes.append("errors not watched: the manifest does not say how to read them")
        elif errors is None or errors.rate is None:
            seen = errors.learned if errors is not None else 0
            notes.append(f"no gate figure: the error rate is learned from the first labels ({seen} of {LEARNED_ROWS})")
        else:
            notes.append(f"no gate figure: error rate {errors.rate:.3f} learned from the first {LEARNED_ROWS} labels")
    notes += present.unwatched(state, champion)
    notes += [one.refused for one in state.opinions.values() if one.refused]
    notes += [f"online model: {one}" for one in (state.online.refused, state.online.stopped) if one]
    if champion is not None and (left_out := not_cut(policy.slices, champion)):
        notes.append(f"monitoring.slices: {left_out}")
    return "; ".join(notes)


def _detectors(state: ModelState, policy: MonitoringPolicy, versions: Mapping[int, Version]) -> list[dict[str, Any]]:
    threshold = float(policy.false_alarm_every_events)
    shown = present.panels(state, policy, versions)
    for key, errors in state.errors.items():
        version, _, role = key.partition("/")
        shown.append(
            _detector("errors", int(version), role, errors.labels, errors.evidence, threshold, _is_quiet(errors))
            | {"baseline": errors.rate, "baseline_rows": errors.rate_rows}
        )
    for key, opinion in state.opinions.items():
        evidence = 1.0 if opinion.alarmed else 0.0
        shown.append(_detector(key, state.champion, Role.CHAMPION, opinion.events, evidence, 1.0, opinion.alarmed))
    return shown


def _is_quiet(errors: ErrorState) -> bool:
    """Between an alarm and the end of its cool-down."""
    return errors.alarms > 0 and errors.labels < errors.quiet_until


def _detector(
    name: str, version: int, role: str, events: int, evidence: float, threshold: float, alarmed: bool
) -> dict[str, Any]:
    return {
        "name": name,
        "version": version,
        "role": str(role),
        "events": events,
        "evidence": float(f"{evidence:.4g}"),
        "threshold": threshold,
        "alarmed": alarmed,
    }


def _live(state: ModelState, versions: Mapping[int, Version]) -> tuple[list[Live], list[SliceLive]]:
    """Figures of every version and role, the newest version first, and those of their slices."""
    figures, slices = [], []
    for key, tally in state.tallies.items():
        number, _, role = key.partition("/")
        known = versions.get(int(number))
        figures.append(live(int(number), role, tally, known))
        slices += by_slice(int(number), role, tally, known)
    figures.sort(key=lambda one: (-one.version, one.role))
    return figures, sorted(slices, key=lambda one: (-one.version, one.role, one.slice))
