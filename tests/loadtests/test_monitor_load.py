"""The pure parts of the monitor's load test: what is sent, and what a row of looks says about the bar."""

from __future__ import annotations

import asyncio
import json

from loadtests.monitor import lag, material
from loadtests.monitor.lag import Look
from loadtests.monitor.sender import CONNECTIONS, Sender

OK = b"HTTP/1.1 %d OK\r\nContent-Length: 2\r\n\r\n{}"


def test_bodies_are_requests_with_a_hole_for_the_id() -> None:
    """One row is a record by name, several are rows in the order of the signature."""
    for rows in (1, 10):
        [body, *_] = material.bodies(rows, seed=3)
        read = json.loads(body.before + b"some-id" + body.behind)
        assert (read["model"], read["id"], len(body.labels)) == (material.MODEL, "some-id", rows)
        if rows == 1:
            assert tuple(read["inputs"]) == material.FEATURES
        else:
            assert {len(row) for row in read["inputs"]} == {len(material.FEATURES)}
        assert set(body.labels) <= {0, 1}


def test_labels_follow_from_the_rows_but_for_one_in_ten() -> None:
    """Else the model would have nothing to learn, and its errors nothing to watch."""
    rows = material.rows(5000, seed=3)
    right = material.truth(rows, seed=3) == (rows[:, :3] @ [1.0, -1.0, 0.5] > 0)
    assert 0.88 < right.mean() < 0.92


def test_the_sample_has_a_head_and_every_column() -> None:
    head, *rows = material.reference(seed=3).decode().splitlines()
    assert tuple(head.split(",")) == material.FEATURES
    assert len(rows) == material.REFERENCE_ROWS
    assert json.loads(material.manifest())["features"][-1]["categories"] == [0, 1, 2, 3]


def test_each_second_has_its_largest_lag_and_what_was_used_in_it() -> None:
    looks = [Look(0.1, 0.2, 5.0), Look(0.9, 0.4, 5.3), Look(1.2, 0.1, 5.4), Look(1.9, 0.3, 5.9), Look(2.0, 0.0, 6.0)]
    found = [(second, most, round(used, 6)) for second, most, used in lag.by_second(looks)]
    assert found == [(0, 0.4, 0.3), (1, 0.3, 0.6)]
    assert lag.by_second([]) == []


def test_the_bar_holds_for_a_small_lag_or_a_told_rate() -> None:
    assert lag.holds(1.0, 1.0)
    assert not lag.holds(1.01, 1.0)
    assert lag.holds(20.0, 0.5)


def test_percentiles_are_of_the_ordered_values() -> None:
    assert lag.percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert lag.percentile([3.0, 1.0, 2.0], 1.0) == 3.0
    assert lag.percentile([], 0.99) == 0.0


async def test_every_row_is_asked_and_its_label_told_and_refusals_are_counted() -> None:
    """Against a server that refuses every fifth prediction."""
    asked: list[bytes] = []
    told: list[dict[str, object]] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                body = await reader.readexactly(int(head.partition(b"content-length: ")[2]))
                if head.startswith(b"POST /predict"):
                    asked.append(body)
                    writer.write(OK % (503 if len(asked) % 5 == 0 else 200))
                else:
                    told.extend(json.loads(body)["feedback"])
                    writer.write(OK % 202)
        except asyncio.IncompleteReadError:
            writer.close()
            await writer.wait_closed()
            ended.release()

    ended = asyncio.Semaphore(0)
    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        sender = Sender(port, material.bodies(2, seed=3), rate=1000.0, delay=0.0)
        await sender.run(0.1)
        for _ in range(CONNECTIONS + 1):
            await ended.acquire()
    assert len(asked) == 50
    assert (sender.sent.requests, sender.sent.failed, sender.sent.predictions) == (50, 10, 80)
    assert sender.sent.text.startswith("503")
    assert len({json.loads(body)["id"] for body in asked}) == 50
    assert len({(one["id"], one["row"]) for one in told}) == sender.sent.labels == 80
