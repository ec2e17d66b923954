"""Versions to run offline."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.offline.making import Office


@pytest.fixture
def office(tmp_path: Path) -> Office:
    """Empty memory stores."""
    folder = tmp_path / "packages"
    folder.mkdir()
    return Office(folder)
