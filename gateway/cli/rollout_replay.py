"""`gateway rollout replay`: a rollout's decisions recomputed from the journal, beside what was recorded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli.directory import opened
from gateway.cli.remote import AsJson, Data, Model, Token, Url, connected, show, table, when

_SECONDS = 600.0
_STATES = {"equal": "equal", "differs": "DIFFERS", "not_replayable": "not replayable", "as_recorded": "as recorded"}
_VALUES = ("errors", "slow", "quality", "calm")
_SHOWN_DIFFERENCES = 5


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(replay)


def replay(
    model: Model,
    rollout: Annotated[int | None, typer.Option(help="its number, 1 for the model's first [the newest]", min=1)] = None,
    url: Url = None,
    token: Token = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Recompute a rollout's decisions from the journal; exit code 1 when a record says something else."""
    from gateway.client import model_path

    if data is not None and url is None:
        content = _replayed_here(data, model, rollout)
    else:
        params = {} if rollout is None else {"rollout": rollout}
        with connected(url, token, data, seconds=_SECONDS) as client:
            content = client.get(model_path(model, "/rollout/replay"), **params)
    show(content, as_json, *_parts(content))
    if content["differs"]:
        raise typer.Exit(1)


def _replayed_here(data: Path, model: str, number: int | None) -> Any:
    import asyncio

    from gateway.names import ModelName
    from gateway.rollout.refold import replay as recompute

    with opened(data, make=False) as stores:
        done = asyncio.run(recompute(stores.control, stores.traffic, stores.registry, ModelName(model), number))
        return done.content()


def _parts(content: Any) -> Iterator[Any]:
    yield f"rollout {content['rollout']} of {content['model']}, by {content['rule']}"
    heads = ["when", "action", "version", "by", "verdict", "answers", "pairs", *_VALUES, "replay"]
    yield table("", heads, [_row(one) for one in content["decisions"]])
    for one in content["decisions"]:
        if one["why"]:
            yield f"{when(one['time'])} {one['action']}: {one['why']}"
        for difference in one["differences"][:_SHOWN_DIFFERENCES]:
            yield f"  {difference['place']}: recorded {difference['recorded']}, recomputed {difference['recomputed']}"
    yield ", ".join(f"{count} {_STATES[state]}" for state, count in content["states"].items() if count)


def _row(one: Any) -> list[str]:
    places = [("counts", "trial", "requests"), ("counts", "pairs"), *(("values", name) for name in _VALUES)]
    return [
        when(one["time"]),
        one["action"],
        f"@{one['version']}",
        one["by"],
        _beside(one, _verdict(one["recorded"]), _verdict(one["recomputed"])),
        *[_beside(one, _at(one["recorded"], place), _at(one["recomputed"], place)) for place in places],
        _STATES[one["state"]],
    ]


def _beside(one: Any, recorded: str, recomputed: str) -> str:
    return recorded if recorded == recomputed or not one["recomputed"] else f"{recorded} -> {recomputed}"


def _verdict(shown: Any) -> str:
    return f"{shown.get('result', '')} {shown.get('guard', '')}".strip()


def _at(shown: Any, place: tuple[str, ...]) -> str:
    for name in place:
        shown = shown.get(name) if isinstance(shown, dict) else None
    return "" if shown is None else f"{shown:g}" if isinstance(shown, int | float) else str(shown)
