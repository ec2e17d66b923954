"""The reference says what normal was: what it measures, and that a wrong file is refused by name."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import pytest

from gateway.errors import InvalidConfig
from gateway.registry.manifest import Feature
from gateway.registry.reference import (
    UNSEEN,
    Reference,
    autocorrelation_time,
    build_reference,
    category,
    encode_reference,
    encode_rows,
    loss,
    loss_scale,
    positions,
    read_reference,
    score_of,
)

RANDOM = np.random.default_rng(7)
FEATURES = [
    Feature(name="price", low=-10.0, high=2.0),
    Feature(name="zone", kind="categorical", categories=("north", "south", "moon")),
]


def reference(rows: int = 600) -> Reference:
    prices = RANDOM.normal(size=rows)
    body = [
        [None if place % 20 == 0 else float(price), "north" if place % 3 else "south"]
        for place, price in enumerate(prices)
    ]
    classes = [int(price > 0) for price in prices]
    chances = [[1 - c * 0.9, c * 0.9] for c in classes]
    return build_reference(FEATURES, body, classes, chances, error_rate=0.1, error_rows=rows)


def test_measures_missing_rate_span_shares_and_predictions() -> None:
    """Everything the monitor bets against is in the file; the contract widens the span, never narrows it."""
    found = reference()
    price, zone = found.features
    assert price.missing == pytest.approx(0.05)
    assert price.low == -10.0
    assert price.high is not None
    assert price.high > 2.0
    assert len(price.quantiles) == 257
    assert zone.categories == ("north", "south", "moon")
    assert zone.shares == pytest.approx((2 / 3, 1 / 3, 0.0), abs=0.01)
    assert [column.name for column in found.prediction] == ["prediction", "score"]
    assert found.prediction[0].kind == "categorical"
    assert (found.error_rate, found.error_rows) == (0.1, 600)
    assert len(found.warmup) == 32


def test_survives_its_file() -> None:
    """What is read back is what was measured."""
    found = reference()
    assert read_reference(encode_reference(found)) == found


def test_a_column_without_any_value_is_legal() -> None:
    """A feature that was never there has no quantiles, only a missing rate of 1."""
    found = build_reference([Feature(name="x")], [[None], [math.nan]])
    assert found.features[0].missing == 1.0
    assert found.features[0].quantiles == ()
    assert read_reference(encode_reference(found)) == found


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"rows": 0}, "rows"),
        ({"rows": "many"}, "rows"),
        ({"features": [{"name": "price", "kind": "colour"}]}, "price"),
        ({"features": [{"name": "price", "kind": "numeric", "quantiles": [1.0, 2.0]}]}, "price"),
        ({"features": [{"name": "price", "kind": "numeric", "quantiles": [float(-i) for i in range(257)]}]}, "price"),
        ({"features": [{"name": "zone", "kind": "categorical", "categories": ["a"], "shares": []}]}, "zone"),
        (
            {"features": [{"name": "p", "kind": "numeric", "scores": [{"name": "level", "mean": 2.0}]}]},
            "p",
        ),
    ],
)
def test_a_wrong_file_is_refused_and_names_the_place(change: dict[str, object], named: str) -> None:
    """A damaged reference must not become wrong alerts."""
    body = msgspec.json.decode(encode_reference(reference()))
    with pytest.raises(InvalidConfig, match=named):
        read_reference(msgspec.json.encode({**body, **change}))


def test_not_json_is_refused() -> None:
    with pytest.raises(InvalidConfig, match="reference"):
        read_reference(b"\x00\x01")


def test_rows_of_another_width_are_refused() -> None:
    with pytest.raises(InvalidConfig, match="2 values"):
        build_reference(FEATURES, [[1.0]])


def test_positions_are_uniform_ranks_and_ties_stand_in_their_middle() -> None:
    """Ties (a price that is constant for months) must not look like drift."""
    quantiles = np.quantile(RANDOM.normal(size=5000), np.linspace(0, 1, 257))[None, :]
    fresh = RANDOM.normal(size=(20_000, 1))
    assert positions(quantiles, fresh).mean() == pytest.approx(0.5, abs=0.01)
    assert np.all(np.diff(positions(quantiles, np.sort(fresh, axis=0))[:, 0]) >= 0)
    constant = np.full((1, 257), 3.0)
    assert positions(constant, np.array([[3.0], [2.0], [4.0], [np.nan]]))[:3, 0].tolist() == [0.5, 0.0, 1.0]
    assert np.isnan(positions(constant, np.array([[np.nan]])))


def test_encodes_unseen_categories_missing_values_and_texts_among_numbers() -> None:
    """None of these may crash the monitor: the door decides whether they are answered."""
    columns = reference().features
    values = encode_rows(columns, [[1.0, "north"], [None, "mars"], ["text", None]])
    assert values[0].tolist() == [1.0, 0.0]
    assert math.isnan(values[1, 0])
    assert values[1, 1] == UNSEEN
    assert np.isnan(values[2]).all()


def test_autocorrelation_time_of_known_processes() -> None:
    """AR(1) with coefficient a has (1 + a) / (1 - a); independent values have 1."""
    noise = RANDOM.normal(size=20_000)
    chain = np.empty_like(noise)
    chain[0] = noise[0]
    for step in range(1, noise.size):
        chain[step] = 0.5 * chain[step - 1] + noise[step]
    assert autocorrelation_time(noise) == pytest.approx(1.0, abs=0.2)
    assert autocorrelation_time(chain) == pytest.approx(3.0, abs=0.5)
    assert autocorrelation_time(np.ones(100)) == 1.0


def test_classes_compare_by_value_not_by_type() -> None:
    """A label 1 posted as 1.0, true or "1" is the same class."""
    assert {category(value) for value in (1, 1.0, True, "1", np.int64(1))} == {"1"}
    assert loss("1", 1, 1.0, is_class=True) == 0.0
    assert loss(0, 1, 1.0, is_class=True) == 1.0
    assert math.isnan(loss(None, 1, 1.0, is_class=True))


def test_losses_of_values_are_scaled_and_clipped() -> None:
    scale = loss_scale([float(value) for value in range(101)])
    assert scale == pytest.approx(98.0)
    assert loss(10.0, 59.0, scale, is_class=False) == pytest.approx(0.5)
    assert loss(0.0, 1e9, scale, is_class=False) == 1.0
    assert loss_scale([]) == 1.0
    assert loss_scale([2.0, 2.0]) == 1.0


def test_the_score_is_the_last_of_two_classes_else_the_largest() -> None:
    assert score_of([0.3, 0.7]) == 0.7
    assert score_of([0.2, 0.5, 0.3]) == 0.5
    assert score_of(0.4) == 0.4
    assert math.isnan(score_of(None))


def test_the_manifest_decides_whether_whole_numbers_are_classes() -> None:
    """A regression may happen to predict whole numbers."""
    rows = [[float(place)] for place in range(20)]
    feature = [Feature(name="x")]
    numbers = list(range(20))
    assert build_reference(feature, rows, numbers).prediction[0].kind == "categorical"
    assert build_reference(feature, rows, numbers, prediction_kind="value").prediction[0].kind == "numeric"


def test_a_column_knows_how_many_rows_it_was_measured_on() -> None:
    """Predictions of unseen rows are fewer than rows; their margins must be wider."""
    found = build_reference([Feature(name="x")], [[float(place)] for place in range(50)], [0, 1] * 5, [0.1, 0.9] * 5)
    assert [column.rows for column in found.columns] == [50, 10, 10]


def test_a_value_is_encoded_the_same_whatever_stands_beside_it() -> None:
    """A monitor folds rows in blocks of any size; a text is missing also when it looks like a number."""
    columns = build_reference([Feature(name="x"), Feature(name="y")], [[1.0, 2.0], [2.0, 3.0]]).columns
    rows: list[list[Any]] = [["1.5", 1], [None, True], [2, "north"], [0.5, 3.5]]
    alone = np.concatenate([encode_rows(columns, [row]) for row in rows])
    np.testing.assert_array_equal(encode_rows(columns, rows), alone)
    np.testing.assert_array_equal(alone, [[np.nan, 1], [np.nan, 1], [2, np.nan], [0.5, 3.5]])
    assert encode_rows(columns, []).shape == (0, 2)
