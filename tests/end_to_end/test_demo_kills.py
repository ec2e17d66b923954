"""The demo with kill -9 of the serving process, the control process and a running job, each once."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import psutil
import pytest

from tests.end_to_end.running import REPOSITORY, until

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow, pytest.mark.timeout(280)]


def _processes(root: psutil.Process, mark: str) -> list[psutil.Process]:
    found = []
    try:
        for process in root.children(recursive=True):
            try:
                if any(mark in word for word in process.cmdline()):
                    found.append(process)
            except psutil.Error:
                continue
    except psutil.NoSuchProcess:
        return []
    return found


def _running_job(root: psutil.Process) -> psutil.Process | None:
    """A job is forked from the job server: a process of that name whose parent has it too."""
    servers = {process.pid: process for process in _processes(root, "retraining.job.child")}
    for process in servers.values():
        with contextlib.suppress(psutil.Error):
            if process.ppid() in servers:
                return process
    return None


def test_the_demo_ends_normally_when_everything_was_killed_once(tmp_path: Path) -> None:
    """Nothing acknowledged is lost, the loop goes on, and the run ends with its table."""
    data = tmp_path / "data"
    command = [sys.executable, "-m", "gateway.cli", "demo", "--json", "--rows", "9000", "--data", str(data)]
    acknowledged = tmp_path / "acknowledged.txt"
    with (tmp_path / "out.json").open("w") as out, (tmp_path / "err.txt").open("w") as err:
        demo = subprocess.Popen(
            [*command, "--acknowledged", str(acknowledged)],
            cwd=REPOSITORY,
            stdout=out,
            stderr=err,
            stdin=subprocess.DEVNULL,
        )
        root = psutil.Process(demo.pid)
        try:
            _kill_each_once(root, acknowledged)
            demo.wait(240)
        finally:
            if demo.poll() is None:
                for child in root.children(recursive=True):
                    child.kill()
                demo.kill()
    printed = (tmp_path / "err.txt").read_text()
    assert demo.returncode == 0, printed[-4000:]
    result = json.loads((tmp_path / "out.json").read_text())
    assert result["failed_requests"] == 0, result
    assert result["jobs"] >= 1
    assert result["rolled_back"] >= 1
    _check_journal(data, acknowledged)


def _kill_each_once(root: psutil.Process, acknowledged: Path) -> None:
    def lines(count: int) -> bool:
        return acknowledged.exists() and acknowledged.read_bytes().count(b"\n") > count

    until(lambda: lines(500), "the first 500 answers", 120)
    _processes(root, "serving_process")[0].kill()
    until(lambda: lines(1500), "answers after the serving process was killed", 120)
    _processes(root, "control_process")[0].kill()
    until(lambda: _running_job(root), "a running job", 120).kill()


def _check_journal(data: Path, acknowledged: Path) -> None:
    export = [sys.executable, "-m", "gateway.cli", "journal", "export", "--format", "jsonl", "--data", str(data)]
    lines = subprocess.run(export, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.splitlines()
    written = Counter(
        record["id"]
        for record in map(json.loads, lines)
        if record["kind"] == "prediction" and record["role"] != "shadow"
    )
    ids = acknowledged.read_text().split()
    assert len(ids) > 5000
    assert [request for request in ids if written[request] != 1] == []
