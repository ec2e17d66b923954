"""Labels find their predictions, once, whatever the order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.journal import join as join_module
from gateway.journal.join import (
    MOST_EARLY,
    Backlog,
    Early,
    Joined,
    LabelledRow,
    Pair,
    WaitingPrediction,
    ids_of,
    join,
)
from gateway.journal.record import Entry, Feedback, Prediction, TrafficRecord
from gateway.names import Outcome, Reason, Role
from tests.journal.making import entry, label, prediction

WAIT_NS = 1000


def _read(record: Prediction) -> tuple[list[Any], list[Any] | None]:
    return record.outputs["label"], record.outputs.get("probabilities")


class Index:
    """What a join index keeps between blocks."""

    def __init__(self) -> None:
        self.known: dict[str, WaitingPrediction] = {}
        self.early: dict[str, Sequence[Early]] = {}
        self.labelled: list[LabelledRow] = []
        self.pairs: list[Pair] = []
        self.counts: dict[tuple[str, str], int] = {}

    def block(self, entries: Iterable[Entry[TrafficRecord]]) -> Joined:
        """Join one block and keep the outcome."""
        block = list(entries)
        ids = ids_of(block)
        known: Mapping[str, WaitingPrediction] = {id_: self.known[id_] for id_ in ids if id_ in self.known}
        early = {id_: self.early[id_] for id_ in ids if id_ in self.early}
        before = (msgspec.msgpack.encode(known), msgspec.msgpack.encode(early))
        joined = join(block, known, early, _read, lambda _: WAIT_NS, {"electricity": len(self.labelled)})
        assert (msgspec.msgpack.encode(known), msgspec.msgpack.encode(early)) == before  # pure
        self.known |= {one.id: one for one in joined.waiting}
        self.early = {id_: items for id_, items in {**self.early, **joined.early}.items() if items}
        self.labelled += joined.labelled
        self.pairs += joined.pairs
        for key, count in joined.counts.items():
            self.counts[key] = self.counts.get(key, 0) + count
        return joined


def _joined(*records: TrafficRecord) -> Index:
    index = Index()
    index.block(entry(record, time_ns) for time_ns, record in enumerate(records, 1))
    return index


def _shadow(id_: str, version: int = 4, says: int = 0) -> Prediction:
    return prediction(id_, role=Role.SHADOW, version=version, inputs=None, outputs={"label": [says]})


def test_a_label_joins_its_row_of_its_prediction() -> None:
    """What the monitor and the retraining read: who said what, and what was true."""
    index = _joined(
        prediction(
            "a", rows=2, inputs=[[1.0], [2.0]], outputs={"label": [0, 1], "probabilities": [[0.9, 0.1], [0, 1]]}
        ),
        label("a", value=1, row=1),
    )
    (row,) = index.labelled
    assert (row.id, row.row, row.label, row.prediction, row.probabilities, row.inputs) == ("a", 1, 1, 1, [0, 1], [2.0])
    assert (row.version, row.role, row.reason, row.ordinal) == (3, "champion", "weight", 1)
    assert (row.predicted_ns, row.labelled_ns) == (1, 2)
    assert index.counts == {("electricity", "joined"): 1}


def test_inputs_by_tensor_name_give_the_row_of_each() -> None:
    """Models without features keep their inputs by tensor."""
    index = _joined(
        prediction("a", rows=2, inputs={"x": [1, 2], "y": [[3], [4]]}, outputs={"label": [0, 1]}), label("a")
    )
    assert index.labelled[0].inputs == {"x": 1, "y": [3]}


def test_inputs_that_were_too_large_are_none() -> None:
    """The row still counts for the live figures."""
    index = _joined(prediction("a", inputs=None), label("a"))
    assert index.labelled[0].inputs is None


def test_a_label_that_came_first_waits_for_its_prediction() -> None:
    """Two processes write two spools: the order of a fast label is not the order of cause."""
    index = _joined(label("a", 1), label("a", 0), prediction("a"))
    assert [(row.label, row.labelled_ns) for row in index.labelled] == [(1, 3)]
    assert index.early == {}
    assert index.counts == {("", "unknown"): 1, ("", "duplicate"): 1, ("electricity", "joined"): 1}


def test_the_first_label_wins() -> None:
    """A client that repeats itself, or changes its mind, must not count twice."""
    index = _joined(prediction("a"), label("a", 1), label("a", 0), label("a", 1))
    assert [row.label for row in index.labelled] == [1]
    assert index.counts["electricity", "duplicate"] == 2


def test_a_late_label_is_counted_and_left_out() -> None:
    """The policy's wait bounds the index."""
    index = Index()
    index.block([entry(prediction("a"), 1), entry(prediction("b"), 1)])
    index.block([entry(label("a"), 1 + WAIT_NS), entry(label("b"), 2 + WAIT_NS)])
    assert [row.id for row in index.labelled] == ["a"]
    assert index.counts["electricity", "late"] == 1


