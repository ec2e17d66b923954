"""The baselines beside the accuracy: same rows, same delay."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.clock import ManualClock
from gateway.demo.baseline import last_label_accuracy, never_retrained
from gateway.demo.client import Client
from gateway.demo.send import Sender, Tally
from gateway.demo.stream import Row


def row(number: int, label: int = 0) -> Row:
    return Row(number, {"x": float(number)}, label)


def test_last_label_baseline_knows_only_labels_that_are_a_day_old() -> None:
    """With the newest label instead, the baseline would be 20 points too good."""
    rows = [row(number, label) for number, label in enumerate([1, 0, 0, 1, 1, 0], start=1)]
    assert last_label_accuracy(rows, first=2, delay_rows=2) == 0.0
    assert last_label_accuracy(rows, first=3, delay_rows=3) == pytest.approx(2 / 3)
    assert last_label_accuracy(rows, first=6, delay_rows=2) == 0.0


async def test_never_retrained_asks_every_row_once_and_pinned(fake: Any) -> None:
    """Unpinned, the baseline's requests would be part of the stream that the gateway learns from."""
    rows = [Row(n, {"nswprice": n % 4 / 3}, label=int(n % 4 > 1) if n % 5 else 1 - int(n % 4 > 1)) for n in range(1100)]
    tally = Tally()
    async with Client(fake.address) as client:
        sender = Sender(client, tally, ManualClock(), model="electricity", run="r")
        assert await never_retrained(rows, sender, version=1) == pytest.approx(0.8)
    assert fake.predictions == []
    assert tally.requests == 3


async def test_a_missing_answer_stops_the_baseline(fake: Any) -> None:
    """A baseline over part of the rows would be no baseline."""
    fake.refused = [404]
    async with Client(fake.address) as client:
        sender = Sender(client, Tally(), ManualClock(), model="electricity", run="r")
        assert await never_retrained([row(1)], sender, version=1) is None
