"""Five times as much as the server can do, in an open loop: what is answered, what is refused, and how fast.

Normal traffic before and after it says what latency is usual and when it is so again; `/livez` is asked all the while.
"""

from __future__ import annotations

from loadtests.scenarios import graphs, stage
from loadtests.scenarios.answered import Answered, Phase, recovery_seconds
from loadtests.scenarios.finding import Finding, at_least, at_most, not_measured
from loadtests.scenarios.plan import Burst, Plan, Stream
from loadtests.scenarios.stage import Stage

MODEL_MICROSECONDS = 1500.0
"""Dear enough that five times the capacity is little for the load tool."""

TIMES = 5
_NORMAL_SHARE = 0.2
_FLOOD_CONNECTIONS = 512
_PROBES_A_SECOND = 20.0
_LIVEZ = b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
_NORMAL, _FLOOD, _PROBE = range(3)
_UNUSUAL = 2.0
"""So many times the median latency before the load is not usual."""


def run(on: Stage) -> list[Finding]:
    """60 s of overload; quick: 6."""
    before, lasts, after = on.lasting(4.0, 1.5), on.lasting(60.0, 6.0), on.lasting(10.0, 4.0)
    model = graphs.costing(graphs.repeats_for(MODEL_MICROSECONDS), 1)
    with stage.serving_only(on, "overload", model, on.made.reference) as server:
        peak = stage.capacity(on, server.port, on.lasting(5.0, 2.0))
        requests = stage.raw_request(server.port, stage.normal_request(on))
        usual = peak * _NORMAL_SHARE
        quiet, again = Burst(0.5, before, usual), Burst(0.5 + before + lasts, after, usual)
        flood = Burst(0.5 + before, lasts, peak * TIMES)
        streams = (
            Stream(requests, (quiet, again), stage.CONNECTIONS),
            Stream(requests, (flood,), _FLOOD_CONNECTIONS),
            Stream((_LIVEZ,), (flood._replace(rate=_PROBES_A_SECOND),), stage.CONNECTIONS),
        )
        with stage.loading(on, Plan(server.port, streams)) as load:
            answered = load.wait(again.at_seconds + after)
            begin = load.began + flood.at_seconds
    return findings(answered, Phase(begin, begin + lasts), peak)


def findings(answered: Answered, flood: Phase, peak: float) -> list[Finding]:
    """The bars. peak: 200s a second of the closed loop. Pure."""
    sent, probes, normal = (answered.of_stream(number) for number in (_FLOOD, _PROBE, _NORMAL))
    good = len(sent.with_status(200).ended_in(flood)) / (flood.end - flood.begin)
    told = ", ".join(f"{count} {what}" for what, count in sent.failures.items())
    lasted = f"{flood.end - flood.begin:.0f} s at {TIMES}x"
    rows = [
        at_least(
            f"{lasted}: 200s / peak",
            good / peak,
            0.9,
            "",
            f"{good:,.0f} of {peak:,.0f} a second; {len(sent):,} sent: {told}",
        ),
        _refusals(sent.with_status(429, 503)),
        _probes(probes),
    ]
    usual = normal.due_in(Phase(0, flood.begin)).with_status(200)
    if not len(usual):
        return [*rows, not_measured("seconds until latency is usual", "<= 2 s", "nothing was answered before the load")]
    median_ms = usual.percentile_ms(50)
    seconds = recovery_seconds(normal, flood.end, _UNUSUAL * median_ms)
    after = normal.due_in(Phase(flood.end, float("inf"))).failures
    told = (
        f"usual: no failures, median <= {_UNUSUAL:g} x {median_ms:.2f} ms; failed after the load: {sum(after.values())}"
    )
    return [*rows, at_most("seconds from its end until latency is usual", seconds, 2.0, " s", told, 1)]


def _refusals(refused: Answered) -> Finding:
    what = "429 and 503: p99"
    if not len(refused):
        return not_measured(what, "<= 50 ms", "nothing was refused: callers waited instead")
    told = f"{len(refused):,} refused, median {refused.percentile_ms(50):.1f} ms"
    return at_most(what, refused.percentile_ms(99), 50.0, " ms", told, 1)


def _probes(probes: Answered) -> Finding:
    what, failed = "/livez meanwhile: p99", probes.failures
    if failed:
        return not_measured(what, "<= 100 ms", f"{sum(failed.values())} of {len(probes)} not answered with 200")
    return at_most(what, probes.percentile_ms(99), 100.0, " ms", f"of {len(probes)}", 1)
