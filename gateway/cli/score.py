"""`gateway score`: a file of rows through one version, by the rules of serving."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.directory import opened
from gateway.cli.remote import DEFAULT_DATA, AsJson, Model, usage

if TYPE_CHECKING:
    from gateway.offline.score import Progress, Scored


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(score)


def score(
    model: Model,
    source: Annotated[str, typer.Argument(metavar="IN", help="CSV (.csv, .csv.gz), Parquet, or - for CSV by a pipe")],
    out: Annotated[str, typer.Argument(metavar="OUT", help="likewise; written beside and renamed when it is whole")],
    version: Annotated[int | None, typer.Option(help="its number [the champion]", min=1)] = None,
    keep: Annotated[
        list[str] | None, typer.Option(metavar="COL", help="a column to keep, again for more [all]")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="end at the first row that is rejected")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="go on where an earlier run ended")] = False,
    data: Annotated[Path, typer.Option("--data", envvar="GATEWAY_DATA", help="data directory")] = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """Score the rows of a file: prediction, probabilities, flags, and why a row was rejected, beside what is kept.

    Works on the data directory, beside a running gateway or without one. Nothing is written to the journal.
    """
    import asyncio
    import json

    from gateway.names import model_name
    from gateway.offline.score import Order
    from gateway.offline.score import score as run

    if out == "-" and as_json:
        raise usage("--json needs OUT to be a file: standard output has the rows")
    try:
        name = model_name(model)
    except ValueError as error:
        raise usage(str(error)) from None
    order = Order(
        model=name,
        source=source,
        out=out,
        version=version,
        keep=tuple(keep) if keep else None,
        is_strict=strict,
        resumes=resume,
    )
    with opened(data, make=False) as stores, progress_bar() as progress:
        done = asyncio.run(run(order, stores.config, stores.registry, progress))
    if as_json:
        print(json.dumps({**done._asdict(), "out": out}, indent=2))
    else:
        print("\n".join(_lines(done, out)), file=sys.stderr)


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """A bar on standard error, when that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = [TextColumn("{task.fields[rows]:,} rows"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()]
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None, rows=0)
        yield lambda done, total, rows: bar.update(task, completed=done, total=total, rows=rows)


def _lines(done: Scored, out: str) -> Iterator[str]:
    place = "" if out == "-" else f" -> {out}"
    resumed = f" ({done.resumed} of them before)" if done.resumed else ""
    yield f"{done.version}: {done.rows} rows{resumed}, {done.rejected} rejected, {done.flagged} flagged{place}"
    if done.absent:
        yield f"no column {', '.join(done.absent)}: taken as missing in every row"
    if done.unknown:
        yield f"columns that are no feature: {', '.join(done.unknown)}"
