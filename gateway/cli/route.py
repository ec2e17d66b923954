"""`gateway route` and `gateway weights`: which versions answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli.remote import AsJson, Data, Model, Reason, Token, Url, connected, show, table, usage


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command()(route)
    app.command()(weights)


def route(
    model: Model,
    set_file: Annotated[Path | None, typer.Option("--set", help="replace the route by this JSON file")] = None,
    if_match: Annotated[str | None, typer.Option(help="ETag to write against [the present one]")] = None,
    reason: Reason = "",
    url: Url = None,
    token: Token = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Show a model's route, or replace it."""
    from gateway.client import model_path, route_call

    with connected(url, token, data) as client:
        path = model_path(model, "/route")
        if set_file is None:
            content, etag, _ = client.tagged(path)
            show({**content, "etag": etag}, as_json, _route_table(model, content), f"ETag {etag}")
            return
        wanted = _read(set_file)
        etag = if_match if if_match is not None else client.tagged(path).etag
        content = client.send(route_call(model, wanted, etag, reason))
    show(content, as_json, _route_table(model, content), _accepted(content))


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_text())
    except ValueError as error:
        raise usage(f"{file}: not JSON: {error}") from None


def weights(
    model: Model,
    moves: Annotated[list[str], typer.Argument(metavar="VERSION=PERCENT...", help="for example 4=10; 0 takes it out")],
    reason: Reason = "",
    if_match: Annotated[str | None, typer.Option(help="only if the route still has this ETag")] = None,
    url: Url = None,
    token: Token = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Move canary weights in one change; the champion gets the rest."""
    from gateway.client import weights_call

    wanted = dict(read_move(move) for move in moves)
    with connected(url, token, data) as client:
        content = client.send(weights_call(model, wanted, reason, if_match))
    show(content, as_json, _route_table(model, content), _accepted(content))


def read_move(text: str) -> tuple[int | str, float]:
    """`4=10` as (4, 10.0). Exit code 2 for anything else."""
    version, equals, percent = text.partition("=")
    try:
        if equals and int(version) >= 1 and 0 <= float(percent) <= 100:
            return int(version), float(percent)
    except ValueError:
        pass
    raise usage(f"{text!r} is not VERSION=PERCENT, for example 4=10")


def _route_table(model: str, content: Any) -> Any:
    canaries = content["canaries"]
    rest = round(100 - sum(canary["weight"] for canary in canaries), 2)
    rows = [[f"{model}@{content['champion']}", "champion", f"{rest:g} %"]]
    rows += [[f"{model}@{canary['version']}", "canary", f"{canary['weight']:g} %"] for canary in canaries]
    rows += [[f"{model}@{s['version']}", "shadow", f"{s['share']:g} % copied"] for s in content["shadows"]]
    if content.get("previous"):
        rows.append([f"{model}@{content['previous']}", "previous", "kept loaded"])
    return table("", ["version", "role", "share"], rows)


def _accepted(content: Any) -> str:
    accepted = ", ".join(content["accepted"]) or "no serving process is running"
    return f"revision {content['revision']}, accepted by {accepted}"
