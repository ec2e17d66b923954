"""The command line of the bench. Pure: words in, one frozen value out."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Arguments:
    """What was asked for. only, without: keys of subjects, empty for all. most: rounds tried for clean ones."""

    quick: bool
    rounds: int
    most: int
    seconds: float
    warm_up_seconds: float
    connections: int
    only: tuple[str, ...]
    without: tuple[str, ...]
    extras: bool
    load_tool: str
    server_core: int
    load_core: int
    cache: Path
    results: Path
    strict: bool
    list_only: bool


def read(words: Sequence[str]) -> Arguments:
    """Raises SystemExit(2) on wrong usage, as argparse does."""
    parser = _parser()
    asked = parser.parse_args(words)
    rounds = asked.rounds or (3 if asked.quick else 5)
    most = asked.most or (rounds if asked.quick else 2 * rounds)
    if most < rounds:
        parser.error("--most must be at least --rounds")
    if asked.server_core == asked.load_core:
        parser.error("the server and the load tool need a core each")
    return Arguments(
        quick=asked.quick,
        rounds=rounds,
        most=most,
        seconds=asked.seconds or (2.0 if asked.quick else 5.0),
        warm_up_seconds=1.0,
        connections=asked.connections,
        only=_keys(asked.only),
        without=_keys(asked.without),
        extras=not (asked.quick or asked.no_extras),
        load_tool=asked.load_tool,
        server_core=asked.server_core,
        load_core=asked.load_core,
        cache=asked.cache.resolve(),
        results=asked.results.resolve(),
        strict=asked.strict,
        list_only=asked.list,
    )


def _keys(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="make bench ARGS=...", description="Measure the gateway, bare floors and its peers in one run."
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="floors and FastAPI only, short rounds: about a minute")
    add("--rounds", type=_count, help="clean rounds wanted [5; quick: 3]")
    add("--most", type=_count, help="rounds at most, when some are disturbed [twice as many; quick: no more]")
    add("--seconds", type=float, help="length of each load [5; quick: 2]")
    add("--connections", type=_count, default=16, help="keep-alive connections [16]")
    add("--only", default="", metavar="KEYS", help="only these, with commas (--list names them)")
    add("--without", default="", metavar="KEYS", help="all but these")
    add("--no-extras", action="store_true", help="leave out 100 models, scrapes, shadow and two workers")
    add("--load-tool", choices=("auto", "wrk", "own"), default="auto", help="wrk when it is installed [auto]")
    add("--server-core", type=int, default=0, help="core of the server [0]")
    add("--load-core", type=int, default=1, help="core of the load tool [1]")
    add("--cache", type=Path, default=ROOT / ".bench", help="where the peers' environments are kept [.bench]")
    add("--results", type=Path, default=ROOT / "loadtests" / "results", help="where the table and the plot are written")
    add("--strict", action="store_true", help="end with 1 when a bar with clean rounds is missed")
    add("--list", action="store_true", help="name everything that can be measured")
    return parser
