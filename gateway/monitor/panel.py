"""Notices that inputs or predictions moved: a panel of bets against a version's reference.

Every score of the reference (level, spread, range, missing, categories, unseen) has an interval [low, high] for its
mean, widened by the reference's own sampling error. Bets on "above" multiply 1 + lam (v - high) / high, bets on
"below" 1 + lam (low - v) / (1 - low); starting one at every event and adding them up gives e-detectors
(Shin, Ramdas, Rinaldo, 2022), and their weighted mean, weights summing to 1, is one too: with `threshold` c the mean
time to a false alarm is at least c events for all columns together, while each score's mean given the past stays in
its interval. Raising a factor to 1 / tau for autocorrelated scores is a calibration rule, measured, not a theorem.

Events are bet on in blocks of exactly 16, counted from the panel's first event, in closed form: within a block
M_n = P_n (M_0 + sum of 1 / P_{i-1}), P the running product. So chunks of any size give bit for bit the same alarms.

Knows arrays only: no journal, no clock, no version. A `Plan` is compiled once for each reference and shared.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Self

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from gateway.monitor.detector import FloatArray, Verdict
from gateway.registry.reference import UNSEEN, ColumnReference, Reference, Score, positions, span

IntArray = NDArray[np.intp]

BLOCK = 16
TAIL = 256
KINDS = ("data_quality", "data_drift", "prediction_drift")
"""Kinds of alert, by the group of scores that moved. Each is told once, then latched."""

_QUALITY, _INPUTS, _PREDICTION = range(3)
_LARGEST = 1e100
_SLOPES = (0.15, 0.35, 0.7, 0.95)
_WEIGHTS = {"level": 4.0, "spread": 2.0}
_ORDER = ("level", "spread", "range", "missing", "category", "unseen")


class Bet(NamedTuple):
    """One factor, linear in the score: `none` at 0, `whole` at 1, raised to `power`."""

    none: float
    whole: float
    power: float


class Watched(NamedTuple):
    """One score of one column, with its null interval, group and bets."""

    column: int
    score: Score
    group: int
    low: float
    high: float
    bets: tuple[Bet, ...]


class Plan:
    """A reference compiled to arrays, in the order of `score_block`: immutable, shared by all panels on it."""

    def __init__(self, reference: Reference) -> None:
        self.reference = reference
        self.columns = reference.columns
        watched = sorted(_watched(reference), key=lambda w: (_ORDER.index(w.score.name), w.column))
        self.watched = [w for w in watched if w.bets]
        self._shape_scores()
        self._shape_bets()

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
        flat = [(place, w, bet) for place, w in enumerate(self.watched) for bet in w.bets]
        self.score_of = np.array([place for place, _, _ in flat], dtype=np.intp)
        self.cell_of = np.array([w.column * len(KINDS) + w.group for _, w, _ in flat], dtype=np.intp)
        self.group_of = np.array([w.group for _, w, _ in flat], dtype=np.intp)
        # An indicator takes two values only, so its power is taken here; the others need it for every event.
        self.none = np.array([bet.none for _, _, bet in flat])
        self.rise = np.array([bet.whole - bet.none for _, _, bet in flat])
        self.powers = np.array([bet.power for _, _, bet in flat])
        self.powered = np.flatnonzero(self.powers < 1)
        weights = np.array([_WEIGHTS.get(w.score.name, 1.0) / len(w.bets) for _, w, _ in flat])
        column_of = np.array([w.column for _, w, _ in flat], dtype=np.intp)
        sums = np.bincount(column_of, weights, minlength=len(self.columns))
        columns = max(1, int(np.count_nonzero(sums)))
        self.weights = weights / (sums[column_of] * columns)
        self.grouped = np.zeros((len(flat), len(KINDS)))
        self.grouped[np.arange(len(flat)), self.group_of] = self.weights

    @property
    def unwatched(self) -> dict[str, str]:
        """Columns that no bet watches, and why, by name."""
        watched = {one.column for one in self.watched}
        lost = [column for place, column in enumerate(self.columns) if place not in watched]
        return {column.name: f"not monitored because {_unwatched(column)}" for column in lost}

    def score_block(self, values: FloatArray) -> FloatArray:
        """Scores (n, scores) of encoded rows (n, columns). A missing value gives the score's own mean: no evidence."""
        placed = positions(self.quantiles, values[:, self.ranked]) if self.ranked.size else values[:, :0]
        level = placed[:, self.place_of["level"]]
        spread = np.abs(2 * placed[:, self.place_of["spread"]] - 1)
        spanned = values[:, self.columns_of["range"]]
        parts = [
            np.where(np.isnan(level), self.means["level"], level),
            np.where(np.isnan(spread), self.means["spread"], spread),
            (spanned < self.spans[:, 0]) | (spanned > self.spans[:, 1]),
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
        alarm: Verdict | None = None
        waiting = np.concatenate([self._pending, values]) if len(self._pending) else values
        while len(waiting) >= BLOCK:
            told = self._block(waiting[:BLOCK])
            alarm = alarm or told
            waiting = waiting[BLOCK:]
        self._pending = waiting.copy()
        return alarm or Verdict(self._evidence, self._threshold, False, self.events)

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

    def _block(self, values: FloatArray) -> Verdict | None:
        before = self._events
        self._events += len(values)
        self._tail = np.concatenate([self._tail[-(self._tail_rows - len(values)) :], values])
        if all(self._latched) or not self._sums.size:
            return None
        products = np.cumprod(self._plan.factors(self._plan.score_block(values)), axis=0, dtype=np.float64)
        starts = np.cumsum(1 / np.vstack([np.ones_like(self._sums), products[:-1]]), axis=0)
        sums: FloatArray = np.minimum(products * (self._sums + starts), _LARGEST)
        live = np.array([0.0 if told else 1.0 for told in self._latched])
        evidence = sums @ self._plan.grouped @ live
        fired = np.flatnonzero(evidence >= self._threshold)
        alarm = self._alarm(int(fired[0]), before, sums, products, float(evidence[fired[0]])) if fired.size else None
        self._sums = sums[-1]
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
        group = next(g for g in (_INPUTS, _QUALITY, _PREDICTION) if not self._latched[g] and self._moved(cells, g))
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


def _unwatched(column: ColumnReference) -> str:
    return "the reference has no value of it" if column.missing == 1 else "its rows are too few to say what is normal"


def _says(column: ColumnReference, score: Score) -> str:
    return f"category {column.categories[score.code]}" if score.name == "category" else score.name


def _watched(reference: Reference) -> list[Watched]:
    found = []
    for place, column in enumerate(reference.columns):
        of_prediction = place >= len(reference.features)
        for score in column.scores:
            quality = score.name in ("range", "missing", "unseen")
            group = _PREDICTION if of_prediction else _QUALITY if quality else _INPUTS
            margin = _margin(score, column.rows or reference.rows)
            low, high = max(0.0, score.mean - margin), min(1.0, score.mean + margin)
            found.append(Watched(place, score, group, low, high, _bets(score, low, high)))
    return found


def _margin(score: Score, rows: int) -> float:
    """How far a score's mean may lie from the reference's: three standard errors and a floor.

    The error is that of rows / tau independent rows. Smaller references than 1,000 rows need the second term:
    with 500 rows and 0.02 alone four of four quiet streams alarmed.
    """
    three_errors = 3 * score.deviation * math.sqrt(score.tau / rows)
    if score.name in ("range", "unseen"):
        return max(0.001, 3 / rows)
    if score.name == "missing":
        return max(0.002, three_errors, 3 / rows)
    return max(0.02, three_errors, 3 / math.sqrt(12 * rows) if score.name != "category" else 3 / rows)


def _bets(score: Score, low: float, high: float) -> tuple[Bet, ...]:
    """Bets on "above" and "below" the interval. None where the interval leaves no room: such a bet never falls, so
    its sum would reach any threshold by counting alone."""
    power = 1 / score.tau
    smooth = score.name in ("level", "spread")
    bets: list[Bet] = []
    if high < 0.98:
        slopes = _SLOPES if smooth else _rare_slopes(high)
        bets += [Bet(1 - slope, 1 + slope * (1 - high) / high, power) for slope in slopes]
    if low > 0.02 and score.name not in ("range", "unseen"):
        slopes = _SLOPES if smooth else _rare_slopes(1 - low)
        bets += [Bet(1 + slope * low / (1 - low), 1 - slope, power) for slope in slopes]
    if smooth:
        return tuple(bets)
    return tuple(Bet(bet.none**power, bet.whole**power, 1.0) for bet in bets)


def _rare_slopes(high: float) -> list[float]:
    """For an indicator of rate `high` at most: what expects the rates 2 high, 4 high, high + .05 and high + .25."""
    expected = {2 * high, 4 * high, high + 0.05, high + 0.25}
    rates = sorted(rate for rate in expected if rate < 0.99) or [(1 + high) / 2]
    return [(rate - high) / (1 - high) for rate in rates]
