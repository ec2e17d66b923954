"""How the challengers of a route compare with its champion, as last counted; for people, nothing is decided by it."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from gateway.names import ModelName


class ModelComparison(Struct, frozen=True, kw_only=True):
    """challengers: by number, since when it is counted (seconds since 1970), its role in the route, and the counts."""

    model: str
    champion: int
    challengers: dict[str, dict[str, Any]] = {}


def comparison_name(model: ModelName) -> str:
    """The document's name."""
    return f"comparisons/{model}"
