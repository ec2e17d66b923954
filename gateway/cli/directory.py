"""Opening a data directory for a command that works on it without a running gateway (or beside one)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.errors import InvalidConfig

if TYPE_CHECKING:
    from gateway.app.build import Stores


@contextmanager
def opened(data: Path, make: bool = True) -> Iterator[Stores]:
    """The stores in a data directory. make: create it when it is not there; else that is InvalidConfig."""
    from gateway.app.build import open_stores
    from gateway.settings import Settings

    if not data.is_dir() and not make:
        raise InvalidConfig(f"there is no data directory {data}: name one with --data")
    stores = open_stores(Settings(data=data))
    try:
        yield stores
    finally:
        stores.close()
