"""Effect sizes: how large a change is, never whether there is one."""

from __future__ import annotations

import numpy as np
import pytest

from gateway.monitor.signals.quality import effects, psi, severity, wasserstein
from gateway.registry.manifest import Feature
from gateway.registry.reference import UNSEEN, ColumnReference, build_reference

RANDOM = np.random.default_rng(11)
NUMERIC = build_reference([Feature(name="a")], RANDOM.normal(size=(4000, 1)).tolist()).features[0]


def categorical() -> ColumnReference:
    body = [["x"], ["x"], ["y"], ["z"]] * 100
    return build_reference([Feature(name="zone", kind="categorical")], body).features[0]


def test_equal_shares_have_no_psi() -> None:
    assert psi(np.array([10.0, 20.0]), np.array([1000.0, 2000.0])) == 0.0


def test_psi_of_a_known_pair() -> None:
    """(0.5, 0.5) against (0.8, 0.2): 0.3 ln 1.6 + 0.3 ln 2.5, less what chance gives."""
    many = 1e9
    expected = 0.3 * np.log(1.6) + 0.3 * np.log(2.5)
    assert psi(np.array([0.5, 0.5]) * many, np.array([0.8, 0.2]) * many) == pytest.approx(expected)


def test_an_empty_window_has_no_psi() -> None:
    assert psi(np.array([1.0, 2.0]), np.zeros(2)) == 0.0


def test_a_shift_by_one_deviation_is_a_wasserstein_of_one() -> None:
    found = effects(NUMERIC, RANDOM.normal(size=3000) + NUMERIC.deviation)
    assert found["wasserstein"] == pytest.approx(1.0, abs=0.06)
    assert found["psi"] > 0.25


@pytest.mark.parametrize("rows", [20, 64, 256])
def test_a_window_like_the_reference_has_a_low_severity(rows: int) -> None:
    """Short windows have large chance PSI; subtracting it keeps noise from being called high."""
    grades = []
    for _ in range(40):
        found = effects(NUMERIC, RANDOM.normal(size=rows))
        grades.append(severity([("psi", found.get("psi", 0.0))]))
    assert grades.count("high") <= 4


def test_shares_of_missing_out_of_range_and_unseen_are_rises() -> None:
    values = np.concatenate([RANDOM.normal(size=80), np.full(10, np.nan), np.full(10, 1e6)])
    found = effects(NUMERIC, values)
    assert found["missing"] == pytest.approx(0.1)
    assert found["range"] == pytest.approx(1 / 9, abs=1e-4)
    found = effects(categorical(), np.array([0.0, 0.0, 1.0, UNSEEN]))
    assert found["unseen"] == 0.25


def test_a_constant_column_that_moved_is_as_large_as_can_be() -> None:
    assert wasserstein(np.full(257, 1.0), 0.0, np.full(10, 1.0)) == 0.0
    assert wasserstein(np.full(257, 1.0), 0.0, np.full(10, 1.1)) == 10.0


def test_the_worst_effect_decides_the_severity() -> None:
    assert severity([]) == "low"
    assert severity([("psi", 0.05), ("missing", 0.02)]) == "medium"
    assert severity([("psi", 0.3), ("missing", 0.0)]) == "high"
    assert severity([("error", 0.1)]) == "high"


def test_no_rows_no_effects() -> None:
    assert effects(NUMERIC, np.empty(0)) == {}
