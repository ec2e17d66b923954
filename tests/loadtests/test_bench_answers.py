"""Answers are checked for rightness in every protocol; the bench's own generator and its readings of the machine."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from loadtests.bench import generator, load, machine
from loadtests.bench.answers import checker
from loadtests.bench.arguments import ROOT
from loadtests.bench.machine import Reading

RIGHT = np.array([[0.25, 0.75]], np.float32)
OTHER = np.array([[0.5, 0.5]], np.float32)
ROWS = RIGHT.tolist()
V2 = {"name": "probabilities", "shape": [1, 2], "datatype": "FP32"}
LABEL = {"name": "label", "shape": [1], "datatype": "INT64", "parameters": {"binary_data_size": 8}}


def binary(rows: list[list[float]]) -> tuple[bytes, dict[str, str]]:
    raw = np.array(rows, "<f4").tobytes()
    outputs = [LABEL, {**V2, "parameters": {"binary_data_size": len(raw)}}]
    head = json.dumps({"outputs": outputs}).encode()
    return head + bytes(8) + raw, {"inference-header-content-length": str(len(head))}


ANSWERS = {
    "predict": lambda rows: (json.dumps({"outputs": {"probabilities": rows}}).encode(), {}),
    "plain": lambda rows: (json.dumps({"probabilities": rows}).encode(), {}),
    "instances": lambda rows: (json.dumps({"predictions": rows}).encode(), {}),
    "v2": lambda rows: (json.dumps({"outputs": [{**V2, "data": np.ravel(rows).tolist()}]}).encode(), {}),
    "v2, null": lambda rows: (json.dumps({"outputs": [{**V2, "parameters": None, "data": rows}]}).encode(), {}),
    "v2, binary": binary,
}


@pytest.mark.parametrize("name", ANSWERS)
def test_a_right_answer_passes_and_a_wrong_one_is_told(name: str) -> None:
    """A server that is fast and wrong would win."""
    check = checker(name.partition(",")[0], [OTHER, RIGHT])
    assert check(*ANSWERS[name](ROWS)) is None
    wrong = check(*ANSWERS[name]([[0.26, 0.74]]))
    assert wrong is not None
    assert "wrong numbers" in wrong


def test_an_answer_with_too_few_rows_is_wrong() -> None:
    """Broadcasting would compare one row with 64 and find them equal."""
    check = checker("plain", [np.repeat(RIGHT, 64, axis=0)])
    assert check(*ANSWERS["plain"](ROWS)) is not None


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b"3", b'{"probabilities": "x"}', b'{"probabilities": [[1], [1, 2]]}']
)
def test_an_answer_that_can_not_be_read_is_told(body: bytes) -> None:
    """It is left out with its reason instead of stopping the run."""
    told = checker("plain", [RIGHT])(body, {})
    assert told is not None
    assert "can not be read" in told


def test_an_echo_must_give_the_bytes_back() -> None:
    """Else a floor that answers less looks lower than it is."""
    check = checker("echo", [], b"abc")
    assert check(b"abc", {}) is None
    assert check(b"ab", {}) is not None


def test_percentiles_are_of_the_nearest_rank() -> None:
    """And of nothing there is none."""
    ordered = [float(value) for value in range(1, 101)]
    assert generator.percentile(ordered, 50) == 51
    assert generator.percentile(ordered, 99) == 100
    assert generator.percentile([], 99) == 0


class Fixed(asyncio.Protocol):
    """Answers each request with one status, in two parts, so that a parser must wait for the second."""

    def __init__(self, status: str) -> None:
        self._status = status

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        for _ in range(data.count(b"POST /predict")):
            self._transport.write(f"HTTP/1.1 {self._status}\r\nContent-Length: 4\r\n\r\nab".encode())
            asyncio.get_running_loop().call_soon(self._transport.write, b"cd")


NEEDS_WRK = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")


@pytest.mark.parametrize("bodies", [1, 100])
@pytest.mark.parametrize("tool", [pytest.param("wrk", marks=NEEDS_WRK), "own"])
async def test_a_load_tool_runs_by_the_command_that_is_made_for_it(
    tmp_path: Path, tool: load.Tool, bodies: int
) -> None:
    """With a hundred open files wrk had no descriptor left for its connections."""
    made = await asyncio.get_running_loop().create_server(lambda: Fixed("200 OK"), "127.0.0.1", 0)
    async with made:
        request = load.Request("/predict", (b"body",) * bodies, "plain")
        command = load.command(load.Load(tool, 16, 1), request, made.sockets[0].getsockname()[1], tmp_path)
        process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
        printed, _ = await process.communicate()
    assert load.read_outcome(printed.decode()).requests > 16


async def generated(status: str) -> load.Outcome:
    made = await asyncio.get_running_loop().create_server(lambda: Fixed(status), "127.0.0.1", 0)
    async with made:
        url = f"http://127.0.0.1:{made.sockets[0].getsockname()[1]}/predict"
        requests = [generator.format_request(url, {"X-Number": str(number)}, b"body") for number in range(2)]
        return load.read_outcome(await generator.generate(url, requests, connections=3, seconds=0.2))


async def test_the_generator_counts_whole_answers() -> None:
    """A closed loop on three connections."""
    outcome = await generated("200 OK")
    assert outcome.requests > 3
    assert 0 < outcome.p50_us <= outcome.p99_us
    assert 0.2 <= outcome.seconds < 5


async def test_the_generator_tells_of_refusals() -> None:
    """An overloaded server answers 503 faster than anything else."""
    with pytest.raises(load.LoadFailed, match="were errors"):
        await generated("503 Service Unavailable")


def test_what_neither_server_nor_load_tool_used_is_somebody_elses() -> None:
    """Two seconds: 3 s of CPU in all, 1 s the server's, 0.5 s the load tool's."""
    first = Reading(10.0, 100.0, 5.0, {"server": 1.0})
    second = Reading(12.0, 103.0, 5.5, {"server": 2.0})
    usage = machine.between(first, second, known_seconds=0.5)
    assert usage.own == {"server": 0.5}
    assert usage.other == pytest.approx(0.75)
    assert usage.stolen == pytest.approx(0.25)


def test_rounding_of_ticks_never_gives_less_than_nothing() -> None:
    """The kernel counts in hundredths of a second."""
    usage = machine.between(Reading(0, 0, 0, {"server": 0}), Reading(1, 0.99, 0, {"server": 1.0}))
    assert usage.other == 0


def test_a_tree_that_is_gone_used_nothing_more() -> None:
    """A server may end between two looks."""
    gone = 2**22 + 1
    assert machine.tree(gone) == []
    assert machine.tree_seconds(gone) == 0
    assert machine.tree_megabytes(gone) == (0, 0)


def test_this_process_has_time_and_memory() -> None:
    """Megabytes, not bytes: a Python with numpy is between 10 and 10,000."""
    assert machine.tree_seconds(os.getpid()) > 0
    shared, largest = machine.tree_megabytes(os.getpid())
    assert 10 < largest < 10_000
    assert shared > 0


def test_pinning_ends_with_its_block() -> None:
    """What starts later must not inherit the server's core."""
    before = os.sched_getaffinity(0)
    core = min(before)
    with machine.pinned(core):
        assert os.sched_getaffinity(0) == {core}
    assert os.sched_getaffinity(0) == before
