"""The closing figures: scripts read the JSON, people the table, CI the exit code."""

from __future__ import annotations

import dataclasses
import io
import json

import pytest
from rich.console import Console

from gateway.demo.report import Result, as_json, faults, print_table

GOOD = Result(
    rows=43_312,
    accuracy=0.77123456,
    never_retrained=0.70,
    last_label=0.63,
    alerts=60,
    jobs=55,
    published=50,
    promoted=48,
    rolled_back=2,
    failed_requests=0,
    seconds=200.123456,
    seconds_waited=80.5,
    last_act_version=51,
    last_act="quality: 9 of 70 pairs won",
    weights={50: 100.0},
)


def test_json_has_exactly_the_promised_keys() -> None:
    """`gateway demo --json` is read by scripts: a missing or a new key breaks them."""
    text = as_json(GOOD)
    assert list(json.loads(text)) == [
        *("rows", "accuracy", "never_retrained", "last_label", "alerts", "jobs", "published", "promoted"),
        *("rolled_back", "failed_requests", "seconds", "seconds_waited"),
    ]
    assert json.loads(text)["accuracy"] == 0.7712
    assert "\n" not in text


def test_a_good_run_has_no_fault() -> None:
    """Exit code 0."""
    assert faults(GOOD) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"failed_requests": 2, "failures": ("/predict: 503",)}, "2 requests failed, the first: /predict: 503"),
        ({"accuracy": 0.69}, "never retrained"),
        ({"accuracy": 0.66, "never_retrained": 0.5, "last_label": 0.67}, "last label"),
        ({"last_act": ""}, "not rolled back"),
    ],
)
def test_each_fault_is_said(change: dict[str, object], said: str) -> None:
    """Exit code 1, and a person reads why."""
    (fault,) = faults(dataclasses.replace(GOOD, **change))  # type: ignore[arg-type]
    assert said in fault


def test_the_table_holds_every_figure() -> None:
    """What issue and README promise to show."""
    out = io.StringIO()
    print_table(GOOD, Console(file=out, width=150))
    for figure in ("43,312", "0.7712", "0.7000", "0.6300", "55", "electricity@51", "quality: 9 of 70", "80.5"):
        assert figure in out.getvalue()
