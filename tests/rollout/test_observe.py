"""The fold of traffic: what is counted, what is left out, how answers and labels find each other."""

from __future__ import annotations

import pytest

from gateway.documents.rollout import Guards
from gateway.journal.record import Entry, Feedback, Place
from gateway.names import Outcome, Reason, Role
from gateway.rollout.evidence import observe
from gateway.rollout.evidence.observe import Observed, Observer, Steps, prediction_reader
from gateway.rollout.evidence.verdict import assess
from tests.rollout.making import ROLLOUT, batch, canary, champion, fold, record, shadow


def test_a_shadow_answer_is_joined_to_the_champions() -> None:
    """By id, whichever comes first."""
    seen = fold(champion("a"), shadow("a"), shadow("b", outputs={"label": [0]}), champion("b"), shadow("c"))
    assert (seen.before.pairs, seen.before.compared, seen.before.disagreements) == (2, 2, 1)
    assert (seen.before.reference.requests, seen.before.shadow.requests) == (2, 3)


def test_a_label_decides_who_was_right() -> None:
    """Only rows where exactly one is right count for or against."""
    seen = fold(
        champion("a"),
        shadow("a", outputs={"label": [0]}),
        Feedback("a", 0, 1),
        champion("b"),
        shadow("b", outputs={"label": [0]}),
        Feedback("b", 0, 0),
        champion("c"),
        shadow("c"),
        Feedback("c", 0, 0),
    ).before
    assert (seen.labelled, seen.trial_won, seen.reference_won) == (3, 1, 1)


def test_a_label_may_come_between_the_two_answers() -> None:
    """A shadow is allowed to be late."""
    seen = fold(champion("a"), Feedback("a", 0, 1), shadow("a", outputs={"label": [0]}))
    assert seen.before.reference_won == 1


def test_the_first_label_of_a_row_wins() -> None:
    """A repeated label is no second opinion."""
    seen = fold(
        champion("a", rows=2, outputs={"label": [1, 1]}),
        shadow("a", rows=2, outputs={"label": [0, 0]}),
        Feedback("a", 0, 1),
        Feedback("a", 0, 0),
        Feedback("a", 1, None, 3.5),
    )
    assert (seen.before.labelled, seen.before.reference_won) == (1, 1)


def test_rows_of_a_batch_are_compared_one_by_one() -> None:
    """One pair, three rows."""
    seen = fold(
        champion("a", rows=3, outputs={"label": [1, 1, 0]}),
        shadow("a", rows=3, outputs={"label": [[1], [0], [0]]}),
        *(Feedback("a", row, 1) for row in (9, 0, 1, -1, 2)),
    ).before
    assert (seen.pairs, seen.compared, seen.disagreements, seen.labelled, seen.reference_won) == (1, 3, 1, 3, 1)


def test_classes_are_compared_as_people_write_them() -> None:
    """1, 1.0, "1" and True are one class."""
    seen = fold(champion("a", outputs={"label": [1.0]}), shadow("a", outputs={"label": ["0"]}), Feedback("a", 0, "1"))
    assert seen.before.reference_won == 1


def test_of_two_numbers_the_nearer_one_wins() -> None:
    """Regression: no right and wrong, but nearer."""
    seen = fold(
        champion("a", outputs={"label": [2.0]}),
        shadow("a", outputs={"label": [2.4]}),
        Feedback("a", 0, 3.0),
        canary("b", outputs={"label": [2.4]}),
        Feedback("b", 0, 3.0),
        numeric=True,
    ).before
    assert (seen.trial_won, seen.disagreements, seen.worse_share) == (1, 0, 0.0)


def test_a_shadow_that_fails_alone_is_evidence_and_one_that_fails_with_the_champion_is_not() -> None:
    """Bad input fails everywhere."""
    failed = {"outcome": Outcome.ERROR, "outputs": {}}
    assert fold(champion("a"), shadow("a", **failed)).before.errors > 0
    assert fold(champion("a", **failed), shadow("a", **failed)).before.errors == 0
    assert fold(champion("a"), shadow("a", flags=("non_finite",))).before.errors > 0


def test_the_commonest_fault_is_named() -> None:
    """Of the version on trial alone, and in its reason."""
    gone = {"outcome": Outcome.ERROR, "error": "its process is away"}
    failing = [shadow(f"a{n}", **gone) for n in range(6)] + [shadow("b", flags=("non_finite",))]
    calm = [champion(f"c{n}") for n in range(20)]
    seen = fold(champion("d", outcome=Outcome.ERROR, error="the champion's own"), *failing, *calm).before
    assert seen.fault == "its process is away"
    assert assess(seen, Guards()).reason.endswith("failed; most often: its process is away")
    assert "not finite" in fold(shadow("b", flags=("non_finite",))).before.fault
    assert fold(shadow("a"), *calm).before.fault == ""


def test_a_canary_counts_with_the_split_of_its_own_request() -> None:
    """Other canaries are not its business: its share is of what it and the champion answer."""
    failed = {"outcome": Outcome.DEADLINE, "outputs": {}}
    alone = fold(canary("a", split=((2, 1000),), **failed)).before
    beside = fold(canary("a", split=((3, 5000), (2, 500)), **failed)).before
    assert alone.trial.errors == 1
    assert alone.errors == pytest.approx(fold(canary("a", split=((3, 1000), (2, 900)), **failed)).before.errors)
    assert beside.errors == pytest.approx(alone.errors)


