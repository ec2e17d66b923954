"""Alerts recomputed from the journal: the same as those that were raised, and what differs is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.documents.alert import Monitoring
from gateway.documents.policy import MonitoringPolicy, Policy
from gateway.documents.store import policy_name
from gateway.journal.record import Alert
from gateway.monitor.replay import Compared, Fired, Replay, State, compare, replay
from gateway.monitor.sampling import Pace
from gateway.names import Role
from gateway.stores.memory import connect_memory
from tests.monitor.stream import MODEL
from tests.monitor.test_loop import NAME, Place, drain, drifting


@pytest.fixture
async def place(tmp_path: Path) -> Place:
    made = Place(tmp_path)
    await made.policy(false_alarm_every_events=1000, cooldown_labels=40)
    await made.publish()
    return made


async def replayed(place: Place, **words: Any) -> Replay:
    scratch = connect_memory(place.clock)
    return await replay(place.stores, scratch.joins, place.directory / "scratch", **words)


def states(done: Replay) -> list[State]:
    return [one.state for one in done.alerts]


def alert(id_: str) -> Alert:
    return Alert(id_, MODEL, 1, Role.CHAMPION, "data_drift", "panel", 2.0, 1.0, "low", "moved")


async def test_the_journal_alone_gives_the_alerts_and_the_figures_of_the_monitor(place: Place) -> None:
    place.write(drifting())
    loop = place.loop()
    await drain(loop)
    place.clock.advance(1.0)
    await loop.step()
    done = await replayed(place)
    assert states(done) == [State.SAME] * len(await place.alerts())
    assert done.alerts
    assert not done.differs
    assert done.policies == {MODEL: "as it was"}
    shown = await place.monitoring()
    [found] = done.monitoring
    read = msgspec.json.decode(msgspec.json.encode(found), type=Monitoring)
    assert msgspec.structs.replace(read, time=shown.time, offset=shown.offset, lag_seconds=shown.lag_seconds) == shown


async def test_an_alert_that_nobody_wrote_down_or_that_the_journal_does_not_give_is_a_difference(place: Place) -> None:
    place.write(drifting())
    await drain(place.loop())
    place.control.offer(alert("made-up"))
    place.control.flush()
    written = place.stores.control

    class Forgetful:
        """A control stream that has lost its first alert."""

        async def read(self, after: Any, limit: int) -> Any:
            batch = await written.read(after, limit)
            return msgspec.structs.replace(batch, entries=[e for e in batch.entries if e.record.id != first.id])

    [first, *_] = await place.alerts()
    object.__setattr__(place.stores, "control", Forgetful())
    done = await replayed(place)
    assert done.differs
    by_id = {one.alert.id: one.state for one in done.alerts}
    assert by_id[first.id] is State.MISSING
    assert by_id["made-up"] is State.EXTRA


async def test_a_period_and_a_model_are_cut_out_and_the_rest_is_folded_all_the_same(place: Place) -> None:
    """The state before a period decides what happens in it."""
    place.write(drifting())
    await drain(place.loop())
    [first, *others] = (await replayed(place)).alerts
    assert others
    ns = int(first.time * 1e9) + 1000
    assert list((await replayed(place, since_ns=ns)).alerts) == others
    assert list((await replayed(place, until_ns=ns)).alerts) == [first]
    assert (await replayed(place, model="other")).alerts == ()


async def test_each_stretch_is_folded_on_the_policy_that_was_in_force(place: Place) -> None:
    """With the policy of today the replay would find alerts that a tolerant policy did not raise."""
    await _set_policy(place, error_tolerance=0.9)
    place.write(drifting()[:700])
    await drain(place.loop())
    assert await place.alerts() == []
    await _set_policy(place, error_tolerance=0.01)
    place.write(drifting()[700:])
    await drain(place.loop())
    done = await replayed(place)
    assert done.alerts
    assert not done.differs


async def _set_policy(place: Place, **monitoring: Any) -> None:
    watched = MonitoringPolicy(detectors=("panel",), false_alarm_every_events=1000, **monitoring)
    name = policy_name(NAME)
    revision = (await place.stores.config.get(name)).revision
    await place.stores.config.put(name, Policy(model=MODEL, monitoring=watched).encode(), revision)


async def test_each_stretch_is_folded_at_the_rate_that_was_in_force(place: Place) -> None:
    place.write(drifting()[:400])
    loop = place.loop()
    await drain(loop)
    loop._pace = Pace(rate=0.25)
    place.write(drifting()[400:])
    await drain(loop)
    done = await replayed(place)
    assert done.rates == (1.0, 0.25)
    assert not done.differs
    assert done.alerts
    [document] = done.monitoring
    assert (document.sampled, document.sampling_rate) == (True, 0.25)
    assert document.labels["joined"] == 452


async def test_what_the_monitor_has_not_folded_yet_is_no_difference(place: Place) -> None:
    place.write(drifting())
    await place.loop(block=100).step()
    done = await replayed(place)
    assert set(states(done)) == {State.COMING}
    assert not done.differs


async def test_without_terms_the_stored_policy_is_used_and_the_replay_says_so(place: Place) -> None:
    """A checkpoint of an earlier release has none."""
    place.write(drifting())
    await drain(place.loop())
    offset, body = await place.stores.joins.checkpoint()
    bare = {key: value for key, value in msgspec.msgpack.decode(body).items() if key != "terms"}
    await place.stores.joins.commit(offset, msgspec.msgpack.encode(bare))
    done = await replayed(place)
    assert done.policies == {MODEL: "as it is stored now; the checkpoint has none"}
    assert not done.differs


async def test_the_journal_that_is_left_after_a_trim_is_folded_from_its_beginning(place: Place) -> None:
    """Alerts older than that can not be judged."""
    place.write(drifting()[:600])
    await drain(place.loop())
    written = await place.alerts()
    await place.stores.traffic.trim(await place.stores.traffic.end())
    place.write(drifting()[600:])
    await drain(place.loop())
    done = await replayed(place)
    assert [one.alert.id for one in done.alerts if one.state is State.NOT_REPLAYABLE] == [one.id for one in written]
    assert written
    assert done.entries == len(drifting()) - 600


def test_both_sides_are_put_together_by_id_and_in_order_of_time() -> None:
    fired = [Fired(5.0, alert("b"), is_coming=False), Fired(7.0, alert("c"), is_coming=True)]
    found = compare(fired, {"b": (5.2, alert("b")), "z": (6.0, alert("z")), "old": (1.0, alert("old"))}, start=2.0)
    assert found == [
        Compared(State.NOT_REPLAYABLE, 1.0, alert("old")),
        Compared(State.SAME, 5.0, alert("b")),
        Compared(State.EXTRA, 6.0, alert("z")),
        Compared(State.COMING, 7.0, alert("c")),
    ]


def test_the_content_counts_every_state() -> None:
    done = Replay((Compared(State.MISSING, 1.0, alert("a")),), 3, 10**9, {MODEL: "as it was"}, (1.0,), ())
    content = done.content()
    assert content["states"] == {"same": 0, "missing": 1, "extra": 0, "coming": 0, "not_replayable": 0}
    assert (content["differs"], content["alerts"][0]["id"], content["alerts"][0]["role"]) == (True, "a", "champion")
