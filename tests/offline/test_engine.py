"""The process that runs a version offline: its end is told, and ends nothing else."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from gateway.errors import ExecutionError
from gateway.names import Outcome
from gateway.offline.engine import Engine, fetched_and_started, started
from tests.offline.making import Office, inline


async def test_a_version_runs_elsewhere_and_its_end_is_told(office: Office) -> None:
    """One start for all of it: a table, many tables, one that does not fit, and a crash."""
    version = await office.publish()
    async with fetched_and_started(office.stores.registry, version, started) as engine:
        assert isinstance(engine, Engine)
        tables = [{"X": np.full((2, 2), n, np.float32)} for n in (1, 9)]
        runs = await engine.run(tables * 700)
        assert [run.outcome for run in runs] == [Outcome.OK] * 1400
        assert runs[0].outputs is not None
        assert runs[0].outputs["label"].tolist() == [0, 0]
        wrong = await engine.run([{"X": np.zeros((1, 3), np.float64)}])
        assert (wrong[0].outcome, wrong[0].outputs) == (Outcome.ERROR, None)
        assert engine.process_id is not None
        os.kill(engine.process_id, signal.SIGSEGV)
        with pytest.raises(ExecutionError, match=r"m@1: its process crashed \(SIGSEGV\)"):
            await engine.run(tables)


async def test_nothing_is_left_of_the_files_of_a_running_version(
    office: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is killed leaves no copy of the model behind."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    version = await office.publish()
    async with fetched_and_started(office.stores.registry, version, inline) as engine:
        assert names_like(tmp_path, "gateway-offline-") == []
        assert (await engine.run([{"X": np.zeros((1, 2), np.float32)}]))[0].outcome is Outcome.OK


def names_like(folder: Path, start: str) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(start)]
