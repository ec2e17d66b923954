"""`make loadtest`: a real gateway, two versions, locust on both, nothing left behind."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow]


def test_both_versions_answer_by_their_weights_and_nothing_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The load moves the canary's weight meanwhile; its data directory is removed at the end."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    command = [sys.executable, "loadtests/run.py", "-t", "3s", "-u", "6"]
    ended = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=90, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    shares = re.findall(r"^electricity@\d +[\d,]+ +([\d.]+)% +([\d.]+)%$", ended.stderr, re.MULTILINE)
    assert len(shares) == 2
    assert all(abs(float(share) - float(weight)) < 10 for share, weight in shares)
    assert "/admin/models/.../weights" in ended.stdout + ended.stderr
    assert list(tmp_path.glob("gateway-demo-*")) == []
