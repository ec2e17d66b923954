"""What a process was running is known after its death, and who is to blame for it is a pure decision."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from gateway.clock import ManualClock
from gateway.documents.lease import Condition
from gateway.names import ModelName, VersionId
from gateway.registry.manifest import Manifest
from gateway.serving.condition import Conditions, suspected, write_down_deaths
from gateway.serving.running import Running, read_deaths, suspects, was_running, write_death
from gateway.stores import connect_memory

A, B = VersionId(ModelName("fraud"), 3), VersionId(ModelName("churn"), 70_000)
NOTHING: frozenset[VersionId] = frozenset()


def manifest(version: VersionId) -> Manifest:
    return Manifest(model=version.model, number=version.number)


def test_what_runs_is_read_from_the_file(tmp_path: Path) -> None:
    """Each thread has its own mark; what has ended is not told."""
    running = Running(tmp_path / "w0")
    place = running.begin(manifest(A))
    other = threading.Thread(target=lambda: running.begin(manifest(B)))
    other.start()
    other.join()
    assert was_running(tmp_path / "w0") == {A, B}
    running.end(place)
    assert was_running(tmp_path / "w0") == {B}
    running.begin(manifest(A))
    assert was_running(tmp_path / "w0") == {A, B}


def test_more_threads_than_places_lose_no_process(tmp_path: Path) -> None:
    """The last place is shared then; a mark may be lost, a run never is."""
    running = Running(tmp_path / "w0")
    for _ in range(300):
        thread = threading.Thread(target=lambda: running.end(running.begin(manifest(A))))
        thread.start()
        thread.join()
    assert was_running(tmp_path / "w0") == NOTHING


@pytest.mark.parametrize("content", [None, b"", b"short", bytes(range(256)) * 8, b"\xff" * 2048 + b"\xff\xfe"])
def test_a_file_that_tells_nothing_blames_nobody(tmp_path: Path, content: bytes | None) -> None:
    """The process died before it had one, or the disk is full: the parent goes on."""
    if content is not None:
        (tmp_path / "w0").write_bytes(content)
    assert was_running(tmp_path / "w0") == NOTHING


def test_the_mark_outlives_a_crash(tmp_path: Path) -> None:
    """Nothing is flushed at the end of a process that dies of SIGSEGV; the mapped file is there all the same."""
    script = (
        "import os, signal, sys, pathlib\n"
        "from gateway.registry.manifest import Manifest\n"
        "from gateway.serving.running import Running\n"
        "Running(pathlib.Path(sys.argv[1])).begin(Manifest(model='fraud', number=3))\n"
        "signal.signal(signal.SIGSEGV, signal.SIG_DFL)\n"
        "os.kill(os.getpid(), signal.SIGSEGV)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "w0")], check=False, timeout=30)
    assert done.returncode == -signal.SIGSEGV
    assert was_running(tmp_path / "w0") == {A}


def test_the_parent_loads_nothing_heavy_for_it() -> None:
    """It lives as long as the gateway and must stay small."""
    script = "import sys, gateway.app.parent; sys.exit(bool({'numpy', 'onnxruntime'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", script], check=False, timeout=30).returncode == 0


@pytest.mark.parametrize(
    ("code", "ran", "blamed"),
    [
        (-signal.SIGSEGV, [{A}], {A}),
        (-signal.SIGABRT, [{A, B}, {A}], {A, B}),  # either may have done it: each is tried alone
        (-signal.SIGSEGV, [set()], set()),
        (-signal.SIGKILL, [{A}], set()),
        (-signal.SIGKILL, [{A}, {A}], set()),
        (-signal.SIGKILL, [{A, B}, {A}, {A}], {A}),
        (-signal.SIGKILL, [{A}, {B}, {A}], set()),
        (1, [{A}, {A}, {A}], {A}),
        (0, [{A}, {A}, {A}], set()),
    ],
)
def test_a_crash_blames_what_ran_a_kill_only_what_ran_again_and_again(
    code: int, ran: list[set[VersionId]], blamed: set[VersionId]
) -> None:
    """kill -9 and the want of memory are nobody's fault, until a loop of them always runs the same version."""
    assert suspects(code, [frozenset(one) for one in ran]) == blamed


def test_a_death_makes_suspect_and_never_more() -> None:
    """Whose fault it was shows when it runs alone."""
    first = suspected(Condition(proven=True), "it crashed", 1.0)
    assert first == Condition(proven=True, suspect=True, reason="it crashed", since=1.0)
    assert suspected(first, "again", 2.0) is first
    quarantined = Condition(quarantined=True, reason="twice")
    assert suspected(quarantined, "again", 2.0) is quarantined


async def test_deaths_are_written_down_once(tmp_path: Path) -> None:
    """With an audit entry; broken notes and notes half written are no reason not to start."""
    clock = ManualClock()
    stores = connect_memory(clock)
    conditions = Conditions(stores.config)
    write_death(tmp_path, "w0-1", frozenset({A}), "it crashed")
    (tmp_path / "w0-2.json").write_text("{")
    (tmp_path / "w0-3.new").write_text("{")
    await write_down_deaths(conditions, tmp_path, clock)
    found = await conditions.of(A.model, [A.number])
    assert found[A.number].suspect
    assert found[A.number].reason == "it crashed"
    assert list(read_deaths(tmp_path)) == []
    await write_down_deaths(conditions, tmp_path / "none", clock)
