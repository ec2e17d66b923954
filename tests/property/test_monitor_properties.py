"""Properties of the monitor: however a stream is cut, read again or restored, the alerts are the same."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.documents.policy import Labels, MonitoringPolicy, Policy
from gateway.journal.join import LabelledRow
from gateway.journal.record import Alert, Entry, Feedback, TrafficRecord
from gateway.monitor.detectors.panel import Panel
from gateway.monitor.fold import Context
from gateway.monitor.signals.quality import psi
from gateway.monitor.state import MonitorState
from gateway.names import Role
from gateway.registry.manifest import Feature
from gateway.registry.reference import build_reference, encode_reference, positions, read_reference
from tests.monitor.stream import MODEL, PLAN, answered, folded, placed, sea, traffic, versions

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


def untidy(seed: int = 3) -> tuple[Entry[TrafficRecord], ...]:
    """Answers with shadows, some ids used again, a promotion in the middle; labels late (some too late), repeated, out
    of order, before their prediction, of rows and ids that nobody knows, and values without labels."""
    random = np.random.default_rng(seed)
    rows, labels = sea(260, 120, seed)
    coming: list[tuple[float, TrafficRecord]] = []
    for place, row in enumerate(rows):
        is_promoted = place >= 180
        fields: dict[str, Any] = {"version": 2, "revision": 9} if is_promoted else {}
        coming.append((place, answered(place, row, **fields)))
        if random.random() < 0.4:
            shadow = answered(place, row, version=1 if is_promoted else 2, role=Role.SHADOW)
            coming.append((place + random.uniform(0, 8), shadow))
        if random.random() < 0.03:
            coming.append((place + random.uniform(0, 30), answered(max(0, place - 9), row, **fields)))
        for _ in range(int(random.integers(0, 3))):
            label = labels[place] if random.random() < 0.95 else None
            row_of = 0 if random.random() < 0.95 else 4
            value = float(random.normal()) if random.random() < 0.2 else None
            coming.append((place + random.normal(10, 15), Feedback(f"r{place}", row_of, label, value)))
        if random.random() < 0.2:
            coming.append((place + 300.0, Feedback(f"r{place}", 0, labels[place])))
            coming.append((float(place), Feedback(f"nobody{place}", 0, 1)))
    return tuple(placed(record for _, record in sorted(coming, key=lambda one: one[0])))


IMPATIENT = Context(
    {MODEL: Policy(model=MODEL, monitoring=MonitoringPolicy(false_alarm_every_events=1000), labels=Labels(wait=300))},
    versions(),
    rate=0.75,
)


@cache
def untidy_whole() -> tuple[MonitorState, list[Alert], list[LabelledRow]]:
    state, alerts, outcomes = folded(untidy(), [], IMPATIENT)
    return state, alerts, [row for one in outcomes for row in one.joined.labelled]


def test_the_untidy_stream_has_everything() -> None:
    """Otherwise the property below would prove less than it says."""
    state, alerts, rows = untidy_whole()
    counted = state.of(MODEL)
    assert {"joined", "duplicate", "reused", "late", "no_row", "no_label"} <= counted.labels.keys()
    assert state.unknown["unknown"] > 20
    assert {"1/champion", "2/champion", "1/shadow", "2/shadow"} <= counted.tallies.keys()
    assert alerts
    assert len(rows) > 100


@given(st.lists(st.integers(1, 150), max_size=60))
@settings(max_examples=15, deadline=None)
def test_any_cuts_of_an_untidy_journal_give_the_same_state_byte_by_byte(cuts: list[int]) -> None:
    """What is written into a checkpoint is decided by the journal, not by how it happened to be read."""
    state, alerts, outcomes = folded(untidy(), cuts, IMPATIENT)
    expected_state, expected_alerts, expected_rows = untidy_whole()
    assert [alert.id for alert in alerts] == [alert.id for alert in expected_alerts]
    assert alerts == expected_alerts
    assert [row for one in outcomes for row in one.joined.labelled] == expected_rows
    assert state.encode() == expected_state.encode()


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
