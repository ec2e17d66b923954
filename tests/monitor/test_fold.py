"""The fold: what feeds which detector, what latches, what is counted; all from the entries alone."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gateway.documents.policy import MonitoringPolicy, Policy, RiverDetector
from gateway.journal.record import Alert, Feedback, TrafficRecord
from gateway.monitor.fold import Context
from gateway.monitor.state import MonitorState, read_state
from gateway.monitor.summary import summarise
from gateway.monitor.version import Version
from gateway.names import Outcome, Reason, Role
from gateway.registry.manifest import Manifest, PredictionSpec
from tests.monitor.stream import MODEL, answered, folded, manifest, placed, sea, traffic, versions

OURS = MonitoringPolicy(detectors=("panel",), false_alarm_every_events=10_000)


def context(policy: MonitoringPolicy = OURS, **more: Any) -> Context:
    return Context({MODEL: Policy(model=MODEL, monitoring=policy)}, **({"versions": versions()} | more))


def kinds(alerts: list[Alert]) -> list[str]:
    return [alert.kind for alert in alerts]


def summary(state: MonitorState, known: Context) -> Any:
    body = msgspec.json.encode(
        summarise(
            MODEL,
            state.of(MODEL),
            known.policy(MODEL).monitoring,
            known.versions.get(MODEL, {}),
            unknown=state.unknown.get("unknown", 0),
            now=1.0,
            offset="00",
            lag_seconds=0.0,
        )
    )
    return msgspec.json.decode(body)


def test_a_moved_concept_is_a_concept_alert_and_no_data_drift() -> None:
    """SEA: the features stay, only what they mean moves. Retraining on "data drift" would miss it."""
    rows, labels = sea(3000, 1500)
    _, alerts, _ = folded(placed(traffic(rows, labels)), [500] * 20)
    ours = [alert for alert in alerts if not alert.advisory]
    assert set(kinds(ours)) == {"concept_drift", "label_shift"}
    first = next(alert for alert in ours if alert.kind == "concept_drift")
    assert (first.verdict, first.response) == ("concept_drift", "retrain_since_change")
    assert 20 < first.labels_since < 200
    assert first.effects["error_rate"] > 0.2 > first.effects["baseline"]
    assert first.severity == "high"
    predicted_at = {entry.record.id: entry.time_ns for entry in placed(traffic(rows, labels))}
    assert predicted_at["r1400"] < first.since_ns < predicted_at["r1600"]


def test_moved_features_are_a_data_drift_alert_and_no_concept_alert() -> None:
    rows, _ = sea(1500, 1500)
    moved = [[row[0], row[1], row[2] + (4.0 if place > 700 else 0.0)] for place, row in enumerate(rows)]
    _, alerts, _ = folded(placed(traffic(moved)), [100] * 20, context())
    assert set(kinds(alerts)) <= {"data_drift", "data_quality"}
    drift = next(alert for alert in alerts if alert.kind == "data_drift")
    assert drift.features[0][0] == "c"
    assert drift.effects["c.wasserstein"] > 0.5
    assert drift.severity == "high"


def test_missing_values_are_a_data_quality_alert_that_names_them() -> None:
    rows: list[list[Any]] = [list(row) for row in sea(900, 900)[0]]
    for place in range(500, 900, 4):
        rows[place][1] = None
    _, alerts, _ = folded(placed(traffic(rows)), [64] * 20, context())
    assert kinds(alerts) == ["data_quality"]
    assert alerts[0].features[0][0] == "b"
    assert "b: missing" in alerts[0].message
    assert alerts[0].effects["b.missing"] > 0.1


def test_an_alert_names_the_entry_that_fired_and_comes_once() -> None:
    """The id is made of detector and place: the same journal can not give two."""
    rows = [[row[0], row[1], 50.0] for row in sea(600, 600)[0]]
    _, alerts, _ = folded(placed(traffic(rows)), [16] * 60, context())
    assert len({alert.id for alert in alerts}) == len(alerts)
    assert sorted(kinds(alerts)) == sorted(set(kinds(alerts)))


def test_the_panel_is_latched_until_another_champion() -> None:
    """A drift that stays is one alert for each champion, not one for each event."""
    rows = [[row[0], row[1], row[2] + 4.0] for row in sea(800, 800)[0]]
    records: list[TrafficRecord] = [*traffic(rows[:400]), *traffic(rows[400:], version=2, revision=7)]
    _, alerts, _ = folded(placed(records), [100] * 9, context())
    told = [(alert.version, alert.kind) for alert in alerts]
    assert (1, "data_drift") in told
    assert (2, "data_drift") in told
    assert len(set(told)) == len(told)


def test_stragglers_of_the_old_champion_do_not_bring_it_back() -> None:
    """Serving processes switch one after the other: their answers interleave for a moment."""
    rows, _ = sea(60, 60)
    records = [
        answered(place, row, version=1 if place % 2 else 2, revision=1 if place % 2 else 5)
        for place, row in enumerate(rows)
    ]
    state, _, _ = folded(placed(records), [7] * 9, context())
    remembered = state.of(MODEL)
    assert remembered.champion == 2
    assert remembered.panel.events == 30


@pytest.mark.parametrize(
    "fields",
    [
        {"role": Role.SHADOW, "version": 2},
        {"role": Role.CANARY, "version": 2},
        {"reason": Reason.PINNED},
        {"reason": Reason.CACHE},
        {"outcome": Outcome.ERROR},
    ],
)
def test_only_routed_answers_of_the_champion_feed_the_panel(fields: dict[str, Any]) -> None:
    """Pinned debugging, cached repeats and copies would bias what "the traffic" looks like."""
    rows, _ = sea(200, 200)
    records: list[TrafficRecord] = [answered(9000 + place, row) for place, row in enumerate(rows[:20])]
    records += [answered(place, [row[0] + 90, row[1], row[2]], **fields) for place, row in enumerate(rows)]
    state, alerts, _ = folded(placed(records), [50] * 5, context())
    assert state.of(MODEL).panel.events == 20
    assert [alert for alert in alerts if alert.role is Role.CHAMPION] == []


def test_challengers_errors_are_shown_and_alert_in_their_own_name() -> None:
    """A bad shadow is the rollout's business: retraining acts on the champion's alerts only."""
    rows, labels = sea(800, 800)
    records: list[TrafficRecord] = []
    for place, row in enumerate(rows):
        records.append(answered(place, row))
        records.append(answered(place, row, version=2, role=Role.SHADOW, said=(1 - labels[place], [0.5, 0.5])))
        records.append(Feedback(f"r{place}", 0, labels[place]))
    known = context()
    state, alerts, _ = folded(placed(records), [100] * 30, known)
    assert {(alert.version, alert.role) for alert in alerts} == {(2, Role.SHADOW)}
    shown = summary(state, known)
    figures = {(one["version"], one["role"]): one["rolling"]["accuracy"] for one in shown["live"]}
    assert figures[1, "champion"] > 0.85
    assert figures[2, "shadow"] == 0.0
    alarmed = {(one["name"], one["role"]): one["alarmed"] for one in shown["detectors"]}
    assert alarmed["errors", "shadow"]
    assert not alarmed["errors", "champion"]


def test_a_decline_that_goes_on_is_told_again_after_the_cool_down() -> None:
    """The first answer may not have helped; the same alert must not be the last word."""
    rows, labels = sea(1500, 0)
    policy = OURS.model_copy(update={"cooldown_labels": 300})
    _, alerts, _ = folded(placed(traffic(rows, labels)), [100] * 40, context(policy))
    assert set(kinds(alerts)) == {"concept_drift"}
    assert 3 <= len(alerts) <= 5
    assert len({alert.id for alert in alerts}) == len(alerts)


def test_a_version_without_a_reference_is_named_as_not_monitored_but_its_errors_are() -> None:
    rows, labels = sea(1500, 700)
    known = context(versions={MODEL: {1: Version(manifest(1))}})
    state, alerts, _ = folded(placed(traffic(rows, labels)), [100] * 40, known)
    shown = summary(state, known)
    assert shown["monitored"] is False
    assert shown["note"] == "not monitored: no reference"
    assert set(kinds(alerts)) == {"concept_drift", "label_shift"}


def test_without_a_gate_figure_the_error_rate_is_learned_from_the_first_labels() -> None:
    rows, labels = sea(2000, 1200)
    known = context(versions=versions(proven=False))
    early, alerts, _ = folded(placed(traffic(rows[:300], labels[:300])), [100] * 40, known)
    assert "learned from the first labels (252 of 500)" in summary(early, known)["note"]
    state, alerts, _ = folded(placed(traffic(rows, labels)), [100] * 40, known)
    assert "learned from the first 500 labels" in summary(state, known)["note"]
    assert set(kinds(alerts)) == {"concept_drift", "label_shift"}


def test_a_version_nobody_knows_is_counted_and_monitors_nothing() -> None:
    """The registry may be away; the journal is still read, answers are still counted."""
    rows, labels = sea(100, 100)
    known = context(versions={})
    state, alerts, _ = folded(placed(traffic(rows, labels)), [10] * 30, known)
    shown = summary(state, known)
    assert shown["predictions"] == 100
    assert shown["monitored"] is False
    assert alerts == []


def test_feedback_is_counted_by_how_it_was_joined() -> None:
    rows, labels = sea(10, 10)
    records: list[TrafficRecord] = [answered(place, row) for place, row in enumerate(rows)]
    records += [Feedback(f"r{place}", 0, label) for place, label in enumerate(labels[:6])]
    records += [Feedback("r0", 0, 1), Feedback("nobody", 0, 1), answered(1, rows[1]), Feedback("r1", 0, 1)]
    known = context()
    state, _, _ = folded(placed(records), [3] * 7, known)
    shown = summary(state, known)
    assert shown["labels"] == {
        "joined": 6,
        "pending": 5,
        "unknown": 1,
        "duplicate": 1,
        "late": 0,
        "reused_id": 1,
    }
    assert shown["delay_seconds"]["p50"] == 10.0
    assert 0.5 < shown["coverage"] < 0.6


def test_a_label_before_its_prediction_counts_like_any_other() -> None:
    rows, labels = sea(20, 20)
    records: list[TrafficRecord] = [Feedback(f"r{place}", 0, label) for place, label in enumerate(labels)]
    records += [answered(place, row) for place, row in enumerate(rows)]
    state, _, outcomes = folded(placed(records), [9] * 5, context())
    assert state.of(MODEL).tallies["1/champion"].labelled == 20
    assert [row.ordinal for one in outcomes for row in one.joined.labelled] == list(range(1, 21))


def test_a_business_value_counts_for_whoever_answered_with_or_without_a_label() -> None:
    rows, _ = sea(3, 3)
    records: list[TrafficRecord] = [answered(place, row) for place, row in enumerate(rows)]
    records += [Feedback("r0", 0, None, 2.0), Feedback("r1", 0, 1, 4.0)]
    known = context()
    state, _, _ = folded(placed(records), [2] * 3, known)
    assert summary(state, known)["live"][0]["value_mean"] == 3.0


def test_river_detectors_watch_errors_scores_and_features_and_say_whether_they_decide() -> None:
    detectors = (
        RiverDetector(river="ADWIN", on="errors", advisory=False),
        RiverDetector(river="ADWIN", on="c"),
        RiverDetector(river="ADWIN", on="score"),
    )
    policy = OURS.model_copy(update={"detectors": detectors})
    rows, labels = sea(1600, 800)
    moved = [[row[0], row[1], row[2] + (5.0 if place > 800 else 0.0)] for place, row in enumerate(rows)]
    _, alerts, _ = folded(placed(traffic(moved, labels)), [100] * 40, context(policy))
    told = {(alert.detector, alert.kind, alert.advisory) for alert in alerts}
    assert ("ADWIN:errors", "concept_drift", False) in told
    assert ("ADWIN:c", "data_drift", True) in told
    assert not any(detector == "ADWIN:score" for detector, _, _ in told)
    assert sum(alert.detector == "ADWIN:c" for alert in alerts) == 1


def test_an_unknown_river_detector_is_told_in_the_note_and_stops_nothing() -> None:
    policy = OURS.model_copy(update={"detectors": ("panel", RiverDetector(river="ADWINN"))})
    rows, labels = sea(120, 120)
    known = context(policy)
    state, _, _ = folded(placed(traffic(rows, labels)), [50] * 6, known)
    assert "no detector 'ADWINN'" in summary(state, known)["note"]
    assert state.of(MODEL).panel.events == 120


def test_the_checkpoint_gives_the_same_state_back() -> None:
    rows, labels = sea(300, 300)
    state, _, _ = folded(placed(traffic(rows, labels)), [100] * 6)
    assert read_state(state.encode()) == state
    assert read_state(b"") == MonitorState()


def test_folding_does_not_change_the_state_it_was_given() -> None:
    """Pure: after a failed commit the same block is folded again from the same state."""
    rows, labels = sea(300, 100)
    entries = placed(traffic(rows, labels))
    before, _, _ = folded(entries[:200], [])
    body = before.encode()
    first = folded(entries, [200])
    assert before.encode() == body
    assert folded(entries, [200])[0].of(MODEL).tallies == first[0].of(MODEL).tallies


def test_memory_stays_bounded_over_many_versions() -> None:
    """A model that is retrained twice a day for years must not grow the checkpoint."""
    rows, labels = sea(40, 40)
    records: list[TrafficRecord] = []
    for number in range(1, 61):
        for place, row in enumerate(rows):
            records.append(answered(number * 1000 + place, row, version=number, revision=number))
            records.append(Feedback(f"r{number * 1000 + place}", 0, labels[place]))
    known = context(versions=versions(range(1, 61)))
    state, _, _ = folded(placed(records), [300] * 20, known)
    remembered = state.of(MODEL)
    assert remembered.champion == 60
    assert len(remembered.tallies) <= 24
    assert len(remembered.errors) <= 24
    assert len(state.encode()) < 200_000


def test_values_are_watched_by_their_clipped_loss() -> None:
    """Regression: no class, no accuracy; the mean loss against the proven one."""
    from gateway.monitor.detectors.panel import Plan
    from gateway.registry.reference import build_reference
    from tests.monitor.stream import FEATURES

    rows, _ = sea(1200, 1200)
    reference = build_reference(FEATURES, rows, [sum(row) for row in rows], error_rate=0.02, error_rows=1000)
    shape = Manifest(model=MODEL, number=1, features=FEATURES, prediction=PredictionSpec(output="label", kind="value"))
    known = context(versions={MODEL: {1: Version(shape, reference, Plan(reference))}})
    records: list[TrafficRecord] = []
    for place, row in enumerate(rows):
        records.append(answered(place, row, said=(sum(row), [0.5, 0.5])))  # type: ignore[arg-type]
        records.append(Feedback(f"r{place}", 0, sum(row) + (0.1 if place < 600 else 6.0)))
    state, alerts, _ = folded(placed(records), [100] * 30, known)
    assert "concept_drift" in kinds(alerts)
    assert summary(state, known)["live"][0]["rolling"]["mae"] == pytest.approx(6.0)
