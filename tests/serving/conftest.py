"""A serving process without its process: real stores in memory, real models, no HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.clock import ManualClock
from tests.serving.serving_kit import Kit


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest_asyncio.fixture
async def kit(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Kit]:
    made = Kit(tmp_path, clock)
    shadows: asyncio.Task[Any] = asyncio.create_task(made.shadows.run())
    yield made
    shadows.cancel()
    await asyncio.gather(shadows, return_exceptions=True)
    made.executor.close()
