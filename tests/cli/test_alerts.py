"""What `gateway alerts` says of an alert: how it stands, what it amounts to, and how it ended."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.cli.alerts import event_line, show_alerts

ALERT: dict[str, Any] = {
    "id": "a1", "time": 0.0, "model": "sea", "version": 3, "role": "champion", "kind": "concept_drift",
    "detector": "errors", "severity": "high", "evidence": 2e5, "message": "errors rose", "state": "raised",
    "verdict": "concept_drift", "response": "retrain_since_change",
}  # fmt: skip


@pytest.mark.parametrize(
    ("event", "says"),
    [
        ({"event": "alert", "data": ALERT}, "sea@3 errors rose [concept_drift: retrain_since_change]"),
        ({"event": "alert", "data": ALERT | {"verdict": "", "response": ""}}, "sea@3 errors rose"),
        (
            {
                "event": "cleared",
                "data": {"model": "sea", "version": 3, "time": 0, "alert": "a1", "reason": "as proven"},
            },
            "sea@3 a1: as proven",
        ),
        (
            {
                "event": "decision",
                "data": {
                    "model": "sea",
                    "version": 4,
                    "time": 0,
                    "actor": "rollout",
                    "action": "start",
                    "reason": "new",
                },
            },
            "sea@4 rollout start: new",
        ),
    ],
    ids=["judged", "of before verdicts", "cleared", "decision"],
)
def test_each_event_is_one_line(event: Any, says: str) -> None:
    assert event_line(event).endswith(says)


def test_the_list_shows_state_and_verdict_and_below_it_the_verdict_of_now(capsys: pytest.CaptureFixture[str]) -> None:
    """An alert keeps the words of its moment; the line below says how things stand."""
    now = {"version": 3, "role": "champion", "verdict": "concept_drift", "response": "retrain_since_change"}
    over = ALERT | {"id": "a0", "state": "cleared"}
    show_alerts([{"model": "sea", "note": "", "alerts": [ALERT, over], "verdicts": [now]}], as_json=False)
    said = capsys.readouterr().out
    assert "cleared" in said
    assert "sea@3 as champion: concept_drift, retrain_since_change" in said
