"""The demo's data directory and its child: nothing of anybody else's is touched, nothing of its own stays behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.clock import SystemClock
from gateway.demo.server import fresh_directory, project, run_command, running, stop
from gateway.errors import GatewayError, InvalidConfig, NotAllowed


def test_a_directory_is_made_when_none_is_asked_for() -> None:
    """Two demos at once do not meet."""
    one, other = fresh_directory(None), fresh_directory(None)
    assert one != other
    for made in (one, other):
        made.rmdir()


def test_an_asked_directory_is_made(tmp_path: Path) -> None:
    """`--data` may name what is not there yet."""
    assert list(fresh_directory(tmp_path / "a" / "b").iterdir()) == []


@pytest.mark.parametrize("mark", [{}, {"process": 2**22 + 1}])
def test_what_an_earlier_demo_left_is_removed(tmp_path: Path, mark: dict[str, int]) -> None:
    """A second run works as the first one."""
    (tmp_path / "demo.json").write_text(json.dumps(mark))
    (tmp_path / "journal").mkdir()
    assert list(fresh_directory(tmp_path).iterdir()) == []


def test_a_directory_with_other_things_is_refused(tmp_path: Path) -> None:
    """A real gateway's data must never be taken for a demo's."""
    (tmp_path / "registry").mkdir()
    with pytest.raises(InvalidConfig, match="not empty"):
        fresh_directory(tmp_path)
    assert (tmp_path / "registry").exists()


def test_a_gateway_that_was_kept_is_not_pulled_from_under(tmp_path: Path) -> None:
    """`--keep` leaves it running; the message says how to end it."""
    (tmp_path / "demo.json").write_text(json.dumps({"process": os.getpid()}))
    with pytest.raises(NotAllowed, match=f"kill {os.getpid()}"):
        fresh_directory(tmp_path)


def test_the_project_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """From anywhere, when the package lies in its clone."""
    monkeypatch.chdir(tmp_path)
    assert (project("electricity") / "models" / "electricity.py").exists()


async def test_a_gateway_that_does_not_start_says_why(tmp_path: Path) -> None:
    """The end of its log is the message, and no process is left."""
    blocked = tmp_path / "data"
    blocked.mkdir()
    with pytest.raises(GatewayError, match=r"demo\.log"):
        async with running(blocked, project("electricity"), SystemClock(), workers=0):
            pytest.fail("it can not serve with no process")


def test_a_child_ends_on_sigterm() -> None:
    """By its process id, and waited for."""
    code = "import time; print(flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        asyncio.run(stop(process))
    assert process.returncode == -signal.SIGTERM


async def test_a_command_that_fails_gives_its_words() -> None:
    """What `gateway train` says is what the person running the demo has to read."""
    with pytest.raises(GatewayError, match="nonsense"):
        await run_command(["nonsense"], project("electricity"))
