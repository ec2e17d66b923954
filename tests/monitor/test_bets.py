"""Bets on bad columns: whatever a reference holds, rows like its own are never an alert, and silence has a reason."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.monitor.detectors.bets import reasons, watched, weights
from gateway.monitor.detectors.panel import Panel, Plan
from gateway.registry.manifest import Feature
from gateway.registry.reference import build_reference, encode_reference, encode_rows, read_reference

THRESHOLD = 1e4
KINDS: dict[str, list[Any]] = {
    "normal": np.random.default_rng(1).normal(size=200).tolist(),
    "constant": [0.1],
    "zero": [0.0],
    "binary": [0, 0, 0, 1],
    "missing": [None],
    "nan": [math.nan],
    "half missing": [1.0, 2.0, None, math.nan],
    "infinite": [math.inf, -math.inf],
    "partly infinite": [1.0, 2.0, 3.0, math.inf],
    "huge": [1.7e308, -1.7e308, 1e200, 5.0],
    "tiny": [5e-324, 1e-300, 0.0],
    "far off": [1.7e9, 1.7e9 + 1, 1.7e9 + 2],
    "long": [10**400, -(10**400), 1],
    "text": ["1.5", "", "x"],
}
CATEGORIES: dict[str, list[Any]] = {
    "two": ["x", "x", "x", "y"],
    "one": ["x"],
    "none": [None],
    "each another": [f"v{place}" for place in range(200)],
    "mixed types": [1, "1", True, 2.5, math.inf, None],
}
columns = st.lists(st.sampled_from([*KINDS, *CATEGORIES]), min_size=1, max_size=5)


def features(kinds: list[str]) -> list[Feature]:
    return [
        Feature(name=f"{place} {kind}", kind="numeric" if kind in KINDS else "categorical")
        for place, kind in enumerate(kinds)
    ]


def rows(kinds: list[str], count: int, random: np.random.Generator) -> list[list[Any]]:
    pools = [{**KINDS, **CATEGORIES}[kind] for kind in kinds]
    return [[pool[int(random.integers(len(pool)))] for pool in pools] for _ in range(count)]


def plan(kinds: list[str], body: list[list[Any]]) -> Plan:
    """By way of its file, as a published version's."""
    return Plan(read_reference(encode_reference(build_reference(features(kinds), body))))


