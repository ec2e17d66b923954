"""What `connect` gives: the ports together, as one value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gateway.documents.store import ConfigStore
from gateway.journal.join import JoinIndex
from gateway.journal.journal import ControlJournal, TrafficJournal
from gateway.journal.tee import Tee
from gateway.registry.registry import Registry

STREAMS: Final = ("traffic", "control")
"""What `open_tee` takes."""


@dataclass(frozen=True)
class Stores:
    """The ports of one process. `open_tee(stream, gateway)` starts this process's own spool of a stream."""

    config: ConfigStore
    registry: Registry
    traffic: TrafficJournal
    control: ControlJournal
    joins: JoinIndex
    open_tee: Callable[[str, str], Tee]
    close: Callable[[], None]
