"""Small forms of `make retraining`: few attempts, short nights."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from tests.statistics.harm import GOOD, HARMS, attempts
from tests.statistics.night import night
from tests.statistics.retraining_study import digests, main


def test_what_went_wrong_is_not_published_and_what_went_well_is() -> None:
    """One attempt of each quick kind; the command tries twenty, and the slow kind too."""
    found = attempts(1, 5, [kind for kind in HARMS if kind != "slower model"])
    assert {kind: ended.published for kind, ended in found.items() if ended.published} == {GOOD: 1}


def test_two_hours_of_useless_jobs_stay_in_the_budget() -> None:
    """The back-off makes them rare long before the budget does; a person is asked within the hour."""
    lived = asyncio.run(night(5, hours=2))
    assert 3 <= len(lived.starts) <= 9
    assert lived.least_distance >= 250
    assert 0 < lived.asked < 3600
    late = [start for start in lived.starts if start > 4000]
    assert all(later - earlier >= 2000 for earlier, later in pairwise(late))


def test_same_journal_in_other_blocks_gives_the_same_model() -> None:
    """How labels were joined leaves no trace."""
    assert len(set(digests(5, 2))) == 1


def test_unknown_study_is_told() -> None:
    """A word that means nothing runs nothing."""
    with pytest.raises(SystemExit):
        main(["luck"])
