"""Who answers: the order of pinned, rule, key and draw, and the reason that goes with each."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.documents.policy import Policy
from gateway.documents.route import Canary, Route, Shadow, with_weights
from gateway.names import BUCKETS, Reason, Role
from gateway.routing.decide import Facts, decide
from gateway.routing.snapshot import Snapshot, compile_route


def snapshot_of(route: Route, **policy: Any) -> Snapshot:
    return compile_route(Policy.model_validate({"model": "m", **policy}), route, revision=7)


def facts(number: int = 0, **fields: Any) -> Facts:
    return Facts(request=f"r{number}", draw=f"d{number}", **fields)


def test_a_lone_version_answers_first() -> None:
    """Nothing was split, and the reason says so."""
    decision = decide(snapshot_of(Route(champion=1)), facts())
    assert (decision.version, decision.role, decision.reason) == (1, Role.CHAMPION, Reason.FIRST)


def test_a_key_makes_the_answer_sticky() -> None:
    """The same key at the same revision gets the same version every time."""
    snapshot = snapshot_of(Route(champion=1, canaries=(Canary(version=2, weight=50),), salt="s"))
    decisions = {decide(snapshot, facts(n, key="site-17")).version for n in range(50)}
    assert len(decisions) == 1
    assert decide(snapshot, facts(key="site-17")).reason is Reason.STICKY


def test_without_a_key_the_draw_decides_and_the_reason_says_weight() -> None:
    """Callers without a key are split request by request."""
    snapshot = snapshot_of(Route(champion=1, canaries=(Canary(version=2, weight=50),), salt="s"))
    decisions = [decide(snapshot, facts(n)) for n in range(200)]
    assert {d.version for d in decisions} == {1, 2}
    assert {d.reason for d in decisions} == {Reason.WEIGHT}


def test_sticky_none_ignores_the_key() -> None:
    """The policy can switch stickiness off."""
    route = Route(champion=1, canaries=(Canary(version=2, weight=50),), salt="s")
    snapshot = snapshot_of(route, sticky="none")
    assert {decide(snapshot, facts(n, key="one")).version for n in range(200)} == {1, 2}


def test_a_pinned_version_answers_without_shadows() -> None:
    """A debugging request is not part of any comparison."""
    snapshot = snapshot_of(Route(champion=1, shadows=(Shadow(version=2, share=100),)))
    decision = decide(snapshot, facts(pinned=2))
    assert (decision.version, decision.role, decision.reason) == (2, Role.SHADOW, Reason.PINNED)
    assert decision.shadows == ()


RULES = [
    {"when": {"header": "X-Tier", "equals": "beta"}, "version": "challenger"},
    {"when": {"field": "region", "equals": "north"}, "version": 1},
]


@pytest.mark.parametrize(
    ("request_facts", "version", "reason"),
    [
        (facts(headers={"x-tier": "beta"}, fields={"region": "north"}), 2, Reason.RULE),
        (facts(fields={"region": "north"}), 1, Reason.RULE),
        (facts(fields={"region": "south"}), 1, Reason.WEIGHT),
    ],
)
def test_the_first_rule_that_matches_wins(request_facts: Facts, version: int, reason: Reason) -> None:
    """Rules come before weights, in the order in which they are written."""
    snapshot = snapshot_of(Route(champion=1, canaries=(Canary(version=2, weight=0.01),)), rules=RULES)
    decision = decide(snapshot, request_facts)
    assert (decision.version, decision.reason) == (version, reason)


def test_a_rule_for_a_challenger_that_is_not_there_is_skipped() -> None:
    """A rule outlives the canary it was written for."""
    decision = decide(snapshot_of(Route(champion=1), rules=RULES), facts(headers={"x-tier": "beta"}))
    assert (decision.version, decision.reason) == (1, Reason.FIRST)


def test_a_process_without_its_lease_keeps_to_the_champion() -> None:
    """A roll-back that could not reach this process must hold all the same."""
    route = Route(champion=1, canaries=(Canary(version=2, weight=100),), shadows=(Shadow(version=3),))
    snapshot = snapshot_of(route, rules=RULES)
    for request_facts in (
        facts(challengers_allowed=False),
        facts(headers={"x-tier": "beta"}, challengers_allowed=False),
    ):
        decision = decide(snapshot, request_facts)
        assert (decision.version, decision.shadows) == (1, ())


weights = st.dictionaries(st.integers(2, 6), st.integers(1, 2_000).map(lambda n: n / 100), min_size=1, max_size=5)


@given(weights=weights, grown=st.integers(2, 6), more=st.integers(1, 2_000))
def test_raising_a_weight_moves_buckets_only_from_the_champion_to_it(
    weights: dict[int, float], grown: int, more: int
) -> None:
    """Also with several canaries: nobody else changes sides."""
    before = with_weights(Route(champion=1, salt="s"), weights)
    raised = before.weight_of(grown) + more / 100
    if raised + sum(w for v, w in weights.items() if v != grown) > 100:
        return
    after = with_weights(before, {grown: raised})
    old, new = snapshot_of(before).owners, snapshot_of(after).owners
    assert {(a, b) for a, b in zip(old, new, strict=True) if a != b} <= {(1, grown)}


@given(weights=weights)
def test_each_canary_owns_exactly_its_weight(weights: dict[int, float]) -> None:
    """Shares are exact, not approximate."""
    owners = snapshot_of(with_weights(Route(champion=1, salt="s"), weights)).owners
    for version, weight in weights.items():
        assert owners.count(version) == round(weight * BUCKETS / 100)


@given(key=st.text(max_size=40), number=st.integers(0, 10_000))
def test_the_same_facts_give_the_same_decision(key: str, number: int) -> None:
    """Deciding is pure: a journal can be replayed."""
    route = Route(
        champion=1, canaries=(Canary(version=2, weight=30),), shadows=(Shadow(version=3, share=40),), salt="s"
    )
    assert decide(snapshot_of(route), facts(number, key=key)) == decide(snapshot_of(route), facts(number, key=key))
