"""What wakes the controller: hints of changed documents and versions, and waiting for the first of several things."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable

from gateway.documents.rollout import Rollout
from gateway.names import VersionId


class StepClock:
    """The time within a step, by a clock that nobody puts forward or back.

    Wall time counts only up to the first look at the step. A leap of a day neither ends a hold nor makes a step late,
    and a step lasts its time also where the wall clock went back.
    """

    def __init__(self) -> None:
        self._step: tuple[int, int, float] | None = None
        self._seen = 0.0
        self._spent = 0.0

    def now(self, rollout: Rollout, wall: float, monotonic: float) -> float:
        """Wall time as the step sees it: its start and the seconds since."""
        step = (rollout.number, rollout.step, rollout.step_since)
        if step != self._step:
            self._step, self._seen, self._spent = step, monotonic, max(0.0, wall - rollout.step_since)
        return rollout.step_since + self._spent + monotonic - self._seen


def model_of_document(name: object) -> str | None:
    """The model that a document of ours speaks of."""
    kind, _, rest = str(name).partition("/")
    if kind == "conditions":
        return rest.rpartition("@")[0]
    return rest if kind in {"policies", "routes", "rollouts", "freezes"} else None


def model_of_version(version: object) -> str | None:
    """The model that a hint of the registry speaks of."""
    return version.model if isinstance(version, VersionId) else None


async def first(*waits: Awaitable[object], seconds: float) -> None:
    """Return when one of the awaitables is done, or after so many seconds; the others are cancelled."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)
