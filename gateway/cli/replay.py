"""`gateway replay`: any version over the traffic that the journal has, before it meets a user."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.directory import opened
from gateway.cli.journal import read_since
from gateway.cli.remote import DEFAULT_DATA, AsJson, Model, show, table, usage
from gateway.cli.score import progress_bar

if TYPE_CHECKING:
    from gateway.comparison.figure import Figure
    from gateway.comparison.tally import Paired
    from gateway.offline.replay import Report

_WHY = {
    "digest_only": "the inputs were too large to be kept (journal.max_record_bytes)",
    "redacted": "features it needs are redacted (journal.redact)",
    "contract_gone": "the version whose columns the record has is gone",
    "contract_mismatch": "it needs features that the request did not have",
    "rejected": "its contract refuses the values",
}
_TIMES = ("the version here", "the champion here", "the champion then, in service")
_SHOWN_FLIPS = 8


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(replay)


def replay(
    model: Model,
    version: Annotated[int | None, typer.Option(help="its number [the champion]", min=1)] = None,
    since: Annotated[str, typer.Option(help="an age (7d) or a moment (2026-11-20T10:00)")] = "7d",
    limit: Annotated[int | None, typer.Option(help="only so many requests, the newest [all]", min=1)] = None,
    data: Annotated[Path, typer.Option("--data", envvar="GATEWAY_DATA", help="data directory")] = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """Run a version over journaled requests: agreement, quality with labels, run times, slices.

    Works on the data directory, beside a running gateway or without one. Nothing is written.
    """
    import asyncio

    import msgspec

    from gateway.names import model_name
    from gateway.offline.replay import replay as run

    try:
        name = model_name(model)
    except ValueError as error:
        raise usage(str(error)) from None
    since_ns = read_since(since)
    with opened(data, make=False) as stores, progress_bar() as progress:
        report = asyncio.run(
            run(stores.config, stores.registry, stores.traffic, name, version, since_ns, limit, progress)
        )
    show(msgspec.to_builtins(report), as_json, *_parts(report))


def _parts(report: Report) -> Iterator[Any]:
    found = report.comparison
    name = f"{report.model}@{report.version}"
    yield f"{name} over {report.requests} requests: {report.replayed} replayed ({report.rows} rows)"
    for why, count in sorted(report.not_replayed.items()):
        yield f"not replayed: {count}, {_WHY[why]}"
    if report.failed:
        yield f"failed: {count_of(report.failed, 'request')} that it had no answer to"
    if found.agreement is not None:
        what = "equal answers" if report.kind == "class" else "mean distance of answers"
        yield f"{what}: {_shown(found.agreement)} of {found.rows} rows"
    if report.trained:
        yield f"left out: {count_of(report.trained, 'labelled row')} that it may have been trained on"
    if found.labelled:
        names = list(dict.fromkeys((*found.own, *found.other)))
        rows = [[one, _shown(found.own.get(one)), _shown(found.other.get(one))] for one in names]
        yield table(f"on {count_of(found.labelled, 'labelled row')}", ["", name, "the champion then"], rows)
        yield from _paired(report)
    else:
        yield "no labels of these rows are known"
    yield table("run time of a request, us", ["", *_TIMES], [_times(report, key) for key in ("p50", "p99")])
    if found.flips:
        yield table("other answers", ["then", "now", "rows"], found.flips[:_SHOWN_FLIPS])


def _paired(report: Report) -> Iterator[Any]:
    found = report.comparison
    if found.paired is None:
        return
    champions = ", ".join(f"{version} ({rows})" for version, rows in sorted(report.champions.items()))
    parts = {"all": found.paired, **found.parts}
    what = "error rate" if report.kind == "class" else "mean absolute error"
    heads = ["rows of", "rows", "now", "then", "difference", "better", "worse", "p"]
    yield table(f"{what} on the same rows; champions then: {champions}", heads, map(_row, parts.items()))


def _row(item: tuple[str, Paired]) -> list[str]:
    name, one = item
    figures = [f"{one.own:.4g}", f"{one.other:.4g}", _shown(one.difference, "+")]
    return [
        name,
        str(one.rows),
        *figures,
        str(one.better),
        str(one.worse),
        f"{one.p:.3g}" if one.p > 1e-99 else "< 1e-99",
    ]


def count_of(count: int, noun: str) -> str:
    """`1 row`, `2 rows`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _shown(figure: Figure | None, sign: str = "") -> str:
    if figure is None:
        return ""
    return f"{figure.value:{sign}.4g} ({figure.low:{sign}.4g} to {figure.high:{sign}.4g})"


def _times(report: Report, key: str) -> list[str]:
    every = (report.run_time, report.champion_run_time, report.journaled_run_time)
    return [key, *("" if times is None else f"{getattr(times, key):.0f}" for times in every)]
