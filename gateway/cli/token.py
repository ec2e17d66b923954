"""`gateway token`: access tokens, made and revoked in the data directory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.directory import opened
from gateway.cli.remote import DEFAULT_DATA, AsJson, show, table, usage, when

if TYPE_CHECKING:
    from gateway.documents.token import Token

app = typer.Typer(help="Make, list and revoke access tokens (in the data directory).", no_args_is_help=True)
DataHere = Annotated[Path, typer.Option("--data", envvar="GATEWAY_DATA", help="data directory")]


def add_to(root: typer.Typer) -> None:
    """Register the commands."""
    root.add_typer(app, name="token")


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="what it is for", show_default=False)],
    scopes: Annotated[str, typer.Option(help="of read, operate, publish, predict; with commas")] = "read",
    days: Annotated[float | None, typer.Option(help="until it expires [never]")] = None,
    requests_per_second: Annotated[float | None, typer.Option(help="its quota at the serving API [none]")] = None,
    burst: Annotated[float | None, typer.Option(help="how many at once [one second's worth]")] = None,
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
        secret = asyncio.run(
            create_token(
                stores.config,
                name,
                wanted,
                SystemClock(),
                days=days,
                requests_per_second=requests_per_second,
                burst=burst,
                actor="command",
            )
        )
        show({"name": name, "token": secret, "scopes": wanted}, as_json, secret)


@app.command("list")
def list_tokens(data: DataHere = DEFAULT_DATA, as_json: AsJson = False) -> None:
    """Tokens by name, with scopes, quota and expiry; never the secrets."""
    import asyncio

    from gateway.api.admin.token import token_view
    from gateway.api.token import read_tokens

    with opened(data) as stores:
        tokens = asyncio.run(read_tokens(stores.config))
        columns = ["name", "scopes", "quota", "created", "expires", ""]
        content = {"tokens": [token_view(token) for token in tokens]}
        show(content, as_json, table("", columns, [_row(token) for token in tokens]))


def _row(token: Token) -> list[str]:
    quota = f"{token.requests_per_second:g}/s, {token.burst:g} at once" if token.requests_per_second else ""
    expires, state = when(token.expires) or "never", "revoked" if token.revoked else ""
    return [token.name, " ".join(token.scopes), quota, when(token.created), expires, state]


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
