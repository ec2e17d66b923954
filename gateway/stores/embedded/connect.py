"""Opens the embedded stores of one data directory."""

from __future__ import annotations

from gateway.clock import Clock, SystemClock
from gateway.errors import Unavailable
from gateway.journal.codec import decode_control, decode_traffic
from gateway.journal.spool import SpoolWriter
from gateway.journal.tee import Tee
from gateway.settings import Settings
from gateway.stores.embedded.config import SqliteConfigStore
from gateway.stores.embedded.joins import SqliteJoinIndex
from gateway.stores.embedded.journal import SpoolJournal, Stream
from gateway.stores.embedded.registry import DirectoryRegistry
from gateway.stores.stores import STREAMS, Stores


def connect(settings: Settings, clock: Clock | None = None) -> Stores:
    """The stores below `settings.data`, which is made when absent. Raises Unavailable when it can not be made.

    Files are opened at their first use, so a process pays only for the stores it uses. `open_tee` raises
    JournalUnavailable when the spool can not be made, and ValueError for a stream that does not exist.
    """
    clock = clock or SystemClock()
    data = settings.data
    streams = {name: data / "journal" / name for name in STREAMS}
    try:
        for directory in streams.values():
            directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Unavailable(f"the data directory {data} can not be used: {error.strerror}") from error
    config = SqliteConfigStore(data / "config.sqlite", clock)
    joins = SqliteJoinIndex(data / "joins.sqlite")
    traffic = SpoolJournal(Stream(streams["traffic"], clock), decode_traffic, clock)
    control = SpoolJournal(Stream(streams["control"], clock), decode_control, clock)

    def open_tee(stream: str, gateway: str) -> Tee:
        if stream not in streams:
            raise ValueError(f"{stream!r} is not a stream; one of {', '.join(STREAMS)}")
        writer = SpoolWriter(streams[stream], gateway, settings.segment_bytes, clock)
        return Tee(writer, settings.sync_seconds, clock)

    def close() -> None:
        for store in (traffic, control, joins, config):
            store.close()

    return Stores(config, DirectoryRegistry(data / "registry", clock), traffic, control, joins, open_tee, close)
