"""When a job is due, and why not."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.documents.job import Retraining
from gateway.documents.policy import RetrainingPolicy
from gateway.journal.record import Alert
from gateway.names import ModelName, Role
from gateway.retraining.memory import Memory
from gateway.retraining.triggers import (
    Due,
    Refused,
    TriggerFacts,
    considered,
    cooldown_labels,
    due,
    look_again_seconds,
    next_run,
)

NOW = 1_700_000_000.0
PENDING = Retraining(pending_alert="a1", pending_version=3, pending_since_ns=5, labels=100, last_started=1.0)
READY = TriggerFacts(labels=400, champion=3)


def policy(**parts: object) -> RetrainingPolicy:
    """A policy with a recipe and the default guards."""
    return RetrainingPolicy.model_validate({"recipe": "models/m.py", **parts})


def test_error_alert_starts_a_job_that_answers_it() -> None:
    """The manifest names the alert, so the rollout takes the short plan."""
    found = due(policy(), PENDING, READY, NOW)
    assert isinstance(found, Due)
    assert (found.trigger, found.alert, found.key, found.change_ns) == ("error_drift", "a1", "a1", 5)


def test_alert_waits_for_the_cool_down_and_is_not_lost() -> None:
    """At label 349 of 350 it waits, with the same sentence each time; at 350 it starts."""
    early = due(policy(), PENDING, TriggerFacts(labels=349, champion=3), NOW)
    assert early == due(policy(), PENDING, TriggerFacts(labels=348, champion=3), NOW)
    assert isinstance(early, Refused)
    assert early.keep
    assert "350" in early.reason
    assert early.until_labels == 350
    assert isinstance(due(policy(), PENDING, TriggerFacts(labels=350, champion=3), NOW), Due)


def test_first_job_needs_no_cool_down() -> None:
    """There was no job whose effect one would wait for."""
    state = Retraining(pending_alert="a1", pending_version=3)
    assert isinstance(due(policy(), state, TriggerFacts(labels=10, champion=3), NOW), Due)


@pytest.mark.parametrize(
    ("facts", "keep", "word"),
    [
        (TriggerFacts(labels=400, champion=3, frozen=True), True, "frozen"),
        (TriggerFacts(labels=400, champion=3, silenced=True), True, "silenced"),
        (TriggerFacts(labels=400, champion=3, has_recipe=False), True, "recipe"),
        (TriggerFacts(labels=400, champion=3, rollout=4, rollout_answers="a0"), True, "version 4"),
        (TriggerFacts(labels=400, champion=3, rollout=4, rollout_answers="a1"), False, "already answers"),
        (TriggerFacts(labels=400, champion=4), False, "no longer answers"),
        (TriggerFacts(labels=400, champion=3, latched=False), False, "cleared"),
    ],
)
def test_hindrance_is_named_and_the_alert_kept_while_it_may_still_count(
    facts: TriggerFacts, keep: bool, word: str
) -> None:
    """An alert is forgotten only when it is about something that is over."""
    found = due(policy(), PENDING, facts, NOW)
    assert isinstance(found, Refused)
    assert found.keep is keep
    assert word in found.reason


def test_error_alert_does_not_wait_for_a_rollout_that_answers_nothing() -> None:
    """The standard plan takes thousands of requests; the champion fails now."""
    assert isinstance(due(policy(), PENDING, TriggerFacts(labels=400, champion=3, rollout=4), NOW), Due)


def test_data_alert_waits_for_any_rollout_and_answers_no_error_alert() -> None:
    """Nobody knows yet that the champion fails, so its version takes the long plan."""
    from msgspec.structs import replace

    state = replace(PENDING, pending_trigger="data_drift")
    found = due(policy(), state, READY, NOW)
    assert isinstance(found, Due)
    assert (found.trigger, found.alert) == ("data_drift", "")
    assert isinstance(due(policy(), state, TriggerFacts(labels=400, champion=3, rollout=4), NOW), Refused)


def test_budget_of_a_day_holds_and_ends() -> None:
    """The twenty-four hours slide."""
    from msgspec.structs import replace

    state = replace(PENDING, started_today=(NOW - 100, NOW - 50))
    small = policy(guards={"jobs_a_day": 2})
    refused = due(small, state, READY, NOW)
    assert isinstance(refused, Refused)
    assert "budget" in refused.reason
    assert isinstance(due(small, state, READY, NOW + 86_400 - 60), Due)


def test_cool_down_doubles_after_rejections_up_to_a_bound() -> None:
    """A gate that says no again and again should not be asked every time."""
    found = [cooldown_labels(policy(), rejections) for rejections in range(8)]
    assert found == [250, 250, 500, 1000, 2000, 2000, 2000, 2000]


def test_what_a_person_asked_for_starts_in_spite_of_everything() -> None:
    """A frozen model, a cool-down and an empty budget bind only the machine."""
    facts = TriggerFacts(labels=101, champion=3, frozen=True, rollout=4, queued="j1")
    found = due(policy(guards={"jobs_a_day": 1}), PENDING, facts, NOW)
    assert isinstance(found, Due)
    assert (found.trigger, found.key) == ("on_demand", "j1")


def test_label_count_starts_a_job_once() -> None:
    """The key names the count, so a repeat after a crash is the same job."""
    wanted = policy(triggers={"labels": 300})
    state = Retraining(labels=100, last_started=1.0)
    assert due(wanted, state, TriggerFacts(labels=399, champion=3), NOW) is None
    one, two = (due(wanted, state, TriggerFacts(labels=labels, champion=3), NOW) for labels in (400, 405))
    assert isinstance(one, Due)
    assert isinstance(two, Due)
    assert one.key == two.key


def test_schedule_starts_when_its_time_has_come() -> None:
    """Three in the morning, UTC."""
    wanted = policy(triggers={"schedule": "0 3 * * *"})
    at = next_run("0 3 * * *", NOW)
    state = Retraining(last_schedule=NOW)
    assert due(wanted, state, READY, at - 1) is None
    assert isinstance(due(wanted, state, READY, at), Due)
    assert due(wanted, Retraining(), READY, at) is None
    with pytest.raises(ValueError, match="schedule"):
        next_run("every day", NOW)


@pytest.mark.parametrize(
    ("metric", "below", "value", "starts"),
    [("accuracy", 0.7, 0.69, True), ("accuracy", 0.7, 0.7, False), ("mae", 5.0, 5.1, True), ("mae", 5.0, 4.9, False)],
)
def test_low_performance_starts_a_job(metric: str, below: float, value: float, starts: bool) -> None:
    """For errors, worse means larger."""
    wanted = policy(triggers={"performance": {"metric": metric, "below": below}})
    found = due(wanted, Retraining(), TriggerFacts(labels=400, champion=3, performance=value), NOW)
    assert isinstance(found, Due) is starts


def alert(**fields: Any) -> Alert:
    """The monitor's word about version 3, the champion."""
    words: dict[str, Any] = {
        "id": "a1",
        "model": "m",
        "detector": "d",
        "severity": "high",
        "message": "",
        "kind": "concept_drift",
    }
    words |= {"version": 3, "role": Role.CHAMPION, "evidence": 2.0, "threshold": 1.0}
    return Alert(**{**words, **fields})


