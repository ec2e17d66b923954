"""Slices of live figures: known before the first row, bounded, the same whatever comes first."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.monitor.figures.slices import MOST_SLICES, Cuts, bounded, not_cut, row_of
from gateway.monitor.version import Version
from gateway.registry.manifest import Feature, Manifest
from gateway.registry.reference import build_reference
from gateway.registry.slice import MOST_VALUES

FEATURES = (Feature(name="day", kind="categorical"), Feature(name="price"), Feature(name="load", low=0.0, high=8.0))


def version(*, with_reference: bool = True, features: tuple[Feature, ...] = FEATURES) -> Version:
    rows = [[f"d{place % 7}", float(place), place / 100] for place in range(700)]
    return Version(Manifest(model="m", features=features), build_reference(features, rows) if with_reference else None)


def cut(cuts: Cuts, **row: Any) -> list[str]:
    return [name for _, name in cuts.of(row)]


def test_numbers_fall_into_quarters_of_the_reference_and_categories_are_slices() -> None:
    cuts = Cuts(["day", "price"], version())
    assert cut(cuts, day="d3", price=0.0) == ["price<=174.8", "day=d3"]
    assert cut(cuts, day="new", price=1e9) == ["price>524.2", "day=other"]
    assert cut(cuts, day=None, price=float("nan")) == ["price=missing", "day=missing"]
    assert cut(cuts, price=200) == ["price<=349.5"]


def test_without_a_reference_the_contract_says_where_numbers_lie() -> None:
    """A number of which nothing is known is not cut: limits learned from traffic would differ with its order."""
    cuts = Cuts(["day", "price", "load"], version(with_reference=False))
    assert cut(cuts, day="d1", price=3.0, load=5.0) == ["load<=6", "day=other"]
    known = (Feature(name="day", kind="categorical", categories=("a", 1)),)
    assert cut(Cuts(["day"], version(with_reference=False, features=known)), day=1.0) == ["day=1"]


def test_only_what_the_policy_names_is_cut_and_unknown_names_are_told() -> None:
    assert Cuts([], version()).of({"day": "d1", "price": 1.0}) == []
    assert not_cut(["price"], version()) == ""
    assert not_cut(["price", "colour"], version()) == "no feature colour"
    assert "first 16" in not_cut([*("price" for _ in range(17))], version())


def test_a_row_is_read_by_the_contract_it_was_written_with() -> None:
    """Inputs too large to keep, tensors, rows of another width: no slice, no crash."""
    assert row_of(["d1", 2.0, 3.0], version()) == {"day": "d1", "price": 2.0, "load": 3.0}
    for inputs, contract in ((None, version()), ({"x": [1.0]}, version()), ([1.0], version()), ([1.0], None)):
        assert row_of(inputs, contract) == {}


@given(st.lists(st.one_of(st.none(), st.integers(), st.text(max_size=80), st.floats(), st.booleans()), max_size=60))
@settings(max_examples=40, deadline=None)
def test_any_values_make_a_bounded_number_of_slices(values: list[Any]) -> None:
    cuts = Cuts(["day", "price"], version())
    names = {name for value in values for name in cut(cuts, day=value, price=value)}
    assert len(names) <= (MOST_VALUES + 2) + 5


@pytest.mark.parametrize("features", [3, 30])
def test_further_slices_count_in_other_of_their_feature(features: int) -> None:
    counted: dict[str, int] = {}
    for place in range(40):
        for name in bounded([(f"f{number}", f"f{number}=v{place}") for number in range(features)], counted):
            counted[name] = counted.get(name, 0) + 1
    assert len(counted) <= MOST_SLICES + features
    assert sum(counted.values()) == 40 * features
