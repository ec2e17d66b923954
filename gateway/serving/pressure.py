"""How long a request that comes now would wait before it runs, and whether that is too long. Bounded in time, not in
length: a hundred runs of ten microseconds are nothing, a hundred of ten milliseconds are a second.

The estimate is what waits, by the time that each of its rows took lately (measured, joined runs included). Pure but for
its own sums; knows neither requests nor clocks.
"""

from __future__ import annotations

from typing import Final

_WEIGHT: Final = 0.05
"""Of the newest run in the mean time of a row."""

_MOST_TIMES: Final = 10.0
"""A run counts as so many times the mean at most: for one stall of the machine nobody behind it is refused."""


class Pressure:
    """What waits for one worker: the event loop, or the place elsewhere where one version runs."""

    __slots__ = ("limit_us", "waiting_us")

    def __init__(self, limit_us: float) -> None:
        """limit_us: a request that would wait longer is refused."""
        self.limit_us = limit_us
        self.waiting_us = 0.0

    def takes(self, patience_us: float) -> bool:
        """True when a request that has so much time left may wait here. It may use half of its time for waiting."""
        return self.waiting_us <= min(self.limit_us, patience_us / 2)

    @property
    def is_high(self) -> bool:
        """True from half of the limit on: what nobody waits for is left out now."""
        return self.waiting_us > self.limit_us / 2

    @property
    def retry_after_seconds(self) -> float:
        """When it is worth asking again."""
        return max(1.0, self.waiting_us / 1e6)


class Pace:
    """What one version takes lately, in microseconds: row_us for a request of one row, runs with company included."""

    __slots__ = ("_further", "row_us")

    def __init__(self, row_us: float, further_us: float = 0.0) -> None:
        """row_us, further_us: of the warm-up, the first guess; a run of one row, and each further row.

        Without the second each row counts as much as the first.
        """
        self.row_us = row_us
        self._further = min(1.0, further_us / row_us) if further_us and row_us else 1.0

    def weight(self, rows: int) -> float:
        """So many requests of one row a request of these rows is worth. What an exchange or a turn takes is shared by
        its rows: a large request behind many small ones is not so many times as dear as they were."""
        return 1.0 + max(0, rows - 1) * self._further

    def ran(self, weight: float, took_us: float) -> None:
        """Learn from a run of requests of this weight together."""
        row_us = min(took_us / max(1.0, weight), _MOST_TIMES * max(1.0, self.row_us))
        self.row_us += _WEIGHT * (row_us - self.row_us)
