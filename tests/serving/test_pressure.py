"""Overload: bounded in time. What would wait too long is refused at once, and everybody else is answered."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.documents.route import Canary, Route, Shadow
from gateway.errors import Overloaded
from gateway.serving.pressure import Pace, Pressure
from tests.serving.serving_kit import Kit


@given(st.lists(st.floats(0, 1e6), max_size=50), st.floats(1, 1e6), st.floats(1, 1e7))
def test_nothing_is_taken_that_would_wait_longer_than_the_limit_or_half_of_its_time(
    costs: list[float], limit: float, patience: float
) -> None:
    pressure = Pressure(limit)
    for cost in costs:
        if pressure.takes(patience):
            assert pressure.waiting_us <= min(limit, patience / 2)
            pressure.waiting_us += cost
        else:
            assert pressure.waiting_us > min(limit, patience / 2)


def test_an_idle_worker_takes_anything() -> None:
    assert Pressure(1.0).takes(patience_us=1.0)


def test_the_time_of_a_row_follows_what_is_measured() -> None:
    pace = Pace(10.0)
    for _ in range(200):
        pace.ran(weight=4, took_us=400.0)
    assert pace.row_us == pytest.approx(100.0, rel=0.01)


def test_one_stall_of_the_machine_is_no_new_pace() -> None:
    pace = Pace(200.0)
    pace.ran(weight=1, took_us=100_000.0)
    assert pace.row_us < 300.0


def test_a_version_that_has_become_slow_is_known_to_be_soon() -> None:
    pace = Pace(0.0)
    for _ in range(150):
        pace.ran(weight=1, took_us=20_000.0)
    assert pace.row_us > 10_000.0


def test_a_large_request_behind_small_ones_is_not_so_many_times_as_dear() -> None:
    """An exchange of 3 ms for each single row: 64 rows that the model runs in a tenth more take 3.3 ms, not 0.2 s."""
    pace = Pace(100.0, 1.0)
    for _ in range(300):
        pace.ran(pace.weight(1), took_us=3_000.0)
    assert pace.weight(64) * pace.row_us == pytest.approx(1.63 * 3_000, rel=0.01)
    assert Pace(100.0).weight(64) == 64  # it was not measured: each row counts


async def ask_many(kit: Kit, count: int, **fields: Any) -> list[Any]:
    return await asyncio.gather(*(kit.ask(**fields) for _ in range(count)), return_exceptions=True)


async def test_more_than_can_be_answered_in_time_is_refused_and_the_rest_is_answered(kit: Kit) -> None:
    await kit.publish(1)
    await kit.route(Route(champion=1))
    await kit.ask()
    next(iter(kit.serving.generations.values())).arms[1].pace.row_us = 100_000.0  # 0.1 s a row, 0.25 s may wait
    ended = await ask_many(kit, 10)
    refused = [one for one in ended if isinstance(one, Overloaded)]
    assert len(refused) == 7
    assert all(one.retry_after_seconds >= 1.0 for one in refused)
    assert not [one for one in ended if isinstance(one, Exception) and one not in refused]
    assert not isinstance((await ask_many(kit, 1))[0], Exception)


async def test_who_has_little_time_is_refused_earlier(kit: Kit) -> None:
    await kit.publish(1)
    await kit.route(Route(champion=1))
    await kit.ask()
    next(iter(kit.serving.generations.values())).arms[1].pace.row_us = 100_000.0
    ended = await ask_many(kit, 10, deadline_ms=100)
    assert sum(isinstance(one, Overloaded) for one in ended) == 9


async def test_a_version_answers_no_more_requests_at_once_than_its_policy_allows(kit: Kit) -> None:
    await kit.publish(1)
    await kit.policy(concurrency=3)
    await kit.route(Route(champion=1))
    ended = await ask_many(kit, 5)
    refused = [one for one in ended if isinstance(one, Overloaded)]
    assert len(refused) == 2
    assert "concurrency" in str(refused[0])
    assert not any(isinstance(one, Exception) for one in await ask_many(kit, 3))


async def test_where_a_challenger_has_no_room_the_champion_answers(kit: Kit) -> None:
    """But for who wants that version and no other."""
    await kit.publish(2)
    await kit.route(Route(champion=1, canaries=(Canary(version=2, weight=99),), salt="s"))
    await kit.ask()
    generation = next(iter(kit.serving.generations.values()))
    canary = kit.serving._arm(generation, 2)
    canary.pressure = Pressure(1.0)
    canary.pressure.waiting_us = 2.0
    assert {answer.version for answer in await ask_many(kit, 30)} == {1}
    assert isinstance((await ask_many(kit, 1, pinned=2))[0], Overloaded)
    canary.pressure.waiting_us = 0.0
    assert 2 in {answer.version for answer in await ask_many(kit, 30)}


async def test_under_pressure_shadows_are_left_out_first(kit: Kit) -> None:
    await kit.publish(2)
    await kit.route(Route(champion=1, shadows=(Shadow(version=2),)))
    await kit.ask()
    await kit.shadows_done()
    kit.serving._pressure.waiting_us = 200_000.0
    await kit.ask()
    await kit.shadows_done()
    assert kit.loaded[2].runs == 1
