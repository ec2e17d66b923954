"""Every port's suite runs against every implementation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.settings import Settings
from gateway.stores import Stores, connect, connect_memory


@pytest.fixture(params=["embedded", "memory"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stores]:
    """Empty stores."""
    if request.param == "memory":
        opened = connect_memory()
    else:
        opened = connect(Settings(data=tmp_path / "data", segment_bytes=65536))
    yield opened
    opened.close()