def test_a_label_that_waited_too_long_for_its_prediction_is_late_too() -> None:
    """The index has forgotten it by then, or not: a fold must not depend on that."""
    index = Index()
    index.block([entry(label("a"), 5), entry(label("b"), 6)])
    index.block([entry(prediction("a"), 5 + WAIT_NS), entry(prediction("b"), 7 + WAIT_NS)])
    assert [row.id for row in index.labelled] == ["a"]
    assert index.counts["electricity", "late"] == 1


def test_a_row_that_does_not_exist_joins_nothing() -> None:
    """A caller's off-by-one must not shift labels."""
    index = _joined(prediction("a"), label("a", row=1), label("a", row=-1))
    assert index.labelled == []
    assert index.counts == {("electricity", "no_row"): 2}


def test_a_value_without_a_label_is_no_label() -> None:
    """Business measures are accepted; accuracy does not see them."""
    index = _joined(prediction("a"), Feedback(id="a", row=0, value=2.5), Feedback(id="b", row=0, value=1.0))
    assert index.labelled == []
    assert index.counts == {("electricity", "no_label"): 1, ("", "no_label"): 1}
    with_both = _joined(prediction("a"), Feedback(id="a", row=0, label=1, value=2.5))
    assert with_both.labelled[0].value == 2.5


def test_a_reused_id_is_never_joined() -> None:
    """Nobody can say which of the two answers the label is about."""
    index = _joined(prediction("a"), prediction("a", version=4), label("a"))
    assert index.labelled == []
    assert index.counts == {("electricity", "reused"): 1}
    flagged = _joined(label("a"), prediction("a", flags=("duplicate_id",)), label("a"))
    assert flagged.labelled == []
    assert flagged.counts == {("", "unknown"): 1, ("electricity", "reused"): 2}


def test_a_failed_run_is_no_answer() -> None:
    """The fallback's answer under the same id is the one that the client got."""
    failed = prediction("a", outcome=Outcome.ERROR, outputs={}, error="it failed")
    index = _joined(failed, prediction("a", version=2, reason=Reason.FALLBACK_VERSION), label("a"))
    assert [(row.version, row.reason) for row in index.labelled] == [(2, "fallback_version")]


def test_a_pinned_answer_is_joined_and_says_so() -> None:
    """Analysis leaves it out by its reason; the training data need not."""
    index = _joined(prediction("a", reason=Reason.PINNED), _shadow("a"), label("a"))
    assert [row.reason for row in index.labelled] == ["pinned"]
    assert index.pairs == []


def test_a_shadow_is_paired_with_the_champion_on_the_same_row() -> None:
    """Paired evidence is what lets a shadow prove itself without answering."""
    index = _joined(prediction("a"), _shadow("a", says=0), label("a", 1))
    (pair,) = index.pairs
    assert (pair.champion, pair.champion_prediction) == (3, 1)
    assert (pair.challenger, pair.challenger_role, pair.challenger_prediction, pair.label) == (4, "shadow", 0, 1)
    assert [row.version for row in index.labelled] == [3]


