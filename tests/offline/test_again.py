"""A recorded request for another version: its columns by name, or the reason why not."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from gateway.documents.policy import Inputs
from gateway.execution.contract import Contract, Prepared
from gateway.journal.record import Prediction
from gateway.names import Outcome, Reason, Role
from gateway.offline.again import Requests, Why
from gateway.registry.manifest import Feature
from tests.offline.making import MODEL, manifest


def record(inputs: Any, contract: int = 1) -> Prediction:
    return Prediction(
        "r", MODEL, contract, Role.CHAMPION, Reason.WEIGHT, 1, Outcome.OK, 5, 1, contract, inputs, {}
    )  # fmt: skip


OLD = replace(manifest(), number=1, features=tuple(Feature(name=n, input="X", position=p) for p, n in enumerate("zba")))
NEW = replace(manifest(), number=2)


def prepare(inputs: Any, contract: int = 1, redacted: tuple[str, ...] = (), **handling: Any) -> Prepared | Why:
    requests = Requests(Contract(NEW, Inputs(**handling)), {1: OLD, 2: NEW}, redacted)
    return requests.prepare(record(inputs, contract))


def test_columns_are_found_by_their_names() -> None:
    """The version of the record had others, in another order."""
    found = prepare([[9.0, 2.0, 1.0], [9.0, None, 3.0]])
    assert isinstance(found, Prepared)
    assert found.values == [[1.0, 2.0], [3.0, None]]


@pytest.mark.parametrize(
    ("inputs", "contract", "redacted", "why"),
    [
        (None, 1, (), Why.DIGEST_ONLY),
        ([[9.0, None, 1.0]], 1, ("b",), Why.REDACTED),
        ([[9.0, 2.0, 1.0]], 7, (), Why.CONTRACT_GONE),
        ([[9.0, 2.0, None]], 1, (), Why.REJECTED),
        ([[9.0, 2.0, "text"]], 1, (), Why.REJECTED),
        ({"X": [[1.0, 2.0]]}, 1, (), Why.REJECTED),
    ],
)
def test_what_can_not_be_replayed_has_its_reason(inputs: Any, contract: int, redacted: Any, why: Why) -> None:
    assert prepare(inputs, contract, redacted) is why


def test_a_redacted_feature_that_was_written_before_the_policy_is_there() -> None:
    assert isinstance(prepare([[9.0, 2.0, 1.0]], redacted=("b", "z")), Prepared)


def test_a_version_that_needs_more_than_was_sent_is_not_replayed() -> None:
    needs = replace(NEW, features=(*NEW.features[:1], Feature(name="new", input="X", position=1)))
    requests = Requests(Contract(needs, Inputs()), {1: OLD}, ())
    assert requests.prepare(record([[9.0, 2.0, 1.0]])) is Why.CONTRACT_MISMATCH
