"""The bars: what the gateway must be against each floor, each peer and itself. Pure.

A ratio is taken inside each round and then the median of the rounds: the machine drifts by more than the differences
that matter, but two measures a minute apart drift together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from loadtests.bench.sample import MEASURES, Case, Measure, Sample, value_of

Kind = Literal["ratio", "difference", "value"]
Direction = Literal["at least", "at most"]
Side = tuple[str, Case]

OURS = "gateway"
SAME_LOAD = "gateway-rotating"
"""100 bodies in turn, all for one model: what 100 models are compared with, so that only the models differ."""


@dataclass(frozen=True)
class Bar:
    """ours / theirs (ratio), ours - theirs (difference) or ours alone (value), and what it must be."""

    what: str
    ours: Side
    theirs: Side | None
    measure: Measure
    kind: Kind
    direction: Direction
    bound: float


@dataclass(frozen=True)
class Finding:
    """A bar beside what was measured. clean: pairs of rounds that nothing disturbed; the median is of those, if any."""

    bar: Bar
    ours: float
    theirs: float | None
    value: float
    clean: int
    rounds: int

    @property
    def is_met(self) -> bool:
        """True when the value is on the right side of the bar."""
        return self.value >= self.bar.bound if self.bar.direction == "at least" else self.value <= self.bar.bound


def _faster(subject: str, title: str, bound: float, case: Case = "one", ours: Case = "one") -> Bar:
    return Bar(title, (OURS, ours), (subject, case), "requests_per_second", "ratio", "at least", bound)


BARS: tuple[Bar, ...] = (
    _faster("fastapi", "FastAPI + onnxruntime, async", 8),
    _faster("starlette-by-hand", "Starlette + msgspec by hand", 4),
    _faster("mlserver", "MLServer", 18),
    _faster("kserve", "KServe", 18),
    _faster("litserve", "LitServe", 35),
    _faster("bentoml", "BentoML", 50),
    _faster("ray", "Ray Serve", 50),
    _faster("node", "Node http + onnxruntime-node", 1.6),
    _faster("floor-starlette", "bare Starlette + uvicorn echo", 1.8),
    Bar("bare Starlette + uvicorn echo", (OURS, "one"), ("floor-starlette", "one"), "p50_us", "ratio", "at most", 0.5),
    _faster("mlserver", "MLServer, 64 rows, JSON", 3, "rows64", "rows64"),
    _faster("mlserver", "MLServer's JSON, 64 rows, ours as a binary tensor", 6, "rows64", "binary64"),
    _faster("mlserver", "MLServer, 64 rows, binary tensor", 6, "binary64", "binary64"),
    Bar("two workers against one", ("gateway-workers", "one"), (OURS, "one"), "cpu_us", "ratio", "at most", 1.1),
    Bar("100 models against 1", ("gateway-100", "one"), (SAME_LOAD, "one"), "cpu_us", "difference", "at most", 5),
    Bar(
        "a scrape each second, 100 models",
        ("gateway-100-scrape", "one"),
        ("gateway-100-control", "one"),
        "p99_us",
        "ratio",
        "at most",
        1.5,
    ),
    Bar(
        "a shadow at 100 %",
        ("gateway-shadow", "one"),
        ("gateway-alone", "one"),
        "requests_per_second",
        "ratio",
        "at least",
        0.8,
    ),
    Bar("a shadow at 100 %", ("gateway-shadow", "one"), ("gateway-alone", "one"), "p99_us", "ratio", "at most", 1.25),
    Bar("start to first answer, 1 model", (OURS, "one"), None, "start_seconds", "value", "at most", 1.5),
    Bar("resident, serving process", (OURS, "one"), None, "rss_mb", "value", "at most", 120),
)


def findings(samples: Sequence[Sample], bars: Sequence[Bar] = BARS) -> list[Finding]:
    """Every bar whose subjects were measured in the same rounds."""
    by_side: dict[Side, dict[int, Sample]] = {}
    for sample in samples:
        by_side.setdefault((sample.subject, sample.case), {})[sample.round] = sample
    found = (_finding(bar, by_side) for bar in bars)
    return [finding for finding in found if finding is not None]


def _finding(bar: Bar, by_side: dict[Side, dict[int, Sample]]) -> Finding | None:
    left = by_side.get(bar.ours, {})
    right = left if bar.theirs is None else by_side.get(bar.theirs, {})
    pairs = [(left[number], right[number]) for number in sorted(left.keys() & right.keys())]
    if not pairs:
        return None
    clean = [pair for pair in pairs if pair[0].is_clean and pair[1].is_clean]
    values = [(value_of(one, bar.measure), value_of(other, bar.measure)) for one, other in clean or pairs]
    return Finding(
        bar,
        median(one for one, _ in values),
        None if bar.theirs is None else median(other for _, other in values),
        median(_compared(bar.kind, one, other) for one, other in values),
        len(clean),
        len(pairs),
    )


def _compared(kind: Kind, ours: float, theirs: float) -> float:
    if kind == "ratio":
        return ours / theirs if theirs else float("inf")
    return ours - theirs if kind == "difference" else ours


def measure_text(bar: Bar) -> str:
    """The measure's name, with what is done to it."""
    name = MEASURES[bar.measure]
    return {"ratio": f"{name}, ratio", "difference": f"{name}, added", "value": name}[bar.kind]
