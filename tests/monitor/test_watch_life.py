"""How an alert ends, what its verdict becomes, and that it is the same however the journal is cut."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.journal.record import Alert, Cleared, Entry, Feedback, TrafficRecord
from gateway.monitor.fold import Context
from gateway.monitor.version import Version
from gateway.names import Role
from tests.monitor.stream import (
    MODEL,
    answer_of,
    answered,
    folded,
    manifest,
    placed,
    sea,
    traffic,
    versions,
)
from tests.monitor.watching import PLAIN, context, draws, labelled, moved, policy, shown, told


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
