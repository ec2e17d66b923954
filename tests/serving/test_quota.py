"""A quota is kept in every window of time, and what it grants is really granted."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from gateway.serving.quota import FULL, Buckets, Quota, take

QUOTAS = st.builds(Quota, st.floats(0.001, 1000), st.floats(1, 50))
GAPS = st.lists(st.one_of(st.just(0.0), st.floats(0, 0.01), st.floats(0, 100)), min_size=1, max_size=60)


@given(quota=QUOTAS, start=st.floats(0, 1e6), gaps=GAPS)
def test_no_window_lets_more_through_than_burst_and_rate(quota: Quota, start: float, gaps: list[float]) -> None:
    """Every window that begins and ends with a request is looked at; no other one can hold more."""
    full_at, now, passed = FULL, start, []
    for gap in gaps:
        now += gap
        verdict = take(quota, full_at, now)
        full_at = verdict.full_at
        if verdict.wait_seconds == 0:
            passed.append(now)
    for first, begin in enumerate(passed):
        for last, end in enumerate(passed[first:], first):
            most = quota.burst + quota.requests_per_second * (end - begin)
            assert last - first + 1 <= math.floor(most + 1e-3)


@given(quota=QUOTAS, start=st.floats(0, 1e6), gaps=GAPS)
def test_whoever_waits_as_told_is_let_through_and_not_before(quota: Quota, start: float, gaps: list[float]) -> None:
    """Retry-After is the truth; a refused request takes nothing away."""
    full_at, now = FULL, start
    for gap in gaps:
        now += gap
        verdict = take(quota, full_at, now)
        if verdict.wait_seconds > 0:
            assert verdict.full_at == full_at
            assert take(quota, full_at, now + verdict.wait_seconds).wait_seconds == 0
            assert take(quota, full_at, now + verdict.wait_seconds / 2).wait_seconds > 0
        full_at = verdict.full_at


@given(quota=QUOTAS, start=st.floats(0, 1e6))
def test_a_whole_burst_passes_after_a_pause(quota: Quota, start: float) -> None:
    """However long the pause was, the bucket holds one burst and no more."""
    full_at = FULL
    for now in (start, start + 2 * quota.burst / quota.requests_per_second):
        granted = 0
        for _ in range(60):
            verdict = take(quota, full_at, now)
            full_at, granted = verdict.full_at, granted + (verdict.wait_seconds == 0)
        assert granted == math.floor(quota.burst + 1e-6 * quota.requests_per_second)


def test_the_shares_of_all_workers_are_the_quota() -> None:
    share = Quota(90.0, 30.0).share(3)
    assert share == Quota(30.0, 10.0)
    assert Quota(1.0, 1.0).share(4) == Quota(0.25, 1.0)


def test_buckets_of_tokens_that_are_gone_are_forgotten() -> None:
    """State is bounded by the number of tokens, whatever clients send."""
    buckets, quota = Buckets(), Quota(1.0, 1.0)
    assert buckets.take("a", quota, 0.0) == 0
    assert buckets.take("b", quota, 0.0) == 0
    assert buckets.take("a", quota, 0.0) == 1.0
    buckets.keep({"a"})
    assert buckets.take("a", quota, 0.0) == 1.0
    assert buckets.take("b", quota, 0.0) == 0