def test_a_shadow_that_comes_after_the_label_is_paired_too() -> None:
    """Shadow work is the first to be late."""
    late = _joined(prediction("a"), label("a"), _shadow("a"), _shadow("a"))
    first = _joined(_shadow("a"), label("a"), prediction("a"))
    assert [pair.challenger for pair in late.pairs] == [4]
    assert [pair.challenger for pair in first.pairs] == [4]


def test_an_answer_by_a_canary_is_paired_with_nobody() -> None:
    """The champion did not see that row."""
    index = _joined(prediction("a", role=Role.CANARY, version=5), _shadow("a"), label("a"))
    assert index.pairs == []
    assert [(row.version, row.role) for row in index.labelled] == [(5, "canary")]


def test_ordinals_go_on_over_blocks() -> None:
    """They are the monitor's clock."""
    index = Index()
    index.block([entry(prediction(id_), 1) for id_ in "abc"])
    index.block([entry(label("b"), 2)])
    index.block([entry(label("a"), 3), entry(label("c"), 3)])
    assert [(row.ordinal, row.id) for row in index.labelled] == [(1, "b"), (2, "a"), (3, "c")]


_ids = st.sampled_from("abc")
_records = st.one_of(
    st.builds(
        lambda id_, flag: prediction(id_, rows=2, outputs={"label": [0, 1]}, flags=flag),
        _ids,
        st.sampled_from([(), (), (), ("duplicate_id",)]),
    ),
    st.builds(_shadow, _ids, st.integers(4, 5)),
    st.builds(label, _ids, st.integers(0, 1), st.integers(0, 2)),
)


@given(st.lists(_records, max_size=25), st.lists(st.integers(1, 5), min_size=25, max_size=25))
def test_the_cut_into_blocks_changes_nothing(records: list[TrafficRecord], sizes: list[int]) -> None:
    """A restart or a slow reader cuts elsewhere: the same journal must give the same rows, pairs and counts."""
    entries = [entry(record, time_ns) for time_ns, record in enumerate(records, 1)]
    whole, cut = Index(), Index()
    whole.block(entries)
    rest = entries
    for size in sizes:
        cut.block(rest[:size])
        rest = rest[size:]
    assert cut.labelled == whole.labelled
    assert cut.pairs == whole.pairs
    assert cut.counts == whole.counts
    assert cut.known == whole.known
    assert cut.early == whole.early


def test_feedback_for_unknown_ids_is_forgotten_oldest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flood must not fill the index; what is among the newest still finds its prediction."""
    monkeypatch.setattr(join_module, "_BACKLOG_ITEMS", 400)
    unknown: list[TrafficRecord] = [label(f"u{number}") for number in range(1000)]
    records = [*unknown, prediction("u10"), prediction("u990")]
    entries = [entry(record, time_ns) for time_ns, record in enumerate(records, 1)]
    backlog = Backlog()
    joined = join(entries, {}, {}, _read, lambda _: 10**9, {}, backlog)
    assert [row.id for row in joined.labelled] == ["u990"]
    assert joined.counts["", "unknown"] == 1000
    assert len(backlog.times) == 2
    assert backlog.floor_ns > 500


def test_a_flood_for_one_unknown_id_is_kept_up_to_a_bound_and_the_rest_counted() -> None:
    """Anybody who may send feedback could otherwise make the index rewrite a list that grows without end."""
    index = Index()
    index.block(entry(label("nobody", row=row), row) for row in range(MOST_EARLY + 500))
    assert len(index.early["nobody"]) == MOST_EARLY
    assert index.counts == {("", "unknown"): MOST_EARLY, ("", "flood"): 500}
