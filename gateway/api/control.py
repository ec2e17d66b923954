"""What the admin API needs of the process it runs in, as one value."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, Self

from gateway.clock import Clock
from gateway.documents.store import ConfigStore
from gateway.execution.admission import AdmissionServer
from gateway.journal.join import JoinIndex
from gateway.journal.journal import ControlJournal, TrafficJournal
from gateway.journal.tee import Tee
from gateway.registry.registry import Registry


class Ports(Protocol):
    """The ports that this room uses; the wiring's stores have them."""

    @property
    def config(self) -> ConfigStore: ...

    @property
    def registry(self) -> Registry: ...

    @property
    def traffic(self) -> TrafficJournal: ...

    @property
    def control(self) -> ControlJournal: ...

    @property
    def joins(self) -> JoinIndex: ...


@dataclass(frozen=True)
class ControlPorts:
    """The ports, the clock, the data directory, and the sign that this process is about to end.

    tee: this process's spool of the control stream, for what operators decide.
    admission: forks the limited children that check what is published. closing: set before the server stops, so that
    live event streams end by themselves.
    """

    config: ConfigStore
    registry: Registry
    traffic: TrafficJournal
    control: ControlJournal
    joins: JoinIndex
    clock: Clock
    data: Path
    tee: Tee
    admission: AdmissionServer = field(default_factory=AdmissionServer)
    closing: asyncio.Event = field(default_factory=asyncio.Event)

    @classmethod
    def of(cls, stores: Ports, clock: Clock, data: Path, tee: Tee) -> Self:
        """The ports of these stores."""
        return cls(stores.config, stores.registry, stores.traffic, stores.control, stores.joins, clock, data, tee)
