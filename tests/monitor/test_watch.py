"""One version in one role: what is watched of whom, what it is called, and how it ends."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.documents.policy import MonitoringPolicy, Policy
from gateway.journal.record import Alert, Cleared, Entry, Feedback, Prediction, TrafficRecord
from gateway.monitor.fold import Context
from gateway.monitor.panel import Plan
from gateway.monitor.present import judged
from gateway.monitor.state import MonitorState
from gateway.monitor.summary import summarise
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
    folded,
    manifest,
    placed,
    sea,
    traffic,
    versions,
)

OURS = MonitoringPolicy(
    detectors=("panel",), false_alarm_every_events=10_000, clear_after_events=320, cooldown_labels=100
)
PLAIN = Version(manifest(1))


def policy(**fields: Any) -> Policy:
    return Policy.model_validate({"model": MODEL, "monitoring": OURS, **fields})


def context(known: dict[int, Version] | None = None, ours: Policy | None = None) -> Context:
    return Context({MODEL: ours or policy()}, {MODEL: known} if known is not None else versions())


def told(records: Iterable[TrafficRecord], known: Context | None = None) -> tuple[MonitorState, list[Any]]:
    state, _, outcomes = folded(placed(records), [100] * 200, known or context())
    return state, [one.record for outcome in outcomes for one in outcome.told]


def shown(state: MonitorState, known: Context) -> Any:
    ours, here = known.policy(MODEL), known.versions[MODEL]
    remembered = state.of(MODEL)
    summary = summarise(MODEL, remembered, ours.monitoring, here, unknown=0, now=1.0, offset="", lag_seconds=0.0)
    return judged(summary, remembered, ours)


def moved(rows: Sequence[Sequence[float]], by: float = 4.0) -> list[list[float]]:
    return [[row[0], row[1], row[2] + by] for row in rows]


def copied(place: int, row: Sequence[float], **fields: Any) -> Iterator[Prediction]:
    """An answer of version 1 and the record of a shadow's copy, which does not repeat the inputs."""
    yield answered(place, row)
    yield replace(answered(place, row, version=2, role=Role.SHADOW, **fields), inputs=None)


def labelled(labels: Iterable[int], wrong: Iterable[bool], start: int = 0, **fields: Any) -> Iterator[TrafficRecord]:
    """Answers with their labels at once; wrong: where the answer is the other class."""
    for place, (label, is_wrong) in enumerate(zip(labels, wrong, strict=True), start):
        said = 1 - label if is_wrong else label
        yield answered(place, [1.0, 2.0, 3.0], said=(said, [1.0 - said, float(said)]), **fields)
        yield Feedback(f"r{place}", 0, label)


def draws(count: int, share: float, seed: int = 3) -> list[bool]:
    return [one < share for one in np.random.default_rng(seed).random(count).tolist()]


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


# The life of an alert --------------------------------------------------------------------------------------------


def test_data_that_comes_back_clears_the_alert_and_arms_the_panel_again() -> None:
    """An outage that was repaired must not hide the next one."""
    rows, _ = sea(2000, 2000)
    body = [*rows[:200], *moved(rows[200:400]), *rows[400:1400], *moved(rows[1400:1600])]
    state, found = told(traffic(body))
    drift = [one for one in found if one.kind == "data_drift"]
    assert [type(one) for one in drift] == [Alert, Cleared, Alert]
    assert drift[1].alert == drift[0].id != drift[2].id
    states = {one["id"]: one["state"] for one in shown(state, context()).alerts}
    assert (states[drift[0].id], states[drift[2].id]) == ("cleared", "raised")


def test_a_drift_that_stays_is_one_alert_that_is_never_cleared() -> None:
    rows, _ = sea(2500, 2500)
    state, found = told(traffic([*rows[:200], *moved(rows[200:])]))
    assert [type(one) for one in found if one.kind == "data_drift"] == [Alert]
    assert state.of(MODEL).panel.latched


def test_what_is_over_is_cleared_while_another_kind_goes_on() -> None:
    """A dead sensor must not keep every other alert alive."""
    rows, _ = sea(2400, 2400)
    body: list[list[Any]] = [list(row) for row in [*rows[:200], *moved(rows[200:400]), *rows[400:]]]
    for place in range(200, len(body), 3):
        body[place][1] = None
    _, found = told(traffic(body))
    assert [one.kind for one in found if isinstance(one, Cleared)] == ["data_drift"]


def test_errors_that_are_as_proven_again_clear_the_alert() -> None:
    wrong = draws(300, 0.1) + draws(300, 0.5) + draws(600, 0.05)
    labels = [int(one) for one in draws(len(wrong), 0.5)]
    _, found = told(labelled(labels, wrong), context({1: PLAIN}))
    alerts = [one for one in found if isinstance(one, Alert)]
    assert {one.kind for one in alerts} == {"concept_drift"}
    assert [one.alert for one in found if isinstance(one, Cleared)] == [one.id for one in alerts]
    assert "at most 0.1" in found[-1].reason


