"""Live figures through the fold: per version, role and slice, from answers and labels alone, however they are cut."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.documents.alert import Live, Monitoring
from gateway.documents.policy import MonitoringPolicy, OnlineModel, Policy
from gateway.journal.record import Entry, Feedback, TrafficRecord
from gateway.monitor.detectors.panel import Plan
from gateway.monitor.fold import Context
from gateway.monitor.state import MonitorState
from gateway.monitor.summary import summarise
from gateway.monitor.version import Version
from gateway.names import Outcome, Reason, Role
from gateway.registry.manifest import Feature, Manifest, PredictionSpec
from gateway.registry.reference import build_reference
from tests.monitor.stream import (
    MODEL,
    PLAN,
    REFERENCE,
    SPEC,
    answer_of,
    answered,
    folded,
    manifest,
    placed,
    sea,
    traffic,
    versions,
)

pytest.importorskip("river.metrics")
SLICED = MonitoringPolicy(detectors=("panel",), slices=("a",))


def context(policy: MonitoringPolicy = SLICED, **more: Any) -> Context:
    return Context({MODEL: Policy(model=MODEL, monitoring=policy)}, **({"versions": versions()} | more))


def summary(state: MonitorState, known: Context) -> Monitoring:
    """As it is stored and read again."""
    found = summarise(
        MODEL, state.of(MODEL), known.policy(MODEL).monitoring, known.versions.get(MODEL, {}),
        unknown=state.unknown.get("unknown", 0), now=1.0, offset="00", lag_seconds=0.0,
    )  # fmt: skip
    return msgspec.json.decode(msgspec.json.encode(found), type=Monitoring)


def live_of(shown: Monitoring, version: int, role: str = "champion") -> Live:
    return next(one for one in shown.live if (one.version, one.role) == (version, role))


def test_a_slice_in_which_the_version_is_wrong_stands_out() -> None:
    """Right on the whole, wrong where a is large: that is what slices are for."""
    rows, _ = sea(800, 800)
    labels = [answer_of(row)[0] ^ (row[0] > 7.6) for row in rows]
    known = context()
    state, _, _ = folded(placed(traffic(rows, labels)), [100] * 20, known)
    shown = summary(state, known)
    slices = {one.slice: one for one in shown.slices}
    assert len(slices) == 4
    assert sum(one.labelled for one in slices.values()) == live_of(shown, 1).labelled == 752
    worst = min(slices.values(), key=lambda one: one.metrics["accuracy"])
    assert worst.slice.startswith("a>7.")
    assert worst.metrics["accuracy"] < 0.1
    assert worst.rolling["accuracy"] < 0.1
    assert all(one.metrics["accuracy"] > 0.9 for one in slices.values() if one is not worst)
    assert sum(one.rolling_labelled for one in slices.values()) == 500


def test_coverage_delay_and_outcomes_are_those_of_each_version() -> None:
    """A canary whose labels come late or never must not hide behind the champion's."""
    rows, labels = sea(100, 100)
    records: list[TrafficRecord] = []
    for place, row in enumerate(rows):
        on_trial = place % 2 == 1
        fields: dict[str, Any] = {"version": 2, "role": Role.CANARY} if on_trial else {}
        records.append(answered(place, row, **fields))
        records.append(answered(place, row, version=3, role=Role.SHADOW))
        if not on_trial:
            records.append(Feedback(f"r{place}", 0, labels[place]))
        elif place % 4 == 1:
            records += [Feedback(f"r{place - 40}", 0, labels[place])] if place > 40 else []
    records += [Feedback("r0", 0, 1), Feedback("r2", 7, 1), Feedback("r45", 0, "neither"), Feedback("nobody", 0, 1)]
    known = context(versions=versions((1, 2, 3)))
    state, _, outcomes = folded(placed(records), [30] * 20, known)
    shown = summary(state, known)
    champion, canary, shadow = (live_of(shown, *key) for key in ((1, "champion"), (2, "canary"), (3, "shadow")))
    assert champion.labels == {"joined": 50, "duplicate": 1, "no_row": 1}
    assert champion.coverage == 1.0
    assert champion.delay_seconds["p50"] == pytest.approx(2.0, rel=0.02)
    assert canary.labels == {"joined": 15, "duplicate": 1}
    assert canary.coverage == pytest.approx(15 / 50)
    assert canary.delay_seconds["p50"] == pytest.approx(108, rel=0.03)  # 40 rows, 2.7 records each
    assert (shadow.labels, shadow.coverage) == ({"joined": 50}, 0.5)
    assert shown.labels["unknown"] == 1
    assert sum(one.joined.counts.get((MODEL, "joined"), 0) for one in outcomes) == 65


