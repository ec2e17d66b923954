"""The loop against stores in memory: alerts before the checkpoint, exactly once in effect, summaries, webhooks."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.clock import ManualClock
from gateway.documents.alert import Monitoring
from gateway.documents.policy import MonitoringPolicy, Policy, Webhook
from gateway.documents.store import ABSENT, monitoring_name, policy_name
from gateway.errors import DocumentNotFound, JournalUnavailable
from gateway.journal.journal import START
from gateway.journal.record import Alert, Feedback, Prediction, TrafficRecord
from gateway.monitor.loop import MonitorLoop, cells_of, gather_seconds, next_block
from gateway.monitor.state import read_state
from gateway.monitor.terms import rate_of
from gateway.names import ModelName
from gateway.registry.package import write_package
from gateway.registry.reference import encode_reference
from gateway.stores.memory import connect_memory
from gateway.stores.stores import Stores
from tests.monitor.stream import MODEL, REFERENCE, manifest, placed, sea, traffic

NAME = ModelName(MODEL)


class Place:
    """Stores in memory with one published version, and the pieces of a loop on them."""

    def __init__(self, directory: Path) -> None:
        self.clock = ManualClock()
        self.stores: Stores = connect_memory(self.clock)
        self.traffic = self.stores.open_tee("traffic", "serving")
        self.control = self.stores.open_tee("control", "monitor")
        self.directory = directory
        self.posted: list[tuple[str, bytes]] = []

    async def publish(self, reference: bytes | None = None) -> None:
        body = encode_reference(REFERENCE) if reference is None else reference
        write_package(self.directory / "package", b"onnx", manifest(0), body or None)
        await self.stores.registry.publish(self.directory / "package")

    async def policy(self, **monitoring: Any) -> None:
        policy = Policy(model=MODEL, monitoring=MonitoringPolicy(detectors=("panel",), **monitoring))
        await self.stores.config.put(policy_name(NAME), policy.encode(), ABSENT)

    def loop(self, stores: Any = None, **more: Any) -> MonitorLoop:
        fields: dict[str, Any] = {"post": self.post, "block": 64, **more}
        return MonitorLoop(stores or self.stores, self.clock, self.control, self.directory / "cache", **fields)

    async def post(self, url: str, body: bytes) -> None:
        self.posted.append((url, body))

    def write(self, records: Sequence[TrafficRecord]) -> None:
        for record in records:
            self.clock.advance(0.01)
            self.traffic.offer(record)
            self.traffic.flush()

    async def alerts(self) -> list[Alert]:
        batch = await self.stores.control.read(START, 1000)
        return [entry.record for entry in batch.entries if isinstance(entry.record, Alert)]

    async def monitoring(self) -> Monitoring:
        return msgspec.json.decode((await self.stores.config.get(monitoring_name(NAME))).body, type=Monitoring)


async def drain(loop: MonitorLoop) -> int:
    total = 0
    while count := await loop.step():
        total += count
    return total


@pytest.fixture
async def place(tmp_path: Path) -> Place:
    made = Place(tmp_path)
    await made.policy(false_alarm_every_events=1000, alerts=(Webhook(webhook="http://hook.test/a"),))
    return made


def drifting() -> list[TrafficRecord]:
    rows, labels = sea(500, 200)
    return list(traffic(rows, labels))


def answers(count: int) -> list[Prediction]:
    rows, _ = sea(count, count, seed=5)
    return [one for one in traffic(rows) if isinstance(one, Prediction)]


async def test_traffic_becomes_alerts_labelled_rows_and_a_summary(place: Place) -> None:
    await place.publish()
    records = drifting()
    place.write(records)
    loop = place.loop()
    assert await drain(loop) == len(records)
    alerts = await place.alerts()
    assert [alert.kind for alert in alerts] == ["concept_drift"] * len(alerts)
    assert await place.stores.joins.count(MODEL) == 452
    place.clock.advance(1.0)
    await loop.step()
    shown = await place.monitoring()
    assert shown.monitored
    assert shown.labels["joined"] == 452
    assert [one["id"] for one in shown.alerts] == [alert.id for alert in reversed(alerts)]
    assert shown.live[0].rolling["accuracy"] < 0.9


async def test_a_loop_started_again_goes_on_where_the_last_one_committed(place: Place) -> None:
    """A new loop for every block folds each record once, and says what an uninterrupted one says."""
    await place.publish()
    place.write(drifting())
    folded = [await place.loop().step() for _ in range(20)]
    assert sum(folded) == len(drifting())
    cut = [alert.id for alert in await place.alerts()]
    assert len(set(cut)) == len(cut) > 0
    again = Place(place.directory / "again")
    await again.policy(false_alarm_every_events=1000, alerts=(Webhook(webhook="http://hook.test/a"),))
    await again.publish()
    again.write(drifting())
    await drain(again.loop(block=1000))
    assert cut == [alert.id for alert in await again.alerts()]
    assert (await place.stores.joins.checkpoint()) == (await again.stores.joins.checkpoint())
    assert (await place.stores.joins.labelled(MODEL, 1000)) == (await again.stores.joins.labelled(MODEL, 1000))


async def test_a_loop_started_again_shows_versions_that_answer_no_more(place: Place) -> None:
    """After a restart the traffic names only the versions of today; the figures of yesterday's are shown as before."""
    await place.publish()
    place.write(drifting())
    first = place.loop()
    await drain(first)
    place.clock.advance(1.0)
    await first.step()
    before = (await place.monitoring()).live
    place.write([msgspec.structs.replace(one, id=f"new-{one.id}", version=2, contract=2) for one in answers(3)])
    second = place.loop()
    await drain(second)
    place.clock.advance(1.0)
    await second.step()
    shown = {one.version: one for one in (await place.monitoring()).live}
    assert [shown[1]] == before
    assert "f1" in shown[1].rolling
    assert shown[2].predictions == 3


