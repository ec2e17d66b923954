"""Which bets a reference allows: for every score its null interval, and the bets on "above" and "below" it.

A score's mean may move within [low, high], around what it was on the reference. The interval covers what the reference
can not know: its own sampling error and, for what it never saw, how much it may have missed. A bet is linear in the
score and has the mean 1 at most while the score's mean stays inside, so that its running product is an e-process;
autocorrelated scores are tempered, their factors raised to a power. Where the interval leaves no room there is no bet:
it would never fall, so it would reach any threshold by counting alone. `reasons` says where that is so.

Pure, numbers only. Sources: Shin, Ramdas, Rinaldo, E-detectors, 2022; for tau Sokal, Monte Carlo Methods, 1997.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from msgspec.structs import replace

from gateway.registry.column import ColumnReference, Score
from gateway.registry.reference import Reference

QUALITY, INPUTS, PREDICTION = range(3)
"""Groups of scores, each told by an alert of its own."""

_SLOPES = (0.15, 0.4, 0.85)
_FLOORS = {"level": 0.015, "spread": 0.0125, "range": 0.001, "missing": 0.0018, "category": 0.02, "unseen": 0.001}
_SHARES = {"level": 6.0, "spread": 3.0, "range": 1.0, "missing": 3.0, "category": 4.0, "unseen": 2.0}
_RARE = ("range", "missing", "unseen")
_SMOOTH = ("level", "spread")
_BEYOND = 9.3
"""Of n rows, both tails beyond the extremes hold more than 9.3 / n with a probability of 0.001: (1 + x) exp(-x)."""
_LEAST_ROWS = 10
"""With fewer, Wilson's interval is narrower than what the rows leave open."""
_UNMET = 6.6
"""What holds more than 6.6 / n of all rows is met by n of them but with a probability of 0.0014, like three errors."""
_SPARE = 2 / 3
"""The part of an interval that may pay for autocorrelation; the rest stays for the reference's own error."""
_MOST_SPARE = 0.1


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


def watched(reference: Reference) -> list[Watched]:
    """Every score of every column, column by column."""
    found = []
    for place, column in enumerate(reference.columns):
        of_prediction = place >= len(reference.features)
        rows = column.rows or reference.rows
        for score in _tempered(column.scores):
            group = PREDICTION if of_prediction else QUALITY if score.name in _RARE else INPUTS
            low, high = _interval(score, rows)
            bets = _bets(score, low, high) if rows >= _LEAST_ROWS else ()
            found.append(Watched(place, score, group, low, high, bets))
    return found


def _tempered(scores: Sequence[Score]) -> list[Score]:
    """The spread follows itself at least as long as that of a linear chain does whose level is like this one's.

    Its own autocorrelation is weak and its estimate noise: where that came out low, chains alarmed by themselves. With
    the level's coefficient a, tau is (1 + a) / (1 - a) for the level, (1 + a^2) / (1 - a^2) = (tau + 1 / tau) / 2 for
    the spread.
    """
    tau = max((score.tau for score in scores if score.name == "level"), default=1.0)
    least = (tau + 1 / tau) / 2
    return [replace(one, tau=max(one.tau, least)) if one.name == "spread" else one for one in scores]


def weights(scores: Sequence[Watched]) -> list[float]:
    """The weight of each score, the same in total for every column that has bets; all weights sum to 1.

    In a column the level counts 6, categories 4 together, spread and missing 3 each, unseen 2, range 1.
    """
    categories = Counter(one.column for one in scores if one.score.name == "category")
    shares = [
        _SHARES[one.score.name] / (categories[one.column] if one.score.name == "category" else 1) for one in scores
    ]
    totals: dict[int, float] = {}
    for one, share in zip(scores, shares, strict=True):
        totals[one.column] = totals.get(one.column, 0.0) + share
    return [share / (totals[one.column] * len(totals)) for one, share in zip(scores, shares, strict=True)]


def reasons(reference: Reference) -> dict[str, str]:
    """Columns that are not watched, or not for their values, and why, by name."""
    found: dict[str, str] = {}
    scores = watched(reference)
    for place, column in enumerate(reference.columns):
        mine = [one for one in scores if one.column == place]
        left = [one.score.name for one in mine if one.bets]
        if any(name in ("level", "category") for name in left):
            continue
        only = f"; only {' and '.join(dict.fromkeys(left))} watched" if left else ""
        found[column.name] = f"not monitored because {_reason(column, column.rows or reference.rows)}{only}"
    return found


