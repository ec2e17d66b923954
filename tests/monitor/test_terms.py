"""What the folds rested on is found again at the same place of the journal."""

from __future__ import annotations

from gateway.documents.policy import Labels, MonitoringPolicy, Policy
from gateway.journal.journal import START
from gateway.journal.merge import encode_offset
from gateway.monitor.terms import KEPT, Schedule, Term, is_past, noted, policies_of, rate_of
from tests.monitor.stream import MODEL


def policy(every: int) -> Policy:
    return Policy(model=MODEL, monitoring=MonitoringPolicy(false_alarm_every_events=every))


def behind(sequence: int) -> bytes:
    return encode_offset({("g", 1): sequence})


def noted_at(terms: tuple[Term, ...], sequence: int, every: int, rate: float = 1.0) -> tuple[Term, ...]:
    return noted(terms, encode_offset({("g", 1): sequence}), {MODEL: policy(every)}, rate)


def test_only_changes_are_written_down_and_the_first_policy_counts_from_the_start() -> None:
    """Otherwise the state would depend on how the journal was cut into blocks."""
    terms = noted_at((), 7, 1000)
    assert [term.offset for term in terms] == [START]
    assert noted_at(terms, 9, 1000) is terms
    terms = noted_at(noted_at(terms, 20, 5000), 30, 5000, rate=0.5)
    assert [term.offset for term in terms] == [START, behind(20), behind(30)]
    assert policies_of(terms)[MODEL].monitoring.false_alarm_every_events == 5000
    assert rate_of(terms) == 0.5


def test_a_model_that_was_folded_before_terms_were_kept_says_so() -> None:
    """Its first term begins where it was written, not at the start."""
    terms = noted((), encode_offset({("g", 1): 7}), {MODEL: policy(1000)}, 1.0, known={MODEL})
    assert [term.offset for term in terms] == [behind(7)]


def test_what_a_fold_does_not_use_is_no_change() -> None:
    one = Policy(model=MODEL, deadline_ms=5.0)
    assert noted(noted((), START, {MODEL: Policy(model=MODEL)}, 1.0), START, {MODEL: one}, 1.0)[1:] == ()
    longer = Policy(model=MODEL, labels=Labels(wait=5.0))
    terms = noted(noted((), START, {MODEL: one}, 1.0), START, {MODEL: longer}, 1.0)
    assert policies_of(terms)[MODEL].labels.wait == 5.0


def test_old_terms_are_forgotten_by_subject() -> None:
    """A rate that flaps must not push a model's only policy out."""
    terms = noted_at((), 1, 1000)
    for number in range(3 * KEPT):
        terms = noted_at(terms, number, 1000, rate=0.5 if number % 2 else 0.25)
    assert len(terms) == KEPT + 1
    assert MODEL in policies_of(terms)


def test_the_schedule_gives_the_terms_one_after_the_other() -> None:
    schedule = Schedule(noted_at(noted_at(noted_at((), 0, 1000), 4, 5000), 6, 5000, rate=0.5))
    found = []
    while (offset := schedule.next_offset) is not None:
        schedule.pass_next()
        newest = policies_of(schedule.in_force)[MODEL].monitoring.false_alarm_every_events
        found.append((bytes(offset), newest, rate_of(schedule.in_force)))
    assert found == [(START, 1000, 1.0), (behind(4), 5000, 1.0), (behind(6), 5000, 0.5)]


def test_an_offset_is_past_a_stop_when_any_spool_is() -> None:
    stop = encode_offset({("g", 1): 4, ("g", 2): 9})
    assert not is_past(encode_offset({("g", 1): 4}), stop)
    assert not is_past(stop, stop)
    assert is_past(encode_offset({("g", 1): 5, ("g", 2): 1}), stop)
    assert is_past(encode_offset({("h", 1): 1}), stop)
    assert is_past(stop, START)
    assert not is_past(START, START)
