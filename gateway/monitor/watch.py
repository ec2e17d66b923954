"""How one answer or one label of a model changes what the monitor remembers, and what is told.

`Watch` is the working form of a `ModelState` during one fold: it sends each entry to the parts that look at one version
in one role (`inputs`, `errors_watch`, `limit`) or at the model (`opinions`, `label_share`), and what they find to
`alerting`. Everything comes from the journal and from immutable manifests and references, so the same journal gives
the same alerts: the champion is the version that the newest route revision in the journal calls champion; promoting
another one gives fresh detectors.

Knows no store, no clock, no metric; time is the entries' own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from gateway.documents.policy import Policy
from gateway.journal.join import LabelledRow, Pair
from gateway.journal.record import Entry, Prediction, TrafficRecord
from gateway.monitor.alerts.alerting import Alerting
from gateway.monitor.figures.online import Online
from gateway.monitor.figures.performance import LARGEST, Tally, fault_of
from gateway.monitor.figures.slices import Slicer
from gateway.monitor.label import Label
from gateway.monitor.signals.errors_watch import Errors, error_of
from gateway.monitor.signals.finding import Found, Told
from gateway.monitor.signals.inputs import Inputs
from gateway.monitor.signals.label_share import LabelShare
from gateway.monitor.signals.limit import Limit
from gateway.monitor.signals.opinions import Opinions, Seen
from gateway.monitor.state import ErrorState, LimitState, ModelState, PanelState, ShareState, key_of
from gateway.monitor.version import Version, answer_rows
from gateway.names import Outcome, Reason, Role
from gateway.registry.manifest import PredictionSpec

_TALLIES = 24
_TAILS = 6
_DELAYS = 500
_CHALLENGERS_WATCHED = 2
"""Challengers whose inputs are watched at one time: a panel of thirty features takes 36 kB, the champion's 86."""

_UNUSED = 2000
"""After so many answers of the model without one of its own, a challenger's panel gives way to another's."""

_GONE = "it answers no more"
_UNROUTED = frozenset({Reason.PINNED, Reason.CACHE, Reason.FALLBACK_VALUE})


