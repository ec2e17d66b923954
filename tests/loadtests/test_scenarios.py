"""The pure parts of the scenarios: what is due, what an answer is, which figure is made of what, what holds."""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence

import numpy as np
import onnxruntime
import pytest

from loadtests.bench.material import COLUMNS as FEATURES
from loadtests.scenarios import finding, graphs, isolation, memory, overload, slow, swaps
from loadtests.scenarios.answered import BROKEN, Answered, Phase, median_ratio, p99_pairs, recovery_seconds
from loadtests.scenarios.finding import Finding, Measured
from loadtests.scenarios.open_loop import Tool
from loadtests.scenarios.plan import Answer, Burst, Plan, Stream, decode_plan, due_times, read_answer

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nX-Model-Version: 7\r\n\r\n"


def request(
    due: float, ms: float, status: float = 200, version: int = 1, stream: int = 0, body: int = 0
) -> tuple[float, ...]:
    return (stream, due, due, due, due + ms / 1000, status, version, body)


def answered(*rows: tuple[float, ...]) -> Answered:
    return Answered(np.array(rows, np.float64).reshape(-1, 8))


def evenly(begin: float, count: int, ms: float, version: int = 1, stream: int = 0) -> list[tuple[float, ...]]:
    """`count` requests within a second, all as fast."""
    return [request(begin + number / count, ms, version=version, stream=stream) for number in range(count)]


def verdicts(findings: Sequence[Finding]) -> list[bool]:
    return [one.holds for one in findings]


def test_requests_are_due_evenly_in_each_burst() -> None:
    """The tool must not hurry after a pause, nor send one request twice at a seam."""
    assert list(due_times([Burst(1.0, 0.5, 4.0), Burst(3.0, 1.0, 2.0)])) == [1.0, 1.25, 3.0, 3.5]


def test_a_plan_survives_its_file() -> None:
    """Bodies may be binary."""
    plan = Plan(80, (Stream((b"\x00\xff\r\n", b"b"), (Burst(0.0, 1.0, 2.0),), 3),), 4.0)
    assert decode_plan(plan.encode()) == plan


@pytest.mark.parametrize("cut", range(1, len(HEAD) + 2))
def test_an_answer_is_whole_only_at_its_last_byte(cut: int) -> None:
    """It comes in pieces of any size."""
    assert read_answer((HEAD + b"{}")[:cut]) is None
    assert read_answer(HEAD + b"{}") == Answer(200, 7, False)


def test_an_answer_says_whether_it_is_the_last_one() -> None:
    """A refusal may close its connection: sending on it again would be booked as broken."""
    data = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    assert read_answer(data) == Answer(503, 0, True)


@pytest.mark.parametrize("data", [b"HTTP/1.1 200 OK\r\n\r\n", b"nonsense\r\nContent-Length: 0\r\n\r\n"])
def test_what_is_no_answer_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="length"):
        read_answer(data)


def test_latency_counts_from_when_a_request_was_due() -> None:
    """Standing in line for a free connection is the server's doing."""
    waited = answered((0, 10.0, 10.0, 10.5, 10.6, 200, 1, 0))
    assert waited.latencies_ms[0] == pytest.approx(600)


def test_failures_are_counted_by_kind() -> None:
    found = answered(request(0, 1), request(1, 1, 503), request(2, 1, 503), request(3, 1, BROKEN))
    assert found.failures == {"connections broken": 1, "status 503": 2}


def test_each_loaded_phase_is_compared_with_the_quiet_one_before_it() -> None:
    """The machine became twice as slow half-way; the ratio did not."""
    rows = [*evenly(0, 50, 1), *evenly(1, 50, 3), *evenly(2, 50, 2), *evenly(3, 50, 6)]
    pairs = p99_pairs(answered(*rows), [Phase(0, 1), Phase(2, 3)], [Phase(1, 2), Phase(3, 4)])
    assert median_ratio(pairs) == pytest.approx(3)


def test_recovery_ends_with_the_last_unusual_window() -> None:
    """One good moment between two bad ones is no recovery."""
    rows = [request(10.05, 50), request(10.15, 1), request(10.25, 1, 503), request(10.35, 1), request(10.45, 1)]
    assert recovery_seconds(answered(*rows), 10.0, 5.0) == pytest.approx(0.3)
    assert recovery_seconds(answered(*rows[3:]), 10.0, 5.0) == 0


