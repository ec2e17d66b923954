"""Work that is done for one model at a time and for all models side by side: a slow model holds up no other."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from gateway.clock import Clock
from gateway.names import ModelName

_PAUSE_SECONDS = 1.0
_logger = logging.getLogger(__name__)


class Lane:
    """Calls `work` for every model that was hinted at, at most one call a model at a time. Used from one event loop.

    However many hints come during a call, one more follows it, which sees all of them: `work` reads the whole present
    state. A call that fails is logged and repeated after a second.
    """

    def __init__(self, work: Callable[[ModelName], Awaitable[None]], clock: Clock) -> None:
        self._work = work
        self._clock = clock
        self._due: set[ModelName] = set()
        self._tasks: dict[ModelName, asyncio.Task[None]] = {}

    def hint(self, model: ModelName) -> None:
        """Something may have changed for the model."""
        self._due.add(model)
        if model not in self._tasks:
            self._tasks[model] = asyncio.create_task(self._follow(model))

    async def close(self) -> None:
        """Cancel what is under way and wait for its end."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self, model: ModelName) -> None:
        try:
            while model in self._due:
                self._due.discard(model)
                try:
                    await self._work(model)
                except Exception:
                    _logger.exception("%s: failed; it is tried again in %g s", model, _PAUSE_SECONDS)
                    await self._clock.sleep(_PAUSE_SECONDS)
                    self._due.add(model)
        finally:
            del self._tasks[model]
