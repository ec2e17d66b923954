"""`gateway serve`, `gateway init`, `gateway demo`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli.remote import AsJson

_SETTINGS_FILE = Path("gateway.yaml")


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command()(serve)
    app.command()(init)
    app.command()(demo)


def _setting(help_text: str) -> Any:
    return typer.Option(help=help_text, show_default=False)


# One option for each setting; a test compares them with `Settings`. Values are checked there, all at once.
def serve(
    settings: Annotated[Path | None, typer.Option(help="settings file [gateway.yaml, where there is one]")] = None,
    data: Annotated[str | None, _setting("directory of all stores [gateway-data]")] = None,
    config: Annotated[str | None, _setting("folder of policy files [router_config]")] = None,
    models: Annotated[str | None, _setting("folder of recipes [models]")] = None,
    listen: Annotated[str | None, _setting("serving address [127.0.0.1:8080]")] = None,
    admin_listen: Annotated[str | None, _setting("admin address [127.0.0.1:8081]")] = None,
    workers: Annotated[str | None, _setting("serving processes [1]")] = None,
    roles: Annotated[str | None, _setting("what this command runs [serving,control]")] = None,
    client_auth: Annotated[str | None, _setting("true: /predict and /feedback need a token [false]")] = None,
    feedback_auth: Annotated[str | None, _setting("auto: beyond loopback /feedback needs a token; or off")] = None,
    metrics_token: Annotated[str | None, _setting("true: /metrics needs a token [false]")] = None,
    max_body_bytes: Annotated[str | None, _setting("largest request body [8388608]")] = None,
    max_package_bytes: Annotated[str | None, _setting("largest package that can be published")] = None,
    header_seconds: Annotated[str | None, _setting("time for a request's headers [5]")] = None,
    body_seconds: Annotated[str | None, _setting("time for a request's body [10]")] = None,
    stall_seconds: Annotated[str | None, _setting("a caller who does not read for so long is cut off [10]")] = None,
    edge: Annotated[str | None, _setting("fast: /predict is answered before ASGI is entered; asgi: not [fast]")] = None,
    middleware: Annotated[str | None, _setting("ASGI middleware of your own, module:name, comma-separated")] = None,
    grace_seconds: Annotated[str | None, _setting("time to finish requests at shutdown [10]")] = None,
    wait_milliseconds: Annotated[
        str | None, _setting("a request that would wait longer before it runs is refused (503) [250]")
    ] = None,
    shadow_queue: Annotated[str | None, _setting("shadow copies waiting at most, per process [1000]")] = None,
    inline_microseconds: Annotated[str | None, _setting("models faster than this run in the event loop")] = None,
    threads: Annotated[str | None, _setting("threads for slower models [2]")] = None,
    memory_bytes: Annotated[str | None, _setting("memory of a serving process; versions beyond are refused")] = None,
    segment_bytes: Annotated[str | None, _setting("size of a journal segment")] = None,
    sync_seconds: Annotated[str | None, _setting("the journal reaches the disk at most so late [0.05]")] = None,
    keep_seconds: Annotated[str | None, _setting("age at which journal segments are deleted")] = None,
    admission_seconds: Annotated[str | None, _setting("time limit of a publish check [20]")] = None,
    admission_bytes: Annotated[str | None, _setting("memory limit of a publish check")] = None,
    log_level: Annotated[str | None, _setting("debug, info, warning or error [info]")] = None,
) -> None:
    """Serve, watch, retrain and roll out: everything in one command, until SIGTERM or Ctrl-C.

    Each option is also a setting in gateway.yaml and in the environment (GATEWAY_LISTEN for --listen).
    """
    from gateway.settings import read_settings

    flags = {name: value for name, value in locals().items() if name not in {"settings", "read_settings"}}
    read = read_settings(flags, os.environ, settings or _SETTINGS_FILE)
    if read.middleware:
        from gateway.api.user_middleware import find_middleware

        find_middleware(read.middleware)  # a wrong name stops the start, here and not in a process that comes again
    from gateway.app.parent import run

    raise typer.Exit(run(read))


def init(
    folder: Annotated[Path, typer.Argument(help="where to make it")] = Path(),
    as_json: AsJson = False,
) -> None:
    """Make a new project: recipes, policies, settings, a Dockerfile. Files that exist are left alone."""
    from gateway.cli.project import write_project
    from gateway.cli.remote import show

    written, kept = write_project(folder)
    content = {"folder": str(folder), "written": written, "kept": kept}
    show(content, as_json, *(f"wrote {name}" for name in written), *(f"kept  {name} (exists)" for name in kept))


def demo(
    stream: Annotated[str, typer.Option(help="electricity, sea or covertype")] = "electricity",
    fast: Annotated[bool, typer.Option("--fast", help="the first 12,000 rows, about a minute")] = False,
    schedule: Annotated[
        int, typer.Option(help="to compare: train in so many labels, whatever the alerts say; 0: by the policy", min=0)
    ] = 0,
    keep: Annotated[bool, typer.Option("--keep", help="leave the gateway up at the end")] = False,
    rows: Annotated[int | None, typer.Option(help="only the first rows of the stream", min=2500)] = None,
    rows_per_second: Annotated[
        float | None, typer.Option(help="speed of the replay [150, with --fast 300]; 0: no limit", min=0)
    ] = None,
    data: Annotated[Path | None, typer.Option(help="its data directory [a temporary one]")] = None,
    workers: Annotated[int, typer.Option(help="serving processes", min=1)] = 1,
    acknowledged: Annotated[
        Path | None, typer.Option(help="file for the id of every answered row, a line each")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run the whole loop on a real stream: train, serve, watch, retrain, roll out, roll back."""
    from gateway.demo.run import main

    code = main(
        stream=stream,
        schedule=schedule,
        fast=fast,
        keep=keep,
        as_json=as_json,
        rows_per_second=rows_per_second,
        data=data,
        rows=rows,
        workers=workers,
        acknowledged=acknowledged,
    )
    raise typer.Exit(code)
