"""One serving process: answers requests on the parent's socket, follows the stores, writes its own spool."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from concurrent.futures import Executor as Threads
from functools import partial

import psutil
import uvicorn

from gateway.api.door import Guard
from gateway.api.edge import Limits
from gateway.api.fast_lane import FastLane
from gateway.api.serving_app import build_serving_app
from gateway.api.user_middleware import find_middleware, wrapped
from gateway.app.build import open_stores
from gateway.app.child import (
    ChildSpec,
    child_spec,
    deaths_directory,
    http_server,
    keep_running,
    leave_libraries_alone,
    running_directory,
    until_told_to_stop,
    write_log,
)
from gateway.clock import SystemClock
from gateway.execution.executor import SessionExecutor
from gateway.execution.session import LoadedVersion, load, release_memory
from gateway.serving.access import TokenCheck
from gateway.serving.condition import Conditions, write_down_deaths
from gateway.serving.generation import Shelf, is_last_good
from gateway.serving.isolation import LOADING, RUNNING, IsolatedVersion, Isolation, yielding_threads
from gateway.serving.lease import Lease
from gateway.serving.memory import Memory
from gateway.serving.pickup import Pickup
from gateway.serving.predict import Serving
from gateway.serving.running import Running
from gateway.serving.shadow import Shadows
from gateway.settings import Settings
from gateway.stores.stores import Stores

_ACCEPTED_AT_ONCE = 16

_YOUNG_OBJECTS = 10_000
"""So many are looked through in less than a millisecond."""

_GIL_SECONDS = 0.0002
"""A thread that loads a version gives the interpreter back within this; callers would wait for Python's own 5 ms."""


def _unload(threads: Threads, version: LoadedVersion) -> None:
    """Giving memory back takes milliseconds: not in the event loop, where a runner is told to end."""
    if isinstance(version, IsolatedVersion):
        version.close()
    else:
        threads.submit(_release, version)


def _release(version: LoadedVersion) -> None:
    version.close()
    release_memory()


def serving_server(serving: Serving, settings: Settings) -> uvicorn.Server:
    """The HTTP server of a serving process."""
    limits = Limits(
        header_seconds=settings.header_seconds,
        body_seconds=settings.body_seconds,
        stall_seconds=settings.stall_seconds,
        max_body_bytes=settings.max_body_bytes,
    )
    guard = Guard(serving, needed=True) if settings.client_auth else None
    wraps = find_middleware(settings.middleware)
    lane = FastLane(serving, guard) if settings.edge == "fast" and not wraps else None
    return http_server(wrapped(build_serving_app(serving, settings), wraps), settings, limits, lane)


def _listening(descriptor: int) -> list[socket.socket]:
    """The listening socket, several times: uvloop accepts one connection of each in a turn of its loop, and at one a
    turn those who wait to be let in starve beside busy connections."""
    first = socket.socket(fileno=descriptor)
    return [first, *(first.dup() for _ in range(_ACCEPTED_AT_ONCE - 1))]


async def serve(spec: ChildSpec, settings: Settings, stores: Stores) -> None:
    """Serve until told to stop, then drain: ready turns false, requests finish, the journal is synced."""
    clock = SystemClock()
    stop = until_told_to_stop(spec.alive)
    tee = stores.open_tee("traffic", spec.name)
    running = Running(running_directory(settings) / spec.name)
    inside = SessionExecutor(settings.inline_microseconds, settings.threads, clock.monotonic, running)
    loading = yielding_threads("load", LOADING)
    conditions = Conditions(stores.config)
    executor = Isolation(
        inside,
        conditions,
        clock,
        yielding_threads("runner", RUNNING),
        settings.admission_bytes,
        lambda version: is_last_good(serving.generations.get(version.model), version.number),
    )
    shadows = Shadows(tee, executor, settings.shadow_queue)
    tokens = TokenCheck(stores.config, clock, settings.workers)
    serving = Serving(tee, executor, clock, shadows, tokens, settings.wait_milliseconds / 1000)
    lease = Lease(stores.config, serving, clock, spec.name, os.getpid())
    pickup = Pickup(
        stores.config,
        stores.registry,
        serving,
        settings.data / "cache",
        clock,
        Shelf(partial(_unload, loading)),
        lease.report,
        load,
        executor.load,
        loading,
        Memory(settings.memory_bytes, lambda: psutil.Process().memory_info().rss, lambda: executor.memory_bytes),
        running,
    )
    await lease.renew()
    await write_down_deaths(conditions, deaths_directory(settings), clock)
    await pickup.pick_up_all()
    leave_libraries_alone(_YOUNG_OBJECTS)
    server = serving_server(serving, settings)
    tasks = [
        asyncio.create_task(keep_running("lease", lease.run)),
        asyncio.create_task(keep_running("pickup", pickup.run)),
        asyncio.create_task(keep_running("shadows", shadows.run)),
    ]
    answering = asyncio.create_task(server.serve(sockets=_listening(spec.socket)))
    await asyncio.wait([answering, asyncio.create_task(stop.wait())], return_when=asyncio.FIRST_COMPLETED)
    serving.is_draining = True
    lease.drain()
    server.should_exit = True
    await answering
    await shadows.drained(1.0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await lease.release()
    executor.close()
    await executor.closed()
    loading.shutdown()
    tee.close()


def main() -> None:
    """Entry of the process that the parent starts."""
    spec = child_spec()
    settings = spec.read_settings()
    write_log(settings.log_level, spec.name)
    sys.setswitchinterval(_GIL_SECONDS)
    stores = open_stores(settings)
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(serve(spec, settings, stores))
    finally:
        stores.close()


def _loop_factory() -> type[asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    loop: type[asyncio.AbstractEventLoop] = uvloop.Loop
    return loop


if __name__ == "__main__":
    main()
