"""The rules against simulated traffic: healthy versions stay, bad ones go, and a dummy would be found out.

The small version of `make statistics`: seeded, few runs, bars with room for the spread of so few.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from tests.statistics import rollout_study, rules
from tests.statistics.rollout_study import Ends, Row, added_by_incident, is_right, judge
from tests.statistics.rules import Rule
from tests.statistics.scenes import PROMOTIONS, SCENES, Bar
from tests.statistics.traffic import Traffic, failing, labelled, steady


@cache
def _ours() -> list[Row]:
    return judge(SCENES, rollout_study.SEED)


def test_healthy_versions_stay_and_bad_ones_go() -> None:
    """The reason for all of this."""
    missed = [(row.scene.name, str(row.ours), str(row.scene.bar)) for row in _ours() if not row.holds]
    assert missed == []


def test_an_incident_on_both_sides_rolls_nothing_back() -> None:
    """The commonest false alarm of fixed thresholds: the world was bad for a while, not the canary."""
    assert added_by_incident(_ours()) <= 0


@pytest.mark.parametrize("dummy", [rules.always, rules.never])
def test_the_study_finds_a_dummy_out(dummy: Rule) -> None:
    """A study that a dummy passes proves nothing."""
    assert not is_right(judge(SCENES, rollout_study.SEED, dummy))


@pytest.mark.parametrize("rule", [rules.fixed_counted, rules.fixed_once, rules.repeated_test(0.05)])
def test_the_study_finds_rules_of_elsewhere_out(rule: Rule) -> None:
    """Each of them rolls healthy canaries back: what the study is there to show."""
    assert not judge(SCENES[:1], rollout_study.SEED, rule)[0].holds


def test_a_healthy_canary_is_promoted_in_time_and_one_twice_as_bad_is_not() -> None:
    """The mirror: low traffic must not hold a healthy version for ever, nor let a bad one through."""
    rows = judge(PROMOTIONS, rollout_study.SEED)
    missed = [(row.scene.name, str(row.ours), str(row.scene.bar)) for row in rows if not row.holds]
    assert missed == []


def test_counts_and_records_give_the_same_decision() -> None:
    """The whole observer, fed journal records, agrees with the evidence classes fed counts, to its next look."""
    for run in range(4):
        seen = failing(np.random.default_rng(run), steady(20_000, 0.05), 0.06)
        timed = Traffic(seen.canary, seen.failed, seen.slow, seen.weight, np.full(seen.canary.size, 2_000.0))
        counted, observed = rules.ours(seen), rules.observed(timed)
        assert counted is not None
        assert observed is not None
        assert 0 <= observed - counted < rules.RECORDS_A_LOOK


def test_pairs_as_counts_and_as_records_give_the_same_decision() -> None:
    """The same for labels joined to both answers."""
    seen = labelled(np.random.default_rng(3), 6_000, 0.1, 0.01)
    counted, observed = rules.ours(seen), rules.observed(seen)
    assert counted is not None
    assert observed is not None
    assert 0 <= observed - counted < rules.RECORDS_A_LOOK


@pytest.mark.parametrize(
    ("bar", "share", "median", "holds"),
    [
        (Bar(at_most=0.01), 0.011, 1.0, False),
        (Bar(at_most=0.01), 0.01, 1.0, True),
        (Bar(at_least=0.95), 0.94, 1.0, False),
        (Bar(median=8_000), 1.0, 8_001, False),
        (Bar(median=8_000), 1.0, 8_000, True),
    ],
)
def test_a_bar_is_met_up_to_itself(bar: Bar, share: float, median: float, holds: bool) -> None:
    """The verdict column rests on it."""
    assert bar.holds(share, median) is holds


def test_a_median_counts_the_runs_that_did_not_end() -> None:
    """Leaving them out would praise a rule that finds few bad versions, quickly."""
    assert Ends((10, None, None)).median == float("inf")
    assert Ends((10, 20, None)).median == 20
