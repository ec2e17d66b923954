"""Version swaps under half load: publish, promote by a change of the route, again and again.

Blocks of swaps take turns with quiet phases; one load goes on through all of them.
"""

from __future__ import annotations

import time
from statistics import median

from loadtests.scenarios import graphs, stage
from loadtests.scenarios.answered import Answered, Phase, median_ratio, p99_pairs, told_pairs
from loadtests.scenarios.finding import Finding, at_most, none_failed, not_measured
from loadtests.scenarios.plan import Burst, Plan, Stream
from loadtests.scenarios.stage import Gateway, Stage

MODEL_MICROSECONDS = 200.0
_LONGEST_SECONDS = 600.0
_CONNECTIONS = 64


def run(on: Stage) -> list[Finding]:
    """100 swaps in 5 blocks; quick: 8 in 2."""
    blocks, swaps = on.times(5, 2), on.times(20, 4)
    repeats = graphs.repeats_for(MODEL_MICROSECONDS)
    with stage.whole(on, "swaps") as gateway:
        gateway.publish(graphs.costing(repeats, 1), on.made.reference)
        rate = stage.capacity(on, gateway.port, on.lasting(3.0, 1.0)) / 2
        requests = stage.raw_request(gateway.port, stage.normal_request(on))
        plan = Plan(gateway.port, (Stream(requests, (Burst(0.5, _LONGEST_SECONDS, rate),), _CONNECTIONS),))
        quiet, swapping = [], []
        with stage.loading(on, plan) as load:
            stage.lasting(1.0)
            for block in range(blocks):
                quiet.append(stage.lasting(on.lasting(5.0, 1.5)))
                swapping.append(_swap(gateway, repeats, 2 + block * swaps, swaps, on))
            answered = load.stop()
    return findings(answered, quiet, swapping, 1 + blocks * swaps, f"{rate:,.0f} requests/s")


def _swap(gateway: Gateway, repeats: int, first: int, swaps: int, on: Stage) -> Phase:
    begin = time.monotonic()
    for version in range(first, first + swaps):
        gateway.publish(graphs.costing(repeats, version), on.made.reference)
        gateway.route({"champion": version})
    return Phase(begin, time.monotonic())


def findings(answered: Answered, quiet: list[Phase], swapping: list[Phase], last: int, load: str) -> list[Finding]:
    """The bars. last: the number of the last version, the first is 1. Pure."""
    swaps = last - 1
    failed = answered.failures
    good = answered.with_status(200)
    pairs = p99_pairs(answered, quiet, swapping)
    usual = median(good.due_in(phase).percentile_ms(50) for phase in quiet)
    firsts = [good.of_version(version).first_latency_ms() for version in good.versions if version > 1]
    each = sum(phase.end - phase.begin for phase in swapping) / swaps
    rows = [
        none_failed(
            f"{swaps} swaps under half load ({load}): failed requests", sum(failed.values()), len(answered), failed
        ),
        at_most(
            "p99 while swapping / quiet",
            median_ratio(pairs),
            1.2,
            "x",
            f"{told_pairs(pairs, answered)}; {each:.2f} s a swap",
        ),
    ]
    what = "first routed request of a version / median latency"
    if len(firsts) < swaps:
        return [*rows, not_measured(what, "<= 2x", f"only {len(firsts)} of {swaps} new versions answered")]
    told = f"median of {swaps} firsts over {usual:.2f} ms; the slowest first {max(firsts) / usual:.1f}x"
    return [*rows, at_most(what, median(firsts) / usual, 2.0, "x", told)]
