"""What the cores did meanwhile, and how much memory a tree of processes holds: readings of /proc, nothing decided here.

Linux only, as pinning is.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Reading:
    """CPU seconds since the machine started: of all programs together, taken by the hypervisor, of each tree."""

    at_seconds: float
    busy_seconds: float
    stolen_seconds: float
    own_seconds: Mapping[str, float]


@dataclass(frozen=True)
class Usage:
    """CPU seconds a second between two readings. other: used by none of our trees, never below 0."""

    own: Mapping[str, float]
    other: float
    stolen: float


def read(trees: Mapping[str, int]) -> Reading:
    """Now. trees: process ids by name; each stands for itself and everything it has started."""
    cpu = psutil.cpu_times()
    own = {name: tree_seconds(process) for name, process in trees.items()}
    # Interrupts are left out: the kernel books the network's work there, whoever sent the packet.
    busy = cpu.user + cpu.nice + cpu.system
    return Reading(time.monotonic(), busy, getattr(cpu, "steal", 0.0), own)


def between(first: Reading, second: Reading, known_seconds: float = 0.0) -> Usage:
    """What happened between two readings of the same trees. known_seconds: CPU time of ours in no tree."""
    lasted = second.at_seconds - first.at_seconds
    own = {name: second.own_seconds[name] - first.own_seconds[name] for name in first.own_seconds}
    busy = second.busy_seconds - first.busy_seconds
    other = max(0.0, busy - sum(own.values()) - known_seconds)
    stolen = second.stolen_seconds - first.stolen_seconds
    return Usage({name: seconds / lasted for name, seconds in own.items()}, other / lasted, stolen / lasted)


def tree(process: int) -> list[psutil.Process]:
    """A process and all its descendants that live."""
    try:
        root = psutil.Process(process)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def tree_seconds(process: int) -> float:
    """CPU seconds of a tree, children that ended and were waited for included."""
    seconds = 0.0
    for one in tree(process):
        with suppress(psutil.Error):
            used = one.cpu_times()
            seconds += used.user + used.system + used.children_user + used.children_system
    return seconds


def tree_megabytes(process: int) -> tuple[float, float]:
    """PSS of the whole tree, RSS of its largest process; MB of 10^6 bytes."""
    shared, largest = 0.0, 0.0
    for one in tree(process):
        with suppress(psutil.Error):
            memory = one.memory_full_info()
            shared += memory.pss / 1e6
            largest = max(largest, memory.rss / 1e6)
    return shared, largest


@contextmanager
def pinned(core: int) -> Iterator[None]:
    """What this thread starts inside stays on this core, with all it starts; the thread itself gets its cores back."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def describe() -> dict[str, str]:
    """The machine in two lines; no name and no address of it."""
    model = platform.machine()
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        model = names[0] if names else model
    memory = psutil.virtual_memory().total / 1e9
    return {"machine": f"{model}, {os.cpu_count()} cores, {memory:.0f} GB", "Python": platform.python_version()}
