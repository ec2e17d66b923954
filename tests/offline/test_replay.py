"""A version over journaled traffic: what it would have said, beside what was said, on rows it has not seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gateway.errors import InvalidConfig
from gateway.journal.record import Feedback, Prediction
from gateway.names import Outcome, Reason, Role
from gateway.offline.replay import Report, replay
from tests.offline.making import MODEL, Office, inline

SECOND = 1_000_000_000


class Traffic:
    """Writes requests into the journal: the champion says 1 where `a` is above 5."""

    def __init__(self, office: Office) -> None:
        self.office = office
        self.tee = office.stores.open_tee("traffic", "w0")
        self.asked = 0

    def ask(self, a: float, label: int | None = None, wait: float = 1.0, **fields: Any) -> str:
        """One request, its label `wait` seconds later."""
        self.asked += 1
        given: dict[str, Any] = {
            "id": f"r{self.asked}",
            "model": MODEL,
            "version": 1,
            "role": Role.CHAMPION,
            "reason": Reason.WEIGHT,
            "revision": 1,
            "outcome": Outcome.OK,
            "latency_us": 100,
            "rows": 1,
            "contract": 1,
            "inputs": [[a, 1.0]],
            "outputs": {"label": [int(a > 5)], "probabilities": [[0.1, 0.9] if a > 5 else [0.9, 0.1]]},
        }
        record = Prediction(**(given | fields))
        self.write(record)
        self.office.clock.advance(wait)
        if label is not None:
            self.write(Feedback(id=record.id, row=0, label=label))
        return record.id

    def write(self, record: Any) -> None:
        self.tee.offer(record)
        assert self.tee.flush()


async def replayed(office: Office, number: int | None = 2, **fields: Any) -> Report:
    stores = office.stores
    since_ns, limit = fields.pop("since_ns", None), fields.pop("limit", None)
    return await replay(
        stores.config, stores.registry, stores.traffic, MODEL, number, since_ns, limit, lambda *_: None, inline
    )


@pytest.fixture
async def traffic(office: Office) -> Traffic:
    """Version 1 serves; version 2 says 1 above 3, which is the truth of the labels below."""
    await office.publish(limit=5.0)
    await office.publish(limit=3.0)
    await office.serve(1, monitoring={"slices": ["b"]})
    return Traffic(office)


async def test_a_version_beside_the_champion_on_the_same_rows(office: Office, traffic: Traffic) -> None:
    for number in range(300):
        a = number % 10
        traffic.ask(a, label=int(a > 3), inputs=[[float(a), float(number % 4)]])
    found = await replayed(office)
    comparison = found.comparison
    assert (found.requests, found.replayed, found.rows, found.failed) == (300, 300, 300, 0)
    assert comparison.flips == [("0", "1", 60)]
    assert comparison.agreement is not None
    assert comparison.agreement.value == 0.8
    assert (comparison.own["accuracy"].value, comparison.other["accuracy"].value) == (1.0, 0.8)
    assert comparison.own["log_loss"].value == pytest.approx(0.10536, abs=1e-4)
    assert comparison.paired is not None
    assert (comparison.paired.better, comparison.paired.worse) == (60, 0)
    assert comparison.paired.difference.high < 0
    assert found.champions == {"m@1": 300}
    times = (found.run_time, found.champion_run_time, found.journaled_run_time)
    assert [(one.requests, one.p50) for one in times if one is not None] == [(300, 10.0), (300, 10.0), (300, 100.0)]


async def test_labels_join_as_the_monitor_joins_them(office: Office, traffic: Traffic) -> None:
    """The first of several; none that is late, before a second answer, or of a failed run."""
    first = traffic.ask(9, label=1)
    traffic.write(Feedback(id=first, row=0, label=0))  # the second label of this row
    traffic.ask(9, label=1, wait=8 * 86400.0)  # later than labels.wait
    traffic.ask(9, id="twice")
    traffic.ask(9, id="twice", label=1)
    traffic.ask(9, label=1, flags=("duplicate_id",))
    traffic.ask(9, label=1, outcome=Outcome.ERROR)
    traffic.ask(9, label=1, role=Role.SHADOW, version=2)
    traffic.write(Feedback(id="early", row=0, label=0))
    traffic.ask(9, id="early")
    found = await replayed(office)
    assert (found.requests, found.comparison.labelled) == (6, 2)
    assert found.comparison.own["accuracy"].value == 0.5


async def test_rows_it_was_trained_on_are_in_no_figure_with_labels(office: Office, traffic: Traffic) -> None:
    """Else the version that has learned them by heart would look best."""
    for _ in range(4):
        traffic.ask(9, label=1)
    await office.publish(limit=4.0, trained_until_ns=int(office.clock.now() * SECOND))
    traffic.ask(9, label=1)
    found = await replayed(office, number=3)
    assert (found.trained, found.comparison.labelled, found.comparison.rows) == (4, 1, 5)


async def test_answers_of_others_are_in_the_agreement_alone(office: Office, traffic: Traffic) -> None:
    traffic.ask(4, label=1)
    traffic.ask(4, label=1, role=Role.CANARY, version=2, outputs={"label": [1], "probabilities": [[0.1, 0.9]]})
    traffic.ask(4, label=1, reason=Reason.PINNED)
    traffic.ask(4, label=1, version=0, reason=Reason.FALLBACK_VALUE, outputs={"label": [0]})
    found = await replayed(office)
    assert found.comparison.paired is not None
    assert (found.comparison.rows, found.comparison.labelled, found.comparison.paired.rows) == (3, 4, 1)
    assert found.journaled_run_time is not None
    assert found.journaled_run_time.requests == 2


async def test_what_could_not_be_replayed_is_counted_by_its_reason(office: Office, traffic: Traffic) -> None:
    traffic.ask(9)
    traffic.ask(9, inputs=None, inputs_digest="d")
    traffic.ask(9, contract=7)
    traffic.ask(9, inputs=[[None, 1.0]])
    found = await replayed(office)
    assert found.not_replayed == {"digest_only": 1, "contract_gone": 1, "rejected": 1}
    assert (found.requests, found.replayed) == (4, 1)


@pytest.mark.parametrize(
    ("choice", "count"),
    [(lambda _: {"limit": 3}, 3), (lambda _: {"limit": 50}, 10), (lambda now: {"since_ns": now - 4 * SECOND}, 4)],
)
async def test_only_the_newest_or_only_since(
    office: Office, traffic: Traffic, choice: Callable[[int], dict[str, int]], count: int
) -> None:
    for number in range(10):
        traffic.ask(9 if number >= 6 else 1, label=1)
    found = await replayed(office, **choice(int(office.clock.now() * SECOND)))
    assert found.requests == count


async def test_the_champion_itself_agrees_everywhere(office: Office, traffic: Traffic) -> None:
    """The same version on the same inputs says what it said."""
    for number in range(30):
        traffic.ask(number % 10, label=number % 2)
    found = await replayed(office, number=None)
    assert (found.version, found.comparison.flips, found.champion_run_time) == (1, [], None)
    assert found.comparison.own["accuracy"] == found.comparison.other["accuracy"]
    assert found.comparison.own["f1"] == found.comparison.other["f1"]


async def test_a_version_without_a_prediction_is_refused(office: Office) -> None:
    await office.publish(prediction=None)
    with pytest.raises(InvalidConfig, match="does not say which output"):
        await replayed(office, number=1)
