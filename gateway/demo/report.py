"""What a run came to: the figures, what is wrong with them, the JSON object and the table.

Pure but for drawing. Knows nothing of how the figures were found.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, kw_only=True)
class Result:
    """One finished run. Accuracies are shares of rows.

    rows, accuracy, alerts, jobs, answers: of the stream; the last act is counted in none of them, its jobs are
    later_jobs. published, promoted, rolled_back: versions of the whole run. last_act: the reason of its roll-back,
    empty when there was none. weights: percent of traffic by version number at the end. schedule: a job in so many
    labels and none for an alert; 0: as the policy says. alert_kinds: how many of each.
    """

    rows: int
    accuracy: float
    never_retrained: float
    last_label: float
    alerts: int
    jobs: int
    published: int
    promoted: int
    rolled_back: int
    failed_requests: int
    seconds: float
    seconds_waited: float
    rows_per_second: float = 0.0
    requests: int = 0
    retried: int = 0
    advisory_alerts: int = 0
    later_jobs: int = 0
    job_failure: str = ""
    job_ends: dict[str, int] = field(default_factory=dict)
    answers: dict[int, int] = field(default_factory=dict)
    weights: dict[int, float] = field(default_factory=dict)
    last_act_version: int = 0
    last_act: str = ""
    failures: tuple[str, ...] = ()
    stream: str = "electricity"
    title: str = "Electricity"
    alert_kinds: dict[str, int] = field(default_factory=dict)
    delay_rows: int = 48
    schedule: int = 0


_KEYS = (
    *("rows", "accuracy", "never_retrained", "last_label", "alerts", "jobs", "published", "promoted"),
    *("rolled_back", "failed_requests", "seconds", "seconds_waited"),
)


def as_json(result: Result) -> str:
    """The one object of `gateway demo --json`."""
    values = {key: getattr(result, key) for key in _KEYS}
    return json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in values.items()})


def faults(result: Result) -> list[str]:
    """Why the run was not a good one, in sentences; empty when it was."""
    found = []
    if result.failed_requests:
        first = f", the first: {result.failures[0]}" if result.failures else ""
        found.append(f"{result.failed_requests} requests failed{first}")
    for name, baseline in (("never retrained", result.never_retrained), ("last label", result.last_label)):
        if result.accuracy < baseline:
            found.append(f"accuracy {result.accuracy:.4f} is below the baseline '{name}' ({baseline:.4f})")
    if not result.last_act:
        found.append("the version trained on shuffled labels was not rolled back")
    return found


def print_table(result: Result, console: Console) -> None:
    """The closing table."""
    how = f", a job in {result.schedule:,} labels and none for an alert" if result.schedule else ""
    table = Table(title=f"The loop on the {result.title} stream{how}", show_header=False, title_justify="left")
    table.add_column("what")
    table.add_column("figure", justify="right")
    table.add_column("note", style="dim")
    for what, figure, note in _lines(result):
        table.add_row(what, figure, note)
    console.print(table)


def _lines(result: Result) -> list[tuple[str, str, str]]:
    ends = ", ".join(f"{count} {end}" for end, count in sorted(result.job_ends.items()))
    failure = f"; the last failure: {result.job_failure[:200]}" if result.job_failure else ""
    later = f"; {result.later_jobs} more after the stream" if result.later_jobs else ""
    busiest = sorted(result.answers.items(), key=lambda item: -item[1])[:5]
    answers = ", ".join(f"@{version}: {count:,}" for version, count in busiest)
    return [
        ("rows answered", f"{result.rows:,}", f"most by {answers}" if answers else ""),
        ("accuracy", f"{result.accuracy:.4f}", f"each row predicted first, its label {result.delay_rows} rows later"),
        ("  never retrained", f"{result.never_retrained:.4f}", f"the same rows by {result.stream}@1"),
        ("  last known label", f"{result.last_label:.4f}", f"the label of {result.delay_rows} rows before"),
        ("alerts", f"{result.alerts:,}", _kinds(result)),
        ("jobs", f"{result.jobs:,}", f"{ends}{later}{failure}"),
        ("versions published", f"{result.published:,}", ""),
        ("versions promoted", f"{result.promoted:,}", _weights(result)),
        ("versions rolled back", f"{result.rolled_back:,}", "the last act included"),
        ("last act", "rolled back" if result.last_act else "NOT rolled back", _last_act(result)),
        ("failed requests", f"{result.failed_requests:,}", f"{result.requests:,} sent, {result.retried} retried"),
        ("rows per second", f"{result.rows_per_second:,.0f}", "while the stream's clock ran"),
        ("seconds waited", f"{result.seconds_waited:.1f}", "the clock stood while a job answered an alert"),
        ("seconds in all", f"{result.seconds:.1f}", ""),
    ]


def _kinds(result: Result) -> str:
    kinds = [f"{count} {kind}" for kind, count in sorted(result.alert_kinds.items(), key=lambda item: -item[1])]
    return ", ".join([*kinds, f"{result.advisory_alerts} of them advisory"])


def _weights(result: Result) -> str:
    weights = ", ".join(f"@{version}: {weight:g} %" for version, weight in result.weights.items())
    return f"weights at the end: {weights}" if weights else ""


def _last_act(result: Result) -> str:
    name = f"{result.stream}@{result.last_act_version}, trained on shuffled labels"
    return f"{name}: {result.last_act}" if result.last_act else name
