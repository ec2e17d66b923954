"""The promises of `gateway.journal.join.JoinIndex` (those that hold without a kill)."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.journal.join import LabelledRow, WaitingPrediction
from gateway.journal.journal import START, Offset
from gateway.stores import Stores

AT = Offset(b"\x91place")


def _waiting(id_: str, time_ns: int = 1, **changes: Any) -> WaitingPrediction:
    fields: dict[str, Any] = {
        "id": id_, "model": "m", "time_ns": time_ns, "rows": 1, "contract": 3, "inputs": [[0.5, None, "x"]],
        "answers": ((3, "champion", "weight", [1], [[0.2, 0.8]]),),
    }  # fmt: skip
    return WaitingPrediction(**(fields | changes))


def _row(ordinal: int, predicted_ns: int = 1, model: str = "m") -> LabelledRow:
    return LabelledRow(
        model, ordinal, f"id-{ordinal}", 0, predicted_ns, predicted_ns + 5, 3, [0.5], 1, 3, 0, "canary", "sticky"
    )


async def test_it_starts_empty(stores: Stores) -> None:
    """A monitor without a checkpoint reads from the start."""
    assert await stores.joins.checkpoint() == (START, b"")
    assert await stores.joins.find(["a"]) == {}
    assert await stores.joins.find_feedback(["a"]) == {}
    assert await stores.joins.labelled("m", 10) == []
    assert await stores.joins.count("m") == 0


async def test_what_was_committed_is_found(stores: Stores) -> None:
    """Promise 2, as equal values; JSON-like inputs keep their types."""
    a, b = _waiting("a", labels={0: 1}), _waiting("b'%_", duplicate=True, inputs={"x": [1]})
    await stores.joins.commit(AT, b"state", [a, b], {"c": [(0, 5, "up", None), (1, 6, 1, 2.5)]}, [_row(1)])
    assert await stores.joins.checkpoint() == (AT, b"state")
    assert await stores.joins.find(["a", "b'%_", "nobody"]) == {"a": a, "b'%_": b}
    assert [tuple(item) for item in (await stores.joins.find_feedback(["c", "a"]))["c"]] == [
        (0, 5, "up", None), (1, 6, 1, 2.5),
    ]  # fmt: skip
    assert await stores.joins.labelled("m", 10) == [_row(1)]
    assert await stores.joins.count("m") == 1


async def test_a_commit_replaces_and_forgets(stores: Stores) -> None:
    """The newest value of an id is the value."""
    await stores.joins.commit(AT, b"1", [_waiting("a")], {"c": [(0, 5, 1, None)], "d": [(0, 5, 1, None)]})
    changed = _waiting("a", labels={0: 1})
    await stores.joins.commit(AT, b"2", [changed], {"c": [], "d": [(1, 5, 1, None)]})
    assert await stores.joins.find(["a"]) == {"a": changed}
    assert {id_: len(items) for id_, items in (await stores.joins.find_feedback(["c", "d"])).items()} == {"d": 1}
    assert (await stores.joins.checkpoint())[1] == b"2"


async def test_what_comes_back_is_a_copy(stores: Stores) -> None:
    """A fold that changes its own values must not change the index before it commits."""
    await stores.joins.commit(AT, b"", [_waiting("a")])
    (await stores.joins.find(["a"]))["a"].labels[0] = 1
    assert (await stores.joins.find(["a"]))["a"].labels == {}


async def test_labelled_rows_come_newest_last(stores: Stores) -> None:
    """Promise 3: windows are the newest rows, in the order of joining."""
    await stores.joins.commit(AT, b"", labelled=[_row(number, predicted_ns=100 - number) for number in (1, 2, 3)])
    await stores.joins.commit(AT, b"", labelled=[_row(4), _row(1, model="other")])
    assert [row.ordinal for row in await stores.joins.labelled("m", 2)] == [3, 4]
    assert [row.ordinal for row in await stores.joins.labelled("m", 10, since_ns=98)] == [1, 2]
    assert [await stores.joins.count(model) for model in ("m", "other")] == [4, 1]


async def test_many_ids_are_found_at_once(stores: Stores) -> None:
    """A block is about a thousand entries."""
    ids = [f"id-{number}" for number in range(2500)]
    await stores.joins.commit(AT, b"", [_waiting(id_) for id_ in ids])
    assert set(await stores.joins.find(ids[:3])) == set(ids[:3])
    assert len(await stores.joins.find(ids)) == 2500


async def test_trim_forgets_the_old_and_counts_who_waited_in_vain(stores: Stores) -> None:
    """Ordinals go on all the same."""
    waiting = [_waiting("old", 10), _waiting("old-labelled", 10, labels={0: 1}), _waiting("new", 20)]
    early = {"e-old": [(0, 10, 1, None)], "e-new": [(0, 10, 1, None), (1, 20, 1, None)]}
    await stores.joins.commit(AT, b"s", waiting, early, [_row(1, 10), _row(2, 20)])
    assert await stores.joins.trim(waiting_before_ns=20, labelled_before_ns=20) == 1
    assert set(await stores.joins.find(["old", "old-labelled", "new"])) == {"new"}
    assert set(await stores.joins.find_feedback(["e-old", "e-new"])) == {"e-new"}
    assert [row.ordinal for row in await stores.joins.labelled("m", 10)] == [2]
    await stores.joins.trim(100, 100)
    assert await stores.joins.count("m") == 2
    assert await stores.joins.checkpoint() == (AT, b"s")


async def test_trim_forgets_a_flood_of_early_feedback_alone(stores: Stores) -> None:
    """Predictions of the same age go on waiting."""
    early = {f"u{number}": [(0, number, 1, None)] for number in range(10)}
    await stores.joins.commit(AT, b"s", [_waiting("a", 3)], early)
    assert await stores.joins.trim(0, 0, early_before_ns=7) == 0
    assert set(await stores.joins.find_feedback(list(early))) == {"u7", "u8", "u9"}
    assert set(await stores.joins.find(["a"])) == {"a"}


async def test_a_body_that_can_not_be_kept_changes_nothing(stores: Stores) -> None:
    """Promise 1 without a kill."""
    await stores.joins.commit(AT, b"1", [_waiting("a")])
    with pytest.raises(TypeError):
        await stores.joins.commit(Offset(b"\x91further"), b"2", [_waiting("b"), _waiting("c", inputs=object())])
    assert await stores.joins.checkpoint() == (AT, b"1")
    assert await stores.joins.find(["b"]) == {}
