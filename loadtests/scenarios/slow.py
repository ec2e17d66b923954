"""1,000 clients that begin a request and never end it: what the others feel of them, and when they are gone.

Phases without them and with them take turns under one load; a phase with them ends when the last one is closed.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass

from loadtests.bench.load import LoadFailed
from loadtests.scenarios import graphs, stage
from loadtests.scenarios.answered import Answered, Phase, median_ratio, p99_pairs, told_pairs
from loadtests.scenarios.finding import Finding, at_most, none_failed, not_measured
from loadtests.scenarios.plan import Burst, Plan, Stream
from loadtests.scenarios.stage import Stage

MODEL_MICROSECONDS = 200.0
CLIENTS = 1000
_ALLOWED_SECONDS = 10.0
_LONGEST_SECONDS = 15.0
_LONGEST_LOAD_SECONDS = 180.0
_CONNECTIONS = 64


@dataclass(frozen=True)
class Dripped:
    """One phase with slow clients. lived: seconds of each until the server closed it; left: never closed."""

    phase: Phase
    lived: tuple[float, ...]
    left: int


def run(on: Stage) -> list[Finding]:
    """5 phases of each kind; quick: 1."""
    model = graphs.costing(graphs.repeats_for(MODEL_MICROSECONDS), 1)
    with stage.serving_only(on, "slow", model, on.made.reference) as server:
        rate = stage.capacity(on, server.port, on.lasting(3.0, 1.0)) / 2
        requests = stage.raw_request(server.port, stage.normal_request(on))
        plan = Plan(server.port, (Stream(requests, (Burst(0.5, _LONGEST_LOAD_SECONDS, rate),), _CONNECTIONS),))
        quiet, dripped = [], []
        with stage.loading(on, plan) as load:
            stage.lasting(1.0)
            for _ in range(on.times(5, 1)):
                quiet.append(stage.lasting(on.lasting(5.0, 3.0)))
                dripped.append(_drip(on, server.port))
            answered = load.stop()
    return findings(answered, quiet, dripped, f"{rate:,.0f} requests/s")


def _drip(on: Stage, port: int) -> Dripped:
    begin = time.monotonic()
    process = stage.start_tool(on, "dripping", [str(port), str(CLIENTS), str(_LONGEST_SECONDS)])
    try:
        printed = stage.told(process, 3 * _LONGEST_SECONDS)
    finally:
        stage.end_tool(process)
    lines = printed.splitlines()
    if len(lines) != 2:
        raise LoadFailed("the slow clients said nothing")
    told = json.loads(lines[1])
    return Dripped(Phase(max(begin, float(lines[0])), time.monotonic()), tuple(told["lived"]), told["left"])


def findings(answered: Answered, quiet: list[Phase], dripped: list[Dripped], load: str) -> list[Finding]:
    """The bars. Pure."""
    pairs = p99_pairs(answered, quiet, [one.phase for one in dripped])
    failed = answered.failures
    left = sum(one.left for one in dripped)
    what = "seconds until the last one is closed"
    closed = (
        not_measured(what, f"<= {_ALLOWED_SECONDS:g} s", f"{left} of {CLIENTS * len(dripped)} were never closed")
        if left
        else at_most(what, max(max(one.lived) for one in dripped), _ALLOWED_SECONDS, " s", digits=1)
    )
    return [
        at_most(
            f"{CLIENTS:,} slow clients, half load ({load}): p99 with / without",
            median_ratio(pairs),
            1.5,
            "x",
            told_pairs(pairs, answered),
        ),
        none_failed("failed requests of the others", sum(failed.values()), len(answered), failed),
        closed,
    ]
