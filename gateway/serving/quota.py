"""How often a client may ask: a token bucket for each token, decided purely, time in and verdict out.

A bucket is one number: the moment at which it is full again. Each request let through moves that moment on by the
time one request takes to drip back, and no further than a whole bucket beyond now. It is the same as counting tokens,
without rounding when they are topped up. Source: ITU-T I.371, the generic cell rate algorithm.
"""

from __future__ import annotations

from collections.abc import Collection

from msgspec import Struct

FULL = float("-inf")
"""The bucket of a client that has not asked yet."""


class Quota(Struct, frozen=True):
    """requests_per_second: above 0. burst: how many may come at once after a pause, at least 1."""

    requests_per_second: float
    burst: float

    def share(self, workers: int) -> Quota:
        """The part that one of so many processes grants. Even the smallest burst lets one request through."""
        return Quota(self.requests_per_second / workers, max(1.0, self.burst / workers))


class Verdict(Struct, frozen=True):
    """full_at: the bucket afterwards. wait_seconds: 0 when the request is let through, else until one would be."""

    full_at: float
    wait_seconds: float


def take(quota: Quota, full_at: float, now: float) -> Verdict:
    """Let one request through or not. A refused one takes nothing.

    full_at: the bucket before, FULL for a new one. now: monotonic seconds. In any window of t seconds at most
    burst + requests_per_second * t are let through.
    """
    then = max(full_at, now) + 1.0 / quota.requests_per_second
    wait = then - now - quota.burst / quota.requests_per_second
    # A microsecond late is rounding: without the allowance one request of each burst would be lost to it.
    return Verdict(then, 0.0) if wait <= 1e-6 else Verdict(full_at, wait)


class Buckets:
    """The buckets of the tokens in force, by name. One process, one event loop."""

    def __init__(self) -> None:
        self._full_at: dict[str, float] = {}

    def take(self, name: str, quota: Quota, now: float) -> float:
        """Seconds to wait, 0 when the request is let through."""
        verdict = take(quota, self._full_at.get(name, FULL), now)
        self._full_at[name] = verdict.full_at
        return verdict.wait_seconds

    def keep(self, names: Collection[str]) -> None:
        """Forget all others: there are never more buckets than tokens."""
        self._full_at = {name: full_at for name, full_at in self._full_at.items() if name in names}
