"""Properties of the monitor: however a stream is cut, read again or restored, the alerts are the same."""

from __future__ import annotations

from functools import cache

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.journal.record import Alert, Entry, Feedback, TrafficRecord
from gateway.monitor.panel import Panel
from gateway.monitor.quality import psi
from gateway.registry.manifest import Feature
from gateway.registry.reference import build_reference, encode_reference, positions, read_reference
from tests.monitor.stream import MODEL, PLAN, answered, folded, placed, sea, traffic

sizes = st.lists(st.integers(1, 400), min_size=1, max_size=30)
numbers = st.floats(-1e6, 1e6, allow_nan=False)


@cache
def eventful() -> tuple[Entry[TrafficRecord], ...]:
    """A stream with a bit of everything: drift, missing values, a new champion, late, early and wrong feedback."""
    rows, labels = sea(500, 150)
    bad = [[row[0], None if place % 7 == 0 else row[1], row[2]] for place, row in enumerate(rows)]
    records: list[TrafficRecord] = [Feedback("r3", 0, 1), Feedback("r400", 5, 1), *traffic(rows[:200], labels)]
    records += [answered(1000 + place, row) for place, row in enumerate(bad[200:330])]
    records += [answered(2000 + place, row, version=2, revision=9) for place, row in enumerate(rows)]
    records += [Feedback(f"r{2000 + place}", 0, labels[place]) for place in range(450)]
    return tuple(placed(records))


@cache
def whole() -> list[Alert]:
    return folded(eventful(), [])[1]


def test_the_stream_has_alerts_of_several_kinds() -> None:
    """Otherwise the properties below would hold for a monitor that never says anything."""
    assert {"concept_drift", "data_quality"} <= {alert.kind for alert in whole()}


@given(sizes)
@settings(max_examples=15, deadline=None)
def test_any_block_sizes_give_the_same_alerts_and_figures(cuts: list[int]) -> None:
    state, alerts, _ = folded(eventful(), cuts)
    assert alerts == whole()
    expected = folded(eventful(), [])[0].of(MODEL)
    found = state.of(MODEL)
    assert (found.tallies, found.labels, found.panel) == (expected.tallies, expected.labels, expected.panel)


@given(st.lists(st.integers(0, 60), max_size=20))
@settings(max_examples=40, deadline=None)
def test_a_panel_in_any_chunks_restored_between_them_is_the_same(cuts: list[int]) -> None:
    values = np.column_stack([np.random.default_rng(5).uniform(0, 12, size=(400, 3)), np.zeros(400), np.full(400, 0.5)])
    one, start = Panel(PLAN, 1e4), 0
    expected = Panel(PLAN, 1e4)
    expected.update(values)
    for cut in [*cuts, len(values)]:
        one.update(values[start : start + cut])
        one = one.restored(one.state())
        start += cut
    assert one.state() == expected.state()


@given(st.lists(st.one_of(st.none(), numbers), min_size=1, max_size=80))
@settings(deadline=None)
def test_any_column_gives_a_reference_that_survives_its_file(column: list[float | None]) -> None:
    found = build_reference([Feature(name="x")], [[value] for value in column])
    assert read_reference(encode_reference(found)) == found
    assert all(0 <= score.mean <= 1 and score.tau >= 1 for score in found.features[0].scores)


@given(st.lists(numbers, min_size=1, max_size=300), st.lists(st.floats(allow_nan=False), min_size=1, max_size=50))
@settings(deadline=None)
def test_positions_lie_between_0_and_1_and_keep_the_order(body: list[float], values: list[float]) -> None:
    quantiles = np.quantile(np.array(body), np.linspace(0, 1, 257))[None, :]
    found = positions(quantiles, np.sort(np.array(values))[:, None])[:, 0]
    assert ((found >= 0) & (found <= 1)).all()
    assert (np.diff(found) >= -1e-12).all()


@given(st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 1000)), min_size=2, max_size=20))
def test_psi_is_finite_and_never_negative(bins: list[tuple[int, int]]) -> None:
    before, now = np.array(bins, dtype=np.float64).T
    assert 0 <= psi(before, now) < np.inf
