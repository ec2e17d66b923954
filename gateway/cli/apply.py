"""`gateway apply`: policy files into the store, of a running gateway or of its data directory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli.directory import opened
from gateway.cli.remote import AsJson, Data, Reason, Token, Url, connected, show


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(apply)


def apply(
    folder: Annotated[Path, typer.Argument(envvar="GATEWAY_CONFIG", help="folder of policy files, or one file")] = Path(
        "router_config"
    ),
    force: Annotated[bool, typer.Option("--force", help="also over a policy that the API has changed")] = False,
    show_model: Annotated[str | None, typer.Option("--show", metavar="MODEL", help="show the stored policy")] = None,
    reason: Reason = "",
    url: Url = None,
    token: Token = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Take policy files over; errors name file, line and key. With --show: the stored policy of a model."""
    if show_model is not None:
        _show_policy(show_model, url, token, data)
        return
    from gateway.app.policies import policy_files, read_policy_file
    from gateway.errors import InvalidConfig

    files = policy_files(folder)
    if not files:
        raise InvalidConfig(f"{folder} holds no policy file (*.yaml)")
    for file in files:
        read_policy_file(file)  # all are right before the first is taken over
    if data is not None and url is None:
        results = _apply_to_directory(data, files, force)
    else:
        results = _apply_to_gateway(files, force, reason, url, token)
    show({"applied": results}, as_json, *(_line(result) for result in results))
    if any(result["state"] == "diverged" for result in results):
        raise typer.Exit(1)


def _line(result: dict[str, Any]) -> str:
    text = {
        "applied": "taken over",
        "unchanged": "as stored",
        "diverged": "the API has changed this policy since: not taken over; --force does it all the same",
    }[result["state"]]
    return f"{result['file']}: {text}"


def _apply_to_directory(data: Path, files: list[Path], force: bool) -> list[dict[str, Any]]:
    import asyncio

    from gateway.app.policies import import_file

    async def import_all(config: Any) -> list[dict[str, Any]]:
        results = []
        for file in files:
            done = await import_file(config, file, force)
            results.append(
                {"file": str(file), "model": done.model, "state": "diverged" if done.diverged else "applied"}
            )
        return results

    with opened(data) as stores:
        return asyncio.run(import_all(stores.config))


def _apply_to_gateway(
    files: list[Path], force: bool, reason: str, url: str | None, token: str | None
) -> list[dict[str, Any]]:
    from gateway.app.policies import read_policy_file
    from gateway.client import model_path, policy_call

    results = []
    with connected(url, token, None) as client:
        for file in files:
            _, policy = read_policy_file(file)
            wanted = policy.model_dump(mode="json")
            stored = client.tagged(model_path(policy.model, "/policy"))
            if stored.content == wanted and stored.source != "default":
                state = "unchanged"
            elif stored.source == "api" and not force:
                state = "diverged"
            else:
                client.send(policy_call(policy.model, wanted, stored.etag, reason, file=str(file)))
                state = "applied"
            results.append({"file": str(file), "model": policy.model, "state": state})
    return results


def _show_policy(model: str, url: str | None, token: str | None, data: Path | None) -> None:
    """The stored policy as YAML, or as JSON would be: YAML reads both."""
    import sys

    from ruamel.yaml import YAML

    from gateway.client import model_path

    with connected(url, token, data) as client:
        stored = client.tagged(model_path(model, "/policy"))
    print(f"# {model}: policy from {stored.source}, ETag {stored.etag}")
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.dump(stored.content, sys.stdout)
