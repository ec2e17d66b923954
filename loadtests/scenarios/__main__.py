"""`python -m loadtests.scenarios`, `make scenarios`: measure each scenario, print and write its rows."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from http.client import HTTPException
from importlib.metadata import version
from pathlib import Path

from gateway.client import ClientError
from loadtests.bench import gateways, load, machine, material
from loadtests.bench.arguments import ROOT
from loadtests.bench.gateways import PrepareFailed
from loadtests.bench.load import LoadFailed
from loadtests.bench.server import StartFailed
from loadtests.scenarios import isolation, memory, overload, slow, swaps
from loadtests.scenarios.finding import Finding, Measured, render
from loadtests.scenarios.stage import ScenarioFailed, Stage

SCENARIOS: Mapping[str, Callable[[Stage], list[Finding]]] = {
    "swaps": swaps.run,
    "isolation": isolation.run,
    "overload": overload.run,
    "slow": slow.run,
    "memory": memory.run,
}
_FAILURES = (ScenarioFailed, PrepareFailed, StartFailed, LoadFailed, ClientError, HTTPException, OSError, ValueError)


def main(words: Sequence[str]) -> int:
    """The exit code: 0 measured, 1 a scenario could not be (or --strict and a bar was missed), 130 interrupted."""
    parser = _parser()
    asked = parser.parse_args(words)
    unknown = [name for name in asked.names if name not in SCENARIOS]
    if unknown or asked.server_core == asked.load_core:
        parser.error(f"nothing is called {unknown[0]}" if unknown else "the server and the load need a core each")
    missing = {asked.server_core, asked.load_core} - os.sched_getaffinity(0)
    if missing:
        print(f"scenarios: this machine has no core {missing}; the server and the load need one each", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = Path(tempfile.mkdtemp(prefix="gateway-scenarios-"))
    try:
        return _run(asked, folder)
    except KeyboardInterrupt:
        return 130
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(asked: argparse.Namespace, folder: Path) -> int:
    tool, said = load.choose_tool("auto")
    if said:
        print(said, flush=True)
    stage = Stage(
        folder=folder,
        made=material.make(folder),
        quick=asked.quick,
        server_core=asked.server_core,
        load_core=asked.load_core,
        load_tool=tool,
        has_edge=gateways.has_edge(),
    )
    os.sched_setaffinity(0, {asked.load_core})
    measured: list[Measured] = []
    for name in asked.names or SCENARIOS:
        one = _measure(name, stage)
        measured.append(one)
        for finding in one.findings:
            print(f"{name:<10} {finding.what}: {finding.figure} (bar {finding.bar}) {finding.note}", flush=True)
        if one.failure:
            print(f"{name:<10} not measured: {one.failure}", flush=True)
    text = render(_facts(asked, tool), measured)
    asked.results.mkdir(parents=True, exist_ok=True)
    (asked.results / "scenarios.md").write_text(text)
    print("\n" + text)
    if any(one.failure for one in measured):
        return 1
    return 1 if asked.strict and not all(one.holds for one in measured) else 0


def _measure(name: str, stage: Stage) -> Measured:
    trees = {"ours": os.getpid()}
    before = machine.read(trees)
    findings: list[Finding] = []
    failure = ""
    try:
        findings = SCENARIOS[name](stage)
    except _FAILURES as error:
        failure = " ".join(f"{type(error).__name__}: {error}".split())[:900]
    after = machine.read(trees)
    usage = machine.between(before, after)
    lasted = after.at_seconds - before.at_seconds
    return Measured(name, tuple(findings), lasted, usage.other, usage.stolen, failure)


def _facts(asked: argparse.Namespace, tool: str) -> dict[str, str]:
    return {
        **machine.describe(),
        "packages": ", ".join(f"{name} {version(name)}" for name in ("gateway", "uvicorn", "onnxruntime")),
        "measured": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()) + (", short (--quick)" if asked.quick else ""),
        "cores": f"serving process and its runners on core {asked.server_core}; load tools, and the control process at "
        f"the lowest priority, on core {asked.load_core}",
        "load": f"open loop, latency from the moment a request was due; capacity: {tool}, closed loop of 16",
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="make scenarios ARGS=...", description="Measure swaps, bad neighbours, overload, slow clients and memory."
    )
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME", help=f"only these of {', '.join(SCENARIOS)}")
    add("--quick", action="store_true", help="short phases: seconds for each, to see that it works")
    add("--server-core", type=int, default=0, help="core of the server [0]")
    add("--load-core", type=int, default=1, help="core of the load tools [1]")
    add("--results", type=Path, default=ROOT / "loadtests" / "results", help="where scenarios.md is written")
    add("--strict", action="store_true", help="end with 1 when a bar is missed")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
