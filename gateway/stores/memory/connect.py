"""Makes the stores of one process's memory."""

from __future__ import annotations

from gateway.clock import Clock, SystemClock
from gateway.journal.codec import decode_control, decode_traffic
from gateway.journal.tee import Tee
from gateway.stores.memory.config import MemoryConfigStore
from gateway.stores.memory.joins import MemoryJoinIndex
from gateway.stores.memory.journal import MemoryJournal, MemoryStream, MemoryWriter
from gateway.stores.memory.registry import MemoryRegistry
from gateway.stores.stores import STREAMS, Stores


def connect_memory(clock: Clock | None = None) -> Stores:
    """Empty stores. What a tee flushed is readable at once; nothing survives the process. For one event loop."""
    clock = clock or SystemClock()
    streams = {name: MemoryStream(name, clock) for name in STREAMS}

    def open_tee(stream: str, gateway: str) -> Tee:
        if stream not in streams:
            raise ValueError(f"{stream!r} is not a stream; one of {', '.join(STREAMS)}")
        return Tee(MemoryWriter(streams[stream], gateway))

    return Stores(
        MemoryConfigStore(clock),
        MemoryRegistry(clock),
        MemoryJournal(streams["traffic"], decode_traffic),
        MemoryJournal(streams["control"], decode_control),
        MemoryJoinIndex(),
        open_tee,
        close=lambda: None,
    )
