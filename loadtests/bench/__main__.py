"""`python -m loadtests.bench`, `make bench`: prepare, measure in rounds, print and write the table and the plot."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from loadtests.bench import arguments, environments, gateways, load, machine, material, plot, rounds, subjects, table
from loadtests.bench.arguments import Arguments
from loadtests.bench.comparison import findings
from loadtests.bench.environments import Missing, Ready
from loadtests.bench.gateways import PrepareFailed
from loadtests.bench.load import Load, LoadFailed
from loadtests.bench.material import Material
from loadtests.bench.rounds import Bench, Results
from loadtests.bench.sample import middles
from loadtests.bench.server import StartFailed
from loadtests.bench.subjects import Subject


class Wrong(Exception):
    """The bench can not begin."""


def main(words: Sequence[str]) -> int:
    """The exit code: 0 measured, 1 it could not be (or --strict and a bar was missed), 130 interrupted."""
    asked = arguments.read(words)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = Path(tempfile.mkdtemp(prefix="gateway-bench-"))
    try:
        return _bench(asked, folder)
    except KeyboardInterrupt:
        return 130
    except (Wrong, PrepareFailed, StartFailed, LoadFailed) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _bench(asked: Arguments, folder: Path) -> int:
    results = Results()
    made = material.make(folder)
    chosen = _chosen(asked, made)
    if asked.list_only:
        print("\n".join(f"{one.key:<20} {one.title}" for one in chosen))
        return 0
    missing = {asked.server_core, asked.load_core} - os.sched_getaffinity(0)
    if missing:
        raise Wrong(f"this machine has no core {missing}: the server and the load tool need one each (--server-core)")
    tool, said = load.choose_tool(asked.load_tool)
    if said:
        print(said, flush=True)
    chosen, ready = _with_environments(asked, chosen, results)
    routes = {one.route: None for one in chosen if one.route is not None}
    gateways.policies(folder)
    templates = {route: gateways.prepare(route, made, folder, asked.server_core) for route in routes}
    if not chosen:
        raise Wrong("nothing is left to measure")
    bench = Bench(
        folder=folder,
        made=made,
        templates=templates,
        ready=ready,
        load=Load(tool, asked.connections, asked.seconds),
        warm_up_seconds=asked.warm_up_seconds,
        server_core=asked.server_core,
        load_core=asked.load_core,
    )
    # From here on the bench itself keeps away from the server's core.
    os.sched_setaffinity(0, {asked.load_core})
    facts = _facts(asked, tool)
    titles = {one.key: one.title for one in chosen}
    rounds.run(bench, chosen, asked.rounds, asked.most, results, lambda: _write(asked, facts, titles, results))
    print("\n" + _write(asked, facts, titles, results))
    missed = [one for one in findings(results.samples) if one.clean and not one.is_met]
    return 1 if not results.samples or (asked.strict and missed) else 0


def _chosen(asked: Arguments, made: Material) -> list[Subject]:
    has_edge = gateways.has_edge()
    every = [*subjects.gateways(made, has_edge), *subjects.floors(made), *subjects.peers(made)]
    more = subjects.extras(made, has_edge)
    if asked.only or asked.extras:
        every += more
    only = asked.only or (subjects.QUICK if asked.quick else ())
    chosen, unknown = subjects.choose(every, only, asked.without)
    # Without --edge there is one edge, and the quick list's second one means nothing.
    unknown = [name for name in unknown if name in (*asked.only, *asked.without)]
    if unknown:
        raise Wrong(f"nothing is called {', '.join(unknown)}; there are: {', '.join(one.key for one in every)}")
    if asked.quick:
        chosen = [dataclasses.replace(one, requests={"one": one.requests["one"]}) for one in chosen]
    return chosen


def _with_environments(
    asked: Arguments, chosen: Sequence[Subject], results: Results
) -> tuple[list[Subject], dict[str, Ready]]:
    """The subjects whose packages are there, and where."""
    ready: dict[str, Ready] = {}
    left: list[Subject] = []
    for one in chosen:
        if one.environment is not None:
            found = environments.prepare(one.environment, asked.cache)
            if isinstance(found, Missing):
                results.note(f"{one.title}: {found.reason}")
                continue
            ready[one.environment] = found
        left.append(one)
    return left, ready


def _facts(asked: Arguments, tool: str) -> dict[str, str]:
    named = ("gateway", "uvicorn", "starlette", "onnxruntime", "msgspec")
    return {
        **machine.describe(),
        "packages": ", ".join(f"{name} {version(name)}" for name in named),
        "measured": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "load": f"{tool}, {asked.connections} keep-alive connections, closed loop, {asked.seconds:g} s a case; "
        f"server on core {asked.server_core}, load tool on core {asked.load_core}",
        "rounds": f"{asked.rounds} clean ones wanted, {asked.most} at most, interleaved; medians of clean rounds",
        "gateway": "weighted route with a 5 % canary, contract check, metrics, journal with `process` durability",
        "model": "StandardScaler + LogisticRegression, 30 float32 features, onnxruntime with one thread",
    }


def _write(asked: Arguments, facts: dict[str, str], titles: dict[str, str], results: Results) -> str:
    """Write what is known so far; the table."""
    medians = middles(results.samples)
    order = list(titles)
    medians.sort(key=lambda middle: order.index(middle.subject))
    text = table.render(facts, titles, medians, findings(results.samples), results.notes)
    asked.results.mkdir(parents=True, exist_ok=True)
    name = asked.results / ("quick" if asked.quick else "bench")
    name.with_suffix(".md").write_text(text)
    name.with_suffix(".svg").write_text(plot.render(titles, medians))
    content = {"facts": facts, "samples": [dataclasses.asdict(one) for one in results.samples], "notes": results.notes}
    name.with_suffix(".json").write_text(json.dumps(content, indent=1) + "\n")
    return text


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
