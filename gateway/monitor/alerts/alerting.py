"""From findings to alerts and back: whom it is about, what it amounts to, what is shown, when it is over.

The one place where records for the control stream are made, over the alerts and latches of a `ModelState`. An id is
made of version, role, detector, kind and the place of the entry that fired, so a repeat is the same alert.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from functools import partial

from msgspec.structs import replace

from gateway.documents.policy import Policy
from gateway.journal.record import Alert
from gateway.monitor.alerts import latch
from gateway.monitor.alerts.evidence import gather
from gateway.monitor.alerts.verdict import Judgement, judge
from gateway.monitor.signals.finding import Calm, Finding, Found, Told
from gateway.monitor.state import Latch, ModelState, Raised
from gateway.names import Role

_SHOWN_ALERTS = 50


class Alerting:
    """The alerts of one model during one fold."""

    def __init__(self, model: str, state: ModelState, policy: Policy) -> None:
        self._model = model
        self._state = state
        self._policy = policy
        self._told: list[Told] = []

    def take(self) -> list[Told]:
        """What was told since the last call, in order."""
        told, self._told = self._told, []
        return told

    def tell(self, version: int, role: str, found: Iterable[Found]) -> None:
        """What a part found about a version in a role."""
        for one in found:
            if isinstance(one, Calm):
                over = partial(latch.ends, calm=one, version=version, role=role)
                self.end(over, one.reason, one.time_ns, one.place)
            else:
                self._raise(version, Role(role), one)

    def end(self, over: Callable[[Latch], bool], reason: str, time_ns: int, place: str) -> None:
        """Clear every alert of the latches that are over."""
        state = self._state
        if any(over(one) for one in state.latches):
            state.latches, told = latch.let_go(self._model, state.latches, over, reason, time_ns, place)
            state.alerts = latch.shown(state.alerts, told)
            self._told += told

    def _raise(self, version: int, role: Role, one: Finding) -> None:
        state = self._state
        alert = self._alert(version, role, one)
        state.latches = latch.latched(state.latches, alert, one.time_ns)
        verdict, response = judgement(state, self._policy, version, role, one.kind)
        alert = replace(alert, verdict=verdict, response=response)
        state.alerts = [Raised(one.time_ns / 1e9, alert), *state.alerts][:_SHOWN_ALERTS]
        self._told.append(Told(one.time_ns, alert))

    def _alert(self, version: int, role: Role, one: Finding) -> Alert:
        whose = f"{self._model}@{version}" + ("" if role is Role.CHAMPION else f" {role}")
        mark = hashlib.blake2b(f"{whose} {one.detector} {one.kind} {one.place}".encode(), digest_size=8)
        return Alert(
            id=f"{one.kind}-{mark.hexdigest()}",
            model=self._model,
            version=version,
            role=role,
            kind=one.kind,
            detector=one.detector,
            evidence=one.evidence,
            threshold=one.threshold,
            severity=one.severity,
            message=one.message,
            features=one.features,
            since_ns=one.since_ns,
            labels_since=one.labels_since,
            advisory=one.advisory,
            effects=dict(one.effects),
        )


def judgement(state: ModelState, policy: Policy, version: int, role: str, kind: str = "") -> Judgement:
    """What stands against a version in a role amounts to now. kind: of the alert that is being raised, if one is."""
    evidence = gather(
        state,
        version,
        role,
        threshold=float(policy.monitoring.false_alarm_every_events),
        probation_labels=policy.rollout.after_promotion.requests,
        kind=kind,
    )
    return judge(evidence)
