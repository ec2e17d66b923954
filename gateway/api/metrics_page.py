"""`GET /metrics`: the counters of all processes, and what the machine says of them (CPU, memory, disk).

Made in a thread and kept for a moment: a scrape never stalls the event loop, ten scrapers cost as much as one.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest, multiprocess
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.responses import Response

from gateway.api.admin.call import Asked, Call
from gateway.api.admin.state import read_leases
from gateway.api.control import ControlPorts
from gateway.clock import Clock
from gateway.documents.token import Scope

KEPT_SECONDS = 1.0
_DISK_KEPT_SECONDS = 15.0


class MetricsPage:
    """Makes the page. directory: where the processes map their counters; without it this process's own are shown."""

    def __init__(self, ports: ControlPorts) -> None:
        self._ports = ports
        self._directory = ports.data / "run" / "metrics"
        self._disk = DiskUse(ports.data, ports.clock)
        self._making = asyncio.Lock()
        self._page = b""
        self._made_at = float("-inf")

    async def page(self) -> bytes:
        """Prometheus text, at most a second old."""
        async with self._making:
            if self._ports.clock.monotonic() - self._made_at > KEPT_SECONDS:
                processes = {lease.id: lease.pid for lease in await read_leases(self._ports)}
                self._page = await asyncio.to_thread(self._make, {"control": os.getpid(), **processes})
                self._made_at = self._ports.clock.monotonic()
        return self._page

    def _make(self, processes: Mapping[str, int]) -> bytes:
        machine = CollectorRegistry()
        machine.register(Processes(processes))
        machine.register(self._disk)
        return generate_latest(self._counters()) + generate_latest(machine)

    def _counters(self) -> CollectorRegistry:
        if not self._directory.is_dir():
            return REGISTRY
        forget_the_dead(self._directory)
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry, str(self._directory))  # type: ignore[no-untyped-call]
        return registry


def forget_the_dead(directory: Path) -> None:
    """Drop the gauges that ended processes left behind; their counters stay in the sums."""
    pids = {file.stem.rpartition("_")[2] for file in directory.glob("gauge_live*.db")}
    for pid in pids:
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            multiprocess.mark_process_dead(int(pid), str(directory))  # type: ignore[no-untyped-call]


class Processes(Collector):
    """CPU seconds and resident memory of each process; one that ended meanwhile is left out."""

    def __init__(self, processes: Mapping[str, int]) -> None:
        self._processes = processes

    def collect(self) -> Iterator[Metric]:
        cpu = CounterMetricFamily("gateway_process_cpu_seconds", "CPU time of each process", labels=["process"])
        memory = GaugeMetricFamily(
            "gateway_process_resident_memory_bytes", "Resident memory of each process", labels=["process"]
        )
        for name, pid in self._processes.items():
            try:
                process = psutil.Process(pid)
                times, size = process.cpu_times(), process.memory_info().rss
            except psutil.Error:
                continue
            cpu.add_metric([name], times.user + times.system)
            memory.add_metric([name], size)
        yield cpu
        yield memory


class DiskUse(Collector):
    """Bytes used below the data directory and free on its file system; the walk is repeated every 15 s at most."""

    def __init__(self, data: Path, clock: Clock) -> None:
        self._data = data
        self._clock = clock
        self._used = 0
        self._walked_at = float("-inf")

    def collect(self) -> Iterator[Metric]:
        if self._clock.monotonic() - self._walked_at > _DISK_KEPT_SECONDS:
            self._used = used_bytes(self._data)
            self._walked_at = self._clock.monotonic()
        yield GaugeMetricFamily("gateway_disk_used_bytes", "Bytes below the data directory", value=self._used)
        try:
            free = shutil.disk_usage(self._data).free
        except OSError:
            return
        yield GaugeMetricFamily("gateway_disk_free_bytes", "Bytes free on the data directory's file system", value=free)


def used_bytes(directory: Path) -> int:
    """The sizes of all files below a directory; files that vanish meanwhile count as nothing."""
    total = 0
    waiting = [str(directory)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as found:
                for entry in found:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    elif entry.is_file(follow_symlinks=False):
                        total += entry.stat(follow_symlinks=False).st_size
        except OSError:
            continue
    return total


def metrics_calls(ports: ControlPorts, needs_token: bool) -> tuple[Call, ...]:
    """The call, open unless the settings ask for a token."""
    made = MetricsPage(ports)

    async def metrics(asked: Asked) -> Response:
        return Response(await made.page(), media_type=CONTENT_TYPE_LATEST)

    return (Call("GET", "/metrics", Scope.READ if needs_token else None, metrics),)
