"""What the rules are put to: scenes of simulated traffic, and what this gateway's rule must do in each of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.statistics import rules
from tests.statistics.rules import Rule
from tests.statistics.traffic import (
    Pairs,
    Random,
    Traffic,
    failing,
    failing_runs,
    labelled,
    ramp,
    repeating,
    running,
    steady,
    sticky,
    waiting,
)


@dataclass(frozen=True)
class Bar:
    """What must hold. share: of the runs that end so, at most or at least. median: requests until then, at most."""

    at_most: float | None = None
    at_least: float | None = None
    median: float | None = None

    def __str__(self) -> str:
        parts = [f"<= {self.at_most:.1%}"] if self.at_most is not None else []
        parts += [f">= {self.at_least:.0%}"] if self.at_least is not None else []
        parts += [f"median <= {self.median:,.0f}"] if self.median is not None else []
        return ", ".join(parts) or "shown"

    def with_room(self, runs: int) -> Bar:
        """The same for so few runs: room for their spread, so that only what is wrong misses it."""
        return Bar(
            at_most=None if self.at_most is None else self.at_most + 0.01 + 1 / runs,
            at_least=None if self.at_least is None else self.at_least - 0.1,
            median=None if self.median is None else 1.3 * self.median,
        )

    def holds(self, share: float, median: float) -> bool:
        """Whether it holds for this share of runs and this median."""
        if self.at_most is not None and share > self.at_most:
            return False
        if self.at_least is not None and share < self.at_least:
            return False
        return self.median is None or median <= self.median


@dataclass(frozen=True)
class Scene:
    """make: the traffic of one run. runs, quick_runs: how many. seed: scenes with the same one share their draws.

    ours: the rule of this gateway that is asked. against: names of the rules of elsewhere that can judge it too.
    """

    name: str
    make: Callable[[Random], Traffic | Pairs]
    runs: int
    quick_runs: int
    bar: Bar
    seed: int
    ours: Rule = rules.ours
    against: tuple[str, ...] = tuple(rules.ELSEWHERE)


_FALSE = Bar(at_most=0.01)
_WORSE = Bar(at_least=0.95, median=1_100)
_SOON = Bar(at_least=0.95, median=20_000)
_HALF = Bar(at_most=0.05)
_SHOWN = Bar()
_LONG, _SHORT = 200_000, 60_000


def _errors(rate: float, requests: int, incident: bool = False) -> Callable[[Random], Traffic]:
    return lambda random: failing(random, steady(requests, 0.05), rate, incident)


def _ramp(rate: float) -> Callable[[Random], Traffic]:
    return lambda random: failing(random, ramp(50_000), rate)


def _slower(factor: float, sigma: float = 0.5) -> Callable[[Random], Traffic]:
    return lambda random: running(random, steady(_SHORT, 0.05), factor, sigma)


def _tailed(factor: float) -> Callable[[Random], Traffic]:
    return lambda random: waiting(random, steady(_SHORT, 0.05), factor)


def _pairs(lost: float, won: float) -> Callable[[Random], Pairs]:
    return lambda random: labelled(random, 10_000, lost, won)


def _repeating(memory: float) -> Callable[[Random], Pairs]:
    return lambda random: repeating(random, 10_000, memory)


def _both(rate: float) -> Callable[[Random], Traffic]:
    return lambda random: failing_runs(random, steady(_SHORT, 0.05), rate)


def _sticky(random: Random) -> Traffic:
    return sticky(random, _SHORT)


HEALTHY = "5 % canary, errors 1 = 1 %"
INCIDENT = "the same, an incident hits both (1 -> 10 % for 5,000)"

SCENES = (
    Scene(HEALTHY, _errors(0.01, _LONG), 2_000, 40, _FALSE, 1),
    Scene(INCIDENT, _errors(0.01, _LONG, incident=True), 2_000, 40, _FALSE, 1),
    Scene("ramp 1/5/10/25/50 %, errors 1 = 1 %", _ramp(0.01), 2_000, 50, _FALSE, 2),
    Scene("ramp 1/5/10/25/50 %, errors 1 -> 3 %", _ramp(0.03), 300, 30, Bar(at_least=0.95), 3),
    Scene("5 % canary, errors 1 -> 1.5 %", _errors(0.015, _LONG), 200, 0, _SHOWN, 4),
    Scene("5 % canary, errors 1 -> 2 %", _errors(0.02, _LONG), 200, 0, _SHOWN, 5),
    Scene("5 % canary, errors 1 -> 3 %", _errors(0.03, _SHORT), 400, 60, Bar(at_least=0.95, median=8_000), 6),
    Scene("5 % canary, errors 1 -> 5 %", _errors(0.05, _SHORT), 400, 60, Bar(at_least=0.95, median=2_500), 7),
    Scene("run times equal, sigma .5", _slower(1.0), 150, 2, _FALSE, 8),
    Scene("run times equal, sigma 1", _slower(1.0, 1.0), 80, 0, _FALSE, 9),
    Scene("run times equal, far tail", _tailed(1.0), 80, 1, _FALSE, 10),
    Scene("runs x1.1 slower, sigma .5", _slower(1.1), 60, 0, _SHOWN, 11),
    Scene("runs x1.2 slower, sigma .5", _slower(1.2), 100, 0, Bar(at_least=0.9), 12),
    Scene("runs x1.5 slower, sigma .25", _slower(1.5, 0.25), 100, 8, Bar(at_least=0.95, median=1_500), 13),
    Scene("runs x1.5 slower, sigma .5", _slower(1.5), 200, 20, Bar(at_least=0.95, median=1_500), 14),
    Scene("runs x1.5 slower, sigma 1", _slower(1.5, 1.0), 100, 0, _SHOWN, 15),
    Scene("runs x1.5 slower, far tail", _tailed(1.5), 100, 0, _SHOWN, 16),
    Scene("runs x2 slower, far tail", _tailed(2.0), 100, 0, _SHOWN, 22),
    Scene("records: errors 1 = 1 %, equal times", _both(0.01), 100, 2, _FALSE, 17, rules.observed, ()),
    Scene("records: errors 1 -> 5 %", _both(0.05), 100, 10, Bar(at_least=0.95, median=2_500), 18, rules.observed, ()),
    Scene("records: sticky units, 1 = 1 % of them fail", _sticky, 60, 0, _FALSE, 23, rules.observed),
    Scene("labelled pairs, 90 = 90 %", _pairs(0.03, 0.03), 1_000, 150, Bar(at_most=0.05), 19, against=rules.TESTS),
    Scene("the same, errors come in runs (.25)", _repeating(0.5), 500, 0, _HALF, 24, against=rules.TESTS),
    Scene("the same, errors come in runs (.5)", _repeating(0.8), 500, 60, Bar(at_most=0.1), 25, against=rules.TESTS),
    Scene("the same, errors come in runs (.65)", _repeating(0.9), 500, 0, Bar(at_most=0.15), 26, against=rules.TESTS),
    Scene("labelled pairs, 90 -> 88 %", _pairs(0.04, 0.02), 1_000, 150, _WORSE, 20, against=rules.TESTS),
    Scene("records: pairs with labels, 90 -> 88 %", _pairs(0.04, 0.02), 100, 6, _WORSE, 21, rules.observed, ()),
)

PROMOTIONS = (
    Scene("promoted: errors 1 = 1 %, failures alone", _errors(0.01, _LONG), 300, 30, _SOON, 30, rules.promoted, ()),
    Scene("promoted: records, errors 1 = 1 %, equal times", _both(0.01), 100, 3, _SOON, 31, rules.passed, ()),
    Scene("promoted: errors 1 -> 2 %, failures alone", _errors(0.02, _LONG), 300, 30, _HALF, 32, rules.promoted, ()),
)
"""Here the columns say promoted, not rolled back."""
