"""The loop against stores in memory: alerts before the checkpoint, exactly once in effect, summaries, webhooks."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.clock import ManualClock
from gateway.documents.alert import Monitoring
from gateway.documents.policy import MonitoringPolicy, Policy, Webhook
from gateway.documents.store import ABSENT, monitoring_name, policy_name
from gateway.errors import DocumentNotFound, JournalUnavailable
from gateway.journal.join import Early, LabelledRow, WaitingPrediction
from gateway.journal.journal import START, Offset
from gateway.journal.record import Alert, Prediction, TrafficRecord
from gateway.monitor.loop import MonitorLoop
from gateway.names import ModelName
from gateway.registry.package import write_package
from gateway.registry.reference import encode_reference
from gateway.stores.memory import connect_memory
from gateway.stores.stores import Stores
from tests.monitor.stream import MODEL, REFERENCE, manifest, sea, traffic

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
    """Stopping and starting in the middle gives the alerts of an uninterrupted run, each once."""
    await place.publish()
    place.write(drifting())
    for _ in range(5):
        await place.loop().step()
    await drain(place.loop())
    cut = [alert.id for alert in await place.alerts()]
    again = Place(place.directory / "again")
    await again.policy(false_alarm_every_events=1000)
    await again.publish()
    again.write(drifting())
    await drain(again.loop())
    assert cut == [alert.id for alert in await again.alerts()]
    assert len(set(cut)) == len(cut)


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


class DyingIndex:
    """A join index whose process is killed just before the commit of a block with an alert."""

    def __init__(self, joins: Any, control: Any) -> None:
        self._joins, self._control = joins, control
        self.died = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._joins, name)

    async def commit(
        self,
        offset: Offset,
        state: bytes,
        waiting: Sequence[WaitingPrediction] = (),
        early: Mapping[str, Sequence[Early]] = {},
        labelled: Sequence[LabelledRow] = (),
    ) -> None:
        if not self.died and (await self._control.read(START, 10)).entries:
            self.died = True
            raise KeyboardInterrupt
        await self._joins.commit(offset, state, waiting, early, labelled)


async def test_killed_between_alert_and_commit_it_raises_no_second_alert(place: Place) -> None:
    """The repeat has the same id, so readers skip it; labels are joined once all the same."""
    await place.publish()
    place.write(drifting())
    stores = Stores(
        place.stores.config,
        place.stores.registry,
        place.stores.traffic,
        place.stores.control,
        DyingIndex(place.stores.joins, place.stores.control),
        place.stores.open_tee,
        place.stores.close,
    )
    with pytest.raises(KeyboardInterrupt):
        await drain(place.loop(stores))
    before = await place.alerts()
    assert len(before) == 1
    await drain(place.loop(stores))
    after = await place.alerts()
    assert after[1] == before[0]
    assert len({alert.id for alert in after}) == len(after) - 1
    assert await place.stores.joins.count(MODEL) == 452


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
