"""Live figures equal what river.metrics gives when it sees every row; labels that say nothing are in no figure."""

from __future__ import annotations

import math
import random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.monitor.figures.counts import MOST_CLASSES, area_of_rows
from gateway.monitor.figures.performance import ROLLING, Tally, by_slice, fault_of, live
from gateway.monitor.version import Version
from gateway.registry.manifest import Manifest, PredictionSpec

metrics = pytest.importorskip("river.metrics")
BINARY = PredictionSpec(output="label", kind="class", classes=(0, 1), probabilities="probabilities")
THREE = PredictionSpec(output="label", kind="class", classes=("a", "b", "c"))
VALUE = PredictionSpec(output="variable", kind="value")


def version(spec: PredictionSpec) -> Version:
    return Version(Manifest(model="m", number=1, prediction=spec))


def binary_rows(count: int, seed: int = 1) -> list[tuple[int, int, float]]:
    """Label, prediction and probability of class 1, of a model that is right more often than not."""
    chance = random.Random(seed)
    rows = []
    for _ in range(count):
        p = chance.uniform(0.05, 0.95)  # no ties: river counts those otherwise
        rows.append((int(chance.random() < 0.2 + 0.6 * p), int(p > 0.5), p))
    return rows


def test_binary_figures_equal_rivers_over_all_rows_and_over_the_newest() -> None:
    rows, tally = binary_rows(1400), Tally()
    names = {
        "accuracy": metrics.Accuracy, "precision": metrics.Precision, "recall": metrics.Recall, "f1": metrics.F1,
    }  # fmt: skip
    whole, newest = ({name: one() for name, one in names.items()} for _ in range(2))
    loss, newest_loss, newest_area = metrics.LogLoss(), metrics.LogLoss(), metrics.RollingROCAUC(ROLLING)
    for place, (label, said, p) in enumerate(rows):
        tally.add_label(label, said, [1 - p, p], BINARY)
        loss.update(bool(label), p)
        newest_area.update(bool(label), p)
        for name in names:
            whole[name].update(bool(label), bool(said))
            if place >= len(rows) - ROLLING:
                newest[name].update(bool(label), bool(said))
        if place >= len(rows) - ROLLING:
            newest_loss.update(bool(label), p)
    found = live(3, "champion", tally, version(BINARY))
    assert found.labelled == 1400
    for name in names:
        assert found.metrics[name] == pytest.approx(whole[name].get(), abs=1e-6)
        assert found.rolling[name] == pytest.approx(newest[name].get(), abs=1e-6)
    assert found.metrics["log_loss"] == pytest.approx(loss.get(), abs=1e-6)
    assert found.rolling["log_loss"] == pytest.approx(newest_loss.get(), abs=1e-6)
    assert found.rolling["roc_auc"] == pytest.approx(newest_area.get(), abs=1e-6)
    exact = area_of_rows((bool(label), p) for label, _, p in rows)
    assert exact is not None
    assert found.metrics["roc_auc"] == pytest.approx(exact, abs=0.005)


@pytest.mark.parametrize("scale", [1e-4, 1e-2, 1.0])
def test_the_area_in_bins_is_near_the_exact_one_also_for_rare_classes(scale: float) -> None:
    """River's ten thresholds see one bin only when all probabilities are below a tenth."""
    chance, tally, rows = random.Random(4), Tally(), []
    for _ in range(4000):
        is_positive = chance.random() < 0.1
        p = scale * chance.betavariate(4 if is_positive else 2, 4)
        rows.append((is_positive, p))
        tally.add_label(int(is_positive), 0, [1 - p, p], BINARY)
    exact = area_of_rows(rows)
    assert exact is not None
    assert 0.6 < exact < 0.9
    assert live(1, "champion", tally, version(BINARY)).metrics["roc_auc"] == pytest.approx(exact, abs=0.02)