async def test_an_alert_that_can_not_be_written_holds_the_checkpoint(place: Place) -> None:
    """A full disk may delay an alert, never lose it."""
    await place.publish()
    place.write(drifting())
    place.control.close()
    loop = place.loop()
    with pytest.raises(JournalUnavailable):
        await drain(loop)
    place.control = place.stores.open_tee("control", "monitor")
    await drain(place.loop())
    assert len(await place.alerts()) >= 1


async def test_alerts_are_posted_and_a_hook_that_fails_is_tried_again(place: Place) -> None:
    await place.publish()
    place.write(drifting())
    tries: list[str] = []
    arrived = asyncio.Event()

    async def post(url: str, body: bytes) -> None:
        tries.append(url)
        if len(tries) < 3:
            raise OSError("nobody listens")
        place.posted.append((url, body))
        arrived.set()

    await drain(place.loop(post=post))
    await asyncio.wait_for(arrived.wait(), 5)
    url, body = place.posted[0]
    assert url == "http://hook.test/a"
    event = msgspec.json.decode(body)
    assert (event["specversion"], event["type"], event["subject"]) == ("1.0", "gateway.alert.raised", "sea@1")
    assert event["data"]["kind"] == "concept_drift"
    assert event["id"] == event["data"]["id"]


async def test_without_traffic_there_is_no_summary_and_no_work(place: Place) -> None:
    assert await place.loop().step() == 0
    with pytest.raises(DocumentNotFound):
        await place.monitoring()


async def test_summaries_are_written_at_most_once_a_second(place: Place) -> None:
    """The config store is on a disk; a busy stream must not write it for every block."""
    await place.publish()
    place.write(drifting())
    loop = place.loop()
    await loop.step()
    first = (await place.stores.config.get(monitoring_name(NAME))).revision
    await drain(loop)
    assert (await place.stores.config.get(monitoring_name(NAME))).revision == first
    place.clock.advance(1.0)
    await loop.step()
    assert (await place.stores.config.get(monitoring_name(NAME))).revision > first


async def test_a_summary_is_written_over_the_one_of_another_run(place: Place) -> None:
    await place.publish()
    await place.stores.config.put(monitoring_name(NAME), b"{}", ABSENT)
    place.write(drifting()[:20])
    await place.loop().step()
    assert (await place.monitoring()).predictions == 20


@pytest.mark.parametrize("reference", [b"", b"{broken"])
async def test_a_missing_or_broken_reference_is_not_monitored_and_stops_nothing(
    tmp_path: Path, reference: bytes
) -> None:
    place = Place(tmp_path)
    if reference:
        await place.publish(reference)
    else:
        write_package(tmp_path / "package", b"onnx", manifest(0))
        await place.stores.registry.publish(tmp_path / "package")
    place.write(drifting()[:100])
    await drain(place.loop(block=1000))
    assert (await place.stores.joins.count(MODEL)) > 0
    assert (await place.monitoring()).note == "not monitored: no reference"


