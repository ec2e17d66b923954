"""One panel over a stream of blocks: tells each kind once, then watches for the end of it.

The life of what a panel told (`PanelState.latched`):

    told -> pause -> check: a fresh panel on the same plan, at a lower threshold
              ^        | it alarms for all that is latched: not over
              +--------+
                       | it stayed quiet for a kind over `clear_after` events: that kind is over, the panel starts anew

The lower the threshold of the check, the less of what is still there passes for over; but a quiet panel reaches ten
times the number of its events with a chance of a tenth at most, so that is what it is. Everything happens where a block
of 16 is complete, counted from the first event, so chunks of any size give the same. Knows no model and no alert.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from gateway.monitor.detectors.detector import FloatArray, Verdict
from gateway.monitor.detectors.panel import BLOCK, Panel, Plan
from gateway.monitor.state import PanelState

TAIL = 256
SHORT_TAIL = 64
"""Rows kept to measure effects on: of the champion's panel, and of the others, whose state must stay small."""

_CHECK_TAIL = 32
_PAUSE = 4
_DOUBT = 10.0
"""E-processes started at each of n quiet events have a sum of mean n, which exceeds 10 n with a chance of 1/10."""

Row = tuple[int, str, list[Any]]
"""time_ns, place, values."""


class Moved(NamedTuple):
    """A kind that was not latched before. window: the newest rows since the change; since: its event."""

    verdict: Verdict
    window: FloatArray
    since: int
    time_ns: int
    place: str


class Settled(NamedTuple):
    """Kinds that are over, as seen at the block that ended here."""

    kinds: tuple[str, ...]
    time_ns: int
    place: str


def blocks(kept: PanelState, rows: Sequence[Row]) -> Iterator[list[Row]]:
    """Add rows to what waits; the complete blocks of it, in order. The rest waits on."""
    kept.events += len(rows)
    kept.waiting.extend(rows)
    while len(kept.waiting) >= BLOCK:
        block, kept.waiting = kept.waiting[:BLOCK], kept.waiting[BLOCK:]
        yield block


class PanelWatch:
    """See the module. clear_after: events without doubt that end what is latched; 0: nothing ever ends it."""

    def __init__(self, kept: PanelState, plan: Plan, threshold: float, clear_after: int, tail: int = TAIL) -> None:
        self._kept = kept
        self._plan = plan
        self._threshold = threshold
        self._clear_after = clear_after
        self._doubt = min(threshold, _DOUBT * clear_after)
        self._tail = tail
        self._panel = Panel(plan, threshold, kept.state, tail)
        self._check: Panel | None = None

    def take(self, values: FloatArray, block: Sequence[Row]) -> list[Moved | Settled]:
        """One block: encoded rows (16, columns) and where they are from."""
        kept, told = self._kept, list[Moved | Settled]()
        first = kept.before + self._panel.events + 1
        for event, (time_ns, _, _) in enumerate(block, first):
            kept.marks.add(event, time_ns)
        verdict = self._panel.update(values)
        kept.evidence = verdict.evidence
        settled = self._settled(values, block[-1]) if kept.latched and self._clear_after else None
        if verdict.alarmed and verdict.kind not in kept.latched:
            time_ns, place, _ = block[(verdict.event - 1) % BLOCK]
            told.append(Moved(verdict, self._panel.window(verdict.since), first_event(kept, verdict), time_ns, place))
            kept.latched.append(verdict.kind)
            self._begin_pause()
            settled = None
        if settled is not None:
            kept.latched = [kind for kind in kept.latched if kind not in settled.kinds]
            kept.before = first + len(block) - 1
            self._panel = Panel(self._plan, self._threshold, b"", self._tail)
            kept.evidence = 0.0
            self._begin_pause()
            told.append(settled)
        return told

    def write_back(self) -> None:
        """Put the panels into the state."""
        self._kept.state = self._panel.state()
        if self._check is not None:
            self._kept.check = self._check.state()

    def _begin_pause(self) -> None:
        self._check, self._kept.check = None, b""
        self._kept.pause = self._clear_after // _PAUSE

    def _settled(self, values: FloatArray, last: Row) -> Settled | None:
        """The kinds that this block shows to be over; None when none is."""
        kept = self._kept
        if kept.pause > 0:
            kept.pause -= len(values)
            return None
        if self._check is None:
            self._check = Panel(self._plan, self._doubt, kept.check, _CHECK_TAIL)
        self._check.update(values)
        calm = tuple(kind for kind in kept.latched if kind not in self._check.latched)
        if not calm or self._check.events >= self._clear_after:
            self._begin_pause()
            return Settled(calm, last[0], last[1]) if calm else None
        return None


def first_event(kept: PanelState, verdict: Verdict) -> int:
    """The event of the estimated change, counted over all panels so far; 0 when it is not known."""
    return kept.before + verdict.since if verdict.since else 0
