"""What every child process has in common: its settings, its sign that the parent lives, its log, its end.

The parent holds the writing end of a pipe; when the parent is gone, however it died, the children read its end and
drain. Nothing of a child outlives the parent by more than the grace time.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from msgspec import Struct, json

from gateway.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    import uvicorn

    from gateway.api.edge import Limits
    from gateway.api.fast_lane import FastLane

log = logging.getLogger("gateway")


class ChildSpec(Struct, frozen=True, kw_only=True):
    """What the parent hands to a child: settings as JSON, the listening socket and the pipe as descriptors."""

    name: str
    settings: str
    socket: int
    alive: int

    def read_settings(self) -> Settings:
        """The settings of the whole gateway."""
        return Settings.model_validate_json(self.settings)


def child_spec() -> ChildSpec:
    """The specification on this process's command line."""
    return json.decode(sys.argv[1], type=ChildSpec)


def write_log(level: str, name: str) -> None:
    """Log lines to standard error: time, level, process, message."""
    logging.basicConfig(
        level=level.upper(),
        format=f"%(asctime)s %(levelname)s {name} %(message)s",
        stream=sys.stderr,
    )
    logging.getLogger("httpx").setLevel(logging.WARNING)


def leave_libraries_alone(young_objects: int) -> None:
    """What is loaded by now is never searched for garbage again; the rest, each time so many objects came to it.

    With the defaults the collector walks through all libraries again and again: 30 ms each few hundred requests of
    64 rows, in which a serving process answers nobody, and a quarter of the monitor's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(young_objects, 20, 50)


def until_told_to_stop(alive: int) -> asyncio.Event:
    """An event that is set by SIGTERM, by SIGINT, or when the parent is gone. Needs a running loop."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    def parent_is_gone() -> None:
        loop.remove_reader(alive)
        stop.set()

    loop.add_reader(alive, parent_is_gone)
    return stop


async def keep_running(name: str, work: Callable[[], Awaitable[None]], pause_seconds: float = 1.0) -> None:
    """Run a loop for ever; when it fails, log why, wait, start it again. Cancelling ends it."""
    while True:
        try:
            await work()
            return
        except Exception:
            log.exception("%s failed; it starts again in %s s", name, pause_seconds)
            await asyncio.sleep(pause_seconds)


def http_server(app: Any, settings: Settings, limits: Limits, lane: FastLane | None = None) -> uvicorn.Server:
    """A server for one application, behind our own edge, that leaves signals to its caller."""
    import uvicorn

    from gateway.api.edge import Edge

    class Server(uvicorn.Server):
        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

    config = uvicorn.Config(
        app,
        http=cast("type[asyncio.Protocol]", partial(Edge, limits=limits, lane=lane)),
        loop="none",
        lifespan="off",
        ws="none",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=int(settings.grace_seconds),
        backlog=2048,
    )
    return Server(config)


def metrics_directory(settings: Settings) -> Path:
    """Where the processes' counters are mapped."""
    return settings.data / "run" / "metrics"


def running_directory(settings: Settings) -> Path:
    """Where each serving process marks what it runs, in a file of its name (`serving.running`)."""
    return settings.data / "run" / "running"


def deaths_directory(settings: Settings) -> Path:
    """Where the parent notes what ran in processes that died."""
    return settings.data / "run" / "deaths"
