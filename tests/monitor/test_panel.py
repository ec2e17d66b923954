"""The panel: what moved is told apart and named; the closed form is the sum it stands for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gateway.monitor.detectors.detector import FloatArray, Verdict
from gateway.monitor.detectors.panel import BLOCK, Panel, Plan
from gateway.registry.manifest import Feature
from gateway.registry.reference import build_reference, encode_rows

FEATURES = [
    Feature(name="a"),
    Feature(name="b"),
    Feature(name="zone", kind="categorical", categories=("x", "y", "z")),
]


def rows(count: int, seed: int) -> list[list[Any]]:
    random = np.random.default_rng(seed)
    numbers = random.normal(size=(count, 2)).tolist()
    zones = random.choice(["x", "y", "z"], size=count, p=[0.6, 0.3, 0.1]).tolist()
    # The last two: the predicted class and its chance.
    return [
        [*pair, zone, int(pair[0] > 0), 1 / (1 + np.exp(-pair[0]))] for pair, zone in zip(numbers, zones, strict=True)
    ]


def plan(count: int = 2000) -> Plan:
    body = rows(count, 1)
    return Plan(
        build_reference(FEATURES, [row[:3] for row in body], [row[3] for row in body], [row[4] for row in body])
    )


PLAN = plan()


def verdicts(body: list[list[Any]], threshold: float = 1e5) -> list[Verdict]:
    panel, values = Panel(PLAN, threshold), encode_rows(PLAN.columns, body)
    return [v for s in range(0, len(values), BLOCK) if (v := panel.update(values[s : s + BLOCK])).alarmed]


def test_missing_values_are_data_quality_and_named() -> None:
    body = [[None if place > 400 and place % 5 == 0 else row[0], *row[1:]] for place, row in enumerate(rows(1000, 2))]
    first = verdicts(body)[0]
    assert first.kind == "data_quality"
    assert [name for name, _ in first.features] == ["a"]
    assert first.detail == "a: missing"
    assert 400 < first.event < 600
    assert 350 < first.since <= first.event


def test_values_out_of_range_are_data_quality_and_named() -> None:
    """A unit error (a factor 1,000 in some rows) is told within a few events, before it is called drift."""
    body = [
        [row[0], row[1] * 1000 if place > 400 and place % 4 == 0 else row[1], *row[2:]]
        for place, row in enumerate(rows(1000, 2))
    ]
    first = verdicts(body)[0]
    assert (first.kind, first.detail) == ("data_quality", "b: range")
    assert first.event < 450


def test_an_unseen_category_is_data_quality_and_named() -> None:
    body = [
        [*row[:2], "w" if place > 400 and place % 10 == 0 else row[2], *row[3:]]
        for place, row in enumerate(rows(1000, 2))
    ]
    first = verdicts(body)[0]
    assert (first.kind, first.detail) == ("data_quality", "zone: unseen")


def test_moved_values_are_data_drift_the_moved_feature_first() -> None:
    body = [[row[0], row[1] + (1.0 if place > 400 else 0.0), *row[2:]] for place, row in enumerate(rows(1500, 2))]
    first = verdicts(body)[0]
    assert first.kind == "data_drift"
    assert first.features[0][0] == "b"
    assert "b: level" in first.detail
    assert 400 < first.event < 520
    assert 360 < first.since < 450


def test_a_wider_scale_is_data_drift() -> None:
    """The mean stays: detectors of the mean alone see this in one run of five."""
    body = [[row[0], row[1] * (2.0 if place > 400 else 1.0), *row[2:]] for place, row in enumerate(rows(1500, 2))]
    drift = next(one for one in verdicts(body) if one.kind == "data_drift")
    assert "b: spread" in drift.detail


def test_other_shares_of_categories_are_data_drift() -> None:
    body = [
        [*row[:2], "z" if place > 400 and place % 3 == 0 else row[2], *row[3:]]
        for place, row in enumerate(rows(1500, 2))
    ]
    first = verdicts(body)[0]
    assert first.kind == "data_drift"
    assert "zone: category z" in first.detail


def test_only_predictions_moving_is_prediction_drift() -> None:
    body = [
        [*row[:3], 1 if place > 400 else row[3], 0.99 if place > 400 else row[4]]
        for place, row in enumerate(rows(1000, 2))
    ]
    assert [one.kind for one in verdicts(body)] == ["prediction_drift"]


def test_each_kind_is_told_once() -> None:
    """Latched: a change that stays is one alert, not one for each event; another kind is still told."""
    body = [[row[0] + 3.0, *row[1:3], 1, 0.99] for row in rows(1000, 2)]
    kinds = [one.kind for one in verdicts(body)]
    assert sorted(kinds) == sorted(set(kinds))
    assert {"data_drift", "prediction_drift"} <= set(kinds)


def test_evidence_stays_finite_in_a_long_drift() -> None:
    """Without a clamp the sums overflowed after some thousand drifted events."""
    panel = Panel(PLAN, 1e5)
    values = encode_rows(PLAN.columns, [[50.0, 50.0, "w", 1, 1.0]] * 8000)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        panel.update(values)
    assert Panel(PLAN, 1e5).restored(panel.state()).events == 8000


def test_the_closed_form_is_the_sum_started_at_every_event() -> None:
    """M <- (M + 1) f, one event at a time, gives what the block gives."""
    values = encode_rows(PLAN.columns, rows(320, 5))
    panel = Panel(PLAN, 1e9)
    panel.update(values)
    factors: FloatArray = PLAN.factors(PLAN.score_block(values))
    sums = np.zeros(factors.shape[1])
    for factor in factors:
        sums = (sums + 1) * factor
    assert panel.update(np.empty((0, values.shape[1]))).evidence == pytest.approx(float(sums @ PLAN.weights), rel=1e-12)


def test_weights_sum_to_one_so_that_the_threshold_means_what_it_says() -> None:
    assert float(PLAN.weights.sum()) == pytest.approx(1.0)
    assert all(bet.power > 0 for watched in PLAN.watched for bet in watched.bets)


def test_no_bet_can_win_by_waiting() -> None:
    """A bet whose factor is never below 1 would reach any threshold by counting events."""
    for watched in PLAN.watched:
        for bet in watched.bets:
            assert min(bet.none, bet.whole) < 1 < max(bet.none, bet.whole)


def test_an_autocorrelated_reference_tempers_the_bets() -> None:
    """With the bets of independent rows an AR(0.5) stream alarmed 25 times in 10,000 events."""
    random = np.random.default_rng(4)

    def chain(count: int) -> list[list[float]]:
        noise, values = random.normal(size=count), np.empty(count)
        values[0] = noise[0]
        for step in range(1, count):
            values[step] = 0.8 * values[step - 1] + 0.6 * noise[step]
        return [[float(value)] for value in values]

    tempered = Plan(build_reference([Feature(name="a")], chain(3000)))
    panel = Panel(tempered, 1e4)
    assert not panel.update(np.array(chain(5000))).alarmed
    assert panel.update(np.array(chain(1000)) + 3.0).alarmed


def test_a_constant_feature_that_moves_is_told_at_once() -> None:
    """A quarter of the features of real streams are constant for months."""
    constant = Plan(build_reference([Feature(name="a")], [[1.0]] * 500))
    panel = Panel(constant, 1e4)
    assert not panel.update(np.ones((500, 1))).alarmed
    verdict = panel.update(np.full((64, 1), 2.0))
    assert verdict.alarmed
    assert verdict.event < 520


def test_a_reference_that_can_not_say_anything_never_alarms() -> None:
    """Ten rows prove nothing: no bet is possible, so none is made."""
    silent = Plan(build_reference([Feature(name="a")], [[None]] * 10))
    assert not Panel(silent, 1e4).update(np.full((64, 1), np.nan)).alarmed


def test_a_state_of_other_bets_starts_again() -> None:
    """After an upgrade that changes the bets, old sums mean nothing; the monitor must not stop on them."""
    other = Plan(build_reference([Feature(name="a")], [[float(place)] for place in range(300)]))
    assert Panel(PLAN, 1e4).restored(Panel(other, 1e4).state()).events == 0


@pytest.mark.parametrize("chunk", [5, 16, 1300])
def test_every_kind_is_told_in_one_go_with_the_rows_behind_it(chunk: int) -> None:
    """Many events at once are scored together; alarms and the rows that grade them are those of block after block."""
    body = [[row[0] + (3.0 if place > 400 else 0.0), *row[1:3], *row[3:]] for place, row in enumerate(rows(1300, 2))]
    body = [[None if place > 900 and place % 3 == 0 else row[0], *row[1:]] for place, row in enumerate(body)]
    values = encode_rows(PLAN.columns, body)

    def told(size: int) -> list[tuple[str, int, bytes]]:
        panel = Panel(PLAN, 1e5)
        return [
            (alarm.kind, alarm.event, panel.window(alarm.since).tobytes())
            for start in range(0, len(values), size)
            for alarm in panel.alarms(values[start : start + size])
        ]

    assert {kind for kind, _, _ in told(chunk)} >= {"data_drift", "data_quality"}
    assert told(chunk) == told(BLOCK)
