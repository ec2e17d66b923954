"""What the monitor's detectors are put to: quiet streams, changes, errors, two known data sets, and the bars."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import numpy as np

from gateway.monitor.detectors.detector import FloatArray
from tests.statistics import monitor_rules as rules
from tests.statistics import monitor_streams as streams
from tests.statistics.monitor_bars import (
    Bar,
    Heard,
    alarmed,
    changes_found,
    early,
    elsewhere,
    fewest_alarms,
    found,
    late_delay,
    median_delay,
    most_alarms,
    named,
    per_10k,
    usual_alarms,
)
from tests.statistics.monitor_loop import retrained
from tests.statistics.monitor_rules import Alarm, ErrorRule, RowsRule
from tests.statistics.monitor_streams import REFERENCE_ROWS, Change, Known, Make, Random, Rows, known

LEAD = 1_000
LABELS = 2_000
DRIFT_FREE_ERRORS = 0.1
MARKET_ROWS = 2_000


D = TypeVar("D")
R = TypeVar("R")


@dataclass(frozen=True)
class Scene(Generic[D, R]):
    """draw: the stream of one run. play: what a rule says to it. ours: this gateway's rule, others: elsewhere's.

    runs, quick_runs: how many; their_runs: how many of them the others see, by name or all alike (some take a
    thousand times as long). draws: scenes with the same number share their streams.
    """

    name: str
    draw: Callable[[Random], D]
    play: Callable[[D, R], Heard]
    ours: R
    bars: tuple[Bar, ...]
    runs: int
    quick_runs: int
    draws: int
    others: tuple[tuple[str, R, int], ...] = ()


# Rows.


@dataclass(frozen=True)
class Stream:
    """What is known, what comes, and where what changes."""

    known: Known
    rows: Rows
    at: int = 0
    feature: str = ""


def _quiet(make: Make, events: int) -> Callable[[Random], Stream]:
    def draw(random: Random) -> Stream:
        rows = make(random, REFERENCE_ROWS + events)
        return Stream(known(rows[:REFERENCE_ROWS]), rows[REFERENCE_ROWS:])

    return draw


def _moved(make: Make, change: Change, after: int) -> Callable[[Random], Stream]:
    def draw(random: Random) -> Stream:
        rows = make(random, REFERENCE_ROWS + LEAD + after)
        stream = Rows(rows.numbers[REFERENCE_ROWS:].copy(), rows.codes[REFERENCE_ROWS:].copy())
        return Stream(known(rows[:REFERENCE_ROWS]), stream, LEAD, change(random, stream, LEAD))

    return draw


def _listen(stream: Stream, rule: RowsRule) -> Heard:
    """Every alarm where nothing changes, else those up to the first after the change."""
    alarms = rule(stream.known, stream.rows)
    if stream.at:
        alarms = _until_found(alarms, stream.at)
    return Heard(tuple(alarms), len(stream.rows), stream.at, stream.feature)


def _until_found(alarms: Iterator[Alarm], at: int) -> Iterator[Alarm]:
    for one in alarms:
        yield one
        if one.event > at:
            return


def _market(random: Random) -> Rows:
    numbers = streams.electricity()
    return Rows(numbers, np.full(len(numbers), -1))


def _shuffled(random: Random) -> Rows:
    return Rows(random.permutation(streams.electricity()), _market(random).codes)


def _sea_rows(random: Random) -> Rows:
    numbers, _ = streams.sea(int(random.integers(10_000)))
    return Rows(numbers, np.full(len(numbers), -1))


def _rebased(rows: Rows, rule: RowsRule) -> Heard:
    """The first 2,000 rows are the reference; after an alarm it is the last 2,000, as with a new version."""
    start, alarms = MARKET_ROWS, []
    while start < len(rows):
        seen = known(rows[start - MARKET_ROWS : start])
        # A detector without a reference goes on by itself.
        keeps_on = rule not in (rules.panel, rules.windowed)
        fired = list(rule(seen, rows[start:])) if keeps_on else list(_first(rule(seen, rows[start:])))
        alarms += [Alarm(start + one.event, one.feature) for one in fired]
        start = len(rows) if keeps_on or not fired else start + fired[0].event
    return Heard(tuple(alarms), len(rows) - MARKET_ROWS)


def _first(alarms: Iterator[Alarm]) -> Iterator[Alarm]:
    yield from _until_found(alarms, 0)


# Errors.


@dataclass(frozen=True)
class Labels:
    """Errors of labelled rows behind a rate measured on LABELS rows; they become more frequent after `at`."""

    rate: float
    errors: FloatArray
    at: int = 0


def _errors(after: float, labels: int) -> Callable[[Random], Labels]:
    """Errors at a tenth for 2,000 labels, then at `after`. The rate is itself measured on 2,000 labels."""

    def draw(random: Random) -> Labels:
        rate = random.binomial(LABELS, DRIFT_FREE_ERRORS) / LABELS
        moves = after != DRIFT_FREE_ERRORS
        lead = LABELS if moves else 0
        rates = np.where(np.arange(lead + labels) < lead, DRIFT_FREE_ERRORS, after)
        return Labels(rate, (random.random(rates.size) < rates).astype(np.float64), lead)

    return draw


def _watch(labels: Labels, rule: ErrorRule) -> Heard:
    """The alarms up to the first after the change; where nothing changes, the first."""
    alarms = rules.restarting(lambda: rule(labels.rate, LABELS), labels.errors)
    return Heard(tuple(_until_found(alarms, labels.at)), len(labels.errors), labels.at)


def _sea(random: Random) -> tuple[FloatArray, Any]:
    return streams.sea(int(random.integers(10_000)))


def _sea_loop(drawn: tuple[FloatArray, Any], rule: ErrorRule) -> Heard:
    numbers, labels = drawn
    return Heard(tuple(Alarm(row) for row in retrained(numbers, labels, rule)), len(labels))


# The scenes.

_INDEPENDENT, _CHAIN = streams.independent, streams.chain(0.5)
_CALM = (Bar("alarms per 10,000 events", per_10k, most=0.05),)
_ROWS = rules.ROWS_ELSEWHERE
_SLOW = {"KSWIN": 1}
"""A fifth of a millisecond for each value: one run tells enough."""


def _beside(their_runs: int, *names: str) -> tuple[tuple[str, RowsRule, int], ...]:
    return tuple((name, _ROWS[name], _SLOW.get(name, their_runs)) for name in names or _ROWS)


def _delays(median: float, *more: Bar) -> tuple[Bar, ...]:
    return (
        Bar("median events to the alarm", median_delay, most=median),
        Bar("90th percentile", late_delay),
        Bar("found, %", found, least=100),
        Bar("runs alarmed before, %", early),
        *more,
    )


def _quiet_scene(name: str, make: Make, draws: int, quick: int = 1) -> Scene[Stream, RowsRule]:
    others = _beside(5, "ADWIN", "PageHinkley", "KS, windows of 500")
    return Scene(name, _quiet(make, 10_000), _listen, rules.panel, _CALM, 60, quick, draws, others)


def _moved_scene(
    name: str, make: Make, change: Change, bars: tuple[Bar, ...], draws: int, after: int = 3_000, quick: int = 0
) -> Scene[Stream, RowsRule]:
    others = _beside(20, "ADWIN", "PageHinkley", "KS, windows of 500")
    return Scene(name, _moved(make, change, after), _listen, rules.panel, bars, 120, quick, draws, others)


_NAMED = Bar("right feature named, %", named, least=95)
_SURE = (*_delays(210)[:1], Bar("90th percentile", late_delay, most=300), *_delays(210)[2:], _NAMED)
_NEVER_EARLY = (*_delays(450)[:3], Bar("runs alarmed before, %", early, most=1))

ROW_SCENES: tuple[Scene[Any, RowsRule], ...] = (
    _quiet_scene("quiet: independent", _INDEPENDENT, 1),
    _quiet_scene("quiet: heavy tails, ties, correlated", streams.mixed, 2),
    _quiet_scene("quiet: AR(0.5)", _CHAIN, 3),
    _quiet_scene("quiet: season of 500 rows", streams.seasonal(500), 4),
    _quiet_scene("quiet: season of 2,500 rows", streams.seasonal(2_500), 5, quick=0),
    replace(
        _quiet_scene("quiet: independent, 1,500 rows", _INDEPENDENT, 6),
        draw=_quiet(_INDEPENDENT, 1_500),
        others=_beside(1, "KSWIN"),
        runs=20,
        quick_runs=0,
    ),
    _moved_scene("0.5 sigma in 1 of 30", _INDEPENDENT, streams.shifted(0.5), _SURE, 11, quick=4),
    _moved_scene("1 sigma in 1 of 30", _INDEPENDENT, streams.shifted(1.0), _delays(65), 12),
    _moved_scene("0.25 sigma in 1 of 30", _INDEPENDENT, streams.shifted(0.25), _delays(900), 13, 6_000),
    _moved_scene("0.5 sigma in 1 of 30, AR(0.5)", _CHAIN, streams.shifted(0.5), _NEVER_EARLY, 14),
    _moved_scene("scale x1.5 in 1 of 30", _INDEPENDENT, streams.scaled(1.5), _delays(280), 15),
    _moved_scene("5 % missing in 1 of 30", _INDEPENDENT, streams.missing(0.05), _delays(140), 16),
    _moved_scene("2 % of an unseen category", _INDEPENDENT, streams.unseen(0.02), _delays(400), 17, quick=2),
    Scene(
        "SEA, features", _sea_rows, _rebased, rules.panel, (Bar("data alerts", most_alarms, most=0),), 10, 0, 21,
        _beside(3, "ADWIN", "PageHinkley", "KS, windows of 500"),
    ),
    Scene(
        "Electricity, real order", _market, _rebased, rules.panel, (Bar("data alerts", most_alarms, most=25),), 1, 0,
        22, _beside(1, "ADWIN", "PageHinkley", "KS, windows of 500"),
    ),
    Scene(
        "Electricity, shuffled", _shuffled, _rebased, rules.panel,
        (Bar("data alerts, median run", usual_alarms, most=0),), 10, 0,
        23, _beside(3, "ADWIN", "PageHinkley", "KS, windows of 500"),
    ),
)  # fmt: skip


def _judges(their_runs: int) -> tuple[tuple[str, ErrorRule, int], ...]:
    return tuple((name, rule, their_runs) for name, rule in rules.ERRORS_ELSEWHERE.items())


def _error_scene(
    name: str, after: float, labels: int, bars: tuple[Bar, ...], runs: int, quick: int, draws: int
) -> Scene[Labels, ErrorRule]:
    return Scene(name, _errors(after, labels), _watch, rules.error_detector, bars, runs, quick, draws, _judges(40))


_BEFORE = Bar("runs alarmed before, %", early)

ERROR_SCENES: tuple[Scene[Any, ErrorRule], ...] = (
    _error_scene(
        "errors 10 -> 20 %", 0.2, 5_000,
        (Bar("median labels to the alarm", median_delay, most=240), Bar("found, %", found, least=95), _BEFORE),
        400, 12, 31,
    ),
    _error_scene(
        "errors 10 -> 15 %", 0.15, 5_000,
        (Bar("median labels to the alarm", median_delay, most=1_100), Bar("found, %", found, least=95), _BEFORE),
        400, 8, 32,
    ),
    _error_scene(
        "errors stay 10 %, 20,000 labels", DRIFT_FREE_ERRORS, 20_000,
        (Bar("runs alarmed, %", alarmed, most=5),), 300, 4, 33,
    ),
    Scene(
        "SEA, errors, retrained after alarms", _sea, _sea_loop, rules.error_detector,
        (
            Bar("alerts", fewest_alarms, least=3),
            Bar("changes found within 2,500 rows", changes_found, least=3),
            Bar("alerts elsewhere, %", elsewhere, most=5),
        ),
        10, 0, 34, _judges(3),
    ),
)  # fmt: skip
