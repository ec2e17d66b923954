"""What the loop is given by others may be wrong: a policy, a reference, feedback. It counts, says so and goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.documents.store import ABSENT, policy_name
from gateway.errors import Unavailable
from gateway.journal import join
from gateway.journal.record import Feedback
from gateway.monitor import loop as loop_module
from gateway.registry.manifest import Feature
from gateway.registry.package import write_package
from gateway.registry.reference import build_reference, encode_reference
from tests.monitor.stream import MODEL, answer_of, manifest, sea
from tests.monitor.test_loop import NAME, Place, drain, drifting


async def test_a_stored_policy_that_is_garbage_leaves_the_last_good_one_also_after_a_restart(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Told once, not for every block; the defaults would raise other alerts than the policy that people wrote."""
    place, good = Place(tmp_path / "garbage"), Place(tmp_path / "good")
    for one in (place, good):
        await one.policy(false_alarm_every_events=1000)
        await one.publish()
        one.write(drifting()[:100])
        await drain(one.loop())
    name = policy_name(NAME)
    await place.stores.config.put(name, b'{"model": 7', (await place.stores.config.get(name)).revision)
    for one in (place, good):
        one.write(drifting()[100:])
        await drain(one.loop())
    assert [alert.id for alert in await place.alerts()] == [alert.id for alert in await good.alerts()]
    assert await place.alerts()
    assert caplog.text.count("can not be read") == 1


async def test_a_policy_that_was_never_good_means_the_defaults(tmp_path: Path) -> None:
    place = Place(tmp_path)
    await place.stores.config.put(policy_name(NAME), b"\x00", ABSENT)
    await place.publish()
    place.write(drifting())
    await drain(place.loop())
    assert await place.stores.joins.count(MODEL) == 452


async def test_a_reference_file_that_can_not_be_opened_is_no_reference(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk error on one file must not stop the monitor of all models."""
    place = Place(tmp_path)
    await place.publish()
    place.write(drifting()[:200])

    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    await drain(place.loop(block=1000))
    assert (await place.monitoring()).note.startswith("not monitored: no reference")
    assert caplog.text.count("Permission denied") == 1
    assert await place.stores.joins.count(MODEL) > 0


async def test_a_registry_that_can_not_be_asked_is_asked_again_and_no_figure_is_lost(tmp_path: Path) -> None:
    """Folding without the version would leave its answers out for ever, and a replay would say something else."""
    place, registry = Place(tmp_path), None
    await place.publish()
    place.write(drifting()[:100])
    registry = place.stores.registry

    class Away:
        """A registry behind a network that is away."""

        async def fetch(self, *_: object) -> object:
            raise Unavailable("the registry can not be asked")

    object.__setattr__(place.stores, "registry", Away())
    with pytest.raises(Unavailable):
        await place.loop().step()
    object.__setattr__(place.stores, "registry", registry)
    await drain(place.loop(block=1000))
    assert (await place.monitoring()).predictions == 74


async def test_a_feature_that_the_reference_does_not_know_is_left_out_of_the_panel(tmp_path: Path) -> None:
    """The others are watched; nothing is made of the missing one."""
    place = Place(tmp_path)
    rows, _ = sea(2000, 2000, seed=99)
    said = [answer_of(row) for row in rows]
    features = (Feature(name="a"), Feature(name="c"))
    without = build_reference(
        features, [[row[0], row[2]] for row in rows], [one[0] for one in said], [one[1] for one in said]
    )
    write_package(tmp_path / "package", b"onnx", manifest(0), encode_reference(without))
    await place.stores.registry.publish(tmp_path / "package")
    place.write(drifting()[:300])
    await drain(place.loop(block=1000))
    shown = await place.monitoring()
    assert shown.monitored
    [panel] = [one for one in shown.detectors if one["name"] == "panel"]
    assert panel["events"] == 174
    assert await place.alerts() == []


async def test_a_flood_of_feedback_is_counted_and_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten times as many unknown ids as are kept: the index holds what the newest of them need, no more."""
    monkeypatch.setattr(join, "_BACKLOG_ITEMS", 400)
    monkeypatch.setattr(loop_module, "_FLOOD_ITEMS", 200)
    place = Place(tmp_path)
    await place.publish()
    ids = [f"nobody{number}" for number in range(4000)]
    place.write([Feedback(id_, 0, 1) for id_ in ids])
    place.write(drifting()[:10])
    await drain(place.loop(block=150))
    place.clock.advance(1.0)
    await place.loop().step()
    assert (await place.monitoring()).labels["unknown"] == 4000
    kept = await place.stores.joins.find_feedback(ids)
    assert 400 <= len(kept) <= 800
    assert ids[-1] in kept
