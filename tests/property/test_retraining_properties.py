"""What must hold of gate and triggers whatever the numbers are."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.documents.job import Job, JobState, Retraining
from gateway.documents.policy import Gate, JobGuards, RetrainingPolicy
from gateway.retraining.aftermath import after_end, after_start
from gateway.retraining.job.evaluate import paired, sign_test
from gateway.retraining.job.gate import Parity, Scores, gate
from gateway.retraining.memory import NOTHING_PENDING
from gateway.retraining.triggers import DAY_SECONDS, Due, Refused, TriggerFacts, cooldown_labels, due

PARITY = Parity(1.0, 0.0)
bits = st.lists(st.booleans(), min_size=100, max_size=300)
states = st.builds(
    Retraining,
    labels=st.integers(0, 500),
    last_started=st.sampled_from([0.0, 1.0]),
    rejections=st.integers(0, 6),
    pending_alert=st.sampled_from(["", "a1", "a2"]),
    pending_trigger=st.sampled_from(["error_drift", "data_drift"]),
    pending_version=st.integers(1, 3),
)
situations = st.builds(
    TriggerFacts,
    labels=st.integers(0, 5000),
    champion=st.integers(0, 3),
    has_recipe=st.booleans(),
    frozen=st.booleans(),
    silenced=st.booleans(),
    latched=st.booleans(),
    rollout=st.integers(0, 4),
    rollout_answers=st.sampled_from(["", "a1", "a2"]),
    performance=st.none() | st.floats(0, 1),
)
policies = st.builds(
    lambda cooldown, budget, labels, below: RetrainingPolicy.model_validate(
        {
            "recipe": "models/m.py",
            "triggers": {"labels": labels, "performance": below and {"metric": "accuracy", "below": below}},
            "guards": {"cooldown_labels": cooldown, "jobs_a_day": budget},
        }
    ),
    st.integers(0, 1000),
    st.integers(1, 5),
    st.none() | st.integers(1, 1000),
    st.none() | st.floats(0.1, 0.9),
)


@given(bits)
def test_a_model_is_never_worse_than_itself(wrong: list[bool]) -> None:
    """Non-inferiority against the same losses, whatever they are."""
    losses = np.array(wrong, dtype=np.float64)
    assert gate(Scores(losses, parity=PARITY), Scores(losses), {}, Gate()).passed


@given(bits, st.integers(0, 2**32 - 1))
def test_fewer_errors_never_turn_a_pass_into_a_rejection(wrong: list[bool], seed: int) -> None:
    """The gate is monotone: a candidate that is right where another one was wrong does at least as well."""
    champion = np.array(wrong, dtype=np.float64)
    worse = np.random.default_rng(seed).permutation(champion)
    better = worse.copy()
    better[np.flatnonzero(worse)[: len(wrong) // 20]] = 0
    passed = [gate(Scores(one, parity=PARITY), Scores(champion), {}, Gate()).passed for one in (worse, better)]
    assert passed[1] or not passed[0]


@given(bits, bits)
def test_paired_interval_holds_the_observed_difference_and_stays_in_range(one: list[bool], other: list[bool]) -> None:
    """Shrunk a little towards zero, never past the observed mean's side, never wider than possible."""
    count = min(len(one), len(other))
    difference = np.array(one[:count], dtype=float) - np.array(other[:count], dtype=float)
    found = paired(difference)
    assert found.low <= found.mean <= found.high
    assert found.mean * difference.mean() >= 0
    assert abs(found.mean) <= abs(difference.mean())
    assert 0 <= sign_test(difference) <= 1


@given(policies, states, situations)
def test_guards_hold_for_whatever_starts_by_itself(
    policy: RetrainingPolicy, state: Retraining, facts: TriggerFacts
) -> None:
    """No automatic job in a frozen model, without recipe or champion, or within the cool-down."""
    found = due(policy, state, facts, 1000.0)
    if isinstance(found, Due):
        assert not facts.frozen
        assert facts.has_recipe
        assert facts.champion
        if state.last_started:
            assert facts.labels - state.labels >= cooldown_labels(policy, state.rejections)
        if found.alert:
            assert not facts.silenced
            assert state.pending_version == facts.champion


@given(policies, states, situations)
def test_alert_is_kept_unless_it_is_over(policy: RetrainingPolicy, state: Retraining, facts: TriggerFacts) -> None:
    """A pending alert about the present champion is followed or kept; it is dropped only when answered or cleared."""
    if not state.pending_alert or state.pending_version != facts.champion:
        return
    found = due(policy, state, facts, 1000.0)
    assert found is not None
    if isinstance(found, Refused) and not found.keep:
        assert not facts.latched or (facts.rollout and facts.rollout_answers == state.pending_alert)


@given(
    st.integers(1, 400),
    st.integers(1, 4),
    st.lists(st.tuples(st.integers(1, 300), st.floats(1, 20_000)), min_size=1, max_size=60),
)
def test_cool_down_and_budget_bound_the_number_of_jobs(
    cooldown: int, budget: int, steps: list[tuple[int, float]]
) -> None:
    """However often the alarm comes, jobs are at least a cool-down apart and within the budget of each day."""
    policy = RetrainingPolicy.model_validate(
        {"recipe": "m.py", "guards": {"cooldown_labels": cooldown, "jobs_a_day": budget}}
    )
    state, labels, now, starts = Retraining(), 0, 1000.0, list[tuple[int, float]]()
    for number, (more, seconds) in enumerate(steps):
        labels, now = labels + more, now + seconds
        state = replace(state, pending_alert=f"a{number}", pending_version=1)
        if isinstance(due(policy, state, TriggerFacts(labels=labels, champion=1), now), Due):
            starts.append((labels, now))
            today = (*state.started_today, now)
            state = replace(state, labels=labels, last_started=now, started_today=today, **NOTHING_PENDING)
    assert all(later[0] - earlier[0] >= cooldown for earlier, later in pairwise(starts))
    for _, start in starts:
        assert sum(start - DAY_SECONDS < other <= start for _, other in starts) <= budget


@given(st.lists(st.tuples(st.integers(1, 4000), st.booleans()), min_size=1, max_size=40))
def test_an_alert_is_followed_up_a_bounded_number_of_times(steps: list[tuple[int, bool]]) -> None:
    """However labels come: at most one job for each distance, none after one that was not published."""
    policy = RetrainingPolicy(recipe="m.py", guards=JobGuards(cooldown_labels=0))
    alarm = Due("error_drift", "", "a1", "a1")
    state = replace(Retraining(champion=1), **after_start(policy, Retraining(), alarm, 1.0, 100, 1))
    labels, outcomes = 100, list[bool]()
    for number, (more, is_published) in enumerate(steps):
        labels += more
        cause = due(policy, state, TriggerFacts(labels=labels, champion=1), 2.0 + number)
        if isinstance(cause, Due):
            state = replace(state, **after_start(policy, state, cause, 2.0 + number, labels, 1))
            ended = JobState.PUBLISHED if is_published else JobState.REJECTED
            job = Job(id="j", model="m", trigger=cause.trigger, reason="", state=ended)
            state = replace(state, **after_end(state, job, policy.guards))
            outcomes.append(is_published)
    assert len(outcomes) <= len(policy.follow_ups)
    assert all(outcomes[:-1])