def test_several_classes_have_macro_averages_and_no_log_loss_without_probabilities() -> None:
    tally, f1, recall = Tally(), metrics.MacroF1(), metrics.MacroRecall()
    for label, said in [("a", "a"), ("b", "a"), ("c", "c"), ("a", "a")]:
        tally.add_label(label, said, None, THREE)
        f1.update(label, said)
        recall.update(label, said)
    found = live(1, "shadow", tally, version(THREE))
    assert found.metrics["accuracy"] == 0.75
    assert found.metrics["f1"] == pytest.approx(f1.get(), abs=1e-6)
    assert found.metrics["recall"] == pytest.approx(recall.get(), abs=1e-6)
    assert not {"log_loss", "roc_auc"} & set(found.metrics)


def test_values_have_absolute_and_squared_errors_and_r2() -> None:
    chance, tally = random.Random(2), Tally()
    rows = [(1000 + chance.gauss(0, 2), chance.gauss(0, 1)) for _ in range(900)]
    whole, newest = ((metrics.MAE(), metrics.RMSE(), metrics.R2()) for _ in range(2))
    for place, (label, error) in enumerate(rows):
        tally.add_label(label, label + error, None, VALUE)
        for metric in (*whole, *(newest if place >= 400 else ())):
            metric.update(label, label + error)
    found = live(1, "champion", tally, version(VALUE))
    for shown, expected in ((found.metrics, whole), (found.rolling, newest)):
        assert list(shown) == ["mae", "rmse", "r2"]
        assert list(shown.values()) == pytest.approx([one.get() for one in expected], abs=1e-5)


def test_a_certain_mistake_has_a_finite_log_loss() -> None:
    tally = Tally()
    tally.add_label(1, 0, [1.0, 0.0], BINARY)
    assert live(1, "champion", tally, version(BINARY)).metrics["log_loss"] < 40


def test_no_labels_no_figures_but_counts_and_values() -> None:
    tally = Tally(predictions=5, errors=1)
    tally.earned.add(2.0)
    tally.earned.add(4.0)
    found = live(1, "canary", tally, version(BINARY))
    assert (found.predictions, found.errors, found.metrics, found.rolling) == (5, 1, {}, {})
    assert (found.value_mean, found.values, found.value_interval) == (3.0, 2, None)


def test_the_tail_is_bounded_and_survives_the_checkpoint() -> None:
    """What is kept must not grow with the stream."""
    tally = Tally()
    for place in range(5000):
        tally.add_label(1, 1, [0.1, 0.9], BINARY, [("day", f"day={place % 7}")])
    assert len(tally.tail) <= 2 * ROLLING
    assert len(tally.cuts) <= 2 * ROLLING
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(tally), type=Tally) == tally


def test_a_checkpoint_of_before_is_still_read() -> None:
    """An upgrade must not forget what was measured."""
    before = {"predictions": 4, "labelled": 2, "confusion": {"1": {"1": 1, "0": 1}}, "values": 3, "value_sum": 2.5}
    tail = [["1", "1", 0.5], ["1", "0", 2.0]]
    tally = msgspec.msgpack.decode(msgspec.msgpack.encode({**before, "tail": tail}), type=Tally)
    tally.add_label(1, 1, [0.2, 0.8], BINARY, [("day", "day=1")])
    assert live(1, "champion", tally, version(BINARY)).metrics["accuracy"] == pytest.approx(2 / 3, abs=1e-6)
    assert [one.rolling_labelled for one in by_slice(1, "champion", tally, version(BINARY))] == [1]


def test_classes_are_classes_also_when_the_manifest_is_gone() -> None:
    """A summary shows versions that answer no more; one whose package was lost must not stop the monitor."""
    tally = Tally()
    for label, said in [("a", "a"), ("b", "a"), ("c", "c"), ("a", "a")]:
        tally.add_label(label, said, None, THREE)
    assert live(1, "champion", tally, None).metrics == live(1, "champion", tally, version(THREE)).metrics


def test_any_number_of_classes_needs_bounded_memory_and_accuracy_stays_exact() -> None:
    """A version whose manifest names no classes may be sent a serial number as label."""
    spec, tally = PredictionSpec(output="label", kind="class"), Tally()
    for place in range(600):
        tally.add_label(place, place if place % 3 == 0 else f"x{place}", None, spec)
    assert len(tally.confusion) <= MOST_CLASSES + 1
    assert max(len(row) for row in tally.confusion.values()) <= MOST_CLASSES + 2
    assert live(1, "champion", tally, version(spec)).metrics["accuracy"] == pytest.approx(1 / 3, abs=1e-6)


