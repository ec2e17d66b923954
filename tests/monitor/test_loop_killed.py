"""The loop killed at every point of its work: started again, it ends where an uninterrupted one does."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import msgspec

from gateway.documents.alert import Monitoring
from gateway.journal.join import LabelledRow
from gateway.journal.journal import START
from gateway.journal.record import Alert, Feedback, TrafficRecord
from gateway.stores.stores import Stores
from tests.monitor.stream import MODEL, answered, sea
from tests.monitor.test_loop import Place, drain


class Killed(BaseException):
    """kill -9."""


class Gate:
    """Counts what the loop asks of the world, and kills it at one of these calls, before it is made."""

    def __init__(self, deadly: int = 0) -> None:
        self.calls: list[str] = []
        self.deadly = deadly

    def pass_through(self, name: str) -> None:
        self.calls.append(name)
        if len(self.calls) == self.deadly:
            raise Killed(name)


class Through:
    """A port whose every call goes through a gate."""

    def __init__(self, port: Any, name: str, gate: Gate) -> None:
        self._port, self._name, self._gate = port, name, gate

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._port, name)
        gate, said = self._gate, f"{self._name}.{name}"
        if inspect.iscoroutinefunction(found):

            async def asked(*words: Any, **more: Any) -> Any:
                gate.pass_through(said)
                return await found(*words, **more)

            return asked

        def told(*words: Any, **more: Any) -> Any:
            gate.pass_through(said)
            return found(*words, **more)

        return told


def records() -> list[TrafficRecord]:
    """Answers with labels twelve rows later, all of them wrong from row 40 on, and one label before its prediction."""
    rows, labels = sea(90, 90, seed=4)
    found: list[TrafficRecord] = [Feedback("r50", 0, 1)]
    for number, row in enumerate(rows):
        found.append(answered(number, row))
        late = number - 12
        if late >= 0:
            found.append(Feedback(f"r{late}", 0, labels[late] if late < 40 else 1 - _said(rows[late])))
    return found


def _said(row: Sequence[float]) -> int:
    return int(answered(0, row).outputs["label"][0])


class Ended(NamedTuple):
    """What a run left behind."""

    checkpoint: tuple[bytes, bytes]
    alerts: list[Alert]
    rows: list[LabelledRow]
    monitoring: dict[str, Any]
    repeats: int


async def run(directory: Path, gate: Gate) -> Ended:
    """Run a loop through the gate; when it is killed, another one without a gate to the end."""
    place = Place(directory)
    await place.policy(false_alarm_every_events=1000)
    await place.publish()
    place.write(records())
    stores, through = place.stores, cast("Any", Through(place.control, "control", gate))
    gated = Stores(
        Through(stores.config, "config", gate),
        Through(stores.registry, "registry", gate),
        Through(stores.traffic, "traffic", gate),
        stores.control,
        Through(stores.joins, "joins", gate),
        stores.open_tee,
        stores.close,
    )
    place.control = through
    try:
        await drain(place.loop(gated, block=50))
    except Killed:
        place.control = stores.open_tee("control", "monitor")
        await drain(place.loop(block=50))
    place.clock.advance(2.0)
    await place.loop().step()
    batch = await stores.control.read(START, 1000)
    written = [entry.record for entry in batch.entries if isinstance(entry.record, Alert)]
    monitoring: Monitoring = await place.monitoring()
    return Ended(
        await stores.joins.checkpoint(),
        list({alert.id: alert for alert in written}.values()),
        list(await stores.joins.labelled(MODEL, 1000)),
        msgspec.to_builtins(msgspec.structs.replace(monitoring, time=0.0)),
        len(written) - len({alert.id for alert in written}),
    )


async def test_killed_anywhere_it_ends_where_an_uninterrupted_run_does(tmp_path: Path) -> None:
    """State, alerts, labelled rows and the document: nothing lost, nothing twice."""
    gate = Gate()
    expected = await run(tmp_path / "whole", gate)
    assert [alert.kind for alert in expected.alerts] == ["concept_drift"]
    assert {"control.offer", "control.flush", "joins.commit", "config.put", "registry.fetch"} <= set(gate.calls)
    assert gate.calls.count("joins.commit") == 4
    for point, name in enumerate(gate.calls, start=1):
        ended = await run(tmp_path / str(point), Gate(point))
        assert ended._replace(repeats=0) == expected, f"killed before call {point}, {name}"


async def test_between_an_alert_and_its_commit_the_alert_is_written_again_under_its_id(tmp_path: Path) -> None:
    """Readers skip the repeat; behind the commit there is none."""
    gate = Gate()
    await run(tmp_path / "whole", gate)
    commit = gate.calls.index("joins.commit", gate.calls.index("control.flush"))
    assert (await run(tmp_path / "before", Gate(commit + 1))).repeats == 1
    assert (await run(tmp_path / "behind", Gate(commit + 2))).repeats == 0
