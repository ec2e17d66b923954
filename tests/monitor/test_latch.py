"""What stands against a version, and how it is let go."""

from __future__ import annotations

from typing import Any

from gateway.journal.record import Alert, Cleared
from gateway.monitor.alerts import latch
from gateway.monitor.signals.finding import Calm
from gateway.monitor.state import Latch, Raised
from gateway.names import Role


def alert(number: int, **fields: Any) -> Alert:
    known = Alert(f"a{number}", "sea", 3, Role.CHAMPION, "concept_drift", "errors", 2.0, 1.0, "high", "rose")
    return Alert(**{**{name: getattr(known, name) for name in known.__struct_fields__}, **fields})


def calm(**fields: Any) -> Calm:
    words = {"kinds": ("concept_drift",), "detector": "errors", "reason": "as proven", "time_ns": 5, "place": "g/1/9"}
    return Calm(**{**words, **fields})


def test_a_cause_that_is_told_again_is_one_latch_with_all_its_alerts() -> None:
    """It ends once, for every alert that it raised; one that goes on for ever keeps the newest."""
    held: list[Latch] = []
    for number in range(latch.MOST_IDS + 2):
        held = latch.latched(held, alert(number), 7)
    assert len(held) == 1
    assert (held[0].alerts[0], held[0].alerts[-1]) == ("a2", f"a{latch.MOST_IDS + 1}")
    assert held[0].since_ns == 7


def test_values_that_are_missing_in_earnest_are_remembered() -> None:
    """They change the verdict; one in a thousand does not."""
    kind = {"kind": "data_quality", "detector": "panel"}
    assert latch.latched([], alert(1, effects={"a.missing": 0.2}, **kind), 0)[0].missing
    assert not latch.latched([], alert(1, effects={"a.missing": 0.001, "b.range": 0.9}, **kind), 0)[0].missing


def test_only_what_a_calm_is_about_is_let_go() -> None:
    """Another version, role, kind or detector stands on; river's opinions on the same errors end with them."""
    mine = Latch(3, "champion", "concept_drift", "errors", ["a1", "a2"])
    opinion = Latch(3, "champion", "concept_drift", "ADWIN:errors", ["a3"], advisory=True)
    others = [
        Latch(2, "champion", "concept_drift", "errors", ["b1"]),
        Latch(3, "shadow", "concept_drift", "errors", ["b2"]),
        Latch(3, "champion", "data_drift", "errors", ["b3"]),
        Latch(3, "champion", "concept_drift", "ADWIN:score", ["b4"]),
    ]
    kept, told = latch.let_go(
        "sea", [mine, *others, opinion], lambda one: latch.ends(one, calm(), 3, "champion"), "as proven", 5, "g/1/9"
    )
    assert kept == others
    assert [(one.time_ns, one.record.alert) for one in told if isinstance(one.record, Cleared)] == [
        (5, "a1"),
        (5, "a2"),
        (5, "a3"),
    ]


def test_a_clearing_marks_its_alert_and_no_other_and_a_repeat_is_the_same() -> None:
    raised = [Raised(2.0, alert(2)), Raised(1.0, alert(1), 1.5, "before")]
    held = latch.latched([], alert(2), 0)
    once, again = (latch.let_go("sea", held, lambda _: True, "as proven", 3_000_000_000, "p")[1] for _ in range(2))
    assert once == again
    found = latch.shown(raised, once)
    assert [(one.cleared, one.reason) for one in found] == [(3.0, "as proven"), (1.5, "before")]
