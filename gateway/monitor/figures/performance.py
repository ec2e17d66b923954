"""Live performance of one version in one role, since its first answer, over the newest labels, and by slice.

A `Tally` is what the monitor keeps: counts, sums and a short tail, all plain values. `live` and `by_slice` turn it
into figures. Labels and answers that cannot be read are in no figure: `fault_of` names what is wrong with them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeAlias

from msgspec import field

from gateway.documents.alert import Live, SliceLive
from gateway.journal.record import Prediction
from gateway.monitor.figures.counts import (
    Counts,
    area_of_rows,
    chances_of,
    class_figures,
    confusion_figures,
    log_loss,
    places,
    positive_class,
    score_of_row,
    value_figures,
)
from gateway.monitor.figures.delay import Delays
from gateway.monitor.figures.estimate import Confidence, estimate
from gateway.monitor.figures.slices import SliceCounts, bounded
from gateway.monitor.figures.value import Earned
from gateway.monitor.version import Version
from gateway.names import Outcome
from gateway.registry.manifest import PredictionSpec
from gateway.registry.reference import category

ROLLING = 500
"""How many of the newest labels the rolling figures cover."""

LARGEST = 1e100
"""No label and no prediction of a value is larger: squares of what is would be infinite."""

Labelled: TypeAlias = tuple[Any, Any, float | None]
"""Label, prediction (text for a class, a number for a value), log loss of the row where probabilities are known."""


class Tally(Counts):
    """What is kept of one version in one role.

    rows: of answers that ended well. outcomes: feedback by what became of it, and labelled rows that are in no figure
    by why. slices: by name; cuts: for each of the newest rows of the tail, the places of its slices among them.
    """

    predictions: int = 0
    errors: int = 0
    tail: list[Labelled] = field(default_factory=list)
    rows: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    delays: Delays = field(default_factory=Delays)
    earned: Earned = field(default_factory=Earned)
    confidence: Confidence = field(default_factory=Confidence)
    slices: dict[str, SliceCounts] = field(default_factory=dict)
    cuts: list[tuple[int, ...]] = field(default_factory=list)

    def add_answer(self, record: Prediction, version: Version | None, *, is_routed: bool) -> None:
        """Count one answer; how sure it was counts where the route chose the version."""
        self.predictions += 1
        self.errors += record.outcome is not Outcome.OK
        if record.outcome is not Outcome.OK:
            return
        self.rows += record.rows
        spec = version.spec if version is not None else None
        if is_routed and spec is not None and spec.kind == "class" and spec.probabilities:
            probabilities = record.outputs.get(spec.probabilities)
            for row in probabilities if isinstance(probabilities, list) else ():
                if (chances := chances_of(row, spec)) is not None:
                    self.confidence.answer(chances)

    def add_label(
        self,
        label: Any,
        prediction: Any,
        probabilities: Any,
        spec: PredictionSpec,
        slices: Sequence[tuple[str, str]] = (),
    ) -> None:
        """Count one labelled row that has no fault. slices: feature and slice, as `Cuts.of` gives them."""
        names = bounded(slices, self.slices) if slices else ()
        counted = [self.slices.setdefault(name, SliceCounts()) for name in names]
        if self.slices:
            self.cuts.append(tuple(_places_of(counted, self.slices.values())))
        if spec.kind == "class":
            truth, said, positive = category(label), category(prediction), positive_class(spec)
            chances = chances_of(probabilities, spec)
            surprise = log_loss(truth, chances, spec)
            for counts in (self, *counted):
                counts.add_class(truth, said, surprise, positive)
            if chances is not None:
                self.confidence.label(chances, is_right=truth == said)
            elif probabilities is not None and spec.probabilities:
                self.count("bad_probabilities")
            self._keep((truth, said, surprise))
        else:
            for counts in (self, *counted):
                counts.add_value(float(label), float(prediction))
            self._keep((float(label), float(prediction), None))

    def count(self, outcome: str, by: int = 1) -> None:
        """Count feedback, or a labelled row, by what became of it."""
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + by

    def shrink(self) -> None:
        """Forget what is large: the version has not been used for long."""
        self.tail, self.cuts, self.slices = [], [], {}
        self.confidence.recent = b""

    def _keep(self, row: Labelled) -> None:
        self.tail.append(row)
        if len(self.tail) > 2 * ROLLING:  # cut in bulk: one row at a time would move the list for every label
            del self.tail[:-ROLLING]
            del self.cuts[:-ROLLING]


def _places_of(wanted: Sequence[SliceCounts], among: Iterable[SliceCounts]) -> Iterator[int]:
    return (place for place, one in enumerate(among) if any(one is each for each in wanted))


def fault_of(label: Any, prediction: Any, spec: PredictionSpec) -> str:
    """Why a labelled row is in no figure; empty when it may be.

    wrong_type: the label is not what the version predicts. unknown_class: the version has no such class.
    no_prediction: the answer holds no prediction that could be right or wrong.
    """
    if spec.kind != "class":
        return "" if _is_value(label) and _is_value(prediction) else "wrong_type" if _is_value(prediction) else _NONE
    if not _is_class(label):
        return "wrong_type"
    if spec.classes and category(label) not in places(spec.classes):
        return "unknown_class"
    return "" if _is_class(prediction) else _NONE


_NONE = "no_prediction"


def _is_value(value: Any) -> bool:
    return isinstance(value, int | float) and abs(value) <= LARGEST


def _is_class(value: Any) -> bool:
    return isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))


def live(version: int, role: str, tally: Tally, known: Version | None) -> Live:
    """The figures of one version in one role. known: what the registry has of it; None when it has lost it."""
    spec = known.spec if known is not None else None
    joined = tally.outcomes.get("joined", 0)
    return Live(
        version=version,
        role=role,
        predictions=tally.predictions,
        errors=tally.errors,
        labelled=tally.labelled,
        metrics=_figures(tally, spec),
        rolling=_rolling(tally.tail[-ROLLING:], tally, spec),
        value_mean=tally.earned.shown_mean(),
        values=tally.earned.values,
        value_interval=tally.earned.interval(),
        labels=dict(tally.outcomes),
        coverage=round(joined / tally.rows, 6) if tally.rows else 0.0,
        delay_seconds=tally.delays.percentiles(),
        estimate=estimate(tally.confidence, known),
    )


def by_slice(version: int, role: str, tally: Tally, known: Version | None) -> list[SliceLive]:
    """The figures of each slice, by name."""
    spec = known.spec if known is not None else None
    newest: list[list[Labelled]] = [[] for _ in tally.slices]
    cuts = tally.cuts[-ROLLING:]
    for row, where in zip(tally.tail[-len(cuts) :], cuts, strict=True) if cuts else ():
        for place in where:
            newest[place].append(row)
    found = [
        SliceLive(
            version=version,
            role=role,
            slice=name,
            labelled=counts.labelled,
            metrics=_figures(counts, spec),
            rolling=_rolling(newest[place], counts, spec),
            rolling_labelled=len(newest[place]),
        )
        for place, (name, counts) in enumerate(tally.slices.items())
    ]
    return sorted(found, key=lambda one: one.slice)


def _figures(counts: Counts, spec: PredictionSpec | None) -> dict[str, float]:
    """Since the first label. The counts say also without a manifest whether they are of classes."""
    return _shown(
        class_figures(counts, positive_class(spec)) if _is_of_classes(counts, spec) else value_figures(counts)
    )


def _rolling(rows: Sequence[Labelled], counts: Counts, spec: PredictionSpec | None) -> dict[str, float]:
    """Of these rows alone. counts: of the same version, to tell classes from values."""
    if not _is_of_classes(counts, spec):
        ours = Counts()
        for row in rows:
            ours.add_value(float(row[0]), float(row[1]))
        return _shown(value_figures(ours))
    positive = positive_class(spec)
    pairs = Counter((row[0], row[1]) for row in rows)
    figures = confusion_figures(((truth, said, count) for (truth, said), count in pairs.items()), positive)
    scored = [(row[0] == positive, row[2]) for row in rows if row[2] is not None]
    if scored:
        figures["log_loss"] = math.fsum(surprise for _, surprise in scored) / len(scored)
    if positive is not None and (area := _area(scored)) is not None:
        figures["roc_auc"] = area
    return _shown(figures)


def _area(scored: Iterable[tuple[bool, float]]) -> float | None:
    # Rounded: a probability that went through a logarithm and back must still equal its ties.
    return area_of_rows((own, round(score_of_row(own, surprise), 9)) for own, surprise in scored)


def _is_of_classes(counts: Counts, spec: PredictionSpec | None) -> bool:
    return bool(counts.confusion) or (spec is not None and spec.kind == "class")


def _shown(figures: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 6) for name, value in figures.items() if math.isfinite(value)}
