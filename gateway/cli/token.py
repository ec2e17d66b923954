"""`gateway token`: access tokens, made and revoked in the data directory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.directory import opened
from gateway.cli.remote import DEFAULT_DATA, AsJson, show, table, usage, when

app = typer.Typer(help="Make, list and revoke access tokens (in the data directory).", no_args_is_help=True)
DataHere = Annotated[Path, typer.Option("--data", envvar="GATEWAY_DATA", help="data directory")]


def add_to(root: typer.Typer) -> None:
    """Register the commands."""
    root.add_typer(app, name="token")


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="what it is for", show_default=False)],
    scopes: Annotated[str, typer.Option(help="of read, operate, publish, predict; with commas")] = "read",
    days: Annotated[float | None, typer.Option(help="until it expires [never]", min=0.0)] = None,
    data: DataHere = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """Make a token and print it; only its hash is kept."""
    import asyncio

    from gateway.api.token import create_token
    from gateway.clock import SystemClock
    from gateway.documents.token import Scope

    try:
        wanted = [Scope(scope.strip()) for scope in scopes.split(",")]
    except ValueError as error:
        raise usage(f"--scopes: {error}; there are {', '.join(Scope)}") from None
    with opened(data) as stores:
        secret = asyncio.run(create_token(stores.config, name, wanted, SystemClock(), days=days, actor="command"))
        show({"name": name, "token": secret, "scopes": wanted}, as_json, secret)


@app.command("list")
def list_tokens(data: DataHere = DEFAULT_DATA, as_json: AsJson = False) -> None:
    """Tokens by name, with scopes and expiry; never the secrets."""
    import asyncio

    from gateway.api.token import read_tokens

    with opened(data) as stores:
        tokens = asyncio.run(read_tokens(stores.config))
        content = [
            {"name": t.name, "scopes": list(t.scopes), "created": t.created, "expires": t.expires, "revoked": t.revoked}
            for t in tokens
        ]
        rows = [
            [t.name, " ".join(t.scopes), when(t.created), when(t.expires) or "never", "revoked" if t.revoked else ""]
            for t in tokens
        ]
        show({"tokens": content}, as_json, table("", ["name", "scopes", "created", "expires", ""], rows))


@app.command()
def revoke(
    name: Annotated[str, typer.Argument(help="the token", show_default=False)],
    data: DataHere = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """Put a token out of force, within two seconds."""
    import asyncio

    from gateway.api.token import revoke_token

    with opened(data) as stores:
        asyncio.run(revoke_token(stores.config, name, "command"))
        show({"name": name, "revoked": True}, as_json, f"{name} is revoked")
