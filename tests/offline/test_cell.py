"""What a cell of a file is, and what a header that does not fit is told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import InvalidConfig
from gateway.offline.cell import layout, plain, readers
from gateway.registry.manifest import Feature, Tensor
from tests.offline.making import manifest

MIXED = manifest(
    inputs=tuple(
        Tensor(name=name, datatype=datatype, shape=(-1, 1))
        for name, datatype in (("n", "FP32"), ("k", "INT64"), ("t", "BOOL"), ("s", "BYTES"))
    ),
    features=tuple(Feature(name=name, input=name, position=-1) for name in "nkts"),
)


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (("1.5", "2", "true", "ulm"), [1.5, 2, True, "ulm"]),
        (("", " NA ", "none", "?"), [None, None, None, None]),
        (("nan", "2.0", "0", " x "), [None, 2.0, False, " x "]),
        (("abc", "abc", "maybe", "1"), ["abc", "abc", "maybe", "1"]),
    ],
)
def test_a_cell_is_what_its_column_takes_or_stays_text(cells: tuple[str, ...], values: list[object]) -> None:
    """What does not fit is left for the contract, which says what is wrong."""
    assert [read(cell) for read, cell in zip(readers(MIXED), cells, strict=True)] == values


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_survives_its_text(number: float) -> None:
    """Scoring a file gives what sending the numbers gives."""
    assert readers(MIXED)[0](repr(number)) == number


def test_not_a_number_in_a_table_is_a_missing_value() -> None:
    """As pandas writes it."""
    assert (plain(float("nan")), plain(0.0), plain("x")) == (None, 0.0, "x")


def test_a_header_is_matched_by_name() -> None:
    found = layout(["id", "b", "a"], manifest(), None, ["prediction"])
    assert (found.places, found.kept, found.unknown, found.absent) == ((2, 1), (0, 1, 2), ("id",), ())
    found = layout(["id", "a"], manifest(), ["id"], ["prediction"])
    assert (found.places, found.kept, found.absent) == ((1, -1), (0,), ("b",))


@pytest.mark.parametrize(
    ("names", "keep", "told"),
    [
        (["id", "b"], None, "no column 'a'; m@0 takes a, b; the input has id, b"),
        (["a", "b"], ["x"], "--keep 'x': the input has no such column; it has a, b"),
        (["a", "prediction"], None, "the input has a column 'prediction' itself"),
        (["a", "a"], None, "names the column 'a' more than once"),
        (["a", ""], None, "must name every column"),
        ([], None, "must name every column"),
    ],
)
def test_a_header_that_does_not_fit_is_told_why(names: list[str], keep: list[str] | None, told: str) -> None:
    with pytest.raises(InvalidConfig) as error:
        layout(names, manifest(), keep, ["prediction"])
    assert told in str(error.value)
