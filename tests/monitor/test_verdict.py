"""The table from evidence to name and response: every row has its case, and the order of the rows matters."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.monitor.alerts.evidence import gather
from gateway.monitor.alerts.verdict import RESPONSES, TABLE, Evidence, judge
from gateway.monitor.state import ErrorState, Latch, ModelState, PanelState

evidences = st.builds(
    Evidence,
    **{name: st.booleans() for name in Evidence.__struct_fields__ if name not in ("errors", "only_this")},
    errors=st.sampled_from([True, False, None]),
    only_this=st.sampled_from([True, False, None]),
)


@pytest.mark.parametrize(
    ("fields", "verdict", "response"),
    [
        ({}, "", ""),
        ({"quality": True}, "data_quality", "alert_owner"),
        ({"inputs": True, "errors": False}, "benign_data_drift", "propose_reference"),
        ({"inputs": True, "prediction": True}, "suspected", "ask_for_labels"),
        ({"inputs": True, "quality": True}, "suspected", "ask_for_labels"),
        ({"label_share": True, "errors": False, "inputs": True}, "label_shift", "recalibrate"),
        ({"label_share": True}, "label_shift", "recalibrate"),
        ({"label_share": True, "inputs": True}, "suspected", "ask_for_labels"),
        ({"errors": True}, "concept_drift", "retrain_since_change"),
        ({"errors": True, "label_share": True}, "concept_drift", "retrain_since_change"),
        ({"errors": True, "inputs": True}, "concept_and_data_drift", "retrain_all_windows"),
        ({"errors": True, "quality": True}, "concept_and_data_drift", "retrain_all_windows"),
        ({"errors": True, "quality": True, "missing": True}, "data_quality", "alert_owner"),
        ({"errors": True, "on_probation": True, "only_this": True}, "bad_release", "roll_back"),
        ({"errors": True, "on_probation": True, "only_this": None}, "concept_drift", "retrain_since_change"),
        ({"errors": True, "only_this": True}, "concept_drift", "retrain_since_change"),
        ({"below_limit": True, "errors": False}, "below_limit", "retrain_all_windows"),
    ],
    ids=str,
)
def test_each_combination_has_its_name_and_response(fields: dict[str, Any], verdict: str, response: str) -> None:
    """The same alarm calls for opposite acts: train, do not train, take the version back."""
    assert judge(Evidence(**fields)) == (verdict, response)


@given(evidences)
def test_whatever_is_known_there_is_one_answer_in_known_words(evidence: Evidence) -> None:
    """And broken data or a bad release never calls for training, nor a version on trial."""
    verdict, response = judge(evidence)
    assert (verdict == "") == (response == "")
    assert response == "" or response in RESPONSES
    if verdict in ("data_quality", "bad_release") or not evidence.is_champion:
        assert not response.startswith("retrain")


def test_every_row_of_the_table_is_reached() -> None:
    """A row that others cover would be a promise that nothing keeps."""
    for place, rule in enumerate(TABLE):
        assert rule.response in RESPONSES
        assert any(not any(other.holds(one) for other in TABLE[:place]) and rule.holds(one) for one in CASES)


CASES = [
    Evidence(errors=True, on_probation=True, only_this=True),
    Evidence(errors=True, quality=True, missing=True),
    Evidence(errors=True, inputs=True),
    Evidence(errors=True),
    Evidence(below_limit=True),
    Evidence(label_share=True),
    Evidence(inputs=True, errors=False),
    Evidence(prediction=True),
    Evidence(quality=True),
]


def held(kind: str, version: int = 1, role: str = "champion", **fields: Any) -> Latch:
    return Latch(version, role, kind, "panel", [f"{kind}-1"], **fields)


def gathered(state: ModelState, version: int = 1, role: str = "champion", kind: str = "") -> Evidence:
    return gather(state, version, role, threshold=1e4, probation_labels=500, kind=kind)


def test_errors_are_quiet_only_when_labels_of_the_new_rows_say_so() -> None:
    """Labels of old rows say nothing about rows that moved since."""
    known = ErrorState(labels=5000, rate=0.1, rate_rows=1000)
    early = ModelState(champion=1, errors={"1/champion": known}, latches=[held("data_drift", labels=99)])
    assert gathered(early).errors is None
    late = ModelState(champion=1, errors={"1/champion": known}, latches=[held("data_drift", labels=100)])
    assert gathered(late).errors is False
    doubtful = ErrorState(labels=5000, rate=0.1, rate_rows=1000, evidence=1001.0)
    late.errors["1/champion"] = doubtful
    assert gathered(late).errors is None


def test_a_second_opinion_is_no_evidence() -> None:
    state = ModelState(champion=1, latches=[held("concept_drift", advisory=True)])
    assert judge(gathered(state)) == ("", "")


def errors(rate: float, count: int = 200, **fields: Any) -> ErrorState:
    return ErrorState(labels=count, rate=0.1, rate_rows=1000, fresh=count, recent=rate, **fields)


@pytest.mark.parametrize(
    ("other", "only_this"),
    [
        (errors(0.1), True),
        (errors(0.38), False),
        (errors(0.1, quiet_until=300), False),
        (errors(0.1, count=24), None),
        (errors(0.33), False),
    ],
    ids=["fine", "as bad", "told just now", "hardly labelled", "not clearly"],
)
def test_a_bad_release_needs_another_version_that_is_fine_on_the_same_rows(
    other: ErrorState, only_this: bool | None
) -> None:
    """Otherwise the stream may have moved for everyone, and the old version would be no better."""
    state = ModelState(champion=2, previous=1, errors={"2/champion": errors(0.4), "1/shadow": other})
    assert gathered(state, 2).only_this is only_this


def test_errors_in_runs_say_less_about_a_release() -> None:
    """Half of a drifting stream's errors follow another one: a run of them meets every release sooner or later."""
    counts: dict[str, Any] = {"sum": 40.0, "squares": 40.0}
    steady, runs = errors(0.15, **counts, products=8.0), errors(0.15, **counts, products=30.0)
    for other, only_this in ((steady, True), (runs, False)):
        state = ModelState(champion=2, previous=1, errors={"2/champion": errors(0.4), "1/shadow": other})
        assert gathered(state, 2).only_this is only_this


