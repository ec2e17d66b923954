"""`gateway audit`: who changed what, when and why; `gateway audit verify`: whether that list is as it was written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from gateway.cli.directory import opened
from gateway.cli.remote import AsJson, Data, Token, Url, connected, show, table, usage, when

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.documents.chain import Chain
    from gateway.documents.store import AuditEntry

_PAGE = 1000
_HASH_LETTERS = 64
_HELP = "Who changed what, when and why. Without a sub-command it lists: gateway audit [MODEL] [--last N] [--json]"


class _ListsByDefault(TyperGroup):
    """Without the name of a sub-command the words are those of `list`: `gateway audit fraud` lists what it listed."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """See click."""
        is_named = bool(args) and (args[0] in self.commands or args[0] == "--help")
        return super().parse_args(ctx, args if is_named else ["list", *args])


app = typer.Typer(cls=_ListsByDefault, help=_HELP)


def add_to(root: typer.Typer) -> None:
    """Register the commands."""
    root.add_typer(app, name="audit")


@app.command("list")
def list_entries(
    model: Annotated[str | None, typer.Argument(help="only this model", show_default=False)] = None,
    last: Annotated[int, typer.Option(help="so many entries", min=1, max=1000)] = 30,
    url: Url = None,
    token: Token = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """The newest entries; `gateway audit` alone does the same."""
    with connected(url, token, data) as client:
        content = client.get("/admin/audit", last=last, **({"subject": model} if model else {}))
    heads = ["number", "when", "who", "what", "subject", "why"]
    rows = [
        [e["number"], when(e["time"]), e["actor"], e["action"], e["subject"], e["reason"]] for e in content["entries"]
    ]
    show(content, as_json, table("", heads, rows) if rows else "no changes so far")


@app.command()
def verify(
    head: Annotated[
        str | None, typer.Option(help="hash that an earlier check printed: is it still in the chain?")
    ] = None,
    url: Url = None,
    token: Token = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Check the hash chain of the whole audit trail: in a data directory (--data), else of a running gateway."""
    if head is not None and not _is_hash(head):
        raise usage(f"--head takes the {_HASH_LETTERS} letters that an earlier check printed")
    from gateway.documents.chain import Chain

    chain = Chain(head or "")
    if data is not None and url is None:
        _check_directory(chain, data)
    else:
        with connected(url, token, data) as client:
            for page in _pages(client):
                if chain.add(page) is not None:
                    break
    _show(chain, head, as_json)


def _is_hash(text: str) -> bool:
    return len(text) == _HASH_LETTERS and all(letter in "0123456789abcdefABCDEF" for letter in text)


def _check_directory(chain: Chain, data: Path) -> None:
    import asyncio

    async def check() -> None:
        after = 0
        while page := await stores.config.audit(after, _PAGE):
            if chain.add(page) is not None:
                return
            after = page[-1].number

    with opened(data, make=False) as stores:
        asyncio.run(check())


def _pages(client: Any) -> Iterator[Sequence[AuditEntry]]:
    import msgspec

    from gateway.documents.store import AuditEntry

    after = 0
    while entries := client.get("/admin/audit", after=after, limit=_PAGE)["entries"]:
        yield msgspec.convert(entries, tuple[AuditEntry, ...])
        after = entries[-1]["number"]


def _show(chain: Chain, head: str | None, as_json: bool) -> None:
    broken = chain.broken
    is_whole = broken is None and chain.has_wanted
    content = {
        "whole": is_whole,
        "checked": chain.checked,
        "started": chain.started,
        "head": chain.head,
        "broken": None if broken is None else {"number": broken.number, "why": broken.why},
        "has_head": None if head is None else chain.has_wanted,
    }
    show(content, as_json, *_lines(chain, head))
    if not is_whole:
        raise typer.Exit(1)


def _lines(chain: Chain, head: str | None) -> list[str]:
    lines = [f"{chain.checked} entries checked"]
    if chain.started > 1:
        lines.append(f"the chain starts at entry {chain.started}; it holds the {chain.started - 1} older ones together")
    if chain.broken is not None:
        lines.append(f"BROKEN at entry {chain.broken.number}: {chain.broken.why}")
    else:
        lines.append(f"head {chain.head}" if chain.head else "no entry has a hash yet")
    if head is not None:
        lines.append(f"{head} {_head_found(chain)}")
    return lines


def _head_found(chain: Chain) -> str:
    if chain.has_wanted:
        return "is part of the chain"
    if chain.broken is not None:
        return "is not part of the chain before the broken place"
    return "is NOT part of the chain: entries were cut off or written anew"