@given(columns, st.integers(1, 60), st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_rows_like_the_reference_are_never_an_alert(kinds: list[str], count: int, seed: int) -> None:
    """Not with 1 row, not with constants, not with infinities: an alert must be made of evidence."""
    random = np.random.default_rng(seed)
    body = rows(kinds, count, random)
    known = plan(kinds, body)
    again = [body[place] for place in random.integers(count, size=320).tolist()]
    verdict = Panel(known, THRESHOLD).update(encode_rows(known.columns, again))
    assert not verdict.alarmed
    assert math.isfinite(verdict.evidence)


@given(columns, columns, st.integers(1, 60), st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_no_stream_breaks_the_panel(kinds: list[str], others: list[str], count: int, seed: int) -> None:
    """Whatever comes instead, evidence stays a number and the state can be kept."""
    random = np.random.default_rng(seed)
    known = plan(kinds, rows(kinds, count, random))
    came = rows([others[place % len(others)] for place in range(len(kinds))], 64, random)
    panel = Panel(known, THRESHOLD)
    verdict = panel.update(encode_rows(known.columns, came))
    assert math.isfinite(verdict.evidence)
    assert np.isfinite(np.nan_to_num(panel.window(1))).all()
    assert panel.restored(panel.state()).state() == panel.state()


@given(columns, st.integers(1, 60), st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_a_column_is_watched_or_has_a_reason(kinds: list[str], count: int, seed: int) -> None:
    """Silence must not pass for health."""
    known = plan(kinds, rows(kinds, count, np.random.default_rng(seed)))
    values_watched = {
        known.columns[one.column].name for one in known.watched if one.score.name in ("level", "category")
    }
    assert values_watched | set(known.unwatched) == {column.name for column in known.columns}
    assert not values_watched & set(known.unwatched)
    assert all(reason.startswith("not monitored because ") for reason in known.unwatched.values())
    assert known.watched == [] or math.fsum(weights(known.watched)) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("kind", "count", "said"),
    [
        ("missing", 50, "the reference has no value of it; only missing watched"),
        ("infinite", 50, "the reference has no value of it; only missing watched"),
        ("none", 50, "the reference has no value of it; only unseen and missing watched"),
        ("normal", 5, "the 5 rows of the reference are too few to say what is normal"),
        ("one", 2, "the 2 rows of the reference are too few"),
    ],
)
def test_the_reason_says_what_is_wrong(kind: str, count: int, said: str) -> None:
    pool = {**KINDS, **CATEGORIES}[kind]
    known = plan([kind], [[pool[place % len(pool)]] for place in range(count)])
    assert said in known.unwatched[f"0 {kind}"]


def test_a_reference_of_50_rows_is_quiet_on_fresh_rows() -> None:
    """30 columns, each with its own luck in so few rows. With a plain interval for categories one in eight alarmed."""
    for seed in range(3):
        random = np.random.default_rng(seed)
        numbers = np.column_stack([random.normal(size=(1650, 20)), random.standard_t(2, size=(1650, 10))])
        zones = random.choice(list("abcdefgh"), size=1650, p=[0.5, 0.2, 0.1, 0.08, 0.05, 0.04, 0.02, 0.01])
        body = [[*row, zone] for row, zone in zip(numbers.tolist(), zones.tolist(), strict=True)]
        kinds = ["normal"] * 30 + ["two"]
        known = plan(kinds, body[:50])
        assert not Panel(known, THRESHOLD).update(encode_rows(known.columns, body[50:])).alarmed


def test_infinite_values_are_out_of_range_not_drift() -> None:
    known = plan(["normal"], [[value] for value in KINDS["normal"]] * 3)
    body = [[math.inf if place % 3 == 0 else value] for place, value in enumerate(KINDS["normal"])]
    verdict = Panel(known, THRESHOLD).update(encode_rows(known.columns, body))
    assert (verdict.kind, verdict.detail) == ("data_quality", "0 normal: range")


def test_infinite_values_that_the_reference_has_too_are_normal() -> None:
    kinds, random = ["partly infinite"], np.random.default_rng(2)
    known = plan(kinds, rows(kinds, 500, random))
    assert not Panel(known, THRESHOLD).update(encode_rows(known.columns, rows(kinds, 1000, random))).alarmed


@pytest.mark.parametrize("pool", [[0.1], [0.1, 0.2, 0.3, 0.3], [1 / 3, 1e6 / 7]])
def test_rounding_to_float32_is_no_drift(pool: list[float]) -> None:
    """A client that sends 32-bit tensors against a reference of 64-bit rows: 0.1 becomes 0.10000000149."""
    body = [[pool[place % len(pool)]] for place in np.random.default_rng(3).integers(len(pool), size=500).tolist()]
    known = plan(["constant"], body)
    rounded = [[float(np.float32(value))] for (value,) in body * 2]
    assert not Panel(known, THRESHOLD).update(encode_rows(known.columns, rounded)).alarmed


def test_a_category_with_ever_new_values_expects_new_ones() -> None:
    """Post codes: a tenth of the rows held a value that no other did, so a tenth of new ones is normal."""
    random = np.random.default_rng(4)

    def body(count: int) -> list[list[str]]:
        return [[f"p{int(value)}"] for value in random.zipf(1.5, size=count).tolist()]

    known = plan(["two"], body(2000))
    new = next(one for one in watched(known.reference) if one.score.name == "unseen")
    assert new.score.mean > 0.05
    assert not Panel(known, THRESHOLD).update(encode_rows(known.columns, body(3000))).alarmed
    flood = Panel(known, THRESHOLD).update(encode_rows(known.columns, [[f"q{place}"] for place in range(160)]))
    assert (flood.kind, flood.detail.partition(",")[0]) == ("data_quality", "0 two: unseen")


def test_a_text_is_missing_in_the_reference_and_in_the_stream() -> None:
    """A column whose numbers come as text is always missing: not missing at first, and there in the stream."""
    known = plan(["text", "normal"], [["1.5", value] for value in KINDS["normal"]])
    values = encode_rows(known.columns, [["1.5", value] for value in KINDS["normal"]])
    assert np.isnan(values[:, 0]).all()
    assert not Panel(known, THRESHOLD).update(values).alarmed


def test_a_healthy_reference_has_nothing_unwatched() -> None:
    assert reasons(plan(["normal", "two"], rows(["normal", "two"], 500, np.random.default_rng(5))).reference) == {}