def test_another_champion_ends_what_stood_against_the_last_one() -> None:
    """It has a reference of its own; what it does not see is over, what it sees is told again in its name."""
    rows, _ = sea(600, 600)
    records = [*traffic(moved(rows[:300])), *traffic(moved(rows[300:]), version=2, revision=5)]
    _, found = told(records)
    cleared = [one for one in found if isinstance(one, Cleared)]
    assert cleared
    assert {one.reason for one in cleared} == {"sea@2 is champion now"}
    assert [one.id for one in found if isinstance(one, Alert) and one.version == 1] == [one.alert for one in cleared]


def test_suspicion_ends_when_the_labels_of_the_moved_rows_show_that_all_is_well() -> None:
    """The alert keeps what was known when it was raised; the model's verdict moves on."""
    rows, labels = sea(900, 900)
    body = [*rows[:300], *moved(rows[300:])]
    known = context()
    late = [Feedback(f"r{place}", 0, label) for place, label in enumerate(labels)]
    records = list(traffic(body))
    state, found = told(records, known)
    assert {one.verdict for one in found if one.kind == "data_drift"} == {"suspected"}
    assert shown(state, known).verdict == "suspected"
    state, _ = told([*records, *late], known)
    summary = shown(state, known)
    assert (summary.verdict, summary.response) == ("benign_data_drift", "propose_reference")
    assert summary.verdicts[0]["verdict"] == "benign_data_drift"


@pytest.mark.parametrize(("theirs", "verdict"), [(0.1, "bad_release"), (0.5, "concept_drift")])
def test_errors_right_after_a_release_are_its_fault_only_if_the_last_champion_has_none(
    theirs: float, verdict: str
) -> None:
    """Both answer the same rows: what fails both is the stream's."""
    known = context({1: PLAIN, 2: Version(manifest(2))})
    labels = [int(one) for one in draws(700, 0.5)]
    records = list(labelled(labels[:300], draws(300, 0.1)))
    bad, old = draws(400, 0.5, seed=4), draws(400, theirs, seed=5)
    for place, label in enumerate(labels[300:], 300):
        new, before = (1 - label if wrong[place - 300] else label for wrong in (bad, old))
        records.append(answered(place, [1.0, 2.0, 3.0], version=2, revision=5, said=(new, [0.5, 0.5])))
        copy = answered(place, [1.0, 2.0, 3.0], role=Role.SHADOW, revision=5, said=(before, [0.5, 0.5]))
        records += [replace(copy, inputs=None), Feedback(f"r{place}", 0, label)]
    _, found = told(records, known)
    first = next(one for one in found if isinstance(one, Alert) and one.kind == "concept_drift")
    assert (first.version, first.role, first.verdict) == (2, Role.CHAMPION, verdict)
    assert {one.version for one in found} == {2}


@cache
def eventful() -> tuple[Entry[TrafficRecord], ...]:
    """A life: drift that comes and goes, a shadow, labels that shift, errors that rise and fall, a new champion."""
    rows, labels = sea(1500, 700)
    body = [*rows[:150], *moved(rows[150:350]), *rows[350:]]
    records: list[TrafficRecord] = []
    for place, row in enumerate(body):
        champion: dict[str, Any] = {"version": 3, "revision": 4} if place >= 1300 else {}
        records.append(answered(place, row, said=answer_of(row, 12.0 if place > 1000 else 8.0), **champion))
        records.append(replace(answered(place, row, version=2, role=Role.SHADOW), inputs=None))
        if place >= 40:
            records.append(Feedback(f"r{place - 40}", 0, labels[place - 40]))
    return tuple(placed(records))


KNOWN = Context({MODEL: policy()}, versions((1, 2, 3)))


def test_the_life_below_has_alerts_and_clearings_of_several_kinds() -> None:
    """Otherwise the property would hold for a monitor that never says anything."""
    found = whole()
    assert {"data_drift", "concept_drift", "label_shift"} <= {one.record.kind for one in found}
    assert {"data_drift", "concept_drift"} <= {one.record.kind for one in found if isinstance(one.record, Cleared)}
    assert len({one.record.id for one in found}) == len(found)


@cache
def whole() -> tuple[Any, ...]:
    return tuple(one for outcome in folded(eventful(), [], KNOWN)[2] for one in outcome.told)


@given(st.lists(st.integers(1, 900), min_size=1, max_size=12))
@settings(max_examples=4, deadline=None)
def test_any_block_sizes_tell_the_same_at_the_same_places(sizes: list[int]) -> None:
    outcomes = folded(eventful(), sizes, KNOWN)[2]
    assert tuple(one for outcome in outcomes for one in outcome.told) == whole()
