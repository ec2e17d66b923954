"""Live figures on the terminal: what is measured, what is estimated, and what is not there."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gateway.api.admin.model import weakest
from gateway.cli.live import live_rows, online_line, slice_rows
from gateway.documents.alert import Live, SliceLive


def glance(**fields: Any) -> dict[str, Any]:
    return {"name": "gas", "live": [], "slices": [], "online": {}, **msgspec.to_builtins(fields)}


def test_measured_figures_and_the_estimate_stand_apart() -> None:
    """An estimate that looks like a measurement would be believed like one."""
    seen = Live(
        version=3, role="champion", labelled=700, rolling={"accuracy": 0.8125, "log_loss": 0.4, "roc_auc": 0.9},
        labels={"joined": 700}, coverage=0.35, delay_seconds={"p50": 2.0, "p90": 7201.0, "p99": 200_000.0},
        value_mean=1.5, values=90, value_interval=(1.25, 1.75),
        estimate={"accuracy": 0.77, "rows": 500, "calibrated_on": "labels"},
    )  # fmt: skip
    [row] = live_rows(glance(live=[seen]))
    assert row == [
        "gas@3", "champion", "700", "35%", "2 s", "2 h", "accuracy 0.8125  roc_auc 0.9", "1.5 (1.25 to 1.75)",
        "accuracy ~0.770 of the newest 500 answers (by labels)",
    ]  # fmt: skip


def test_a_version_without_labels_shows_blanks() -> None:
    [row] = live_rows(glance(live=[Live(version=1, role="shadow", predictions=4)]))
    assert row == ["gas@1", "shadow", "", "", "", "", "", "", ""]


def test_the_weakest_slices_come_first_and_those_with_few_labels_not_at_all() -> None:
    """Three labels say nothing; a list of forty slices nobody reads."""
    slices = [
        SliceLive(version=1, role="champion", slice=f"day={n}", rolling={"accuracy": n / 10}, rolling_labelled=50)
        for n in range(8)
    ]
    few = SliceLive(version=1, role="champion", slice="day=9", rolling={"accuracy": 0.0}, rolling_labelled=3)
    shown = slice_rows(glance(slices=weakest([*reversed(slices), few])))
    assert [row[0] for row in shown] == ["day=0", "day=1", "day=2", "day=3", "day=4"]
    assert shown[1] == ["day=1", "gas@1", "champion", "50", "accuracy 0.1"]


def test_for_values_the_weakest_slice_has_the_largest_error() -> None:
    slices = [
        SliceLive(version=1, role="champion", slice=f"day={n}", rolling={"mae": float(n)}, rolling_labelled=50)
        for n in range(3)
    ]
    assert [one.slice for one in weakest(slices)] == ["day=2", "day=1", "day=0"]


@pytest.mark.parametrize(
    ("fair", "note", "line"),
    [
        ({"rows": 0}, "", "online model tree.T: 7 labels learned"),
        (
            {"rows": 9, "rolling_rows": 9, "rolling_online": 0.75, "rolling_champion": 0.7},
            "stopped after 7 labels: why",
            (
                "online model tree.T: 7 labels learned; newest 9 rows, predicted when answered: accuracy 0.75 "
                "beside the champion's 0.7; stopped after 7 labels: why"
            ),
        ),
    ],
)
def test_the_online_model_has_one_line(fair: dict[str, Any], note: str, line: str) -> None:
    online = {"river": "tree.T", "metric": "accuracy", "learned": 7, "note": note, "when_answered": fair}
    assert online_line(glance(online=online)) == line
    assert online_line(glance()) == ""
