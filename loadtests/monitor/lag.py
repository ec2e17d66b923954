"""How far the monitor is behind, looked up from outside, and what a row of figures says about the bar.

The lag is the time between the oldest record that the committed checkpoint has not counted and the newest record that
can be read: what an alert would be late by.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import psutil

from gateway.app.build import Stores

BAR_SECONDS = 1.0
_LOOK_SECONDS = 0.1


@dataclass(frozen=True)
class Look:
    """One look: seconds since the load began, the lag, CPU seconds that the monitor's process has used so far."""

    at: float
    lag: float
    cpu: float


async def watch(stores: Stores, process: psutil.Process, stop: asyncio.Event) -> list[Look]:
    """Look until told to stop."""
    started, looks = time.monotonic(), []
    while not stop.is_set():
        offset, _ = await stores.joins.checkpoint()
        lag = await stores.traffic.lag_seconds(offset)
        times = process.cpu_times()
        looks.append(Look(time.monotonic() - started, lag, times.user + times.system))
        await asyncio.sleep(_LOOK_SECONDS)
    return looks


def by_second(looks: Sequence[Look]) -> list[tuple[int, float, float]]:
    """(second, largest lag, CPU seconds used in it) of each whole second."""
    found = []
    for second in range(int(looks[-1].at) if looks else 0):
        inside = [look for look in looks if second <= look.at < second + 1]
        if inside:
            before = [look.cpu for look in looks if look.at < second]
            used = inside[-1].cpu - (before[-1] if before else inside[0].cpu)
            found.append((second, max(look.lag for look in inside), used))
    return found


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def holds(largest_lag: float, smallest_rate: float) -> bool:
    """At most one second behind, or it says that it samples."""
    return largest_lag <= BAR_SECONDS or smallest_rate < 1.0