def test_labels_of_the_wrong_type_are_counted_and_reach_no_figure() -> None:
    """Text for a number, a class that does not exist, NaN: an outcome of their own, and no alert made of them."""
    rows, labels = sea(60, 60)
    records: list[TrafficRecord] = [answered(place, row) for place, row in enumerate(rows)]
    records += [Feedback(f"r{place}", 0, label) for place, label in enumerate(labels[:20])]
    records += [Feedback(f"r{place}", 0, math.nan) for place in range(20, 40)]
    records += [Feedback(f"r{place}", 0, "no such class", math.inf) for place in range(40, 60)]
    known = context()
    state, alerts, outcomes = folded(placed(records), [7] * 20, known)
    shown = summary(state, known)
    assert live_of(shown, 1).labelled == 20
    assert live_of(shown, 1).labels == {"joined": 60, "wrong_type": 20, "unknown_class": 20, "wrong_value": 20}
    assert (shown.labels["wrong_type"], shown.labels["unknown_class"]) == (20, 20)
    assert live_of(shown, 1).value_mean is None
    assert alerts == []
    assert sum(one.joined.counts.get((MODEL, "wrong_type"), 0) for one in outcomes) == 20
    errors = next(one for one in shown.detectors if one["name"] == "errors")
    assert errors["events"] == 20


def test_text_for_a_regression_is_told_apart_from_its_errors() -> None:
    features = (Feature(name="a"),)
    rows = [[float(place % 10)] for place in range(50)]
    reference = build_reference(features, rows, [row[0] for row in rows], error_rate=0.02, error_rows=1000)
    shape = Manifest(model=MODEL, number=1, features=features, prediction=PredictionSpec(output="label", kind="value"))
    known = context(versions={MODEL: {1: Version(shape, reference, Plan(reference))}})
    records: list[TrafficRecord] = [answered(place, row, said=(row[0], [])) for place, row in enumerate(rows)]  # type: ignore[arg-type]
    records += [Feedback(f"r{place}", 0, row[0] + 1 if place < 40 else "ten") for place, row in enumerate(rows)]
    state, _, _ = folded(placed(records), [9] * 20, known)
    found = live_of(summary(state, known), 1)
    assert (found.labelled, found.labels["wrong_type"], found.metrics["mae"]) == (40, 10, 1.0)
    assert found.estimate == {}


def test_the_estimate_follows_answers_whose_labels_are_not_there() -> None:
    """All rows move to where the version is unsure; not one label of theirs has come."""
    rows, _ = sea(400, 400)
    unsure = [[4.0 + 0.01 * (place % 7), 4.0, row[2]] for place, row in enumerate(rows)]
    known = context()
    before, _, _ = folded(placed(traffic(rows, [answer_of(row)[0] for row in rows])), [100] * 20, known)
    after, _, _ = folded(placed([*traffic(rows), *traffic(unsure)]), [100] * 20, known)
    sure, found = (live_of(summary(state, known), 1).estimate for state in (before, after))
    assert sure["calibrated_on"] == "labels"
    assert sure["accuracy"] > 0.85
    assert (found["calibrated_on"], found["labels"]) == ("reference", 0)
    assert found["accuracy"] < 0.7
    assert found["rows"] == 500


def test_values_have_an_interval_for_each_version_and_role() -> None:
    rows, _ = sea(200, 200)
    records: list[TrafficRecord] = []
    for place, row in enumerate(rows):
        canary = place % 2 == 1
        fields: dict[str, Any] = {"version": 2, "role": Role.CANARY} if canary else {}
        records += [
            answered(place, row, **fields),
            Feedback(f"r{place}", 0, None, (3.0 if canary else 1.0) + place % 3),
        ]
    known = context()
    shown = summary(folded(placed(records), [50] * 10, known)[0], known)
    for version, role, mean in ((1, "champion", 2.0), (2, "canary", 4.0)):
        found = live_of(shown, version, role)
        assert found.values == 100
        assert found.value_mean == pytest.approx(mean, abs=0.05)
        assert found.value_interval is not None
        low, high = found.value_interval
        assert mean - 0.6 < low < mean < high < mean + 0.6


def test_a_feature_that_no_version_has_is_told_in_the_note() -> None:
    known = context(MonitoringPolicy(detectors=("panel",), slices=("a", "colour")))
    rows, labels = sea(30, 30)
    state, _, _ = folded(placed(traffic(rows, labels)), [30], known)
    assert "monitoring.slices: no feature colour" in summary(state, known).note


EVERYTHING = MonitoringPolicy(
    slices=("a", "b", "c"),
    online_model=OnlineModel(river="tree.HoeffdingTreeClassifier", parameters={"grace_period": 30}),
)


def everything() -> Context:
    return context(EVERYTHING, versions=versions((1, 2, 3)))


