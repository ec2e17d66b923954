"""`gateway alerts`: what the monitor said, what people did about it, and whether the journal says the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from gateway.cli.directory import opened
from gateway.cli.journal import DataHere, read_since
from gateway.cli.remote import DEFAULT_DATA, AsJson, Data, Reason, Token, Url, connected, show, table, when

_HELP = "Alerts. Without a sub-command it lists: gateway alerts [MODEL] [--acknowledge ID] [--follow] [--json]"
_STATES = {
    "same": "same",
    "missing": "MISSING",
    "extra": "EXTRA",
    "coming": "not folded yet",
    "not_replayable": "older than the traffic kept",
}


class _ListsByDefault(TyperGroup):
    """Without the name of a sub-command the words are those of `list`: `gateway alerts fraud` lists what it listed."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """See click."""
        is_named = bool(args) and (args[0] in self.commands or args[0] == "--help")
        return super().parse_args(ctx, args if is_named else ["list", *args])


app = typer.Typer(cls=_ListsByDefault, help=_HELP)


def add_to(root: typer.Typer) -> None:
    """Register the commands."""
    root.add_typer(app, name="alerts")


@app.command("list")
def list_alerts(
    model: Annotated[str | None, typer.Argument(help="only this model", show_default=False)] = None,
    acknowledge: Annotated[str | None, typer.Option(metavar="ID", help="say that somebody has seen it")] = None,
    silence: Annotated[str | None, typer.Option(metavar="ID", help="let it trigger nothing for a while")] = None,
    silence_for: Annotated[str, typer.Option("--for", help="how long, such as 30m or 2d")] = "1h",
    follow: Annotated[
        bool, typer.Option("--follow", help="show alerts, their ends and decisions as they come")
    ] = False,
    reason: Reason = "",
    url: Url = None,
    token: Token = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """The newest alerts; `gateway alerts` alone does the same. Acknowledge or silence one, or follow them."""
    from gateway.client import Call, model_path

    with connected(url, token, data) as client:
        if acknowledge is not None:
            content = client.send(Call("POST", f"/admin/alerts/{acknowledge}/acknowledge", {"reason": reason}))
            show(content, as_json, f"{acknowledge} is acknowledged")
        elif silence is not None:
            body = {"for": silence_for, "reason": reason}
            content = client.send(Call("POST", f"/admin/alerts/{silence}/silence", body))
            show(content, as_json, f"{silence} is silent until {when(content['silenced_until'])}")
        elif follow:
            for event in client.events():
                if model is None or event["data"].get("model") == model:
                    print(json.dumps(event) if as_json else event_line(event), flush=True)
        else:
            names = [model] if model else [one["name"] for one in client.get("/admin/models")["models"]]
            found = [client.get(model_path(name, "/monitoring")) for name in names]
            show_alerts(found, as_json)


def event_line(event: Any) -> str:
    """One event of the admin API in one line."""
    data = event["data"]
    match event["event"]:
        case "alert":
            what = f"{data['message']}{_judged(data)}"
        case "cleared":
            what = f"{data['alert']}: {data['reason']}"
        case _:
            what = f"{data['actor']} {data['action']}: {data['reason']}"
    return f"{when(data['time'])} {event['event']:<8} {data['model']}@{data['version']} {what}"


def _judged(alert: dict[str, Any]) -> str:
    """The verdict and what it calls for, where there is one."""
    return f" [{alert['verdict']}: {alert['response']}]" if alert.get("verdict") else ""


def _handled(alert: dict[str, Any]) -> str:
    """Whether an alert still stands, and what people did about it."""
    done = [str(alert.get("state", "raised"))]
    done += ["acknowledged"] if alert.get("acknowledged") else []
    if until := alert.get("silenced_until"):
        done.append(f"silent until {when(until)}")
    return ", ".join(done)


def show_alerts(found: list[Any], as_json: bool) -> None:
    """Alerts of some models, with how they stand; then notes, and what stands against each version now."""
    raised = [alert for one in found for alert in one["alerts"]]
    heads = ["id", "when", "version", "role", "kind", "detector", "severity", "evidence", "what", "verdict", "state"]
    rows = [[*_cells(alert), alert.get("message"), alert.get("verdict"), _handled(alert)] for alert in raised]
    notes = [f"{one['model']}: {note}" for one in found if (note := _note(one))]
    notes += [
        f"{one['model']}@{now['version']} as {now['role']}: {now['verdict']}, {now['response']}"
        for one in found
        for now in one.get("verdicts", [])
        if now["verdict"]
    ]
    content = {"alerts": raised, "monitoring": found}
    show(content, as_json, table("", heads, rows) if rows else "no alerts", *notes)


def _note(monitoring: Any) -> str:
    notes = [monitoring["note"]] if monitoring["note"] else []
    if monitoring.get("sampled"):
        notes.append(f"the monitor can not keep up: detectors see {monitoring['sampling_rate']:.4g} of the predictions")
    return "; ".join(notes)


def _cells(alert: Any) -> list[Any]:
    return [
        alert.get("id"),
        when(alert.get("time")),
        f"{alert.get('model')}@{alert.get('version')}",
        alert.get("role"),
        alert.get("kind"),
        f"{alert.get('detector')}{' (advisory)' if alert.get('advisory') else ''}",
        alert.get("severity"),
        f"{alert.get('evidence', 0):.3g}",
    ]


@app.command()
def replay(
    model: Annotated[str | None, typer.Argument(help="only this model", show_default=False)] = None,
    since: Annotated[str | None, typer.Option(help="an age (2h) or a moment (2026-11-20T10:00)")] = None,
    until: Annotated[str | None, typer.Option(help="an age or a moment, itself included")] = None,
    data: DataHere = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """Recompute the alerts of a period from the journal of a data directory; exit code 1 when they differ."""
    content = _replayed(data, model, read_since(since), read_since(until, "--until"))
    show(content, as_json, *_parts(content))
    if content["differs"]:
        raise typer.Exit(1)


def _replayed(data: Path, model: str | None, since_ns: int | None, until_ns: int | None) -> dict[str, Any]:
    import asyncio
    import tempfile

    from gateway.monitor.replay import replay as recompute

    with (
        tempfile.TemporaryDirectory(prefix="gateway-replay-") as folder,
        opened(data, make=False) as stores,
        opened(Path(folder)) as scratch,
    ):
        done = recompute(stores, scratch.joins, Path(folder) / "cache", model, since_ns, until_ns)
        return asyncio.run(done).content()


def _parts(content: Any) -> Iterator[Any]:
    start = when(content["start"]) or "nothing"
    yield f"folded from the beginning of the journal that is kept: {content['entries']} records from {start} on"
    for name, how in content["policies"].items():
        yield f"policy of {name}: {how}"
    if sampled := [f"{rate:.4g}" for rate in content["sampling_rates"] if rate < 1]:
        yield f"stretches of it at the sampling rates that were in force: {', '.join(sampled)}"
    heads = ["id", "when", "version", "role", "kind", "detector", "severity", "evidence", "replay"]
    rows = [[*_cells(one), _STATES[one["state"]]] for one in content["alerts"]]
    yield table("", heads, rows) if rows else "no alerts, neither recomputed nor written down"
    yield ", ".join(f"{count} {_STATES[state]}" for state, count in content["states"].items() if count) or "nothing"