class Watch:
    """One model during one fold; `begin` says of which entry the next calls are."""

    def __init__(self, model: str, state: ModelState, policy: Policy, versions: Mapping[int, Version]) -> None:
        self.model = model
        self._state = state
        self._policy = policy
        self._versions = versions
        self._alerting = Alerting(model, state, policy)
        self._opinions = Opinions(model, policy.monitoring, state.opinions)
        self._share: LabelShare | None = None
        self._inputs: dict[str, Inputs] = {}
        self._errors: dict[str, Errors] = {}
        self._slicer = Slicer(policy.monitoring.slices, versions)
        self._online = Online(state.online, policy.monitoring.online_model, versions)
        self._entry: Entry[TrafficRecord] | None = None

    def begin(self, entry: Entry[TrafficRecord]) -> None:
        """What comes now is of this entry."""
        self._entry = entry

    def told(self) -> list[Told]:
        """Alerts and clearings since the last call, in order."""
        return self._alerting.take()

    # answers ----------------------------------------------------------------------------------------------------

    def answer(self, record: Prediction, inputs: Any, inputs_of: Sequence[str], *, is_sampled: bool = True) -> None:
        """Count one answer and, on routed traffic, bet on its rows.

        inputs: of the record, or of the answer that a shadow's record is a copy of; inputs_of: the feature names of
        their contract, in their order. is_sampled: whether the detectors see it; it is counted in any case.
        """
        state = self._state
        if record.version == 0:
            return
        version, is_routed = self._versions.get(record.version), record.reason not in _UNROUTED
        self._tally(record.version, record.role).add_answer(record, version, is_routed=is_routed)
        if record.role is not Role.SHADOW:
            state.predictions += 1
            state.answered_rows += record.rows if record.outcome is Outcome.OK else 0
        if not is_routed:
            return
        if record.role is Role.CHAMPION:
            self._note_champion(record)
        if version is None or record.outcome is not Outcome.OK or not is_sampled:
            return
        if self._is_watched(record.version, record.role):
            self._bet(record, inputs, version, inputs_of)

    def _bet(self, record: Prediction, inputs: Any, version: Version, inputs_of: Sequence[str]) -> None:
        if record.role is Role.CHAMPION:
            self._online.answer(record, self._at[0], self._state.delays)
        rows = answer_rows(record, inputs, version, inputs_of)
        part = self._inputs_of(record.version, record.role, version) if rows is not None else None
        if rows is not None and part is not None:
            self._alerting.tell(record.version, record.role, part.take(rows, *self._at))

    def _is_watched(self, version: int, role: str) -> bool:
        """The champion as champion, others on trial; not the last champion, whose faults are known, nor stragglers."""
        if role == Role.CHAMPION:
            return version == self._state.champion
        return version not in (self._state.champion, self._state.previous)

    def _note_champion(self, record: Prediction) -> None:
        """Another champion, by a newer revision than any before: everything that stood against anyone is over."""
        state = self._state
        if record.revision <= state.revision:
            return
        state.revision = record.revision
        if record.version == state.champion:
            return
        time_ns, place = self._at
        self._alerting.end(lambda _: True, f"{self.model}@{record.version} is champion now", time_ns, place)
        state.previous, state.champion, state.changed_ns = state.champion, record.version, time_ns
        state.share = ShareState()
        for of_champion in (state.panels, state.opinions, state.limits, self._inputs):
            of_champion.clear()
        key = key_of(record.version, Role.CHAMPION)
        state.errors.pop(key, None)
        self._errors.pop(key, None)
        for kept in state.errors.values():
            kept.fresh, kept.recent = 0, 0.0
        self._opinions, self._share = Opinions(self.model, self._policy.monitoring, state.opinions), None

    def _inputs_of(self, number: int, role: Role, version: Version) -> Inputs | None:
        """The part that watches a version's rows; None without a reference, or while enough others are watched."""
        key, panels = key_of(number, role), self._state.panels
        if version.plan is None or not self._has_room(key):
            return None
        kept = panels.setdefault(key, PanelState())
        kept.used = self._state.predictions
        if key not in self._inputs:
            is_champion = role is Role.CHAMPION
            opinions, name = (self._opinions, self.model) if is_champion else (None, f"{self.model}@{number}")
            self._inputs[key] = Inputs(name, version.plan, kept, self._policy.monitoring, opinions)
        return self._inputs[key]

    def _has_room(self, key: str) -> bool:
        """True when this panel is there or may be made; makes room when another was not used for long."""
        panels, champion = self._state.panels, key_of(self._state.champion, Role.CHAMPION)
        if key in panels or key == champion:
            return True
        others = sorted((one for one in panels if one != champion), key=lambda one: panels[one].used)
        if len(others) < _CHALLENGERS_WATCHED:
            return True
        if self._state.predictions - panels[others[0]].used < _UNUSED:
            return False
        del panels[others[0]]
        self._inputs.pop(others[0], None)
        self._alerting.end(
            lambda one: key_of(one.version, one.role) == others[0] and one.detector == "panel", _GONE, *self._at
        )
        return True

    # labels -----------------------------------------------------------------------------------------------------

    def label(self, one: Label) -> str:
        """Count one labelled row and bet on its error. Pinned and cached answers count in no figure.

        Returns what is wrong with the label or the answer, see `fault_of`; then nothing was bet.
        """
        version = self._versions.get(one.version)
        spec = version.spec if version is not None else None
        if version is None or spec is None or one.reason in _UNROUTED:
            return ""
        tally = self._tally(one.version, one.role)
        if fault := fault_of(one.label, one.prediction, spec):
            tally.count(fault)
            return fault
        slices = self._slicer.of(one.version, one.contract, one.inputs)
        tally.add_label(one.label, one.prediction, one.probabilities, spec, slices)
        self._online.label(one, serves=self._serves(one))
        self._bet_on_label(one, version, spec, tally)
        return ""

    def _serves(self, one: Label) -> bool:
        return one.role == Role.CHAMPION and one.version == self._state.champion

    def _bet_on_label(self, one: Label, version: Version, spec: PredictionSpec, tally: Tally) -> None:
        error = error_of(one.prediction, one.label, version)
        if math.isnan(error):
            return
        is_failing = self._count_since(one)
        found: list[Found] = []
        if spec.kind == "class" or version.reference is not None:
            found += self._errors_of(one, version).take(
                error, one, tally, since_ns=self._state.changed_ns, is_latched=is_failing
            )
        if (wanted := self._policy.retraining.triggers.performance) is not None:
            kept = self._state.limits.setdefault(key_of(one.version, one.role), LimitState())
            limit = Limit(f"{self.model}@{one.version}", wanted, kept, self._policy.monitoring.cooldown_labels)
            found += limit.take(one, tally, spec)
        if self._serves(one):
            found += self._opinions.errors(Seen(error, one.predicted_ns, one.time_ns, one.place))
            found += self._label_share(version).take(one)
        if found and self._is_watched(one.version, one.role):
            self._alerting.tell(one.version, one.role, found)

    def _count_since(self, one: Label) -> bool:
        """Tell what stands against the version that a label came; True when its errors are among that."""
        mine = [held for held in self._state.latches if (held.version, held.role) == (one.version, one.role)]
        for held in mine:
            held.labels += one.predicted_ns >= held.since_ns
        return any(held.kind == "concept_drift" for held in mine)

    def _errors_of(self, one: Label, version: Version) -> Errors:
        key = key_of(one.version, one.role)
        if key not in self._errors:
            kept = self._state.errors.setdefault(key, ErrorState())
            self._errors[key] = Errors(f"{self.model}@{one.version}", version, kept, self._policy.monitoring)
        return self._errors[key]

    def _label_share(self, version: Version) -> LabelShare:
        if self._share is None:
            name = f"{self.model}@{self._state.champion}"
            self._share = LabelShare(name, version, self._state.share, self._policy.monitoring)
        return self._share

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
        seconds = (row.labelled_ns - row.predicted_ns) / 1e9
        self._state.labelled_rows = row.ordinal
        self._state.delays.append(round(seconds, 3))
        del self._state.delays[:-_DELAYS]
        if row.version:
            self._tally(row.version, row.role).delays.add(seconds)

    def joined_shadow(self, pair: Pair) -> None:
        """Count a label that found a shadow's row beside the champion's."""
        tally = self._tally(pair.challenger, pair.challenger_role)
        tally.count("joined")
        tally.delays.add((pair.labelled_ns - pair.predicted_ns) / 1e9)

    @property
    def labelled_rows(self) -> int:
        """The ordinal of the newest label."""
        return self._state.labelled_rows

    def count(self, outcome: str, answer: tuple[int, str] | None = None) -> None:
        """Count feedback by how it was joined. answer: version and role that it is about."""
        self._state.labels[outcome] = self._state.labels.get(outcome, 0) + 1
        if answer is not None:
            self._tally(*answer).count(outcome)

    # memory -----------------------------------------------------------------------------------------------------

    @property
    def _at(self) -> tuple[int, str]:
        """Time and place of the entry under way."""
        assert self._entry is not None, "begin() comes first"
        return self._entry.time_ns, str(self._entry.place)

    def _tally(self, version: int, role: str) -> Tally:
        """The figures of a version in a role; versions unused for long lose first their tail, then everything."""
        key, tallies = key_of(version, role), self._state.tallies
        tally = tallies.pop(key, None)
        if tally is None:
            tally = Tally()
            newest_first = list(reversed(tallies))
            for old in newest_first[_TAILS - 1 :]:
                tallies[old].shrink()
            for old in newest_first[_TALLIES - 1 :]:
                self._forget(old)
        tallies[key] = tally  # the newest use is last
        return tally

    def _forget(self, key: str) -> None:
        for of_version in (self._state.tallies, self._state.errors, self._state.panels, self._state.limits):
            of_version.pop(key, None)
        self._errors.pop(key, None)
        self._inputs.pop(key, None)
        self._alerting.end(lambda one: key_of(one.version, one.role) == key, _GONE, *self._at)

    def state(self) -> ModelState:
        """What to remember, with the detectors written back."""
        for inputs in self._inputs.values():
            inputs.write_back()
        for errors in self._errors.values():
            errors.write_back()
        self._opinions.write_back()
        if self._share is not None:
            self._share.write_back()
        self._state.online = self._online.state()
        return self._state
