"""One version in one role: what is watched of whom, and what it is called."""

from __future__ import annotations

import numpy as np
from msgspec.structs import replace

from gateway.journal.record import Alert, Cleared, Feedback, TrafficRecord
from gateway.monitor.detectors.panel import Plan
from gateway.monitor.fold import Context
from gateway.monitor.version import Version
from gateway.names import Role
from gateway.registry.manifest import Feature, Manifest, PredictionSpec
from gateway.registry.reference import build_reference
from tests.monitor.stream import (
    FEATURES,
    MODEL,
    PLAN,
    REFERENCE,
    SPEC,
    answer_of,
    answered,
    manifest,
    sea,
    versions,
)
from tests.monitor.watching import PLAIN, context, copied, draws, labelled, moved, policy, shown, told

# Whom ------------------------------------------------------------------------------------------------------------


def test_a_challenger_is_held_against_its_own_reference() -> None:
    """A version trained on other data than it gets is seen before it answers anybody; the champion is not blamed."""
    rows, _ = sea(500, 500)
    body = moved(sea(2000, 2000, seed=7)[0])
    said = [answer_of(row) for row in body]
    theirs = build_reference(FEATURES, body, [one[0] for one in said], [one[1] for one in said])
    known = context({1: Version(manifest(1), REFERENCE, PLAN), 2: Version(manifest(2), theirs, Plan(theirs))})
    records = [one for place, row in enumerate(rows) for one in copied(place, row)]
    state, found = told(records, known)
    drift = next(one for one in found if one.kind == "data_drift")
    assert {(one.version, one.role) for one in found} == {(2, Role.SHADOW)}
    assert drift.response == "roll_back"
    assert drift.features[0][0] == "c"
    rows_shown = {(one["name"], one["version"], one["role"]) for one in shown(state, known).detectors}
    assert {("panel", 1, "champion"), ("panel", 2, "shadow")} <= rows_shown


def test_what_both_see_is_the_stream_s_and_rolls_nothing_back() -> None:
    rows, _ = sea(400, 400)
    records = [one for place, row in enumerate(moved(rows)) for one in copied(place, row)]
    _, found = told(records)
    theirs = [one for one in found if isinstance(one, Alert) and one.role is Role.SHADOW]
    assert theirs
    assert {one.response for one in theirs} == {"watch"}


def test_a_copy_that_comes_before_its_answer_is_counted_and_not_bet_on() -> None:
    """Its inputs are not known yet; guessing them would be evidence made of nothing."""
    rows, _ = sea(40, 40)
    records = [one for place, row in enumerate(rows) for one in reversed(list(copied(place, row)))]
    state, _ = told(records)
    assert state.of(MODEL).tallies["2/shadow"].predictions == 40
    assert state.of(MODEL).panel.events == 40
    assert "2/shadow" not in state.of(MODEL).panels


def test_a_challenger_s_bad_answers_are_its_own_alert() -> None:
    """Named by version and role, so that nobody trains for it; the champion has none."""
    rows, labels = sea(600, 600)
    records: list[TrafficRecord] = []
    for place, row in enumerate(rows):
        records += copied(place, row, said=(1 - labels[place], [0.5, 0.5]))
        records.append(Feedback(f"r{place}", 0, labels[place]))
    _, found = told(records)
    failing = [one for one in found if one.kind == "concept_drift"]
    assert failing
    said = {(one.version, one.role, one.verdict, one.response) for one in failing}
    assert said == {(2, Role.SHADOW, "bad_release", "roll_back")}


def test_more_challengers_than_are_watched_wait_for_room() -> None:
    """The state stays small; a panel that is not used any more makes room."""
    rows, _ = sea(300, 300)
    known = Context({MODEL: policy()}, versions(range(1, 7)))
    records: list[TrafficRecord] = []
    for place, row in enumerate(rows):
        records.append(answered(place, row))
        records += [
            replace(answered(place, row, version=version, role=Role.SHADOW), inputs=None) for version in range(2, 7)
        ]
    state, _ = told(records, known)
    assert sorted(state.of(MODEL).panels) == ["1/champion", "2/shadow", "3/shadow"]


def test_the_state_of_thirty_features_and_two_challengers_stays_small() -> None:
    """It is written with every block: 200 kB at most, with all alarmed and the check under way."""
    random = np.random.default_rng(2)
    features = tuple(Feature(name=f"f{place}") for place in range(30))
    reference = build_reference(features, random.normal(size=(1000, 30)).tolist())
    shape = Manifest(model=MODEL, number=1, features=features, prediction=SPEC)
    known = context({number: Version(shape, reference, Plan(reference)) for number in (1, 2, 3)})
    records: list[TrafficRecord] = []
    rows = random.normal(size=(400, 30))
    rows[:100] += 0.8
    for place, row in enumerate(rows.tolist()):
        one = answered(place, row, said=(1, [0.5, 0.5]))
        records.append(one)
        records += [replace(one, version=number, role=Role.SHADOW, inputs=None) for number in (2, 3)]
    state, found = told(records, known)
    remembered = state.of(MODEL)
    assert {one.version for one in found if one.kind == "data_drift"} == {1, 2, 3}
    assert remembered.panel.check
    assert len(state.encode()) < 200_000