@pytest.mark.parametrize(
    ("spec", "label", "said", "fault"),
    [
        (BINARY, 1, 0, ""),
        (BINARY, "1", 0, ""),
        (BINARY, True, 0.0, ""),
        (BINARY, 2, 0, "unknown_class"),
        (BINARY, "up", 0, "unknown_class"),
        (BINARY, math.nan, 0, "wrong_type"),
        (BINARY, None, 0, "wrong_type"),
        (BINARY, 1, None, "no_prediction"),
        (BINARY, 1, [1, 2], "no_prediction"),
        (PredictionSpec(output="label", kind="class"), "anything", "else", ""),
        (VALUE, 3, 2.5, ""),
        (VALUE, "3", 2.5, "wrong_type"),
        (VALUE, math.nan, 2.5, "wrong_type"),
        (VALUE, math.inf, 2.5, "wrong_type"),
        (VALUE, 1e200, 2.5, "wrong_type"),
        (VALUE, 3, None, "no_prediction"),
        (VALUE, "3", [2.5, 1.0], "no_prediction"),
    ],
)
def test_a_label_that_says_nothing_is_named(spec: PredictionSpec, label: Any, said: Any, fault: str) -> None:
    """Text for a number, a class that does not exist, no number at all: none may reach a figure."""
    assert fault_of(label, said, spec) == fault


@pytest.mark.parametrize(
    "chances", ["0.5", [0.5], [0.5, 0.5, 0.0], [None, 1.0], ["a", "b"], [math.nan, 1.0], [-3.0, 4.0], {"0": 1.0}, 7]
)
def test_probabilities_that_are_none_are_counted_and_the_label_still_counts(chances: Any) -> None:
    """One column is the last class's; of anything else no log loss is made."""
    tally = Tally()
    tally.add_label(1, 1, chances, BINARY)
    found = live(1, "champion", tally, version(BINARY))
    assert found.metrics["accuracy"] == 1.0
    assert found.labels == ({} if chances == [0.5] else {"bad_probabilities": 1})
    assert ("log_loss" in found.metrics) == (chances == [0.5])


_anything = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(), st.text(max_size=3),
    st.lists(st.floats() | st.none() | st.text(max_size=1), max_size=3),
)  # fmt: skip


@given(st.sampled_from([BINARY, THREE, VALUE]), st.lists(st.tuples(_anything, _anything, _anything), max_size=30))
@settings(max_examples=40, deadline=None)
def test_whatever_comes_every_figure_is_a_finite_number(spec: PredictionSpec, rows: list[tuple[Any, Any, Any]]) -> None:
    """A figure that is not a number would stop everybody who reads the summary."""
    tally = Tally()
    for label, said, chances in rows:
        if not fault_of(label, said, spec):
            tally.add_label(label, said, chances, spec, [("f", f"f={label}")])
    restored = msgspec.msgpack.decode(msgspec.msgpack.encode(tally), type=Tally)
    shown = live(1, "champion", restored, version(spec))
    figures = [shown.metrics, shown.rolling]
    for one in by_slice(1, "champion", restored, version(spec)):
        figures += [one.metrics, one.rolling]
    assert all(math.isfinite(value) for each in figures for value in each.values())
    assert shown.labelled == tally.labelled


@given(st.lists(st.tuples(st.integers(0, 1), st.floats(0, 1), st.sampled_from("xyz")), max_size=60))
@settings(max_examples=40, deadline=None)
def test_the_slices_of_a_feature_add_up_to_the_whole(rows: list[tuple[int, float, str]]) -> None:
    tally = Tally()
    for label, p, value in rows:
        tally.add_label(label, int(p > 0.5), [1 - p, p], BINARY, [("f", f"f={value}")])
    slices = by_slice(1, "champion", tally, version(BINARY))
    assert sum(one.labelled for one in slices) == sum(one.rolling_labelled for one in slices) == len(rows)
    right = sum(one.labelled * one.metrics["accuracy"] for one in slices)
    assert right == pytest.approx(sum(label == int(p > 0.5) for label, p, _ in rows), abs=1e-3)
