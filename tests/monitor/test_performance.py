"""Live figures equal what river.metrics gives when it sees every row."""

from __future__ import annotations

import random

import msgspec
import pytest

from gateway.monitor.performance import ROLLING, Tally, live
from gateway.registry.manifest import PredictionSpec

metrics = pytest.importorskip("river.metrics")
BINARY = PredictionSpec(output="label", kind="class", classes=(0, 1), probabilities="probabilities")
THREE = PredictionSpec(output="label", kind="class", classes=("a", "b", "c"))
VALUE = PredictionSpec(output="variable", kind="value")


def test_binary_figures_equal_rivers_over_all_rows_and_over_the_newest() -> None:
    chance = random.Random(1)
    rows = [(chance.randint(0, 1), round(chance.uniform(0.05, 0.95), 3)) for _ in range(1400)]
    tally, whole, newest = Tally(), [metrics.Accuracy(), metrics.F1(), metrics.LogLoss()], metrics.Accuracy()
    for place, (label, p) in enumerate(rows):
        tally.add_label(label, int(p > 0.5), [1 - p, p], BINARY)
        whole[0].update(label, int(p > 0.5))
        whole[1].update(bool(label), p > 0.5)
        whole[2].update(bool(label), p)
        if place >= len(rows) - ROLLING:
            newest.update(label, int(p > 0.5))
    found = live(3, "champion", tally, BINARY)
    assert found.labelled == 1400
    for name, metric in zip(("accuracy", "f1", "log_loss"), whole, strict=True):
        assert found.metrics[name] == pytest.approx(metric.get(), abs=1e-6)
    assert found.rolling["accuracy"] == pytest.approx(newest.get(), abs=1e-6)


def test_several_classes_have_a_macro_f1_and_no_log_loss_without_probabilities() -> None:
    tally = Tally()
    for label, said in [("a", "a"), ("b", "a"), ("c", "c"), ("a", "a")]:
        tally.add_label(label, said, None, THREE)
    found = live(1, "shadow", tally, THREE)
    assert found.metrics["accuracy"] == 0.75
    assert 0 < found.metrics["f1"] < 1
    assert "log_loss" not in found.metrics


def test_values_have_absolute_and_squared_errors() -> None:
    tally = Tally()
    for label, said in [(1.0, 2.0), (1.0, 4.0)]:
        tally.add_label(label, said, None, VALUE)
    found = live(1, "champion", tally, VALUE)
    assert found.metrics == {"mae": 2.0, "rmse": pytest.approx(5**0.5, abs=1e-6)}
    assert found.rolling == found.metrics


def test_a_certain_mistake_has_a_finite_log_loss() -> None:
    tally = Tally()
    tally.add_label(1, 0, [1.0, 0.0], BINARY)
    assert live(1, "champion", tally, BINARY).metrics["log_loss"] < 40


def test_no_labels_no_figures_but_counts_and_values() -> None:
    tally = Tally(predictions=5, errors=1)
    tally.add_value(2.0)
    tally.add_value(4.0)
    found = live(1, "canary", tally, BINARY)
    assert (found.predictions, found.errors, found.metrics, found.rolling) == (5, 1, {}, {})
    assert found.value_mean == 3.0


def test_the_tail_is_bounded_and_survives_the_checkpoint() -> None:
    """What is kept must not grow with the stream."""
    tally = Tally()
    for _ in range(5000):
        tally.add_label(1, 1, [0.1, 0.9], BINARY)
    assert len(tally.tail) <= 2 * ROLLING
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(tally), type=Tally) == tally


def test_classes_are_classes_also_when_the_manifest_is_gone() -> None:
    """A summary shows versions that answer no more; one whose package was lost must not stop the monitor."""
    tally = Tally()
    for label, said in [("a", "a"), ("b", "a"), ("c", "c"), ("a", "a")]:
        tally.add_label(label, said, None, THREE)
    assert live(1, "champion", tally, None).metrics == live(1, "champion", tally, THREE).metrics
