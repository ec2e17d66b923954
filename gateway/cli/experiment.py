"""`gateway experiment`: several versions side by side, and which of them is best."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gateway.cli.remote import AsJson, Data, Model, Reason, Token, Url, connected, show, table, when
from gateway.cli.route import read_move

app = typer.Typer(help="Compare several versions on live traffic.", no_args_is_help=True)


def add_to(root: typer.Typer) -> None:
    """Register the commands."""
    root.add_typer(app, name="experiment")


@app.command()
def start(
    model: Model,
    arms: Annotated[list[str], typer.Argument(metavar="VERSION=PERCENT...", help="for example 4=10 5=10")],
    metric: Annotated[str, typer.Option(help="value, label or errors")] = "value",
    better: Annotated[str | None, typer.Option(help="higher or lower [errors: lower, else higher]")] = None,
    alpha: Annotated[
        float | None, typer.Option(help="chance that an interval ever misses [as the policy says]")
    ] = None,
    margin: Annotated[float | None, typer.Option(help="differences within it mean nothing")] = None,
    minimum_units: Annotated[
        int | None, typer.Option(help="units of each arm before anything is said [as the policy says]")
    ] = None,
    until_units: Annotated[int | None, typer.Option(help="end when each arm has so many units")] = None,
    at_most: Annotated[str | None, typer.Option(help="end after this time, for example 7d")] = None,
    until_decided: Annotated[bool, typer.Option(help="end as soon as there is a verdict")] = False,
    winner: Annotated[str | None, typer.Option(help="report or promote [as the policy says]")] = None,
    keep: Annotated[bool, typer.Option(help="leave the canaries in the route at the end")] = False,
    reason: Reason = "",
    url: Url = None,
    token: Token = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Start an experiment: the champion against these versions."""
    from gateway.client import experiment_call

    weights = dict(read_move(arm) for arm in arms)
    terms = {"better": better, "alpha": alpha, "margin": margin, "minimum_units": minimum_units, "winner": winner}
    ends = {"until_units": until_units, "at_most": at_most, "until_decided": until_decided, "keep": keep}
    with connected(url, token, data) as client:
        content = client.send(experiment_call(model, weights, metric, **terms, **ends, reason=reason))
    _show(content, as_json)


@app.command()
def status(model: Model, url: Url = None, token: Token = None, data: Data = None, as_json: AsJson = False) -> None:
    """The report of the experiment under way, or of the last one."""
    from gateway.client import model_path

    with connected(url, token, data) as client:
        _show(client.get(model_path(model, "/experiment")), as_json)


@app.command()
def stop(
    model: Model, reason: Reason = "", url: Url = None, token: Token = None, data: Data = None, as_json: AsJson = False
) -> None:
    """End the experiment now; the canaries leave the route unless it was to keep them."""
    from gateway.client import stop_experiment_call

    with connected(url, token, data) as client:
        _show(client.send(stop_experiment_call(model, reason)), as_json)


def _show(content: Any, as_json: bool) -> None:
    columns = [
        "version",
        "role",
        "weight",
        "answers",
        "units",
        "mean",
        "interval",
        "to the champion",
        "interval",
        "out",
    ]
    rows = [
        [
            f"{content['model']}@{arm['version']}",
            arm["role"],
            f"{arm['weight']:g} %",
            arm.get("answers", 0),
            arm.get("units", 0),
            _figure(arm.get("mean")),
            _interval(arm.get("interval")),
            _figure(arm.get("difference"), signed=True),
            _interval(arm.get("difference_interval")),
            arm.get("out", ""),
        ]
        for arm in content["arms"]
    ]
    title = f"experiment {content['number']} of {content['model']}: {content['metric']}, {content['better']} is better"
    said = content["report"].get("reason", "nothing was seen yet")
    lines = [
        f"{content['phase']} since {when(content['since'])}" + (f": {content['reason']}" if content["reason"] else ""),
        f"verdict: {content['verdict'].replace('_', ' ')}: {said}",
        f"intervals hold at every look: all means, and all differences, but for a chance of {content['alpha']:g}",
    ]
    if content["next"]:
        lines.append(f"promote it with: {content['next']}")
    show(content, as_json, table(title, columns, rows), *lines)


def _figure(number: float | None, signed: bool = False) -> str:
    return "" if number is None else f"{number:+.4g}" if signed else f"{number:.4g}"


def _interval(ends: list[float] | None) -> str:
    return "" if ends is None else f"{ends[0]:.4g} to {ends[1]:.4g}"
