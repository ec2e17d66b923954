"""Routes are always valid: every change gives a whole valid route or an error that says why not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.documents.route import (
    Canary,
    Route,
    Shadow,
    promoted,
    read_route,
    restored,
    with_shadow,
    with_weights,
    without,
)
from gateway.errors import InvalidConfig

ROUTE = Route(champion=3, canaries=(Canary(version=4, weight=5),), shadows=(Shadow(version=5, share=50),), salt="s")


def test_the_champion_gets_what_the_canaries_leave() -> None:
    """Weights always add up to 100."""
    assert (ROUTE.weight_of(3), ROUTE.weight_of(4), ROUTE.weight_of(5)) == (95.0, 5.0, 0.0)


def test_a_weight_of_zero_takes_the_canary_out() -> None:
    """The way an operator ends a canary."""
    assert with_weights(ROUTE, {4: 0}).canaries == ()


def test_a_shadow_that_gets_a_weight_is_no_shadow_any_more() -> None:
    """A version has one role at a time."""
    changed = with_weights(ROUTE, {5: 10})
    assert changed.shadows == ()
    assert changed.weight_of(5) == 10


@pytest.mark.parametrize("weights", [{4: 60, 6: 41}, {3: 10}, {4: -1}, {4: 101}])
def test_weights_that_can_not_be_are_refused(weights: dict[int, float]) -> None:
    """Too much, the champion itself, negative, above 100."""
    with pytest.raises(InvalidConfig):
        with_weights(ROUTE, weights)


def test_promotion_keeps_the_old_champion_as_previous() -> None:
    """So that the way back is short."""
    after = promoted(ROUTE, 4)
    assert (after.champion, after.previous, after.canaries) == (4, 3, ())
    assert after.shadows == ROUTE.shadows


def test_restoring_puts_previous_back_and_takes_challengers_out() -> None:
    """A roll-back leaves nobody on trial."""
    after = restored(promoted(ROUTE, 4))
    assert (after.champion, after.canaries, after.shadows, after.previous) == (3, (), (), None)
    with pytest.raises(InvalidConfig, match="no previous"):
        restored(after)


def test_a_version_is_never_canary_and_shadow_at_once() -> None:
    """with_shadow moves it."""
    after = with_shadow(ROUTE, 4, 100)
    assert after.canaries == ()
    assert {shadow.version for shadow in after.shadows} == {4, 5}
    assert without(after, 4).challengers == {5}


@given(st.dictionaries(st.integers(2, 9), st.integers(1, 1_200).map(lambda n: n / 100), max_size=8))
def test_a_stored_route_reads_back_as_it_was(weights: dict[int, float]) -> None:
    """Buckets that are owned stay owned over a restart."""
    route = with_weights(Route(champion=1, salt="s"), weights)
    assert read_route(route.encode()) == route
    assert read_route(route.encode()).ownership == route.ownership
