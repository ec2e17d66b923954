"""How far answers lie apart without labels: classes, probabilities, numbers."""

from __future__ import annotations

import pytest

from gateway.rollout.evidence import agreement
from gateway.rollout.evidence.agreement import FIRST_VALUES, MOST_CLASSES, OTHER, Agreement, Row


def test_classes_differ_when_they_are_not_the_same_text() -> None:
    """1, 1.0 and "1" are one class; the table holds agreement too, the reference's class first."""
    seen = Agreement(numeric=False)
    assert seen.add([1, "0", None], [1.0, "1", "1"]) == [Row(False, 0.0), Row(True, 1.0), None]
    assert (seen.rows, seen.differing, seen.distance) == (2, 1, 0.5)
    assert seen.flips == (("1", "0", 1), ("1", "1", 1))


def test_probabilities_are_compared_by_class_and_not_by_place() -> None:
    """Two versions may list their classes in another order, or one more of them."""
    seen = Agreement(numeric=False)
    between = [
        seen.add(["a"], ["a"], (("a", "b"), [[0.9, 0.1]]), (("b", "a", "c"), [[0.2, 0.7, 0.1]]))[0],
        seen.add(["a"], ["a"], ((), [[0.9, 0.1]]), ((), [[0.4, 0.6]]))[0],
        seen.add(["a"], ["b"], ((), [[0.9, None]]), ((), [[0.4, 0.6]]))[0],
    ]
    assert [row.differs for row in between if row] == [False, False, True]
    assert [row.distance for row in between if row] == pytest.approx([0.2, 0.5, 1.0])


def test_numbers_are_compared_in_units_of_the_references_own_spread() -> None:
    """A cent is nothing among prices of houses. The first rows only tell how far the reference's values lie apart."""
    seen = Agreement(numeric=True)
    values = [float(100 * (n % 2)) for n in range(FIRST_VALUES)]
    assert seen.add(values, values) == [None] * FIRST_VALUES
    near, far = (row for row in seen.add([55.0, 999.0], [50.0, 50.0]) if row)
    assert not near.differs
    assert near.distance == pytest.approx(0.1, rel=0.15)
    assert far == Row(True, 1.0)
    assert seen.add(["a"], [1.0]) == [None]


def test_equal_numbers_of_a_reference_that_always_says_the_same() -> None:
    """No spread: any difference is one."""
    seen = Agreement(numeric=True)
    seen.add([1.0] * FIRST_VALUES, [1.0] * FIRST_VALUES)
    assert seen.add([1.0, 1.5], [1.0, 1.0]) == [Row(False, 0.0), Row(True, 1.0)]


def test_the_flip_table_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first classes have a name, all others are one; vectors and long texts do not fill it."""
    monkeypatch.setattr(agreement, "LONGEST_NAME", 5)
    seen = Agreement(numeric=False)
    for number in range(100):
        seen.add([f"class {number}", [number]], [f"{number}", [0]])
    names = {name for flip in seen.flips for name in flip[:2]}
    assert len(names) == MOST_CLASSES + 1
    assert "class" in names
    assert OTHER in names
    assert sum(flip[2] for flip in seen.flips) == 100
    assert seen.differing == 199
