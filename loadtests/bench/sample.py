"""What is measured of one subject in one round, and which rounds count. Pure: knows no process and no clock."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

Case = Literal["one", "record", "v2", "rows64", "binary64"]
"""What is sent: one row as a list, by feature names, by the Open Inference Protocol; 64 rows as JSON, as a tensor."""
CASES: dict[Case, str] = {
    "one": "1 row",
    "record": "1 row by names",
    "v2": "1 row, /v2 JSON",
    "rows64": "64 rows, JSON",
    "binary64": "64 rows, binary tensor",
}
Measure = Literal["requests_per_second", "p50_us", "p99_us", "cpu_us", "pss_mb", "rss_mb", "start_seconds"]
MEASURES: dict[Measure, str] = {
    "requests_per_second": "requests/s",
    "p50_us": "p50 us",
    "p99_us": "p99 us",
    "cpu_us": "CPU us/request",
    "pss_mb": "PSS MB",
    "rss_mb": "largest RSS MB",
    "start_seconds": "start s",
}

OTHER_CORES_ALLOWED = 0.10
"""CPU seconds a second that neither the server nor the load tool used: the kernel's own threads stay below this."""
STOLEN_CORES_ALLOWED = 0.03
"""CPU seconds a second that the hypervisor gave to other machines."""
LOAD_TOOL_LIMIT = 0.95
"""From here on the load tool's core is full: the server may be faster than what was measured."""


@dataclass(frozen=True)
class Sample:
    """One load on one subject. Memory is the server's whole process tree after the load; rss_mb its largest process.

    other_cores, stolen_cores, load_cores: CPU seconds a second of everything else, of the hypervisor, of the load tool.
    """

    round: int
    subject: str
    case: Case
    requests_per_second: float
    p50_us: float
    p99_us: float
    cpu_us: float
    pss_mb: float
    rss_mb: float
    start_seconds: float
    other_cores: float
    stolen_cores: float
    load_cores: float

    @property
    def is_clean(self) -> bool:
        """True when nothing else used the cores meanwhile."""
        return self.other_cores <= OTHER_CORES_ALLOWED and self.stolen_cores <= STOLEN_CORES_ALLOWED


@dataclass(frozen=True)
class Middle:
    """Medians of one subject's case over its clean rounds; over all its rounds when none was clean."""

    subject: str
    case: Case
    values: dict[Measure, float]
    clean: int
    rounds: int
    is_load_tool_full: bool


def value_of(sample: Sample, measure: Measure) -> float:
    """One measure of a sample."""
    value: float = getattr(sample, measure)
    return value


def middles(samples: Iterable[Sample]) -> list[Middle]:
    """One Middle for each subject and case, in the order in which they first come."""
    groups: dict[tuple[str, Case], list[Sample]] = {}
    for sample in samples:
        groups.setdefault((sample.subject, sample.case), []).append(sample)
    return [_middle(subject, case, group) for (subject, case), group in groups.items()]


def _middle(subject: str, case: Case, group: Sequence[Sample]) -> Middle:
    clean = [sample for sample in group if sample.is_clean]
    used = clean or group
    values = {measure: median(value_of(sample, measure) for sample in used) for measure in MEASURES}
    is_full = median(sample.load_cores for sample in used) >= LOAD_TOOL_LIMIT
    return Middle(subject, case, values, len(clean), len(group), is_full)


def clean_rounds_short(samples: Iterable[Sample], wanted: int) -> list[str]:
    """Subjects with a case that has fewer clean rounds than wanted."""
    short = {middle.subject: None for middle in middles(samples) if middle.clean < wanted}
    return list(short)
