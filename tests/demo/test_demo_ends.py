"""The demo as a person starts and ends it: a real gateway, a real terminal's signal."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from gateway.demo.server import is_running

PROJECT = Path(__file__).parents[2]

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow]


def test_an_interrupted_demo_leaves_no_process(tmp_path: Path) -> None:
    """Ctrl-C in the middle of the stream: the gateway is ended by its process id and waited for."""
    data = tmp_path / "data"
    command = [sys.executable, "-m", "gateway.cli", "demo", "--data", str(data)]
    with subprocess.Popen(
        command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
    ) as demo:
        assert demo.stdout
        try:
            while "Streaming" not in (line := demo.stdout.readline()):
                assert line, "the demo ended before it streamed"
            child = json.loads((data / "demo.json").read_text())["process"]
            assert is_running(child)
            demo.send_signal(signal.SIGINT)
            _, errors = demo.communicate(timeout=30)
        finally:
            demo.kill()
    assert demo.returncode == 130
    assert "Interrupted" in errors
    assert "Traceback" not in errors
    assert not is_running(child)


def test_a_kept_gateway_answers_until_it_is_told_to_end(tmp_path: Path) -> None:
    """`--keep` says how to use and how to stop it; the next run in the same place is refused meanwhile."""
    data = tmp_path / "data"
    command = [sys.executable, "-m", "gateway.cli", "demo", "--rows", "2500", "--data", str(data)]
    first = subprocess.run([*command, "--keep"], cwd=PROJECT, capture_output=True, text=True, timeout=90, check=False)
    child = json.loads((data / "demo.json").read_text())["process"]
    try:
        assert f"kill {child}" in first.stdout, first.stderr
        assert is_running(child)
        refused = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=30, check=False)
        assert refused.returncode == 1
        assert f"kill {child}" in refused.stderr
    finally:
        gateway = psutil.Process(child)
        gateway.terminate()
        gateway.wait(20)
