"""What the commands share: options, the way to a running gateway, and printing."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gateway.client import Client

ADMIN_URL = "http://127.0.0.1:8081"
SERVING_URL = "http://127.0.0.1:8080"
DEFAULT_DATA = Path("gateway-data")

Url = Annotated[
    str | None,
    typer.Option("--url", envvar="GATEWAY_ADMIN_URL", help=f"admin address of a running gateway [{ADMIN_URL}]"),
]
Token = Annotated[
    str | None, typer.Option("--token", help="access token [GATEWAY_TOKEN, else admin-token in the data directory]")
]
Data = Annotated[Path | None, typer.Option("--data", help="data directory; where it can, the command works on it")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON")]
Reason = Annotated[str, typer.Option("--reason", help="why; it is kept in the audit trail")]
Model = Annotated[str, typer.Argument(help="name of the model", show_default=False)]


def token_for(token: str | None, data: Path | None) -> str | None:
    """The token: the option, GATEWAY_TOKEN, or the first token in the data directory."""
    if token or os.environ.get("GATEWAY_TOKEN"):
        return token or os.environ["GATEWAY_TOKEN"]
    file = (data or Path(os.environ.get("GATEWAY_DATA", DEFAULT_DATA))) / "admin-token"
    try:
        return file.read_text().strip()
    except OSError:
        return None


@contextmanager
def connected(url: str | None, token: str | None, data: Path | None, seconds: float = 60.0) -> Iterator[Client]:
    """A client of the admin API."""
    from gateway.client import Client

    with Client(url or ADMIN_URL, token=token_for(token, data), timeout_seconds=seconds) as client:
        yield client


def show(content: Any, as_json: bool, *tables: Any) -> None:
    """Print JSON, or these tables and lines for a person."""
    if as_json:
        print(json.dumps(content, indent=2, ensure_ascii=False, default=str))
        return
    from rich.console import Console

    width = None if sys.stdout.isatty() else 160
    console = Console(width=width, highlight=False, markup=False)
    for part in tables:
        console.print(part)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Any:
    """A table; cells are shown as text, never as markup."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(title=title or None, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    for column in columns:
        made.add_column(column, overflow="fold")
    for row in rows:
        made.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    return made


def when(seconds: float | None) -> str:
    """A moment in local time, empty for none."""
    return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S") if seconds else ""


def facts(content: Mapping[str, Any], keys: Sequence[str]) -> Any:
    """Some fields of one thing, a line each."""
    return table("", ["", ""], [[key, _short(content.get(key))] for key in keys if content.get(key) not in (None, "")])


def _short(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else str(value)


def usage(message: str) -> typer.BadParameter:
    """An error of the command line: exit code 2."""
    return typer.BadParameter(message)
