"""Where concrete stores are named, once."""

from __future__ import annotations

from gateway.settings import Settings
from gateway.stores import connect
from gateway.stores.stores import Stores

__all__ = ["Stores", "open_stores"]


def open_stores(settings: Settings) -> Stores:
    """The ports of this process over the data directory. The caller closes them."""
    return connect(settings)