def test_a_release_that_only_rose_more_is_no_worse_than_the_last_champion() -> None:
    """It promised more than it keeps, and still answers as well: nobody gains by taking it back."""
    other = errors(0.4)
    other.rate = 0.39
    state = ModelState(champion=2, previous=1, errors={"2/champion": errors(0.4), "1/shadow": other})
    assert gathered(state, 2).only_this is False


def test_probation_ends_and_the_first_version_has_none() -> None:
    aged = errors(0.4, count=501)
    assert not gathered(ModelState(champion=2, previous=1, errors={"2/champion": aged}), 2).on_probation
    young = errors(0.4, count=500)
    assert gathered(ModelState(champion=2, previous=1, errors={"2/champion": young}), 2).on_probation
    assert not gathered(ModelState(champion=2, errors={"2/champion": young}), 2).on_probation


def test_what_the_champion_shows_too_is_not_the_challenger_s_fault() -> None:
    """Also when its own detector only doubts yet: which of two speaks first is chance."""
    mine = held("data_quality", 2, "shadow")
    alone = ModelState(champion=1, latches=[mine])
    assert judge(gathered(alone, 2, "shadow")).response == "roll_back"
    both = ModelState(champion=1, latches=[mine, held("data_quality")])
    assert judge(gathered(both, 2, "shadow")).response == "watch"
    doubt = ModelState(champion=1, latches=[mine], panels={"1/champion": PanelState(evidence=100.0)})
    assert judge(gathered(doubt, 2, "shadow", "data_quality")) == ("data_quality", "watch")
