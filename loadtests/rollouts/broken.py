"""Versions that are wrong, each in its own way, on the standard plan: rolled back with the right reason, by nobody."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from loadtests.rollouts import models
from loadtests.rollouts.caller import Callers, Seen
from loadtests.rollouts.stage import Gateway, running
from loadtests.scenarios.finding import Finding, none_failed

_MODEL = "trial"
_RATE = 500.0
_LONGEST_SECONDS = 120.0
_LEAD_SECONDS = 1.0
"""The champion answers alone for so long, so that its run times are known; and so long no process is made to crash."""

_RUNNER = "runner_child"
_CRASH_EVERY_SECONDS = 0.2


@dataclass(frozen=True)
class Fault:
    """what: in words. make: the version from a seed. reasons: how its reason may begin. names: what it must say.

    crashes: its process is killed over and over, by the signal that a crash inside a model's native code gives.
    """

    what: str
    make: Callable[[int], bytes]
    reasons: tuple[str, ...]
    names: str = ""
    crashes: bool = False


FAULTS = (
    Fault("fails for every third input", models.failing, ("errors:", "hard_stop:")),
    Fault("twice as slow", models.slow, ("slow:",)),
    Fault("trained on shuffled labels", models.shuffled, ("quality:",)),
    Fault("answers NaN", models.not_a_number, ("errors:", "hard_stop:"), "not finite"),
    Fault("crashes its process", models.good, ("it is quarantined", "hard_stop:", "errors:"), "process", crashes=True),
)


@dataclass(frozen=True)
class Outcome:
    """How one rollout ended. requests: answered from its start to its end.

    latency_ratio: median run time beside the champion's, as the rollout itself saw it; None: it saw none.
    """

    fault: Fault
    version: int
    phase: str
    reason: str
    requests: int
    seconds: float
    latency_ratio: float | None = None

    @property
    def finding(self) -> Finding:
        """As a row of the table."""
        is_guard = any(self.reason.startswith(reason) for reason in self.fault.reasons)
        is_named = is_guard and self.fault.names in self.reason
        figure = f"{self.phase}, {self.requests:,} requests, {self.seconds:.1f} s"
        what = f"version {self.version}: {self.fault.what}"
        bar = f"rolled back: {' or '.join(self.fault.reasons)}"
        ran = f"; its median run took {self.latency_ratio:g}x the champion's" if self.latency_ratio else ""
        return Finding(what, figure, bar, self.phase == "rolled_back" and is_named, f"{self.reason}{ran}")


async def run(folder: Path, seed: int, quick: bool, deadline_ms: float = 1_000.0) -> list[Finding]:
    """Each fault once. quick: three of them. deadline_ms: as `cycles.run`."""
    faults = (FAULTS[0], FAULTS[2], FAULTS[4]) if quick else FAULTS
    async with running(folder, {_MODEL: f"model: {_MODEL}\ndeadline_ms: {deadline_ms:g}\n"}) as gateway:
        await gateway.serve(_MODEL, models.good(seed))
        callers = Callers(gateway.port, _MODEL, models.draw(5_000, seed + 1), _RATE, labelled=True)
        async with callers.calling() as seen:
            await asyncio.sleep(_LEAD_SECONDS)
            outcomes = [await _try(gateway, fault, seed + 2 + place, seen) for place, fault in enumerate(faults)]
    reasons = {f"{role or 'no role'} {status}": count for (role, status), count in seen.failed.items()}
    failed = none_failed("champion requests that failed", seen.failures_beside_canary, seen.requests, reasons)
    return [*(outcome.finding for outcome in outcomes), failed]


async def _try(gateway: Gateway, fault: Fault, seed: int, seen: Seen) -> Outcome:
    version = await gateway.publish(_MODEL, fault.make(seed))
    await gateway.start(_MODEL, version)
    began, before = time.monotonic(), seen.requests
    async with _crashing(gateway) if fault.crashes else _left_alone():
        shown = await gateway.ended(_MODEL, _LONGEST_SECONDS)
    requests, lasted = seen.requests - before, time.monotonic() - began
    ratio = shown["evidence"].get("counts", {}).get("latency_ratio")
    return Outcome(fault, version, shown["phase"], shown["reason"], requests, lasted, ratio)


@asynccontextmanager
async def _left_alone() -> AsyncIterator[None]:
    yield


@asynccontextmanager
async def _crashing(gateway: Gateway) -> AsyncIterator[None]:
    """Every process that runs a version on trial dies soon after it began; the first one when it has answered."""

    async def crash() -> None:
        await asyncio.sleep(_LEAD_SECONDS)
        while True:
            await asyncio.sleep(_CRASH_EVERY_SECONDS)
            for process in psutil.Process(gateway.server.process.pid).children(recursive=True):
                with suppress(psutil.Error):
                    if _RUNNER in " ".join(process.cmdline()):
                        process.send_signal(signal.SIGSEGV)

    task = asyncio.create_task(crash())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
