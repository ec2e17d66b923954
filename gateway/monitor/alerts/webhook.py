"""Bodies on their way to webhooks: bounded, tried three times, never in the way of the fold.

Knows no HTTP: the wiring gives `post`, which names the content type of a CloudEvent. What an event says is `notice`'s;
an alert is in the journal whatever happens here. URLs are logged without what may be secret in them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from gateway.clock import Clock
from gateway.documents.hook import shown

Post = Callable[[str, bytes], Awaitable[None]]
"""Send a body to a URL; raises when it was not taken."""

_POSTS = 100
_POST_TRIES = 3

_log = logging.getLogger(__name__)


class Webhooks:
    """Sends bodies to URLs in tasks of its own; `close` ends them."""

    def __init__(self, post: Post | None, clock: Clock) -> None:
        self._post = post
        self._clock = clock
        self._tasks: set[asyncio.Task[None]] = set()

    def send(self, url: str, body: bytes) -> None:
        """Start sending; dropped (and told in the log) when a hundred are on their way."""
        if self._post is None:
            return
        if len(self._tasks) >= _POSTS:
            _log.warning("an alert was not posted to %s: %d others are on their way", shown(url), _POSTS)
            return
        task = asyncio.get_running_loop().create_task(self._deliver(self._post, url, body))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Stop what is still on its way."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _deliver(self, post: Post, url: str, body: bytes) -> None:
        for attempt in range(1, _POST_TRIES + 1):
            try:
                await post(url, body)
                return
            except Exception as error:  # noqa: BLE001 - whatever the caller's client raises; alerts are in the journal
                problem = type(error).__name__  # its text may hold the URL
                _log.warning("posting an alert to %s failed (%d of %d): %s", shown(url), attempt, _POST_TRIES, problem)
                await self._clock.sleep(float(attempt))
