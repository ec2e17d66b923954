"""Notices that inputs or predictions moved: a panel of bets against a version's reference.

Every score of the reference (level, spread, range, missing, categories, unseen) has an interval [low, high] for its
mean, widened by the reference's own sampling error. Bets on "above" multiply 1 + lam (v - high) / high, bets on
"below" 1 + lam (low - v) / (1 - low); starting one at every event and adding them up gives e-detectors
(Shin, Ramdas, Rinaldo, 2022), and their weighted mean, weights summing to 1, is one too: with `threshold` c the mean
time to a false alarm is at least c events for all columns together, while each score's mean given the past stays in
its interval. Raising the factors of autocorrelated scores to a power is a calibration rule, measured, not a theorem.

Events are bet on in blocks of exactly 16, counted from the panel's first event, so chunks of any size give bit for bit
the same alarms. Scores, which are made value by value, are computed for many blocks together where many events come at
once; bets for one block at a time, whose arrays stay in the processor's cache.

Knows arrays only: no journal, no clock, no version. A `Plan` is compiled once for each reference and shared. Which bets
there are is decided in `bets`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from gateway.monitor.detectors import bets
from gateway.monitor.detectors.bets import INPUTS, PREDICTION, QUALITY
from gateway.monitor.detectors.detector import FloatArray, Verdict
from gateway.registry.column import HUGE, UNSEEN, ColumnReference, Score, positions, span
from gateway.registry.reference import Reference

IntArray = NDArray[np.intp]

BLOCK = 16
TAIL = 256
KINDS = ("data_quality", "data_drift", "prediction_drift")
"""Kinds of alert, by the group of scores that moved. Each is told once, then latched."""

_SCORED = 64 * BLOCK
"""So many events are scored together at most."""
_LARGEST = 1e100
_ORDER = ("level", "spread", "range", "missing", "category", "unseen")


class Plan:
    """A reference compiled to arrays, in the order of `score_block`: immutable, shared by all panels on it."""

    def __init__(self, reference: Reference) -> None:
        self.reference = reference
        self.columns = reference.columns
        watched = sorted(bets.watched(reference), key=lambda w: (_ORDER.index(w.score.name), w.column))
        self.watched = [w for w in watched if w.bets]
        self._shape_scores()
        self._shape_bets()

    @property
    def unwatched(self) -> dict[str, str]:
        """Columns that are not watched, or not for their values, by name: "not monitored because ..."."""
        return bets.reasons(self.reference)

    def _shape_scores(self) -> None:
        of = {name: [w for w in self.watched if w.score.name == name] for name in _ORDER}
        self.columns_of: dict[str, IntArray] = {n: np.array([w.column for w in of[n]], np.intp) for n in _ORDER}
        self.codes = np.array([w.score.code for w in of["category"]], dtype=np.float64)
        self.ranked = np.unique(np.concatenate([self.columns_of["level"], self.columns_of["spread"]])).astype(np.intp)
        self.quantiles = np.array([self.columns[c].quantiles for c in self.ranked.tolist()], dtype=np.float64)
        self.place_of = {n: np.searchsorted(self.ranked, self.columns_of[n]) for n in ("level", "spread")}
        spans = [span(self.columns[c]) for c in self.columns_of["range"].tolist()]
        self.spans = np.array(spans, dtype=np.float64).reshape(-1, 2)
        self.means = {n: np.array([w.score.mean for w in of[n]]) for n in ("level", "spread")}

    def _shape_bets(self) -> None:
        weights = bets.weights(self.watched)
        flat = [(place, w, bet) for place, w in enumerate(self.watched) for bet in w.bets]
        self.score_of = np.array([place for place, _, _ in flat], dtype=np.intp)
        self.cell_of = np.array([w.column * len(KINDS) + w.group for _, w, _ in flat], dtype=np.intp)
        self.group_of = np.array([w.group for _, w, _ in flat], dtype=np.intp)
        # An indicator takes two values only, so its power is taken here; the others need it for every event.
        self.none = np.array([bet.none for _, _, bet in flat])
        self.rise = np.array([bet.whole - bet.none for _, _, bet in flat])
        self.powers = np.array([bet.power for _, _, bet in flat])
        self.powered = np.flatnonzero(self.powers < 1)
        self.weights = np.array([weights[place] / len(w.bets) for place, w, _ in flat])
        self.grouped = np.zeros((len(flat), len(KINDS)))
        self.grouped[np.arange(len(flat)), self.group_of] = self.weights

    def score_block(self, values: FloatArray) -> FloatArray:
        """Scores (n, scores) of encoded rows (n, columns).

        A missing value and an infinite one give the score's own mean, no evidence; an infinite one is out of range.
        """
        infinite, values = np.isinf(values), np.clip(values, -HUGE, HUGE)
        known = np.where(infinite, np.nan, values)[:, self.ranked]
        placed = positions(self.quantiles, known) if known.size else known
        level = placed[:, self.place_of["level"]]
        spread = np.abs(2 * placed[:, self.place_of["spread"]] - 1)
        spanned, unbounded = values[:, self.columns_of["range"]], infinite[:, self.columns_of["range"]]
        parts = [
            np.where(np.isnan(level), self.means["level"], level),
            np.where(np.isnan(spread), self.means["spread"], spread),
            (spanned < self.spans[:, 0]) | (spanned > self.spans[:, 1]) | unbounded,
            np.isnan(values[:, self.columns_of["missing"]]),
            values[:, self.columns_of["category"]] == self.codes,
            values[:, self.columns_of["unseen"]] == UNSEEN,
        ]
        return np.concatenate(parts, axis=1, dtype=np.float64)

    def factors(self, scores: FloatArray) -> FloatArray:
        """What each bet multiplies at each event, shape (n, bets)."""
        factors: FloatArray = self.none + self.rise * scores[:, self.score_of]
        if self.powered.size:
            factors[:, self.powered] **= self.powers[self.powered]
        return factors


class _State(Struct, array_like=True):
    events: int
    latched: list[bool]
    evidence: float
    sums: bytes
    runs: bytes
    starts: bytes
    pending: bytes
    tail: bytes


def _fresh(bets: int) -> _State:
    starts = np.ones(bets, dtype=np.int64).tobytes()
    return _State(0, [False] * len(KINDS), 0.0, np.zeros(bets).tobytes(), np.ones(bets).tobytes(), starts, b"", b"")


class Panel:
    """The bets on one plan. Alarms once for each of KINDS, at the first event where their mean reaches `threshold`.

    At most one alarm is told for a block of 16; another kind that fired in it is told with the next block.
    """

    def __init__(self, plan: Plan, threshold: float, state: bytes = b"", tail: int = TAIL) -> None:
        """tail: how many of the newest rows are kept for `window`, more than BLOCK."""
        self._plan = plan
        self._threshold = threshold
        self._tail_rows = tail
        kept = msgspec.msgpack.decode(state, type=_State) if state else None
        if kept is None or len(kept.sums) != plan.weights.nbytes:  # other bets than before, after an upgrade
            kept = _fresh(plan.weights.size)
        shape = (-1, len(plan.columns))
        self._events, self._latched, self._evidence = kept.events, kept.latched, kept.evidence
        self._sums: FloatArray = np.frombuffer(kept.sums)
        self._runs: FloatArray = np.frombuffer(kept.runs)
        self._starts: NDArray[np.int64] = np.frombuffer(kept.starts, dtype=np.int64)
        self._pending: FloatArray = np.frombuffer(kept.pending).reshape(shape)
        self._tail: FloatArray = np.frombuffer(kept.tail).reshape(shape)

    @property
    def events(self) -> int:
        return self._events + len(self._pending)

    @property
    def until_block(self) -> int:
        """How many more events complete the present block."""
        return BLOCK - len(self._pending)

    @property
    def latched(self) -> tuple[str, ...]:
        """The kinds that were told already."""
        return tuple(kind for kind, told in zip(KINDS, self._latched, strict=True) if told)

    def update(self, values: FloatArray) -> Verdict:
        alarms = list(self.alarms(values))
        return alarms[0] if alarms else Verdict(self._evidence, self._threshold, False, self.events)

    def alarms(self, values: FloatArray) -> Iterator[Verdict]:
        """Take values like `update`, and tell every alarm when its block is done: `window` ends there.

        One for each kind at most, since each is latched. Values are taken as far as this is iterated over.
        """
        waiting = np.concatenate([self._pending, values]) if len(self._pending) else values
        whole = len(waiting) - len(waiting) % BLOCK
        self._pending = waiting[whole:].copy()
        for start in range(0, whole, _SCORED):
            part = waiting[start : min(start + _SCORED, whole)]
            # When every kind was told, nothing is left to bet on.
            scores = part if all(self._latched) else self._plan.score_block(part)
            for first in range(0, len(part), BLOCK):
                self._tail = np.concatenate([self._tail, np.clip(part[first : first + BLOCK], -HUGE, HUGE)])
                self._tail = self._tail[-self._tail_rows :]
                alarm = self._block(scores[first : first + BLOCK])
                if alarm is not None:
                    yield alarm

    def window(self, since: int) -> FloatArray:
        """The rows from event `since` on, as far as they are kept (the newest `tail` of complete blocks)."""
        return self._tail[max(0, len(self._tail) - (self._events - since + 1)) :]

    def state(self) -> bytes:
        return msgspec.msgpack.encode(
            _State(
                self._events,
                self._latched,
                self._evidence,
                self._sums.tobytes(),
                self._runs.tobytes(),
                self._starts.tobytes(),
                self._pending.tobytes(),
                self._tail.tobytes(),
            )
        )

    def restored(self, state: bytes) -> Self:
        return type(self)(self._plan, self._threshold, state, self._tail_rows)

    def _block(self, scores: FloatArray) -> Verdict | None:
        """One block: M <- (M + 1) f for every event, which is the sum of the products started at each of them."""
        before = self._events
        self._events += len(scores)
        if all(self._latched) or not self._sums.size:
            return None
        factors = self._plan.factors(scores)
        sums, products = np.empty_like(factors), np.empty_like(factors)
        earlier, product = self._sums, np.ones_like(self._sums)
        for factor, now, product_now in zip(factors, sums, products, strict=True):
            np.add(earlier, 1.0, out=now)
            np.multiply(now, factor, out=now)
            np.multiply(product, factor, out=product_now)
            earlier, product = now, product_now
        np.minimum(sums, _LARGEST, out=sums)
        live = np.array([0.0 if told else 1.0 for told in self._latched])
        evidence = sums @ self._plan.grouped @ live
        fired = np.flatnonzero(evidence >= self._threshold)
        alarm = self._alarm(int(fired[0]), before, sums, products, float(evidence[fired[0]])) if fired.size else None
        self._sums = sums[-1].copy()
        self._runs, self._starts = self._restarted(products, before)
        self._evidence = float(evidence[-1])
        return alarm

    def _restarted(self, products: FloatArray, before: int) -> tuple[FloatArray, NDArray[np.int64]]:
        """Runs since the last restart (CUSUM: a run that falls to 1 starts again) and the events they started at."""
        lowest = products.argmin(axis=0)
        from_lowest = 1 / products[lowest, np.arange(lowest.size)]
        restarts = from_lowest >= self._runs
        runs = np.minimum(products[-1] * np.where(restarts, from_lowest, self._runs), _LARGEST)
        return np.maximum(runs, 1.0), np.where(restarts, before + lowest + 2, self._starts)

    def _alarm(self, at: int, before: int, sums: FloatArray, products: FloatArray, evidence: float) -> Verdict:
        cells = self._cells(sums[at])
        group = next(g for g in (INPUTS, QUALITY, PREDICTION) if not self._latched[g] and self._moved(cells, g))
        self._latched[group] = True
        runs, starts = self._restarted(products[: at + 1], before)
        mine = np.flatnonzero(self._plan.group_of == group)
        since = int(starts[mine[runs[mine].argmax()]])
        names = [(self._plan.columns[c].name, float(cells[c, group])) for c in self._moved(cells, group)]
        return Verdict(
            evidence=evidence,
            threshold=self._threshold,
            alarmed=True,
            event=before + at + 1,
            since=min(since, before + at + 1),
            kind=KINDS[group],
            features=tuple(sorted(names, key=lambda pair: -pair[1])),
            detail=self._detail(sums[at], group),
        )

    def _cells(self, sums: FloatArray) -> FloatArray:
        """The mean of the bets of each column and group, shape (columns, 3); what is latched counts as nothing."""
        plan, size = self._plan, len(self._plan.columns) * len(KINDS)
        total = np.bincount(plan.cell_of, plan.weights * sums, minlength=size)
        weight = np.bincount(plan.cell_of, plan.weights, minlength=size)
        cells: FloatArray = np.divide(total, weight, out=np.zeros(size), where=weight > 0).reshape(-1, len(KINDS))
        return cells

    def _moved(self, cells: FloatArray, group: int) -> list[int]:
        """The columns whose own evidence passes the threshold. A mean over it has at least one part over it."""
        return np.flatnonzero(cells[:, group] >= self._threshold * (1 - 1e-9)).tolist()

    def _detail(self, sums: FloatArray, group: int) -> str:
        """The scores that moved most, `column: score` each, largest evidence first."""
        plan = self._plan
        parts: list[tuple[float, str]] = []
        for place in np.unique(plan.score_of[plan.group_of == group]).tolist():
            evidence = float(sums[plan.score_of == place].mean())
            if evidence >= self._threshold:
                one = plan.watched[place]
                parts.append(
                    (evidence, f"{plan.columns[one.column].name}: {_says(plan.columns[one.column], one.score)}")
                )
        return ", ".join(text for _, text in sorted(parts, reverse=True)[:8])


def _says(column: ColumnReference, score: Score) -> str:
    return f"category {column.categories[score.code]}" if score.name == "category" else score.name
