"""Counting answers beside weights, and bodies that any served model takes."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.shares import Shares, label_of, many_inputs, one_input

RECORDS: dict[str, Any] = {
    "name": "m",
    "weights": {"1": 90, "2": 10},
    "features": [
        {"name": "a", "low": -1.0, "high": 2.0},
        {"name": "b", "categories": ["x", "y"]},
        {"name": "c", "low": None, "high": None},
    ],
    "inputs": [{"name": "a", "datatype": "FP32", "shape": [-1, 3]}],
    "prediction": {"output": "label", "kind": "class"},
    "example": {"inputs": {"a": 0.5, "b": "x", "c": 0.0}},
}


def figures(shares: Shares) -> dict[str, list[str]]:
    """The columns of the summary by version."""
    return {line.split()[0]: line.split()[1:] for line in shares.lines()[1:]}


def test_share_stands_beside_the_weight_in_force_at_each_answer() -> None:
    """The weight moves during a load: beside the last weight alone, any share would look wrong."""
    shares = Shares()
    shares.learn([RECORDS])
    for answered in range(100):
        shares.count("m", 2 if answered < 10 else 1)
    shares.move("m", 2, 50, champion=1)
    for answered in range(100):
        shares.count("m", 2 if answered < 50 else 1)
    assert figures(shares) == {"m@1": ["140", "70.00%", "70.00%"], "m@2": ["60", "30.00%", "30.00%"]}


def test_a_version_without_weight_or_answers_shows() -> None:
    """A canary that got nothing, and a version that answered with no weight, are what the summary is for."""
    shares = Shares()
    shares.learn([RECORDS])
    shares.count("m", 3)
    assert figures(shares) == {
        "m@1": ["0", "0.00%", "90.00%"],
        "m@2": ["0", "0.00%", "10.00%"],
        "m@3": ["1", "100.00%", "0.00%"],
    }


@given(st.lists(st.tuples(st.integers(1, 3), st.booleans())))
def test_counts_of_many_processes_add_up(answers: list[tuple[int, bool]]) -> None:
    """Workers report in parts, as JSON or msgpack: nothing is lost or counted twice."""
    together, whole, part = Shares(), Shares(), Shares()
    for shares in (whole, part):
        shares.learn([RECORDS])
    for version, report in answers:
        whole.count("m", version)
        part.count("m", version)
        if report:
            together.add(json.loads(json.dumps(part.take())))
    together.add(part.take())
    assert together.lines() == whole.lines()


def test_a_record_keeps_to_the_contract() -> None:
    """A value out of range or of an unseen category would be flagged, or refused, instead of measured."""
    draw = random.Random(1)
    for record in many_inputs(RECORDS, 32, draw):
        assert -1.0 <= record["a"] <= 2.0
        assert record["b"] in {"x", "y"}
        assert record["c"] == 0.0


@pytest.mark.parametrize(("shape", "rows"), [([-1, 2], 32), ([1, 2], 1)])
def test_tensors_grow_only_where_they_may(shape: list[int], rows: int) -> None:
    """A model without features takes its example; a fixed first dimension takes no batch."""
    model: dict[str, Any] = {
        "features": [],
        "inputs": [{"name": "x", "datatype": "FP32", "shape": shape}],
        "example": {"inputs": {"x": [[0.0, 0.0]]}},
    }
    assert one_input(model, random.Random(1)) == {"x": [[0.0, 0.0]]}
    assert many_inputs(model, 32, random.Random(1)) == {"x": [[0.0, 0.0]] * rows}


@pytest.mark.parametrize(
    ("prediction", "outputs", "label"),
    [
        ({"output": "label"}, {"label": [3]}, {"label": 3}),
        ({"output": "price"}, {"price": [[1.5]]}, {"label": 1.5}),
        ({"output": "label"}, {"label": []}, {"value": 1.0}),
        (None, {"x": [1]}, {"value": 1.0}),
    ],
)
def test_the_label_is_what_was_predicted(prediction: Any, outputs: Any, label: Any) -> None:
    """Random labels would raise alerts and start jobs on the gateway under load."""
    assert label_of({"prediction": prediction}, outputs) == label
