"""What a job's start and end leave behind in the supervisor's memory, and what is asked of people."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from gateway.documents.job import Job, JobState, Retraining
from gateway.documents.policy import JobGuards, RetrainingPolicy
from gateway.retraining.aftermath import after_change, after_end, after_start
from gateway.retraining.triggers import Due, Refused, TriggerFacts, due, over

NOW = 1_700_000_000.0
POLICY = RetrainingPolicy(recipe="models/m.py", follow_ups=(500, 1500), guards=JobGuards(cooldown_labels=0))


def job(trigger: str, state: JobState, **fields: object) -> Job:
    """A job that has ended."""
    known: dict[str, object] = {"id": "j", "model": "m", "reason": "", "detail": "because"}
    return Job(trigger=trigger, state=state, **{**known, **fields})  # type: ignore[arg-type]


def alarmed(labels: int = 1000) -> Retraining:
    """The memory after the job of an alert was started."""
    state = Retraining(pending_alert="a1", pending_version=3, pending_since_ns=7, champion=3)
    cause = due(POLICY, state, TriggerFacts(labels=labels, champion=3), NOW)
    assert isinstance(cause, Due)
    return replace(state, **after_start(POLICY, state, cause, NOW, labels, 3))


def test_alert_is_followed_up_at_growing_distances_until_one_is_not_better() -> None:
    """At 500 labels, at 1,500, then no more; each job knows the time of the change."""
    state = alarmed()
    assert due(POLICY, state, TriggerFacts(labels=1499, champion=3), NOW) is None
    for labels in (1500, 2500):
        cause = due(POLICY, state, TriggerFacts(labels=labels, champion=3), NOW)
        assert isinstance(cause, Due)
        assert (cause.trigger, cause.alert, cause.change_ns) == ("follow_up", "a1", 7)
        state = replace(state, **after_start(POLICY, state, cause, NOW, labels, 3))
        assert replace(state, **after_end(state, job("follow_up", JobState.PUBLISHED), POLICY.guards)) == state
    assert due(POLICY, state, TriggerFacts(labels=99_999, champion=3), NOW) is None


@pytest.mark.parametrize("ended", [JobState.REJECTED, JobState.FAILED])
def test_follow_up_that_is_not_better_is_the_last(ended: JobState) -> None:
    """Where drift is steady a short holdout picks by noise; the chain must not go on."""
    state = alarmed()
    state = replace(state, **after_end(state, job("follow_up", ended), POLICY.guards))
    assert due(POLICY, state, TriggerFacts(labels=99_999, champion=3), NOW) is None


def test_labels_that_came_all_at_once_are_one_follow_up() -> None:
    """A backlog of labels is no reason for a job each."""
    state = alarmed()
    cause = due(POLICY, state, TriggerFacts(labels=9000, champion=3), NOW)
    assert isinstance(cause, Due)
    state = replace(state, **after_start(POLICY, state, cause, NOW, 9000, 3))
    assert state.follow_up_alert == ""


def test_person_is_asked_after_rejections_and_no_more_once_something_is_published() -> None:
    """The question names the last reason and stays until it is answered."""
    state = Retraining(champion=3)
    for _ in range(2):
        assert state.asks_for_a_person == ""
        state = replace(state, **after_end(state, job("schedule", JobState.REJECTED), POLICY.guards))
    assert state.asks_for_a_person == "2 jobs in a row gave no version, the last one: because"
    published = replace(state, **after_end(state, job("schedule", JobState.PUBLISHED), POLICY.guards))
    started = replace(state, **after_start(POLICY, state, Due("on_demand", "", "j"), NOW, 5, 3))
    changed = replace(state, **after_change(state, 4, 5))
    assert [one.asks_for_a_person for one in (published, started, changed)] == ["", "", ""]
    held = after_end(state, job("schedule", JobState.HELD, version=5), POLICY.guards)
    assert "version 5 waits to be released" in held["asks_for_a_person"]
    assert after_end(state, job("schedule", JobState.CANCELLED), POLICY.guards) == {}


def test_job_that_a_person_asked_for_leaves_a_waiting_alert_alone() -> None:
    """It answers no alert, so the alert is not answered."""
    state = Retraining(pending_alert="a1", pending_version=3, champion=3)
    fields = after_start(POLICY, state, Due("on_demand", "", "j"), NOW, 5, 3)
    assert replace(state, **fields).pending_alert == "a1"


def test_low_performance_sets_a_job_off_once() -> None:
    """The edge starts it, not the level: the same version stays low until another one answers or it recovers."""
    policy = RetrainingPolicy.model_validate(
        {"recipe": "m.py", "triggers": {"performance": {"below": 0.7}}, "guards": {"cooldown_labels": 0}}
    )
    facts = TriggerFacts(labels=400, champion=3, performance=0.6)
    state = Retraining(champion=3)
    cause = due(policy, state, facts, NOW)
    assert isinstance(cause, Due)
    state = replace(state, **after_start(policy, state, cause, NOW, 400, 3))
    assert due(policy, state, facts, NOW) is None
    assert isinstance(due(policy, replace(state, **after_change(state, 4, 400)), replace_champion(facts), NOW), Due)


def replace_champion(facts: TriggerFacts) -> TriggerFacts:
    """The same facts with version 4 answering."""
    return TriggerFacts(labels=facts.labels, champion=4, performance=facts.performance)


@pytest.mark.parametrize(("after", "is_release", "trains"), [(249, True, False), (250, True, True), (10, False, True)])
def test_alarm_right_after_a_promotion_means_roll_back(after: int, is_release: bool, trains: bool) -> None:
    """Unless the version answered an alert itself: then the one before was failing too."""
    state = Retraining(pending_alert="a1", pending_version=3, champion=3, champion_labels=1000)
    found = due(POLICY, state, TriggerFacts(labels=1000 + after, champion=3, is_release=is_release), NOW)
    assert isinstance(found, Due) is trains
    if isinstance(found, Refused):
        assert (found.keep, found.ask) == (False, True)
        assert "roll" in found.reason


@pytest.mark.parametrize(
    ("facts", "word"),
    [
        ({}, ""),
        ({"frozen": True}, "frozen"),
        ({"has_recipe": False}, "recipe"),
        ({"champion": 4}, "no longer answers"),
        ({"rollout": 4, "rollout_answers": "a1"}, "already answers"),
        ({"silenced": True}, "silenced"),
        ({"latched": False}, "cleared"),
    ],
)
def test_job_that_was_cut_off_runs_again_only_while_its_cause_holds(facts: dict[str, object], word: str) -> None:
    """Minutes may lie between the crash and the restart."""
    cut = job("error_drift", JobState.QUEUED, alert="a1", champion=3)
    known: dict[str, object] = {"labels": 400, "champion": 3}
    reason = over(cut, TriggerFacts(**{**known, **facts}))  # type: ignore[arg-type]
    assert word in reason
    assert bool(reason) is bool(word)
