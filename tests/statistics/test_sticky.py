"""The split by keys against simulated visits: exact shares, no flips, growth moves newcomers only."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.statistics import sticky


def test_shares_are_right_nobody_flips_and_growth_moves_newcomers_only() -> None:
    """What a caller with a key is promised; the small version of the study in `make statistics`."""
    checks = sticky.study(7, 40_000, 10_000)
    assert [check.cells for check in checks if not check.holds] == []
    assert [check.split for check in checks] == ["1 %", "5 %", "20 %", "50 %", "20 % + 10 %", "20 % + 30 %"]
    assert all(check.newcomers for check in checks)


@pytest.mark.parametrize("wrong", [{"error_points": 9.0}, {"flips": 1}, {"newcomers": 0}, {"others": 1}])
def test_a_split_with_one_fault_misses_its_bar(wrong: dict[str, int]) -> None:
    """A study that a faulty split passes proves nothing."""
    [check, *_] = sticky.study(7, 2_000, 1_000)
    assert check.holds
    assert not replace(check, **wrong).holds  # type: ignore[arg-type]