def test_wrong_answers_of_the_canary_are_weighed_against_the_champions() -> None:
    """In a canary step no row is answered twice, so the split itself is the comparison."""
    split = ((2, 5000),)
    wrong = [record for n in range(9) for record in (canary(f"t{n}", split=split), Feedback(f"t{n}", 0, 0))]
    assert fold(*wrong).before.worse_share > 0
    both = [record for n in range(9) for record in (champion(f"c{n}", split=split), Feedback(f"c{n}", 0, 0))]
    assert fold(*wrong, *both).before.worse_share < 0


@pytest.mark.parametrize(
    "reason", [Reason.PINNED, Reason.CACHE, Reason.RULE, Reason.FALLBACK_VERSION, Reason.FALLBACK_VALUE]
)
def test_what_no_draw_decided_is_left_out(reason: Reason) -> None:
    """Pinned, ruled and fallback answers are no sample of the traffic."""
    assert fold(canary("a", reason=reason, outcome=Outcome.ERROR)) == Observed()


def test_other_models_and_versions_are_left_out() -> None:
    """The stream holds everybody's traffic."""
    assert fold(champion("a", model="x"), record("b", 3, Role.CANARY), record("c", 1, Role.PREVIOUS)) == Observed()


def test_a_reused_id_is_never_joined() -> None:
    """Two requests under one name: nobody knows which one the label means."""
    seen = fold(
        champion("a"),
        champion("a", flags=("duplicate_id",)),
        shadow("a", outputs={"label": [0]}),
        Feedback("a", 0, 1),
    )
    assert (seen.before.pairs, seen.before.labelled, seen.before.reference.requests) == (0, 0, 2)


def test_after_the_promotion_the_versions_change_sides_but_not_roles_in_the_comparison() -> None:
    """The promoted version stays the one on trial, and the last champion what it is compared with."""
    seen = fold(
        champion("a"),
        record("b", 2, Role.CHAMPION, outputs={"label": [0]}),
        record("b", 1, Role.SHADOW),
        Feedback("b", 0, 1),
    )
    assert (seen.before.reference.requests, seen.after.trial.requests, seen.after.reference.requests) == (1, 1, 1)
    assert (seen.after.pairs, seen.after.reference_won, seen.before.labelled) == (1, 1, 0)


def test_steps_are_counted_by_route_revision() -> None:
    """So a step can be told from the one before it, whenever the controller looks."""
    seen = fold(
        champion("a", revision=5),
        shadow("a", revision=5),
        canary("b", revision=7),
        canary("c", revision=8),
        record("d", 2, Role.CHAMPION, revision=9),
    )
    assert seen.since(0) == Steps(canary=2, pairs=1, promoted=1)
    assert seen.since(8) == Steps(canary=1, pairs=0, promoted=1)


def test_waiting_ids_are_bounded_and_the_drops_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels that never come must not fill the memory."""
    monkeypatch.setattr(observe, "PENDING", 10)
    seen = fold(*(champion(f"c{n}") for n in range(15)), shadow("c0"), shadow("c14"))
    assert (seen.before.pairs, seen.dropped) == (1, 6)


def test_what_is_done_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pair with its label needs no memory: nothing is dropped however long the stream."""
    monkeypatch.setattr(observe, "PENDING", 10)
    records = [r for n in range(100) for r in (champion(f"c{n}"), shadow(f"c{n}"), Feedback(f"c{n}", 0, 1))]
    assert fold(*records).dropped == 0


def test_versions_that_name_no_prediction_are_still_guarded_for_errors() -> None:
    """A bare ONNX file has no prediction output; its failures count all the same."""
    observer = Observer(ROLLOUT, prediction_reader({}))
    observer.fold([Entry(canary("a", outcome=Outcome.ERROR), 0, Place("g", 1, 0))])
    observer.fold([Entry(Feedback("a", 0, 1), 1, Place("g", 1, 1))])
    assert observer.observed().before.trial.errors == 1


def test_a_request_whose_other_labels_do_not_come_counts_without_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """After so many entries, not after so long: a replay must come to the same."""
    monkeypatch.setattr(observe, "OPEN_ENTRIES", 10)
    *most, last = batch("a", 4)
    waiting = [champion(f"x{n}", model="other") for n in range(6)]
    assert fold(*most, *waiting).before.worse_pairs == 0
    seen = fold(*most, *waiting, *waiting, last).before
    assert seen.worse_pairs == fold(*batch("a", 4)).before.worse_pairs
    assert seen.labelled == 4


def test_values_belong_to_the_answers_that_callers_saw() -> None:
    """Drawn answers of the split, the first value of each; shadows, pinned answers and reused ids have none."""
    split = ((2, 5000),)
    seen = fold(
        champion("a", split=split),
        champion("a2", split=split),
        canary("b", split=split, rows=2, outputs={"label": [1, 1]}),
        shadow("s"),
        canary("p", split=split, reason=Reason.PINNED),
        canary("d", split=split),
        champion("d", split=split, flags=("duplicate_id",)),
        *(Feedback(request, 0, None, 3.0) for request in ("a", "b", "s", "p", "d", "unknown")),
        Feedback("b", 1, None, 9.0),
        *(Feedback("a2", 0, None, value) for value in (float("inf"), float("nan"), 1e300)),
    ).before
    assert (seen.trial_values, seen.trial_value, seen.reference_values, seen.reference_value) == (1, 3.0, 1, 3.0)
