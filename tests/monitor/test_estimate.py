"""The estimate before labels: it follows the inputs, learns what confidence is worth, and says what it stands on."""

from __future__ import annotations

import random

import msgspec
import pytest

from gateway.monitor.figures.estimate import RECENT, Confidence, estimate
from gateway.monitor.version import Version
from gateway.registry.manifest import Feature, GateReport, Manifest, PredictionSpec
from gateway.registry.reference import build_reference

SPEC = PredictionSpec(output="label", kind="class", classes=(0, 1), probabilities="probabilities")


def stream(seen: Confidence, sure: tuple[float, float], count: int, *, honesty: float = 1.0, labelled: bool) -> float:
    """Rows answered with a confidence in `sure`; right as often as stated, times honesty. The share that was right."""
    chance, right = random.Random(count), 0
    for _ in range(count):
        stated = chance.uniform(*sure)
        is_right = chance.random() < 0.5 + (stated - 0.5) * honesty
        right += is_right
        seen.answer([1 - stated, stated])
        if labelled:
            seen.label([1 - stated, stated], is_right=is_right)
    return right / count


def test_it_falls_with_the_confidence_before_any_label_comes() -> None:
    """The inputs move to where the version is unsure: the estimate shows it when no label is there yet."""
    seen = Confidence()
    stream(seen, (0.85, 0.99), 800, labelled=True)
    true = stream(seen, (0.5, 0.7), RECENT, labelled=False)
    found = estimate(seen, None)
    assert found["accuracy"] == pytest.approx(true, abs=3 * found["standard_error"] + 0.02)
    assert found["accuracy"] < 0.65
    assert (found["rows"], found["labels"]) == (RECENT, 800)


def test_what_a_version_overstates_is_learned_from_labels() -> None:
    """Stated 0.95, worth 0.72: without calibration the estimate would be 20 points too high for ever."""
    seen = Confidence()
    stream(seen, (0.9, 0.99), 1000, honesty=0.5, labelled=False)
    assert estimate(seen, None)["accuracy"] == pytest.approx(0.945, abs=0.01)
    assert estimate(seen, None)["calibrated_on"] == "stated"
    true = stream(seen, (0.9, 0.99), 1000, honesty=0.5, labelled=True)
    found = estimate(seen, None)
    assert found["calibrated_on"] == "labels"
    assert found["accuracy"] == pytest.approx(true, abs=0.03)


def test_without_labels_the_reference_says_how_much_the_version_overstates() -> None:
    """The gate measured 25 percent errors where the version stated 5: that is known before the first answer."""
    rows = [[float(place)] for place in range(400)]
    scores = [[0.05, 0.95] if place % 2 else [0.95, 0.05] for place in range(400)]
    reference = build_reference([Feature(name="x")], rows, [place % 2 for place in range(400)], scores)
    gate = GateReport(passed=True, error_rate=0.25, error_rows=400)
    version = Version(Manifest(model="m", number=1, prediction=SPEC, gate=gate), reference)
    seen = Confidence()
    for _ in range(50):
        seen.answer([0.05, 0.95])
    found = estimate(seen, version)
    assert (found["calibrated_on"], found["labels"]) == ("reference", 0)
    assert found["accuracy"] == pytest.approx(0.75, abs=0.01)


def test_labels_of_long_ago_count_less_than_those_of_now() -> None:
    """What confidence is worth changes; the estimate must follow the labels there are."""
    seen = Confidence()
    stream(seen, (0.9, 0.99), 8000, honesty=1.0, labelled=True)
    true = stream(seen, (0.9, 0.99), 7000, honesty=0.2, labelled=True)
    assert estimate(seen, None)["accuracy"] == pytest.approx(true, abs=0.1)


def test_nothing_answered_nothing_estimated_and_the_state_is_small() -> None:
    seen = Confidence()
    assert estimate(seen, None) == {}
    seen.label([0.1, 0.9], is_right=True)
    assert estimate(seen, None) == {}
    stream(seen, (0.5, 1.0), 5000, labelled=True)
    assert len(msgspec.msgpack.encode(seen)) < 2500