@cache
def eventful() -> tuple[Entry[TrafficRecord], ...]:
    """Champion, canary and shadow; late, early, repeated and wrong labels; values; a failure; a fallback value."""
    rows, labels = sea(120, 60)
    records: list[TrafficRecord] = [Feedback("r3", 0, 1), Feedback("r100", 0, "what")]
    for place, row in enumerate(rows):
        fields: dict[str, Any] = {"version": 2, "role": Role.CANARY} if place % 5 == 0 else {}
        records.append(answered(place, row, **fields))
        records.append(answered(place, row, version=3, role=Role.SHADOW))
        if place >= 20:
            records.append(Feedback(f"r{place - 20}", 0, labels[place - 20], float(place)))
    records.append(answered(500, rows[0], outcome=Outcome.ERROR))
    records += [answered(501, rows[0], version=0, reason=Reason.FALLBACK_VALUE), Feedback("r501", 0, 1)]
    records += [Feedback("r30", 0, 1), Feedback("r31", 4, 1), Feedback("r119", 0, None, math.nan)]
    return tuple(placed(records))


@cache
def whole() -> Monitoring:
    return shown_without_bytes(folded(eventful(), [], everything())[0])


def shown_without_bytes(state: MonitorState) -> Monitoring:
    """The summary but for the size of the online model's state: pickle remembers which texts were one object."""
    found = summary(state, everything())
    return msgspec.structs.replace(found, online={**found.online, "state_bytes": 0})


def test_the_stream_has_figures_of_every_kind() -> None:
    """Otherwise the property below would hold for a monitor that counts nothing."""
    assert {(one.version, one.role) for one in whole().live} == {(1, "champion"), (2, "canary"), (3, "shadow")}
    assert {one.slice[0] for one in whole().slices} == {"a", "b", "c"}
    assert whole().online["learned"] == 100
    assert live_of(whole(), 1).labels["duplicate"] == 1
    assert live_of(whole(), 2, "canary").labels == {"joined": 21, "unknown_class": 1, "duplicate": 1}


@given(st.lists(st.integers(1, 150), min_size=1, max_size=12))
@settings(max_examples=6, deadline=None)
def test_any_block_sizes_and_restarts_between_them_give_the_same_figures(cuts: list[int]) -> None:
    assert shown_without_bytes(folded(eventful(), cuts, everything())[0]) == whole()


def test_everything_at_once_needs_less_than_200_kilobytes_a_model() -> None:
    """Three versions with full tails, forty slices each, every figure; the online model has a limit of its own."""
    features = (Feature(name="a"), Feature(name="b"), Feature(name="c", kind="categorical"))
    rows = [[float(place % 97), place / 7, f"shop-{place % 30}"] for place in range(1000)]
    said = [answer_of([row[0] / 10, row[1] / 100, 0.0]) for row in rows]  # type: ignore[operator]
    reference = build_reference(features, rows, [one[0] for one in said], [one[1] for one in said])
    known = {
        number: Version(msgspec.structs.replace(manifest(number), features=features), reference, Plan(reference))
        for number in (1, 2, 3)
    }
    records: list[TrafficRecord] = []
    for place, row in enumerate(rows):
        for number, role in ((1, Role.CHAMPION), (3, Role.SHADOW)):
            records.append(answered(place, row, version=number, role=role, said=said[place]))
        records.append(answered(10_000 + place, row, version=2, role=Role.CANARY, said=said[place]))
        records += [Feedback(f"r{place}", 0, place % 2, 1.0), Feedback(f"r{10_000 + place}", 0, place % 2, 2.0)]
    policy = MonitoringPolicy(slices=("a", "b", "c"))
    state, _, _ = folded(placed(records), [500] * 20, context(policy, versions={MODEL: known}))
    assert len(summary(state, context(policy, versions={MODEL: known})).slices) > 80
    assert len(state.models[MODEL]) < 200_000


_label = st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.floats(), st.text(max_size=3))
_output = st.one_of(_label, st.lists(st.floats() | st.none() | st.text(max_size=2), max_size=3))


@given(st.lists(st.tuples(_label, _output, _output, st.integers(0, 2), st.none() | st.floats()), max_size=25))
@settings(max_examples=25, deadline=None)
def test_no_feedback_and_no_answer_makes_the_monitor_stop(rows: list[tuple[Any, Any, Any, int, Any]]) -> None:
    """Whatever a model answers and a client sends back, the summary stays readable."""
    records: list[TrafficRecord] = []
    for place, (label, said, chances, row, value) in enumerate(rows):
        record = answered(place, [said, label, 1.0], version=1 + place % 2, said=(said, chances))
        records += [record, Feedback(f"r{place}", row, label, value)]
    kinds = {
        1: Version(manifest(1), REFERENCE, PLAN),
        2: Version(msgspec.structs.replace(manifest(2), prediction=VALUE)),
    }
    known = context(EVERYTHING, versions={MODEL: kinds})
    state, _, _ = folded(placed(records), [3] * 10, known)
    summary(state, known)


VALUE = msgspec.structs.replace(SPEC, kind="value", probabilities="")
