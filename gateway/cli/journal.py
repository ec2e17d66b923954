"""`gateway journal`: every prediction and its labels, one record a line."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.directory import opened
from gateway.cli.remote import DEFAULT_DATA, usage

if TYPE_CHECKING:
    from gateway.app.build import Stores
    from gateway.journal.journal import Offset

app = typer.Typer(help="Read the journal of predictions and feedback.", no_args_is_help=True)
DataHere = Annotated[Path, typer.Option("--data", envvar="GATEWAY_DATA", help="data directory")]
ModelHere = Annotated[str | None, typer.Option("--model", help="only this model")]
SinceHere = Annotated[str | None, typer.Option("--since", help="an age (2h) or a moment (2026-11-20T10:00)")]
_PAGE = 2000


def add_to(root: typer.Typer) -> None:
    """Register the commands."""
    root.add_typer(app, name="journal")


@app.command()
def export(
    form: Annotated[str, typer.Option("--format", help="jsonl or parquet")] = "jsonl",
    model: ModelHere = None,
    since: SinceHere = None,
    joined: Annotated[bool, typer.Option("--joined", help="predictions with their labels, no feedback lines")] = False,
    out: Annotated[Path | None, typer.Option(help="file to write [standard output]")] = None,
    data: DataHere = DEFAULT_DATA,
    as_json: Annotated[bool, typer.Option("--json", help="the same as --format jsonl")] = False,
) -> None:
    """Write records, one for each row of each prediction, oldest first.

    In Parquet with --model the inputs are a struct of the model's features in their own types.
    """
    import asyncio

    if form not in ("jsonl", "parquet") or (form == "parquet" and as_json):
        raise usage("--format is jsonl or parquet")
    if form == "parquet" and out is None:
        raise usage("--format parquet needs --out FILE")
    with opened(data, make=False) as stores:
        asyncio.run(_export(stores, form, model, read_since(since), joined, out))


@app.command()
def tail(
    model: ModelHere = None,
    since: SinceHere = None,
    data: DataHere = DEFAULT_DATA,
    as_json: Annotated[bool, typer.Option("--json", help="accepted for symmetry: lines are JSON")] = True,
) -> None:
    """Show records as they come, until Ctrl-C."""
    import asyncio

    with opened(data, make=False) as stores:
        asyncio.run(_tail(stores, model, read_since(since)))


def read_since(text: str | None, option: str = "--since") -> int | None:
    """Nanoseconds since 1970 of an age (`2h`) or a moment in ISO form; None for none. option: where it was given."""
    import time
    from datetime import datetime

    from gateway.documents.duration import seconds

    if text is None:
        return None
    try:
        return int((time.time() - seconds(text)) * 1e9)
    except ValueError:
        pass
    try:
        return int(datetime.fromisoformat(text).timestamp() * 1e9)
    except ValueError:
        raise usage(f"{option}: {text!r} is neither an age such as 2h nor a moment such as 2026-11-20T10:00") from None


async def _export(
    stores: Stores, form: str, model: str | None, since_ns: int | None, joined: bool, out: Path | None
) -> None:
    from gateway.api.export import Labels, Lines, write_parquet
    from gateway.names import ModelName

    lines = Lines(stores.registry)
    labels = await Labels.read(stores.traffic) if joined else None
    start = await _start(stores, since_ns)
    records = (line async for page in _pages(stores, start) for line in await lines.of(page, model, since_ns, labels))
    if form == "parquet":
        assert out is not None
        manifests = await stores.registry.versions(ModelName(model)) if model is not None else ()
        await write_parquet(records, out, manifests)
        return
    file = out.open("w", encoding="utf-8") if out is not None else sys.stdout
    try:
        async for record in records:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
    finally:
        file.flush()
        if out is not None:
            file.close()


async def _tail(stores: Stores, model: str | None, since_ns: int | None) -> None:
    from gateway.api.export import Lines

    lines = Lines(stores.registry)
    offset = await _start(stores, since_ns) if since_ns is not None else await stores.traffic.end()
    while True:
        batch = await stores.traffic.read(offset, _PAGE)
        offset = batch.offset
        for record in await lines.of(batch.entries, model, since_ns, None):
            print(json.dumps(record, ensure_ascii=False), flush=True)
        if not batch.entries:
            await stores.traffic.wait(offset, 1.0)


async def _start(stores: Stores, since_ns: int | None) -> Offset:
    from gateway.journal.journal import START

    return START if since_ns is None else await stores.traffic.seek(since_ns)


async def _pages(stores: Stores, offset: Offset) -> AsyncIterator[Any]:
    while True:
        batch = await stores.traffic.read(offset, _PAGE)
        if not batch.entries:
            return
        offset = batch.offset
        yield batch.entries
