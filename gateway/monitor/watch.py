"""How one answer or one label of a model changes what the monitor remembers, and what fires.

`Watch` is the working form of a `ModelState` during one fold: detectors restored on first use, written back by
`state`. Everything comes from the journal and from
immutable manifests and references, so the same journal gives the same alerts: the champion is the version that the
newest route revision in the journal calls champion; promoting another one gives fresh detectors.

Knows no store, no clock, no metric; time is the entries' own.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gateway.documents.policy import MonitoringPolicy, RiverDetector
from gateway.errors import InvalidConfig
from gateway.journal.join import LabelledRow, Pair
from gateway.journal.record import Alert, Entry, Prediction
from gateway.monitor import quality
from gateway.monitor.detector import Verdict
from gateway.monitor.error import ErrorDetector, baseline
from gateway.monitor.online import Online
from gateway.monitor.panel import BLOCK, Panel, Plan
from gateway.monitor.performance import LARGEST, Tally, fault_of
from gateway.monitor.second_opinion import SecondOpinion
from gateway.monitor.slices import Slicer
from gateway.monitor.state import ErrorState, ModelState, OpinionState, PanelState, Raised
from gateway.monitor.version import Version, answer_rows
from gateway.names import Outcome, Reason, Role
from gateway.registry.reference import encode_rows, loss, positions

LEARNED_ROWS = 500
"""From how many first labels a version without a gate figure learns its error rate."""

_SHOWN_ALERTS = 50
_TALLIES = 24
_TAILS = 6
_DELAYS = 500
_UNROUTED = frozenset({Reason.PINNED, Reason.CACHE, Reason.FALLBACK_VALUE})


@dataclass(frozen=True)
class Label:
    """One label joined to one answer. row: of the prediction; place, time_ns: of the entry that completed the pair."""

    version: int
    role: str
    reason: str
    predicted_ns: int
    prediction: Any
    probabilities: Any
    label: Any
    time_ns: int
    place: str
    inputs: Any = None
    contract: int = 0
    id: str = ""
    row: int = 0


class Watch:
    """One model during one fold. `alerts` gathers what fired, in order."""

    def __init__(
        self, model: str, state: ModelState, policy: MonitoringPolicy, versions: Mapping[int, Version]
    ) -> None:
        self.model = model
        self.alerts: list[Alert] = []
        self._state = state
        self._policy = policy
        self._versions = versions
        self._threshold = float(policy.false_alarm_every_events)
        self._panel: Panel | None = None
        self._errors: dict[str, ErrorDetector] = {}
        self._opinions: dict[str, SecondOpinion | None] = {}
        self._slicer = Slicer(policy.slices, versions)
        self._online = Online(state.online, policy.online_model, versions)

    # answers ----------------------------------------------------------------------------------------------------

    def answer(self, entry: Entry[Prediction], inputs_of: Sequence[str]) -> None:
        """Count one answer and, when the champion gave it on routed traffic, bet on its rows.

        inputs_of: feature names of the contract version, in the order of the record's inputs.
        """
        record, state = entry.record, self._state
        if record.version == 0:
            return
        version, is_routed = self._versions.get(record.version), record.reason not in _UNROUTED
        self._tally(record.version, record.role).add_answer(record, version, is_routed=is_routed)
        if record.role is not Role.SHADOW:
            state.predictions += 1
            state.answered_rows += record.rows if record.outcome is Outcome.OK else 0
        if record.role is not Role.CHAMPION or not is_routed:
            return
        self._note_champion(record, entry.time_ns)
        if record.version != state.champion or record.outcome is not Outcome.OK or version is None:
            return
        self._online.answer(record, entry.time_ns, state.delays)
        rows = answer_rows(record, version, inputs_of)
        if rows is not None:
            self._bet(rows, version, entry.time_ns, str(entry.place))

    def _note_champion(self, record: Prediction, time_ns: int) -> None:
        state = self._state
        if record.revision > state.revision:
            state.revision = record.revision
            if record.version != state.champion:
                state.champion, state.changed_ns = record.version, time_ns
                state.panel, state.opinions = PanelState(), {}
                state.errors.pop(_key(record.version, Role.CHAMPION), None)
                self._panel, self._opinions = None, {}
                self._errors.pop(_key(record.version, Role.CHAMPION), None)

    def _bet(self, rows: Sequence[Sequence[Any]], version: Version, time_ns: int, place: str) -> None:
        plan = version.plan
        if plan is None:
            return
        values = encode_rows(plan.columns, rows)
        if "panel" in self._policy.detectors:
            self._feed_panel(values, plan, time_ns, place)
        for detector in self._policy.detectors:
            if isinstance(detector, RiverDetector) and detector.on != "errors":
                self._feed_opinion(detector, _level(plan, values, detector.on), time_ns, place)

    def _feed_panel(self, values: np.ndarray[Any, Any], plan: Plan, time_ns: int, place: str) -> None:
        """In pieces that complete at most one block each, so that every alarm of every block is told."""
        kept = self._state.panel
        if self._panel is None:
            self._panel = Panel(plan, self._threshold, kept.state)
        start = 0
        while start < len(values):
            piece = values[start : start + self._panel.until_block]
            for event in range(self._panel.events + 1, self._panel.events + len(piece) + 1):
                kept.marks.add(event, time_ns)
                kept.waiting.append((time_ns, place))
            verdict = self._panel.update(piece)
            kept.evidence = verdict.evidence
            if verdict.alarmed:
                fired_ns, fired = kept.waiting[(verdict.event - 1) % BLOCK]
                self.alerts.append(self._panel_alert(verdict, plan, fired_ns, fired))
            if len(kept.waiting) == BLOCK:
                kept.waiting = []
            start += len(piece)
        kept.events = self._panel.events
        kept.latched = list(self._panel.latched)

    def _panel_alert(self, verdict: Verdict, plan: Plan, time_ns: int, place: str) -> Alert:
        assert self._panel is not None
        window = self._panel.window(verdict.since)
        names = [column.name for column in plan.columns]
        found: list[tuple[str, str, float]] = []
        for name, _ in verdict.features[:5]:
            at = names.index(name)
            found += [(name, k, v) for k, v in quality.effects(plan.columns[at], window[:, at]).items()]
        if verdict.kind == "data_quality":
            found = [one for one in found if one[1] in ("missing", "range", "unseen")]
        moved = verdict.detail or ", ".join(name for name, _ in verdict.features)
        return self._alert(
            verdict,
            kind=verdict.kind,
            detector="panel",
            place=place,
            time_ns=time_ns,
            severity=quality.severity([(kind, value) for _, kind, value in found]),
            message=f"{verdict.kind.replace('_', ' ')} of {self.model}: {moved}",
            effects={f"{name}.{kind}": value for name, kind, value in found},
            since_ns=self._state.panel.marks.time_of(verdict.since),
        )

    # labels -----------------------------------------------------------------------------------------------------

    def label(self, one: Label) -> str:
        """Count one labelled row and bet on its error. Pinned and cached answers count in no figure.

        Returns what is wrong with the label or the answer, see `fault_of`; then nothing was bet.
        """
        version = self._versions.get(one.version)
        spec = version.spec if version is not None else None
        if version is None or spec is None or one.reason in _UNROUTED:
            return ""
        is_class, scale = spec.kind == "class", version.reference.loss_scale if version.reference else 1.0
        tally = self._tally(one.version, one.role)
        if fault := fault_of(one.label, one.prediction, spec):
            tally.count(fault)
            return fault
        error = loss(one.prediction, one.label, scale, is_class=is_class)
        slices = self._slicer.of(one.version, one.contract, one.inputs)
        tally.add_label(one.label, one.prediction, one.probabilities, spec, slices)
        self._online.label(one, serves=one.role == Role.CHAMPION and one.version == self._state.champion)
        if is_class or version.reference is not None:
            self._feed_error(one, version, error)
        if one.role == Role.CHAMPION and one.version == self._state.champion:
            for detector in self._policy.detectors:
                if isinstance(detector, RiverDetector) and detector.on == "errors":
                    self._feed_opinion(detector, np.array([error]), one.predicted_ns, one.place, one.time_ns)
        return ""

    def value(self, version: int, role: str, value: float) -> None:
        """Count one business value of a version; one that is no number, or beyond all sense, is in no figure."""
        if not version:
            return
        if abs(value) <= LARGEST:
            self._tally(version, role).earned.add(value)
        else:
            self._tally(version, role).count("wrong_value")

    def joined(self, row: LabelledRow) -> None:
        """Count a label that found its row, and how long it took."""
        self._state.labelled_rows = row.ordinal
        self._state.delays.append(round((row.labelled_ns - row.predicted_ns) / 1e9, 3))
        if row.version:
            self._tally(row.version, row.role).delays.add((row.labelled_ns - row.predicted_ns) / 1e9)
        del self._state.delays[:-_DELAYS]

    def joined_shadow(self, pair: Pair) -> None:
        """Count a label that found a shadow's row beside the champion's."""
        tally = self._tally(pair.challenger, pair.challenger_role)
        tally.count("joined")
        tally.delays.add((pair.labelled_ns - pair.predicted_ns) / 1e9)

    @property
    def labelled_rows(self) -> int:
        """The ordinal of the newest label."""
        return self._state.labelled_rows

    def count(self, outcome: str, by: int = 1, answer: tuple[int, str] | None = None) -> None:
        """Count feedback by how it was joined. answer: version and role that it is about."""
        self._state.labels[outcome] = self._state.labels.get(outcome, 0) + by
        if answer is not None:
            self._tally(*answer).count(outcome, by)

    def _feed_error(self, one: Label, version: Version, error: float) -> None:
        key = _key(one.version, one.role)
        kept = self._state.errors.setdefault(key, ErrorState())
        kept.labels += 1
        kept.marks.add(kept.labels, one.predicted_ns)
        if not self._has_baseline(kept, version, error):
            return
        assert kept.rate is not None
        if key not in self._errors:
            base = baseline(kept.rate, kept.rate_rows, self._policy.error_tolerance)
            self._errors[key] = ErrorDetector(base, self._threshold, kept.state)
        verdict = self._errors[key].update(np.array([error]))
        kept.evidence = verdict.evidence
        decides = one.role == Role.CHAMPION and one.version == self._state.champion
        if verdict.alarmed and decides and kept.labels >= kept.quiet_until:
            self.alerts.append(self._error_alert(one, kept, verdict))
            kept.alarms += 1
            kept.before = kept.labels
            kept.quiet_until = kept.labels + self._policy.cooldown_labels
            kept.state = b""
            del self._errors[key]

    def _has_baseline(self, kept: ErrorState, version: Version, error: float) -> bool:
        """True when the error rate to compare with is known; learns it from the first labels when nobody proved one."""
        if kept.rate is None and version.proven is not None:
            kept.rate, kept.rate_rows = version.proven
        if kept.rate is not None:
            return True
        kept.learned_sum += error
        kept.learned += 1
        if kept.learned == LEARNED_ROWS:
            kept.rate, kept.rate_rows, kept.before = kept.learned_sum / LEARNED_ROWS, LEARNED_ROWS, kept.labels
        return False

    def _error_alert(self, one: Label, kept: ErrorState, verdict: Verdict) -> Alert:
        since = kept.before + verdict.since
        labels_since = kept.labels - since + 1
        rate = _recent_error(self._tally(one.version, one.role), labels_since, self._versions[one.version])
        assert kept.rate is not None
        rise = rate - kept.rate
        return self._alert(
            verdict,
            kind="concept_drift",
            detector="errors",
            place=one.place,
            time_ns=one.time_ns,
            severity=quality.severity([("error", rise)]),
            message=f"errors of {self.model}@{one.version} rose from {kept.rate:.3f} to {rate:.3f} "
            f"over the last {labels_since} labels",
            effects={"error_rate": round(rate, 6), "baseline": round(kept.rate, 6), "rise": round(rise, 6)},
            since_ns=kept.marks.time_of(since),
            labels_since=labels_since,
        )

    # both -------------------------------------------------------------------------------------------------------

    def _feed_opinion(
        self, wanted: RiverDetector, values: np.ndarray[Any, Any], time_ns: int, place: str, fired_ns: int = 0
    ) -> None:
        key = f"{wanted.river}:{wanted.on}"
        kept = self._state.opinions.setdefault(key, OpinionState())
        on_errors = wanted.on == "errors"
        if key not in self._opinions:
            try:
                self._opinions[key] = SecondOpinion(wanted.river, wanted.parameters, rising=on_errors, state=kept.state)
            except InvalidConfig as error:
                self._opinions[key], kept.refused = None, str(error)
        detector = self._opinions[key]
        if detector is None:
            return
        for value in values.tolist():
            verdict = detector.update(np.array([value]))
            kept.events = verdict.event
            kept.marks.add(verdict.event, time_ns)
            kept.alarmed = verdict.alarmed or (kept.alarmed and (not on_errors or kept.events < kept.quiet_until))
            latched = kept.quiet_until > 0 if not on_errors else kept.events < kept.quiet_until
            if verdict.alarmed and not latched:
                kept.quiet_until = kept.events + max(1, self._policy.cooldown_labels)
                self.alerts.append(self._opinion_alert(wanted, verdict, kept, place, fired_ns or time_ns))

    def _opinion_alert(
        self, wanted: RiverDetector, verdict: Verdict, kept: OpinionState, place: str, time_ns: int
    ) -> Alert:
        kinds = {"errors": "concept_drift", "score": "prediction_drift", "prediction": "prediction_drift"}
        since = verdict.since
        return self._alert(
            verdict,
            kind=kinds.get(wanted.on, "data_drift"),
            detector=f"{wanted.river}:{wanted.on}",
            place=place,
            time_ns=time_ns,
            severity="low",
            message=f"{wanted.river} saw a change in {wanted.on} of {self.model}",
            features=() if wanted.on == "errors" else ((wanted.on, 1.0),),
            since_ns=kept.marks.time_of(since) if since else 0,
            labels_since=verdict.event - since + 1 if since and wanted.on == "errors" else 0,
            advisory=wanted.advisory,
        )

    def _alert(self, verdict: Verdict, *, kind: str, detector: str, place: str, time_ns: int, **fields: Any) -> Alert:
        version = self._state.champion
        mark = f"{self.model}@{version} {detector} {kind} {place}".encode()
        fields.setdefault("features", verdict.features)
        alert = Alert(
            id=f"{kind}-{hashlib.blake2b(mark, digest_size=8).hexdigest()}",
            model=self.model,
            version=version,
            role=Role.CHAMPION,
            kind=kind,
            detector=detector,
            evidence=verdict.evidence,
            threshold=verdict.threshold,
            **fields,
        )
        self._state.alerts = [Raised(time_ns / 1e9, alert), *self._state.alerts][:_SHOWN_ALERTS]
        return alert

    def _tally(self, version: int, role: str) -> Tally:
        """The figures of a version in a role; versions unused for long lose first their tail, then everything."""
        key, tallies = _key(version, role), self._state.tallies
        tally = tallies.pop(key, None)
        if tally is None:
            tally = Tally()
            newest_first = list(reversed(tallies))
            for old in newest_first[_TAILS - 1 :]:
                tallies[old].shrink()
            for old in newest_first[_TALLIES - 1 :]:
                del tallies[old]
                self._state.errors.pop(old, None)
                self._errors.pop(old, None)
        tallies[key] = tally  # the newest use is last
        return tally

    def state(self) -> ModelState:
        """What to remember, with the detectors written back."""
        state = self._state
        if self._panel is not None:
            state.panel.state = self._panel.state()
        for key, detector in self._errors.items():
            state.errors[key].state = detector.state()
        for name, opinion in self._opinions.items():
            if opinion is not None:
                state.opinions[name].state = opinion.state()
        state.online = self._online.state()
        return state


def _key(version: int, role: str) -> str:
    return f"{version}/{role!s}"


def _level(plan: Plan, values: np.ndarray[Any, Any], name: str) -> np.ndarray[Any, Any]:
    """Positions in the reference of one column: river's tests are not valid on raw heavy-tailed values."""
    for place, column in enumerate(plan.columns):
        if column.name == name and column.quantiles:
            return positions(np.array([column.quantiles]), values[:, [place]])[:, 0]
    return np.empty(0)


def _recent_error(tally: Tally, labels: int, version: Version) -> float:
    rows = tally.tail[-max(1, labels) :]
    scale = version.reference.loss_scale if version.reference else 1.0
    is_class = version.spec is not None and version.spec.kind == "class"
    return math.fsum(loss(said, truth, scale, is_class=is_class) for truth, said, _ in rows) / len(rows)