def _reason(column: ColumnReference, rows: int) -> str:
    if column.missing >= 1 or (column.kind == "numeric" and not column.quantiles):
        return "the reference has no value of it"
    return f"the {rows} rows of the reference are too few to say what is normal"


def _interval(score: Score, rows: int) -> tuple[float, float]:
    """Where a score's mean may lie: three standard errors around the reference's, and never less than a floor.

    The error is that of rows / tau independent rows. Indicators have Wilson's interval, since the plain one of a
    category that few rows hold is far too narrow: with 50 rows, one of eight quiet streams alarmed. Smooth scores have
    at least the error of positions among so few quantiles (with 500 rows and 0.02 alone four of four quiet streams
    alarmed), and the share of other values that a constant column may hide. `_BEYOND` is for values out of range.
    Source: Wilson, Probable inference, the law of succession, and statistical inference, 1927.
    """
    independent = rows / score.tau
    if score.name in _SMOOTH:
        errors = 3 * score.deviation / math.sqrt(independent), 3 / math.sqrt(12 * rows), _UNMET / rows
        margin = max(_FLOORS[score.name], *errors)
        return max(0.0, score.mean - margin), min(1.0, score.mean + margin)
    low, high = _wilson(score.mean, independent)
    if score.name == "range":
        high = max(high, score.mean + _BEYOND / independent)
    if score.name == "unseen" and score.mean == 0:
        high = 3 / rows
    floor = _FLOORS[score.name]
    return max(0.0, min(low, score.mean - floor)), min(1.0, max(high, score.mean + floor))


def _wilson(share: float, rows: float) -> tuple[float, float]:
    """Three standard errors around a share of so many rows."""
    room = 9 / rows
    centre, half = share + room / 2, 3 * math.sqrt(share * (1 - share) / rows + room / (4 * rows))
    return (centre - half) / (1 + room), (centre + half) / (1 + room)


def _bets(score: Score, low: float, high: float) -> tuple[Bet, ...]:
    smooth = score.name in _SMOOTH
    bets: list[Bet] = []
    if high < 0.98:
        slopes = _SLOPES if smooth else _rare_slopes(high)
        powers = [_power(score, slope, high, high - score.mean) for slope in slopes]
        bets += [Bet(1 - s, 1 + s * (1 - high) / high, power) for s, power in zip(slopes, powers, strict=True)]
    if low > 0.02 and score.name not in ("range", "unseen"):
        slopes = _SLOPES if smooth else _rare_slopes(1 - low)
        powers = [_power(score, slope, 1 - low, score.mean - low) for slope in slopes]
        bets += [Bet(1 + s * low / (1 - low), 1 - s, power) for s, power in zip(slopes, powers, strict=True)]
    if smooth:
        return tuple(bets)
    return tuple(Bet(bet.none**bet.power, bet.whole**bet.power, 1.0) for bet in bets)


def _power(score: Score, slope: float, edge: float, margin: float) -> float:
    """What a bet's factors are raised to, so that autocorrelation does not let it grow by itself.

    With a mean of `margin` inside the edge the logarithm of 1 + slope x falls by slope m + slope^2 s^2 / 2 an event
    (m the margin, s the deviation, both over the edge), while sums of tau rows vary like tau s^2. The product of such
    factors to the power p has a mean of 1 at most for p = (1 + 2 m / (slope s^2)) / tau, so a flat bet pays for more
    autocorrelation than a steep one. Of the level only, and a tenth at most: more let chains alarm by themselves.
    """
    if score.name != "level" or score.deviation == 0:
        return 1 / score.tau
    spare = min(_MOST_SPARE, 2 * _SPARE * margin * edge / (slope * score.deviation**2))
    return min(1.0, (1 + spare) / score.tau)


def _rare_slopes(high: float) -> list[float]:
    """For an indicator of rate `high` at most: what expects 2, 4 and 15 times `high`, high + .05 and high + .25."""
    expected = {2 * high, 4 * high, 15 * high, high + 0.05, high + 0.25}
    rates = sorted(rate for rate in expected if rate < 0.99) or [(1 + high) / 2]
    return [(rate - high) / (1 - high) for rate in rates]
