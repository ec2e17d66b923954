"""How often a version is probably right on rows whose labels are not there yet. An estimate, never a measurement.

A calibrated probability is a promise: of the rows that a version is 80 percent sure of, 80 percent should turn out
right. So the mean calibrated confidence in newly answered rows estimates their accuracy, labels or not (confidence-
based performance estimation). What "80 percent sure" is worth is learned from labelled rows, bin by bin; a bin without
many labels leans on what the version states, shifted by as much as it overstates itself on its reference.

It follows changes of the inputs. It cannot see the relation from inputs to labels change, since confidence does not
know of it: only labels show that. Hence nothing acts on it. Measured, mean distance from the true accuracy of the same
500 rows: inputs that move under a fixed relation, labels 1,000 rows late: 2.7 points (the version's own word 3.6, the
last measured accuracy 4.6); Electricity, where the relation moves, labels 500 rows late: 8.0 (14.3, 7.4).
Source: confidence-based performance estimation (CBPE) in the documentation of NannyML; Guillory et al., Predicting with
confidence on unseen distributions, ICCV 2021.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from msgspec import Struct

from gateway.monitor.figures.counts import bin_of
from gateway.monitor.version import Version

RECENT = 500
"""Over how many of the newest answered rows the estimate goes."""

REMEMBERED = 1000
"""When labelled rows count so much, all of them count half from then on: a promise is judged by the newest labels.

With 4,000 the estimate followed no worse change of the inputs, and was off by 7 points instead of 4 where also the
relation to the labels moved all the time (Electricity, labels a day late).
"""

LEANING = 5.0
"""What a bin without labels is taken to be worth counts as much as so many labelled rows."""

ENOUGH_LABELS = 100
"""From how many labels on an estimate is said to stand on labels."""


class Confidence(Struct, array_like=True):
    """Rows by the largest probability they were answered with.

    bins: bin of log-odds -> answered rows, sum of their largest probabilities, labelled rows, those of them that were
    right. recent: bins of the newest rows, one byte each. weight: what the labelled rows count together.
    """

    bins: dict[int, list[float]] = {}
    labels: int = 0
    recent: bytes = b""
    weight: float = 0.0

    def answer(self, chances: list[float]) -> None:
        """Count one answered row."""
        chance = min(1.0, max(chances))
        place = bin_of(chance)
        seen = self.bins.setdefault(place, [0.0, 0.0, 0.0, 0.0])
        seen[0] += 1.0
        seen[1] += chance
        self.recent = (self.recent + bytes((place,)))[-RECENT:]

    def label(self, chances: list[float], *, is_right: bool) -> None:
        """Count one labelled row; it was counted as answered before, else nothing is known of its bin."""
        seen = self.bins.get(bin_of(min(1.0, max(chances))))
        if seen is None:
            return
        self.labels += 1
        seen[2] += 1.0
        seen[3] += is_right
        self.weight += 1.0
        if self.weight >= REMEMBERED:
            self.weight /= 2
            for each in self.bins.values():
                each[2] /= 2
                each[3] /= 2


def estimate(seen: Confidence, version: Version | None) -> dict[str, Any]:
    """The estimated accuracy of the newest answered rows; empty when no row had probabilities.

    rows: on how many answered rows it stands, with or without labels. labels: so many labelled rows calibrate it.
    calibrated_on: `labels`, `reference` or, when neither is there, `stated` (the version is taken at its word).
    """
    rows = len(seen.recent)
    if not rows:
        return {}
    overstated = _overstated(version)
    worth = {place: _worth(counted, overstated or 0.0) for place, counted in seen.bins.items()}
    each = np.array([worth[place] for place in seen.recent])
    return {
        "accuracy": round(float(each.mean()), 6),
        "standard_error": round(math.sqrt(max(0.0, float(each @ (1.0 - each)))) / rows, 6),
        "rows": rows,
        "labels": seen.labels,
        "calibrated_on": "labels" if seen.labels >= ENOUGH_LABELS else "stated" if overstated is None else "reference",
    }


def _worth(counted: list[float], overstated: float) -> float:
    """How often the rows of a bin are right."""
    answered, stated, labelled, right = counted
    promised = min(1.0, max(0.0, stated / answered - overstated))
    return (right + LEANING * promised) / (labelled + LEANING)


def _overstated(version: Version | None) -> float | None:
    """By how much the stated confidence exceeds the proven accuracy on the reference; None without either."""
    if version is None or version.spec is None or version.spec.kind != "class" or version.reference is None:
        return None
    score = next((one for one in version.reference.prediction if one.name == "score"), None)
    if score is None or not score.quantiles or version.proven is None:
        return None
    scores = np.array(score.quantiles)
    confidence = np.maximum(scores, 1.0 - scores) if len(version.spec.classes) == 2 else scores
    return float(confidence.mean()) - (1.0 - version.proven[0])
