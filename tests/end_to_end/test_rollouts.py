"""Rollouts through HTTP, in short: bad versions go with the right reason, roll-backs hold, no edit is lost."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from loadtests.rollouts import broken, cycles, edits, healthy
from loadtests.rollouts.broken import FAULTS, Outcome
from loadtests.rollouts.caller import Answered
from loadtests.rollouts.cycles import RolledBack
from loadtests.scenarios.finding import Finding

_PATIENT_MS = 30_000.0
"""The deadline of a request here: a machine that stands still for some seconds is not what these tests are about."""


def missed(found: list[Finding]) -> list[tuple[str, str, str]]:
    """What does not hold, times apart: those are for `make rollouts` on a quiet machine."""
    return [(one.what, one.figure, one.note) for one in found if not one.holds and not one.is_time]


@pytest.mark.end_to_end
def test_bad_versions_are_rolled_back_by_nobody_and_callers_notice_nothing(tmp_path: Path) -> None:
    """One fails, one learnt nothing, one crashes: each on the standard plan, each with its own reason."""
    assert missed(asyncio.run(broken.run(tmp_path / "run", seed=5, quick=True, deadline_ms=_PATIENT_MS))) == []


@pytest.mark.end_to_end
def test_publishing_and_rolling_back_under_load_fails_nobody_and_holds(tmp_path: Path) -> None:
    """Invariants 3 and 7: every answer is explained by its revision, none comes after an acknowledged roll-back."""
    assert missed(asyncio.run(cycles.run(tmp_path / "run", seed=5, cycles=4, deadline_ms=_PATIENT_MS))) == []


@pytest.mark.end_to_end
def test_concurrent_edits_of_a_route_lose_nothing(tmp_path: Path) -> None:
    """Invariant 5: who read an older revision gets 412, and what was acknowledged is in the route."""
    assert missed(asyncio.run(edits.run(tmp_path / "run", seed=5, edits=25))) == []


# The bars themselves: each must be missed by what it is there to find.


def test_an_answer_sent_after_the_acknowledgement_is_a_breach() -> None:
    """One that was sent before it may still be answered by that version: it was in flight."""
    done = [RolledBack(version=2, acknowledged=10.0, took_ms=5.0)]
    assert cycles.findings([Answered(9.9, 2, 200), Answered(10.1, 1, 200)], done, "")[0].holds
    assert not cycles.findings([Answered(10.1, 2, 200)], done, "")[0].holds


def test_a_slow_acknowledgement_misses_its_bar() -> None:
    """One second, and the slowest counts."""
    done = [RolledBack(2, 1.0, 5.0), RolledBack(3, 2.0, 1_001.0)]
    assert not cycles.findings([], done, "")[1].holds


def test_an_answer_that_its_revision_does_not_name_is_found() -> None:
    """And one of a revision that nobody saw."""
    route = {"champion": 1, "canaries": []}
    record = {"kind": "prediction", "id": "a", "row": 0, "version": 1, "revision": 7}
    assert missed(cycles.history([record], {7: {1}}, [route])) == []
    assert missed(cycles.history([record | {"version": 2}], {7: {1}}, [route]))
    assert missed(cycles.history([record], {8: {1}}, [route]))
    assert missed(cycles.history([record, record], {7: {1}}, [route]))


def test_an_audit_trail_with_a_gap_is_found() -> None:
    """Each change starts from the one before it."""
    one, two = '{"champion": 1, "canaries": []}', '{"champion": 2, "canaries": []}'
    first: dict[str, Any] = {"number": 1, "before": "", "after": one}
    assert len(cycles.routes([first, {"number": 2, "before": one, "after": two}])) == 2
    with pytest.raises(ValueError, match="entry 3"):
        cycles.routes([first, {"number": 3, "before": two, "after": one}])


@pytest.mark.parametrize(
    ("salt", "statuses", "revisions"),
    [
        (7, {200: 8, 412: 1}, 8),  # one is lost
        (8, {200: 8, 409: 1}, 8),  # a loser is told something else
        (8, {200: 8}, 7),  # two were told the same revision
    ],
)
def test_a_lost_edit_and_a_wrong_refusal_are_found(salt: int, statuses: dict[int, int], revisions: int) -> None:
    """What the scenario is there for."""
    told = [str(number) for number in range(revisions)] + ["0"] * (8 - revisions)
    assert missed(edits.findings(8, salt, Counter(statuses), told, 1.0))
    assert missed(edits.findings(8, 8, Counter({200: 8, 412: 3}), [str(number) for number in range(8)], 1.0)) == []


@pytest.mark.parametrize(
    ("phase", "reason", "holds"),
    [
        ("rolled_back", "slow: 41 of 797 runs were slow", True),
        ("rolled_back", "errors: 1 of 1 runs failed", False),
        ("promoted", "slow: never", False),
    ],
)
def test_a_roll_back_counts_only_with_the_right_reason(phase: str, reason: str, holds: bool) -> None:
    """A bad version that goes for a wrong reason would not go next time."""
    assert Outcome(FAULTS[1], 3, phase, reason, 10, 1.0).finding.holds is holds


def test_healthy_versions_may_go_for_quality_only_and_seldom() -> None:
    """50 versions: none for errors or latency, five for quality, all must end."""
    quality, slow = "quality: of 90 pairs", "slow: 9 of 10 runs"
    assert missed(healthy.findings(50, [quality] * 5, Counter(), "")) == []
    assert missed(healthy.findings(50, [quality] * 6, Counter(), ""))
    assert missed(healthy.findings(50, [slow], Counter(), ""))
    assert missed(healthy.findings(50, [], Counter({"canary": 1}), ""))
