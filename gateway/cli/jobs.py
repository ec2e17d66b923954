"""`gateway jobs`, `feedback`: what was trained, and the truth that it is trained on."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli.remote import (
    SERVING_URL,
    AsJson,
    Data,
    Reason,
    Token,
    Url,
    connected,
    facts,
    show,
    table,
    token_for,
    usage,
    when,
)

FOLLOW_SECONDS = 0.3


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command()(jobs)
    app.command()(feedback)


def jobs(
    job: Annotated[str | None, typer.Argument(help="one job with its report", show_default=False)] = None,
    cancel: Annotated[bool, typer.Option("--cancel", help="ask the job to end")] = False,
    follow: Annotated[bool, typer.Option("--follow", help="show what the job does until it has ended")] = False,
    model: Annotated[str | None, typer.Option(help="only this model's")] = None,
    limit: Annotated[int, typer.Option(help="so many", min=1)] = 20,
    reason: Reason = "",
    url: Url = None,
    token: Token = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Retraining jobs, newest first; show, follow or cancel one."""
    from gateway.client import Call

    if (cancel or follow) and job is None:
        raise usage(f"name the job to {'cancel' if cancel else 'follow'}")
    with connected(url, token, data) as client:
        if job is not None:
            path = f"/admin/jobs/{job}"
            content = client.send(Call("DELETE", path, params={"reason": reason})) if cancel else client.get(path)
            if follow:
                content = _follow(lambda: client.get(path), as_json)
            keys = ("id", "model", "trigger", "reason", "state", "detail", "rows", "version", "actor", "report")
            show(content, as_json, facts(content, keys))
            return
        content = client.get("/admin/jobs", limit=limit, **({"model": model} if model else {}))
    heads = ["job", "model", "trigger", "state", "rows", "version", "created", "seconds", "detail"]
    rows = [
        [
            one["id"],
            one["model"],
            one["trigger"],
            one["state"] if one["state"] != "running" else f"running: {progress_line(one)}",
            one["rows"],
            one["version"] or "",
            when(one["created"]),
            f"{one['ended'] - one['started']:.1f}" if one["ended"] and one["started"] else "",
            one["detail"] or one["reason"],
        ]
        for one in content["jobs"]
    ]
    show(content, as_json, table("", heads, rows) if rows else "no jobs so far")


def progress_line(job: Mapping[str, Any]) -> str:
    """What a job is doing, in a few words. Pure."""
    progress = job.get("progress") or {}
    if job["state"] != "running" or not progress:
        return str(job["state"])
    total = progress.get("total", 0)
    return f"{progress['step']} ({progress['done']} of {total} done)" if total else str(progress["step"])


def _follow(read: Callable[[], Any], as_json: bool) -> Any:
    """Print each new line until the job has ended; the job as it ended."""
    import time

    from gateway.documents.job import JOB_ENDED

    shown = ""
    while True:
        job = read()
        line = progress_line(job)
        if line != shown and not as_json:
            print(line, flush=True)
        shown = line
        if job["state"] in JOB_ENDED:
            return job
        time.sleep(FOLLOW_SECONDS)


def feedback(
    prediction: Annotated[str | None, typer.Argument(metavar="[ID]", help="id of the prediction")] = None,
    label: Annotated[str | None, typer.Option(help="the truth; a number where it looks like one")] = None,
    value: Annotated[float | None, typer.Option(help="a business measure")] = None,
    row: Annotated[int, typer.Option(help="its place in the request", min=0)] = 0,
    file: Annotated[Path | None, typer.Option(help="JSON lines of id, row, label, value")] = None,
    url: Annotated[
        str | None, typer.Option("--url", envvar="GATEWAY_URL", help=f"serving address [{SERVING_URL}]")
    ] = None,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Send labels of predictions: one, or a file of them."""
    from gateway.client import Client, feedback_call, feedbacks_call

    if (prediction is None) == (file is None):
        raise usage("give either the id of a prediction or --file")
    if file is not None:
        call = feedbacks_call(_items(file))
    else:
        call = feedback_call(str(prediction), row=row, label=None if label is None else read_label(label), value=value)
    with Client(url or SERVING_URL, token=token_for(token, None)) as client:
        content = client.send(call)
    show(content, as_json, f"accepted {content['accepted']}")


def read_label(text: str) -> str | int | float | bool:
    """A label as a person types it: a number or true/false where it looks like one."""
    try:
        read = json.loads(text)
    except ValueError:
        return text
    return read if isinstance(read, (bool, int, float, str)) else text


def _items(file: Path) -> list[Any]:
    items = []
    for number, line in enumerate(file.read_text().splitlines(), start=1):
        if line.strip():
            try:
                items.append(json.loads(line))
            except ValueError as error:
                raise usage(f"{file}:{number}: not JSON: {error}") from None
    return items
