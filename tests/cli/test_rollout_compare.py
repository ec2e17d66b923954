"""What `gateway rollout compare` says of one challenger."""

from __future__ import annotations

from gateway.cli.rollout import compared_row
from gateway.documents.policy import GuardSet
from gateway.rollout.evidence.verdict import Compared, Tally, figures


def test_a_row_tells_flips_failures_and_who_was_right() -> None:
    seen = Compared(
        shadow=Tally(requests=40, errors=2),
        pairs=40,
        compared=38,
        disagreements=3,
        labelled=30,
        trial_won=2,
        reference_won=1,
        flips=(("up", "up", 35), ("up", "down", 2), ("down", "up", 1)),
    )
    counts = {"role": "shadow", "since": 0.0, **figures(seen, GuardSet().guards)["counts"]}
    row = [str(cell) for cell in compared_row("4", counts)]
    assert row[:2] == ["4", "shadow"]
    assert row[3:6] == ["40", "2 of 40", "3 of 38"]
    assert row[6] == "up -> down: 2, down -> up: 1"
    assert row[9] == "2 : 1 of 30"
