"""`gateway rollout`: start, watch and steer a version on its way to champion."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gateway.cli import rollout_replay
from gateway.cli.remote import AsJson, Data, Model, Reason, Token, Url, connected, facts, show, table, when

app = typer.Typer(help="Start, watch and steer rollouts.", no_args_is_help=True)
_KEYS = (
    "version",
    "phase",
    "plan",
    "step",
    "steps",
    "weight",
    "verdict",
    "reason",
    "evidence",
    "guarding",
    "answers",
    "would",
    "waits_for",
)

_COMPARED = (
    "version",
    "role",
    "since",
    "pairs",
    "failed runs",
    "rows differ",
    "flips",
    "distance",
    "run time ratio",
    "it alone right : the champion alone",
)


def add_to(root: typer.Typer) -> None:
    """Register the commands."""
    rollout_replay.add_to(app)
    root.add_typer(app, name="rollout")


@app.command("show")
def show_rollout(
    model: Model, url: Url = None, token: Token = None, data: Data = None, as_json: AsJson = False
) -> None:
    """The rollout under way, or the last one."""
    from gateway.client import model_path

    with connected(url, token, data) as client:
        _show(client.get(model_path(model, "/rollout")), as_json)


@app.command()
def compare(model: Model, url: Url = None, token: Token = None, data: Data = None, as_json: AsJson = False) -> None:
    """Every challenger beside the champion: agreement, flips, run times, failures; also those put there by hand."""
    from gateway.client import model_path

    with connected(url, token, data) as client:
        content = client.get(model_path(model, "/comparison"))
    challengers: dict[str, dict[str, Any]] = content["challengers"]
    if not challengers and not as_json:
        print(f"{model} has no canaries and no shadows")
        return
    title = f"beside champion {content['champion']}"
    show(content, as_json, table(title, _COMPARED, [compared_row(n, one) for n, one in challengers.items()]))


@app.command()
def start(
    model: Model,
    version: Annotated[int, typer.Argument(help="number of the version", show_default=False)],
    plan: Annotated[str, typer.Option(help="steps, expedited or blue_green")] = "steps",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="tell what it would do, move nothing")] = False,
    reason: Reason = "",
    url: Url = None,
    token: Token = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Start a rollout of a version."""
    from gateway.client import rollout_call

    with connected(url, token, data) as client:
        _show(client.send(rollout_call(model, version, plan, reason, dry_run)), as_json)


def _steer(verb: str, text: str) -> None:
    def act(
        model: Model,
        reason: Reason = "",
        url: Url = None,
        token: Token = None,
        data: Data = None,
        as_json: AsJson = False,
    ) -> None:
        from gateway.client import rollout_verb_call

        with connected(url, token, data) as client:
            _show(client.send(rollout_verb_call(model, verb, reason)), as_json)

    app.command(verb, help=text)(act)


_steer("pause", "Stop moving; guards go on.")
_steer("resume", "Go on; also after a person moved a weight.")
_steer("promote", "Make the challenger champion now.")
_steer("roll-back", "Take the challenger out; with none under way restore the last champion.")


def _freeze(act_name: str, text: str) -> None:
    def act(
        model: Model,
        reason: Reason = "",
        url: Url = None,
        token: Token = None,
        data: Data = None,
        as_json: AsJson = False,
    ) -> None:
        from gateway.client import act_call

        with connected(url, token, data) as client:
            content = client.send(act_call(model, act_name, reason))
        show(content, as_json, f"{model} is {'frozen' if content['frozen'] else 'no longer frozen'}")

    app.command(act_name, help=text)(act)


_freeze("freeze", "No automatic act for this model; serving and manual moves go on.")
_freeze("unfreeze", "Automatic acts again.")


def compared_row(number: str, one: dict[str, Any]) -> list[object]:
    """The cells of one challenger, in the order of the columns."""
    trial, shadow = one["trial"], one["shadow"]
    runs, failed = trial["requests"] + shadow["requests"], trial["errors"] + shadow["errors"]
    flips = [f"{a} -> {b}: {n}" for a, row in one["flips"].items() for b, n in row.items() if a != b]
    differ = f"{one['disagreements']} of {one['compared']}" if one["compared"] else ""
    right = f"{one['trial_won']} : {one['reference_won']} of {one['labelled']}" if one["labelled"] else ""
    return [
        number,
        one["role"],
        when(one["since"]),
        one["pairs"],
        f"{failed} of {runs}",
        differ,
        ", ".join(flips),
        one["distance"],
        one["latency_ratio"],
        right,
    ]


def _show(content: Any, as_json: bool) -> None:
    if "route" in content:  # an answer of roll-back
        route, rollout = content["route"], content["rollout"]
        champion = f"champion is now version {route['champion']}"
        show(content, as_json, champion, *([facts(rollout, _KEYS)] if rollout else []))
        return
    show(content, as_json, facts(content, _KEYS), f"since {when(content['since'])}")