@pytest.mark.parametrize(
    ("fields", "trigger"),
    [
        ({}, "error_drift"),
        ({"verdict": "concept_drift"}, "error_drift"),
        ({"verdict": "concept_and_data_drift"}, "error_drift"),
        ({"kind": "performance", "verdict": "below_limit"}, "error_drift"),
        ({"advisory": True}, ""),
        ({"version": 2}, ""),
        ({"role": Role.CANARY}, ""),
        ({"verdict": "data_quality"}, ""),
        ({"verdict": "bad_release"}, ""),
        ({"kind": "data_drift"}, "data_drift"),
        ({"kind": "prediction_drift", "verdict": "suspected"}, "data_drift"),
        ({"kind": "data_drift", "verdict": "benign_data_drift"}, ""),
        ({"kind": "data_quality"}, ""),
        ({"kind": "label_shift"}, ""),
    ],
    ids=str,
)
def test_only_real_drift_of_the_champion_trains(fields: dict[str, Any], trigger: str) -> None:
    """Broken data is for its owner to repair, a bad release for the rollout to take back; neither is learned."""
    wanted = policy(triggers={"data_drift": "shadow_only"})
    assert considered(wanted, alert(**fields), 3) == trigger
    off = policy(triggers={"error_drift": False})
    assert considered(off, alert(**fields), 3) == ""


def test_who_waits_for_labels_looks_again_when_they_will_be_there() -> None:
    """Half a second at the latest, as when none come."""
    assert look_again_seconds(missing=60, came=150, seconds=0.5, longest=0.5) == pytest.approx(0.2)
    assert look_again_seconds(missing=6000, came=150, seconds=0.5, longest=0.5) == 0.5
    assert look_again_seconds(missing=60, came=0, seconds=0.5, longest=0.5) == 0.5


def test_a_memory_learns_how_fast_labels_come() -> None:
    memory = Memory(ModelName("m"), waits_for=1_000)
    for number in range(7):
        memory.labels = 300 + 100 * number  # 200 a second
        assert memory.look_again_seconds(now=10 + number / 2, longest=0.5) == 0.5
    memory.labels = 980
    assert memory.look_again_seconds(now=13.4, longest=0.5) == pytest.approx(20 * 0.4 / 80)
    memory.waits_for = 0
    assert memory.look_again_seconds(now=14.0, longest=0.5) == 0.5
