"""A CSV sample becomes features with their contract; what is wrong is named by line or column."""

from __future__ import annotations

import pytest

from gateway.errors import InvalidConfig
from gateway.registry.manifest import Feature
from gateway.registry.sample import MOST_CATEGORIES, read_sample


def test_numbers_texts_and_gaps_become_the_contract() -> None:
    features, rows = read_sample("amount,country\n1.5,de\n,fr\n3,NA\n")
    assert features == (
        Feature(name="amount", low=1.5, high=3.0, may_be_missing=True),
        Feature(name="country", kind="categorical", categories=("de", "fr"), may_be_missing=True),
    )
    assert rows == [[1.5, "de"], [None, "fr"], [3.0, None]]


def test_named_columns_are_taken_in_their_order() -> None:
    features, rows = read_sample("a,b,label\n1,2,0\n3,4,1\n", ["b", "a"])
    assert [feature.name for feature in features] == ["b", "a"]
    assert rows == [[2.0, 1.0], [4.0, 3.0]]


def test_a_column_without_any_value_has_no_range() -> None:
    features, _ = read_sample("a,b\n1,\n2,\n")
    assert (features[1].kind, features[1].low, features[1].may_be_missing) == ("numeric", None, True)


@pytest.mark.parametrize(
    ("text", "names", "said"),
    [
        ("", [], "line 1"),
        ("a,b\n", [], "no rows"),
        ("a,a\n1,2\n", [], "'a' twice"),
        ("a,,c\n1,2,3\n", [], "name every column"),
        ("a,b\n1,2\n1\n", [], "line 3"),
        ("a,b\n1,2\n", ["c"], "no column 'c'"),
        ("a\n" + "".join(f"t{n}\n" for n in range(MOST_CATEGORIES + 1)), [], "column 'a'"),
    ],
)
def test_a_wrong_sample_is_named_by_its_place(text: str, names: list[str], said: str) -> None:
    with pytest.raises(InvalidConfig, match=said):
        read_sample(text, names)
