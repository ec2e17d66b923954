"""Opening stores."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.clock import ManualClock
from gateway.documents.store import ABSENT
from gateway.errors import Unavailable
from gateway.journal.journal import START
from gateway.settings import Settings
from gateway.stores import connect, connect_memory
from tests.journal.making import package, prediction


async def test_everything_lies_in_the_data_directory_and_is_found_again(tmp_path: Path) -> None:
    """One directory to back up; a restart sees what was there."""
    first = connect(Settings(data=tmp_path / "data"))
    with first.open_tee("traffic", "serving-1") as tee:
        tee.offer(prediction("a"))
        assert tee.flush()
    await first.config.put("routes/a", b"1", ABSENT)
    await first.joins.commit(START, b"state")
    version = await first.registry.publish(package(tmp_path / "p"))
    first.close()
    second = connect(Settings(data=tmp_path / "data"))
    assert [entry.record.id for entry in (await second.traffic.read(START, 9)).entries] == ["a"]
    assert (await second.config.get("routes/a")).body == b"1"
    assert await second.joins.checkpoint() == (START, b"state")
    assert await second.registry.models() == [version.model]
    second.close()
    assert sorted(path.name for path in (tmp_path / "data").iterdir() if path.is_dir()) == ["journal", "registry"]


def test_a_data_directory_that_can_not_be_made_is_said(tmp_path: Path) -> None:
    """At the start, with its path."""
    (tmp_path / "data").write_text("a file")
    with pytest.raises(Unavailable, match="data"):
        connect(Settings(data=tmp_path / "data"))


def test_stores_that_were_never_used_close_without_a_trace(tmp_path: Path) -> None:
    """A serving process never opens the join index."""
    connect(Settings(data=tmp_path)).close()
    assert [path.name for path in tmp_path.iterdir()] == ["journal"]


async def test_in_memory_a_flushed_record_is_readable_at_once() -> None:
    """Tests of other rooms need not wait, and their clock stands still."""
    stores = connect_memory(ManualClock())
    tee = stores.open_tee("traffic", "serving-1")
    tee.offer(prediction("a"))
    assert (await stores.traffic.read(START, 9)).entries == []
    assert tee.flush()
    assert await tee.synced()
    assert [entry.record.id for entry in (await stores.traffic.read(START, 9)).entries] == ["a"]
    tee.close()
    tee.offer(prediction("late"))
    assert not tee.flush()