def test_recovery_is_not_claimed_without_requests() -> None:
    with pytest.raises(ValueError, match="nothing was sent"):
        recovery_seconds(answered(request(1, 1)), 10.0, 5.0)


def test_swaps_hold_when_nothing_fails_and_first_answers_are_quick() -> None:
    rows = [*evenly(0, 100, 1), *evenly(1, 50, 1.1, version=2), *evenly(1.5, 50, 1.1, version=3)]
    phases = [Phase(0, 1)], [Phase(1, 2.5)]
    assert verdicts(swaps.findings(answered(*rows), *phases, 3, "")) == [True, True, True]
    slow_first = [*rows, request(0.999, 9, version=2), request(0.999, 9, version=3)]
    assert verdicts(swaps.findings(answered(*slow_first), *phases, 3, ""))[2] is False
    failed = [*rows, request(1.2, 1, 500)]
    assert verdicts(swaps.findings(answered(*failed), *phases, 3, ""))[0] is False


def test_swaps_of_which_some_never_answered_are_missed() -> None:
    """A version that was replaced before a request came has no first request to show."""
    rows = [*evenly(0, 100, 1), *evenly(1, 100, 1, version=3)]
    found = swaps.findings(answered(*rows), [Phase(0, 1)], [Phase(1, 2)], 3, "")
    assert verdicts(found) == [True, True, False]
    assert "1 of 2" in found[2].note


@pytest.mark.parametrize(("loaded_ms", "holds"), [(1.9, True), (2.1, False)])
def test_a_neighbour_may_cost_a_millisecond(loaded_ms: float, holds: bool) -> None:
    """10 % of 1 ms is less than 1 ms."""
    trouble = isolation.TROUBLES[0]
    rows = [*evenly(0, 50, 1), *evenly(1, 50, loaded_ms)]
    assert verdicts(isolation.findings(trouble, answered(*rows), [Phase(0, 1)], [Phase(1, 2)], "")) == [holds, True]


def test_a_neighbour_that_silences_the_champion_is_no_missing_figure() -> None:
    """A phase without any answer is the worst outcome, not a reason to leave the row out."""
    rows = [*evenly(0, 50, 1), request(1.5, 1, BROKEN)]
    found = isolation.findings(isolation.TROUBLES[0], answered(*rows), [Phase(0, 1)], [Phase(1, 2)], "")
    assert verdicts(found) == [False, False]


def test_every_trouble_is_routed_as_what_it_says() -> None:
    for trouble in isolation.TROUBLES:
        assert ("shadows" if "shadow" in trouble.what else "canaries") in trouble.route()


def flood(*more: tuple[float, ...]) -> Answered:
    """A second of usual traffic, a second of flood, a second of usual traffic again."""
    probes = evenly(1, 20, 2, stream=2)
    return answered(*evenly(0, 20, 5), *probes, *evenly(2, 20, 5), *more)


def test_overload_holds_when_what_is_too_much_is_refused_at_once() -> None:
    refused = [(*row[:5], 503.0, *row[6:]) for row in evenly(1, 400, 3, stream=1)]
    found = overload.findings(flood(*evenly(1, 100, 5, stream=1), *refused), Phase(1, 2), 100)
    assert verdicts(found) == [True, True, True, True]


def test_overload_without_a_refusal_is_missed() -> None:
    """Then callers wait in the server instead, which is what the bar is against."""
    found = overload.findings(flood(*evenly(1, 100, 700, stream=1)), Phase(1, 2), 100)
    assert verdicts(found)[:2] == [False, False]


def test_livez_that_is_refused_once_is_missed() -> None:
    found = overload.findings(flood(*evenly(1, 100, 5, stream=1), request(1.5, 1, 503, stream=2)), Phase(1, 2), 100)
    assert verdicts(found)[2] is False


@pytest.mark.parametrize(("left", "longest", "holds"), [(0, 6.0, True), (0, 11.0, False), (1, 6.0, False)])
def test_slow_clients_must_all_be_closed_in_time(left: int, longest: float, holds: bool) -> None:
    rows = [*evenly(0, 50, 1), *evenly(1, 50, 1)]
    dripped = [slow.Dripped(Phase(1, 2), (5.0, longest), left)]
    assert verdicts(slow.findings(answered(*rows), [Phase(0, 1)], dripped, "")) == [True, True, holds]


