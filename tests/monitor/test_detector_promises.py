"""The promises of `Detector`, checked against every detector there is: ours and every class of river.drift."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import numpy as np
import pytest

from gateway.monitor.detectors.detector import Detector, FloatArray, Verdict
from gateway.monitor.detectors.error import ErrorDetector, baseline
from gateway.monitor.detectors.panel import Panel, Plan
from gateway.monitor.detectors.second_opinion import SecondOpinion
from gateway.registry.manifest import Feature
from gateway.registry.reference import build_reference

river_drift = pytest.importorskip("river.drift")

PLAN = Plan(build_reference([Feature(name="x")], np.random.default_rng(1).normal(size=(2000, 1)).tolist()))


def panel() -> Detector:
    return Panel(PLAN, 1e4)


def errors() -> Detector:
    return ErrorDetector(baseline(0.1, 2000, 0.01), 1e4)


# Where each fires on `moved`, counted from 1; the change is behind event 1,000. A new river may move its own.
KNOWN: dict[str, tuple[Callable[[], Detector], int]] = {
    "panel": (panel, 1024),
    "errors": (errors, 1017),
    "ADWIN": (lambda: SecondOpinion("ADWIN"), 1024),
    "KSWIN": (lambda: SecondOpinion("KSWIN", {"alpha": 1e-6}), 1041),
    "PageHinkley": (lambda: SecondOpinion("PageHinkley", {"threshold": 60, "delta": 0.2}), 1052),
    "DDM": (lambda: SecondOpinion("DDM", {"drift_threshold": 6}), 1107),
    "EDDM": (lambda: SecondOpinion("EDDM", {"beta": 0.4, "alpha": 0.5}), 1324),
    "FHDDM": (lambda: SecondOpinion("FHDDM"), 1053),
    "HDDMA": (lambda: SecondOpinion("HDDMA"), 1017),
    "HDDMW": (lambda: SecondOpinion("HDDMW"), 1023),
}
BINARY = {"errors", "DDM", "EDDM", "FHDDM", "HDDMA", "HDDMW"}
every = pytest.mark.parametrize("name", KNOWN)


def stream(name: str, moved: bool, seed: int = 3) -> FloatArray:
    """2,000 values; with `moved` the mean rises behind the first 1,000 (errors from 10 to 60 percent)."""
    random = np.random.default_rng(seed)
    if name in BINARY:
        rates = np.where((np.arange(2000) >= 1000) & moved, 0.6, 0.1)
        return (random.random(2000) < rates).astype(np.float64)
    return random.normal(size=2000) + np.where((np.arange(2000) >= 1000) & moved, 1.5, 0.0)


def fed(detector: Detector, name: str, values: FloatArray) -> Verdict:
    return detector.update(values[:, None] if name == "panel" else values)


def first_alarm(detector: Detector, name: str, values: FloatArray, chunk: int) -> int:
    for start in range(0, len(values), chunk):
        verdict = fed(detector, name, values[start : start + chunk])
        if verdict.alarmed:
            return verdict.event
    return 0


def test_every_detector_of_river_is_here() -> None:
    """A class that a new river brings must be looked at before it is offered."""
    classes = {
        key
        for module in (river_drift, river_drift.binary)
        for key, value in vars(module).items()
        if inspect.isclass(value)
    }
    assert classes - set(KNOWN) == {"DriftRetrainingClassifier", "DummyDriftDetector", "NoDrift"}


@every
def test_fires_on_a_known_stream_at_a_known_event(name: str) -> None:
    make, expected = KNOWN[name]
    assert first_alarm(make(), name, stream(name, moved=True), 2000) == expected


@every
def test_stays_silent_on_a_stable_stream(name: str) -> None:
    make, _ = KNOWN[name]
    assert first_alarm(make(), name, stream(name, moved=False), 2000) == 0


@every
@pytest.mark.parametrize("chunk", [1, 7, 16, 333])
def test_chunks_do_not_matter(name: str, chunk: int) -> None:
    """Block sizes depend on load; alerts may not."""
    make, expected = KNOWN[name]
    assert first_alarm(make(), name, stream(name, moved=True), chunk) == expected


@every
@pytest.mark.parametrize("cut", [1, 500, 1009])
def test_a_restored_detector_goes_on_exactly(name: str, cut: int) -> None:
    """A restart in the middle of a block, or of a change, neither loses nor doubles evidence."""
    make, expected = KNOWN[name]
    values = stream(name, moved=True)
    before = make()
    fed(before, name, values[:cut])
    after = make().restored(before.state())
    assert after.events == cut
    assert first_alarm(after, name, values[cut:], 50) == expected


@every
def test_state_is_stable(name: str) -> None:
    """restore(state()) is the identity: the same bytes again."""
    make, _ = KNOWN[name]
    detector = make()
    fed(detector, name, stream(name, moved=False)[:777])
    assert make().restored(detector.state()).state() == detector.state()


@every
def test_a_missing_value_is_no_evidence(name: str) -> None:
    """NaN must not poison a sum for ever. (The panel bets on missing values, but on nothing else by them.)"""
    make, _ = KNOWN[name]
    detector = make()
    fed(detector, name, stream(name, moved=False)[:500])
    fed(detector, name, np.array([np.nan]))
    verdict = fed(detector, name, stream(name, moved=False)[500:516])
    assert np.isfinite(verdict.evidence)
    assert not verdict.alarmed