# Labels ----------------------------------------------------------------------------------------------------------


def test_other_shares_of_labels_are_a_label_shift_and_no_concept_drift() -> None:
    """The model is as right as ever; training it again would change nothing that its threshold does not."""
    labels = [int(one) for one in (*draws(900, 0.3), *draws(600, 0.6))]
    known = context({1: PLAIN})
    state, found = told(labelled(labels, draws(1500, 0.05)), known)
    assert [(one.kind, one.detector, one.verdict, one.response) for one in found] == [
        ("label_shift", "labels", "label_shift", "recalibrate")
    ]
    assert found[0].effects["label.psi"] > 0.1
    assert 10 < found[0].labels_since < 400
    assert (shown(state, known).verdict, shown(state, known).response) == ("label_shift", "recalibrate")


def test_the_reference_s_labels_are_compared_with_from_the_first_label_on() -> None:
    """A version that brings the shares of its training need not learn them from a stream that moved already."""
    reference = build_reference(
        FEATURES, sea(1000, 1000)[0], prediction_kind="class", labels=[int(one) for one in draws(1000, 0.3)]
    )
    known = context({1: Version(manifest(1), reference, None)})
    _, found = told(labelled([int(one) for one in draws(300, 0.7)], draws(300, 0.05)), known)
    assert [one.kind for one in found] == ["label_shift"]


def test_shares_that_are_learned_say_so_and_stay_quiet_on_a_quiet_stream() -> None:
    known = context({1: PLAIN})
    labels = [int(one) for one in draws(3000, 0.3, seed=8)]
    early, _ = told(labelled(labels[:120], draws(120, 0.05)), known)
    learning = next(one for one in shown(early, known).detectors if one["name"] == "labels")
    assert (learning["learned"], learning["learned_of"]) == (120, 500)
    state, found = told(labelled(labels, draws(3000, 0.05)), known)
    assert found == []
    assert state.of(MODEL).share.panel.events == 2500


def test_numbers_are_watched_by_level_where_the_reference_has_them_else_it_is_said() -> None:
    """Quantiles are not learned from a few labels: a stated gap is better than a loose alarm."""
    rows = sea(1000, 1000)[0]
    truth = [sum(row) for row in rows]
    shape = Manifest(model=MODEL, number=1, features=FEATURES, prediction=PredictionSpec(output="label", kind="value"))
    records: list[TrafficRecord] = []
    for place, row in enumerate(rows[:400]):
        records.append(answered(place, row, said=(sum(row) + 5, [0.5, 0.5])))  # type: ignore[arg-type]
        records.append(Feedback(f"r{place}", 0, sum(row) + 5))
    with_labels = build_reference(FEATURES, rows, truth, labels=truth)
    _, found = told(records, context({1: Version(shape, with_labels, None)}))
    assert [one.kind for one in found] == ["label_shift"]
    without = build_reference(FEATURES, rows, truth)
    known = context({1: Version(shape, without, None)})
    state, found = told(records, known)
    assert found == []
    assert "labels not monitored because the reference holds none" in shown(state, known).note


def test_a_feature_that_the_reference_lacks_is_named_and_the_others_are_watched() -> None:
    """A version that takes more than it was measured on: said, never guessed."""
    rows = sea(1000, 1000)[0]
    said = [answer_of(row) for row in rows]
    ours = build_reference(FEATURES[:2], [row[:2] for row in rows], [one[0] for one in said], [one[1] for one in said])
    known = context({1: Version(manifest(1), ours, Plan(ours))})
    state, found = told([answered(place, row) for place, row in enumerate(rows)], known)
    assert found == []
    assert "c not monitored because the reference does not hold it" in shown(state, known).note
    _, found = told([answered(place, [row[1] + 5, *row[1:]]) for place, row in enumerate(rows)], known)
    assert {"data_drift", "data_quality"} & {one.kind for one in found}


# The policy's limit ----------------------------------------------------------------------------------------------


def test_the_limit_is_told_once_for_each_crossing_and_cleared_when_it_is_met_again() -> None:
    """Not on every label below it: one alert starts one job."""
    limited = policy(retraining={"triggers": {"performance": {"metric": "accuracy", "below": 0.94}}})
    wrong = draws(200, 0.02) + draws(500, 0.1) + draws(600, 0.02) + draws(500, 0.1)
    labels = [int(one) for one in draws(len(wrong), 0.5)]
    _, found = told(labelled(labels, wrong), context({1: PLAIN}, limited))
    found = [one for one in found if one.kind == "performance"]
    assert [type(one) for one in found] == [Alert, Cleared, Alert]
    first, cleared, _ = found
    assert (first.verdict, first.response) == ("below_limit", "retrain_all_windows")
    assert first.evidence < first.threshold == 0.94
    assert "accuracy of sea@1 is 0.9" in first.message
    assert cleared.alert == first.id


def test_few_labels_cross_no_limit() -> None:
    limited = policy(retraining={"triggers": {"performance": {"metric": "accuracy", "below": 0.8}}})
    _, found = told(labelled([1] * 99, [True] * 99), context({1: PLAIN}, limited))
    assert [one.kind for one in found if one.kind == "performance"] == []
