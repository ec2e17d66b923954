"""How long labels take to come, as a sketch: counts by bin, so that any number of labels needs a few bytes.

Bins grow by 4 percent, so a percentile is within 2 percent of the true one, from a millisecond on.
Source: Masson, Rim, Lee, DDSketch: a fast and fully-mergeable quantile sketch with relative-error guarantees, 2019.
"""

from __future__ import annotations

import math

from msgspec import Struct

PERCENTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}

_GROWTH = 1.04
_SHORTEST, _LONGEST = 1e-3, 1e9


class Delays(Struct, array_like=True):
    """counts: bin -> labels."""

    counts: dict[int, int] = {}

    def add(self, seconds: float) -> None:
        """Count one label; one that came before its prediction took no time."""
        inside = min(_LONGEST, max(_SHORTEST, seconds))
        place = math.ceil(math.log(inside) / math.log(_GROWTH))
        self.counts[place] = self.counts.get(place, 0) + 1

    def percentiles(self) -> dict[str, float]:
        """p50, p90, p99 in seconds; empty without labels."""
        total = sum(self.counts.values())
        return {name: self._quantile(share, total) for name, share in PERCENTILES.items()} if total else {}

    def _quantile(self, share: float, total: int) -> float:
        rank, seen = share * (total - 1), 0
        for place in sorted(self.counts):
            seen += self.counts[place]
            if seen > rank:
                return float(f"{2 * _GROWTH**place / (1 + _GROWTH):.4g}")
        raise AssertionError("the counts hold every rank")
