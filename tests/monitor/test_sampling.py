"""When the monitor samples: only while it falls behind, openly, and the same predictions for whoever asks."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from gateway.monitor.sampling import EVERYTHING, SMALLEST, Pace, is_sampled, next_pace

rates = st.sampled_from([1 / 64, 1 / 8, 1 / 4, 1 / 2, 1.0])


def paced(lag_at: Callable[[float, float], float], seconds: int, pace: Pace | None = None) -> list[Pace]:
    """One look a second. lag_at: the lag at a time, at the rate in force."""
    pace = pace or Pace()
    paces = []
    for second in range(seconds):
        pace = next_pace(pace, lag_at(float(second), pace.rate), float(second))
        paces.append(pace)
    return paces


@given(st.text(max_size=50), rates, rates)
def test_what_is_in_at_a_rate_is_in_at_every_higher_one(id_: str, one: float, other: float) -> None:
    """So a label, whose rate may be another than its prediction's, comes with it as often as it can."""
    if is_sampled(id_, min(one, other)):
        assert is_sampled(id_, max(one, other))


def test_the_sample_is_as_large_as_its_rate_says() -> None:
    ids = [f"r{number}" for number in range(20_000)]
    for rate in (1 / 2, 1 / 8):
        assert abs(sum(is_sampled(id_, rate) for id_ in ids) / len(ids) - rate) < 0.01
    assert all(is_sampled(id_, EVERYTHING) for id_ in ids[:100])


def test_a_lag_that_is_small_or_short_changes_nothing() -> None:
    """A block in flight is a lag of tenths of a second; a pause of the machine may be seconds."""
    assert {pace.rate for pace in paced(lambda now, _: 0.8 if now % 2 else 0.1, 100)} == {EVERYTHING}
    assert {pace.rate for pace in paced(lambda now, _: 20.0 if 10 <= now < 12 else 0.1, 100)} == {EVERYTHING}


def test_a_backlog_that_shrinks_by_itself_is_folded_whole() -> None:
    """A monitor that was away for an hour and folds twice as fast as records come will be there."""
    assert {pace.rate for pace in paced(lambda now, _: max(0.0, 3600 - now), 4000)} == {EVERYTHING}


def test_a_lag_that_stays_or_grows_halves_the_rate_until_it_shrinks() -> None:
    """A monitor that keeps up with a fifth of the traffic ends at an eighth, and not below."""

    def overloaded(capacity: float) -> list[Pace]:
        lag, found, pace = 0.0, [], Pace()
        for second in range(200):
            lag = max(0.0, lag + (1.0 if pace.rate > capacity else -2.0))
            pace = next_pace(pace, lag, float(second))
            found.append(pace)
        return found

    assert min(pace.rate for pace in overloaded(0.2)) == 1 / 8
    assert min(pace.rate for pace in overloaded(0.0)) == SMALLEST
    assert min(pace.rate for pace in paced(lambda _, __: 5.0, 60)) == SMALLEST


def test_after_a_calm_time_it_sees_everything_again() -> None:
    paces = paced(lambda _, __: 0.2, 120, Pace(rate=1 / 4))
    assert paces[10].rate == 1 / 4
    assert paces[-1].rate == EVERYTHING


def test_a_rate_that_was_raised_too_soon_is_raised_later_the_next_time() -> None:
    """Traffic just above what one core folds would flip the rate for ever: each try comes later than the last."""
    lag, pace, changes = 0.0, Pace(), []
    for second in range(1200):
        lag = max(0.0, lag + (0.5 if pace.rate == EVERYTHING else -1.0))
        after = next_pace(pace, lag, float(second))
        if after.rate > pace.rate:
            changes.append(second)
        pace = after
    gaps = [later - earlier for earlier, later in pairwise(changes)]
    assert len(gaps) >= 3
    assert gaps == sorted(gaps)
    assert gaps[-1] >= 2 * gaps[0]
