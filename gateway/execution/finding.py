"""What the server of checks is asked and what a check finds, as messages. Loads nothing heavy."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from gateway.registry.manifest import Manifest


class Question(Struct, frozen=True, kw_only=True):
    """One model to check. model, reference: paths of temporary files; empty reference: there is none."""

    model: str
    draft: Manifest
    reference: str = ""
    seconds: float
    memory_bytes: int


class Findings(Struct, frozen=True, kw_only=True):
    """What a check found. reasons: why the model is refused; empty: `manifest` is the draft with its signature.

    model: other bytes than the publisher's, when declared types had to be set right. warmup: rows that run, when zeros
    do not.
    """

    reasons: tuple[str, ...] = ()
    manifest: Manifest | None = None
    model: bytes | None = None
    warmup: list[list[Any]] = []