async def test_it_runs_until_told_to_stop_and_then_tells_the_last_figures(place: Place) -> None:
    await place.publish()
    stop = asyncio.Event()
    running = asyncio.create_task(place.loop().run(stop))
    records = drifting()
    place.write(records[:200])

    async def labelled(count: int) -> None:
        while await place.stores.joins.count(MODEL) < count:  # noqa: ASYNC110 - the loop's own progress
            await asyncio.sleep(0)

    await asyncio.wait_for(labelled(70), 10)
    place.write(records[200:])
    await asyncio.wait_for(labelled(452), 10)
    stop.set()
    await asyncio.wait_for(running, 10)
    assert (await place.monitoring()).labels["joined"] == 452


async def test_a_store_that_fails_is_tried_again(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """A full disk is no reason to stop watching: the loop outlives it."""
    await place.publish()
    place.write(drifting())
    place.control.close()
    stop = asyncio.Event()
    loop = place.loop()
    running = asyncio.create_task(loop.run(stop))

    async def failed_twice() -> None:
        while caplog.text.count("tries again") < 2:  # noqa: ASYNC110 - the loop's own progress
            await asyncio.sleep(0)

    await asyncio.wait_for(failed_twice(), 10)
    assert not running.done()
    stop.set()
    await asyncio.wait_for(running, 10)


async def test_a_monitor_that_falls_behind_samples_says_so_and_joins_every_label(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    """Detectors see a part from the next block on; what was counted and joined is the same as ever."""
    await place.publish()
    records = drifting()
    place.write(records)
    lags = iter(range(0, 1000, 2))

    class Slow:
        """A stream whose newest record runs away."""

        def __init__(self, traffic: Any) -> None:
            self.read = traffic.read

        async def lag_seconds(self, _: bytes) -> float:
            return float(next(lags))

    object.__setattr__(place.stores, "traffic", Slow(place.stores.traffic))
    loop = place.loop()
    while await loop.step():
        place.clock.advance(1.0)
    state = read_state((await place.stores.joins.checkpoint())[1])
    rates = [term.rate for term in state.terms if not term.model]
    assert rates[:2] == [0.5, 0.25]
    shown = await place.monitoring()
    assert (shown.sampled, shown.sampling_rate) == (True, rates[-1])
    assert shown.predictions == 500
    assert shown.labels["joined"] == 452
    assert shown.live[0].labelled < 400
    assert caplog.text.count("detectors see") >= len(rates)
    assert rate_of(state.terms) == (await _resumed_rate(place))


async def _resumed_rate(place: Place) -> float:
    """The rate at which a loop goes on that is started now."""
    place.clock.advance(1.0)
    await place.loop().step()
    return (await place.monitoring()).sampling_rate


def test_small_blocks_leave_the_core_to_others_most_of_the_time() -> None:
    """A hundred requests a second are no reason to commit a hundred times a second."""
    assert gather_seconds(0.004) == pytest.approx(0.012)
    assert gather_seconds(0.06) == pytest.approx(0.04)
    assert gather_seconds(0.5) == 0.0


def test_a_block_grows_while_the_loop_is_behind_and_shrinks_when_records_are_large() -> None:
    """A backlog is folded in few steps; wide records of many rows must not fill the memory."""
    assert next_block(500, 4000, entries=500, cells=20_000) == 1000
    assert next_block(3000, 4000, entries=3000, cells=20_000) == 4000
    assert next_block(500, 4000, entries=499, cells=20_000) == 500
    assert next_block(500, 4000, entries=500, cells=300_000) == 500
    assert next_block(500, 4000, entries=500, cells=10**6) == 250
    assert next_block(1, 4000, entries=1, cells=10**6) == 1


def test_the_values_of_a_block_are_counted_whatever_their_shape() -> None:
    """Inputs may be rows, tensors by name, or left out because they were too large."""
    made = answers(3)
    shapes: list[Any] = [{"x": [[1]]}, None, []]
    records = [made[0], *(msgspec.structs.replace(made[1], inputs=one) for one in shapes)]
    two = msgspec.structs.replace(made[2], inputs=[[1, 2, 3], [4, 5, 6]])
    assert cells_of(placed([*records, two, Feedback("r0", 0, 1)])) == 3 + 6