def test_memory_is_judged_by_version_by_what_comes_back_and_by_slope() -> None:
    """100 KiB a raw session; 150 KiB a version, of which 95 % come back; nothing left behind by swaps."""
    kib = 1024
    flat = [50_000 * kib] * 10
    found = memory.findings(100 * kib, flat, 50_000 * kib, 65_000 * kib, 50_750 * kib, 100)
    assert verdicts(found) == [True, True, True]
    worse = memory.findings(100 * kib, flat, 50_000 * kib, 75_000 * kib, 60_000 * kib, 100)
    assert verdicts(worse) == [False, False, True]


def test_a_slope_is_per_swap_and_leaves_out_the_beginning() -> None:
    """The first swaps warm the allocator up."""
    held = [0.0, 9e9, *(1024.0 * 100 * reading for reading in range(8))]
    assert memory.slope_kib(held, 5) == pytest.approx(20)


@pytest.mark.parametrize(("value", "holds"), [(1.2, True), (1.21, False)])
def test_a_bound_belongs_to_those_that_hold(value: float, holds: bool) -> None:
    assert finding.at_most("x", value, 1.2, "x").holds is holds
    assert finding.at_least("x", 1.2, value, "x").holds is holds


def test_no_failure_of_no_request_does_not_hold() -> None:
    """A load that never began must not look like a success."""
    assert not finding.none_failed("x", 0, 0, {}).holds


def test_the_table_shows_misses_disturbances_and_what_could_not_be_measured() -> None:
    quiet = Measured("swaps", (finding.at_most("p99", 1.0, 1.2, "x"), finding.at_most("first", 3.0, 2.0, "x")), 9, 0, 0)
    busy = Measured("slow", (finding.at_most("p99", 1.0, 1.5, "x"),), 9, 0.5, 0)
    failed = Measured("memory", (), 1, 0, 0, "it broke")
    lines = finding.render({"machine": "small"}, [quiet, busy, failed]).splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("| ")]
    assert [row[4] for row in rows[1:]] == ["holds", "MISSED", "holds, disturbed", "MISSED"]
    assert rows[-1][-1] == "it broke"
    assert "prove little" in "\n".join(lines)


@pytest.mark.parametrize("model", [graphs.costing(3, 1), graphs.never_ending(), graphs.memory_eating()])
def test_every_model_behaves_for_usual_numbers(model: bytes) -> None:
    """The publish check must pass: they misbehave only later, for what callers send."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    (rows,) = session.run(["y"], {"X": np.ones((3, FEATURES), np.float32)})
    assert rows.shape == (3, 1)
    assert np.isfinite(rows).all()


def test_two_seeds_give_models_with_different_answers() -> None:
    """Equal bytes would be the same version, and no swap."""
    assert graphs.costing(3, 1) != graphs.costing(3, 2)
    assert graphs.costing(3, 1) == graphs.costing(3, 1)


def serve(listening: socket.socket, answers: Sequence[bytes]) -> None:
    """One answer for each connection, which then ends when nothing more comes."""
    for answer in answers:
        made, _ = listening.accept()
        with made:
            while made.recv(65536):
                if not answer:
                    break
                made.sendall(answer)


def load(answers: Sequence[bytes], requests: int) -> Answered:
    """What the tool makes of a server that answers so, connection by connection; one connection at a time."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = threading.Thread(target=serve, args=(listening, answers), daemon=True)
        server.start()
        stream = Stream((b"GET / HTTP/1.1\r\n\r\n",), (Burst(0.0, 0.01, requests * 100.0),), 1)
        tool = Tool(Plan(listening.getsockname()[1], (stream,)))
        tool.run()
        tool.close()
        server.join()
    return Answered(tool.rows())


def test_the_tool_sends_every_request_that_is_due_and_reads_every_answer() -> None:
    found = load([HEAD + b"{}"], 5)
    assert len(found) == 5
    assert found.failures == {}
    assert found.versions == [7]


def test_a_connection_that_the_server_closes_is_replaced() -> None:
    """The request that was under way is booked as broken; those behind it go on, on a new connection."""
    found = load([b"", HEAD + b"{}"], 5)
    assert len(found) == 5
    assert found.failures == {"connections broken": 1}


def test_a_stopped_tool_sends_nothing_more() -> None:
    """A load without a known end is ended by the scenario."""
    stream = Stream((b"x",), (Burst(0.05, 60.0, 100.0),), 1)
    tool = Tool(Plan(9, (stream,)))
    tool.stop()
    tool.run()
    assert len(tool.rows()) == 0
    tool.close()
