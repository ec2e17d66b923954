"""What came back of a load, and the figures made of it: slices by time, percentiles, pairs of phases. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

COLUMNS = ("stream", "due", "noticed", "sent", "ended", "status", "version", "body")
"""One row a request. due: when it was to be sent, noticed: when the tool saw that, sent: when it left, ended: seconds
of the monotonic clock."""
BROKEN, UNSENT, TIMED_OUT = 0.0, -1.0, -2.0
"""Instead of a status: the connection broke; all connections were busy until the load ended; given up waiting."""
_NAMES = {BROKEN: "connections broken", UNSENT: "never sent", TIMED_OUT: "without an answer in time"}


@dataclass(frozen=True)
class Phase:
    """A stretch of time on the monotonic clock, seconds."""

    begin: float
    end: float


@dataclass(frozen=True)
class Answered:
    """Requests and what became of them: shape (requests, 8), columns as in COLUMNS."""

    rows: Floats

    def __len__(self) -> int:
        return len(self.rows)

    def column(self, name: str) -> Floats:
        """One of COLUMNS, shape (requests,)."""
        column: Floats = self.rows[:, COLUMNS.index(name)]
        return column

    def where(self, kept: Flags) -> Answered:
        """Those for which `kept` is true."""
        return Answered(self.rows[kept])

    def of_stream(self, number: int) -> Answered:
        """Those of one stream of the plan."""
        return self.where(self.column("stream") == number)

    def due_in(self, phase: Phase) -> Answered:
        """Those that were to be sent in the phase."""
        due = self.column("due")
        return self.where((due >= phase.begin) & (due < phase.end))

    def ended_in(self, phase: Phase) -> Answered:
        """Those whose answer came in the phase."""
        ended = self.column("ended")
        return self.where((ended >= phase.begin) & (ended < phase.end))

    def with_status(self, *statuses: float) -> Answered:
        """Those that ended so."""
        return self.where(np.isin(self.column("status"), statuses))

    def of_version(self, version: int) -> Answered:
        """Those that this version answered."""
        return self.where(self.column("version") == version)

    @property
    def versions(self) -> list[int]:
        """Every version that answered."""
        return sorted({int(version) for version in self.column("version") if version > 0})

    @property
    def latencies_ms(self) -> Floats:
        """Milliseconds from the moment each was to be sent."""
        return (self.column("ended") - self.column("due")) * 1000

    @property
    def failures(self) -> dict[str, int]:
        """How many were not answered with 200, by what came instead."""
        statuses, counts = np.unique(self.column("status"), return_counts=True)
        return {
            _NAMES.get(float(status), f"status {status:.0f}"): int(count)
            for status, count in zip(statuses, counts, strict=True)
            if status != 200
        }

    def percentile_ms(self, percent: float) -> float:
        """Nearest rank of the latencies, milliseconds. Raises ValueError when there are none."""
        if not len(self):
            raise ValueError("no answer came in this phase")
        return float(np.percentile(self.latencies_ms, percent, method="higher"))

    def first_latency_ms(self) -> float:
        """The latency of the request that was due first. Raises ValueError when there is none."""
        return float(self.latencies_ms[int(np.argmin(self.column("due")))])


def p99_pairs(answered: Answered, quiet: Sequence[Phase], loaded: Sequence[Phase]) -> list[tuple[float, float]]:
    """The p99 of the 200s, milliseconds, of each quiet phase beside that of the loaded phase after it."""
    good = answered.with_status(200)
    return [
        (good.due_in(one).percentile_ms(99), good.due_in(other).percentile_ms(99))
        for one, other in zip(quiet, loaded, strict=True)
    ]


def median_ratio(pairs: Sequence[tuple[float, float]]) -> float:
    """Loaded by quiet, in each pair, and then the median: phases that follow one another drift together."""
    return median(loaded / quiet for quiet, loaded in pairs)


def told_pairs(pairs: Sequence[tuple[float, float]], answered: Answered) -> str:
    """The medians of both sides, for a note, and how late the load tool itself was: a disturbed one is seen here."""
    quiet, loaded = median(pair[0] for pair in pairs), median(pair[1] for pair in pairs)
    late = float(np.percentile(answered.column("noticed") - answered.column("due"), 99)) * 1000
    return (
        f"p99 {quiet:.2f} ms quiet, {loaded:.2f} ms loaded, {len(pairs)} phases each; load tool late p99 {late:.2f} ms"
    )


def recovery_seconds(answered: Answered, end: float, usual_ms: float, window_seconds: float = 0.1) -> float:
    """Seconds after `end` until everything is as usual: the end of the last window that was not.

    A window is unusual when any of its requests failed, or their median latency is above `usual_ms`.
    """
    after = answered.due_in(Phase(end, float("inf")))
    if not len(after):
        raise ValueError("nothing was sent after the load")
    windows = np.floor((after.column("due") - end) / window_seconds).astype(int)
    last = -1
    for window in np.unique(windows):
        inside = after.where(windows == window)
        if inside.failures or inside.percentile_ms(50) > usual_ms:
            last = max(last, int(window))
    return (last + 1) * window_seconds
