"""Hooks on the wire: questions are asked and events are posted in tasks of their own, beside the controller's loop.

Nothing here is waited for: `answers` gives what is known now. A hook that hangs costs the step its time and nothing
else. Knows no HTTP: the wiring gives `ask`. What is remembered may be lost: a new process asks again, with the same id.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from gateway.clock import Clock
from gateway.documents.hook import Hook, shown
from gateway.names import ModelName
from gateway.rollout.confirm import Answer, listeners, read_answer

Ask = Callable[[str, bytes], Awaitable[tuple[int, bytes]]]
"""Post a body to a URL, following no redirect: the status and the first bytes of the answer. Raises what it likes."""

ASK_AGAIN_SECONDS = 10.0
"""A hook that said wait, or nothing that counts, is asked again after so long."""

_POSTS = 100
_TRIES = 3

_logger = logging.getLogger(__name__)


@dataclass
class _Asked:
    """A question to one hook. asked: monotonic, when it was asked last."""

    asked: float
    task: asyncio.Task[Answer]
    last: Answer | None = None


class Hooks:
    """Asks and tells the hooks of all models. One for each process; `close` ends what is on its way."""

    def __init__(self, ask: Ask | None, clock: Clock) -> None:
        self._ask = ask
        self._clock = clock
        self._policies: dict[ModelName, tuple[Hook, ...]] = {}
        self._questions: dict[ModelName, tuple[object, dict[str, _Asked]]] = {}
        self._posts: set[asyncio.Task[None]] = set()

    def learn(self, model: ModelName, hooks: tuple[Hook, ...]) -> None:
        """The hooks of the model's present policy: from now on these are told."""
        self._policies[model] = hooks

    def answers(self, model: ModelName, question: object, hooks: Sequence[Hook], body: bytes) -> list[Answer]:
        """What each hook has said so far; who was not asked yet, or said wait a while ago, is asked now.

        question: what it is about; another one than last time forgets what was said before.
        """
        about, asked = self._questions.get(model, (None, {}))
        if about != question:
            self.forget(model)
            asked = {}
            self._questions[model] = (question, asked)
        return [self._answer(asked, hook, body) for hook in hooks]

    def forget(self, model: ModelName) -> None:
        """Nothing is asked any more: questions under way are given up."""
        _, asked = self._questions.pop(model, (None, {}))
        for one in asked.values():
            one.task.cancel()

    def tell(self, model: ModelName, moment: str, body: bytes) -> None:
        """Post an event to the hooks that want to hear of this moment and are not asked about it."""
        for hook in listeners(self._policies.get(model, ()), moment, confirm=False):
            if self._ask is None:
                return
            if len(self._posts) >= _POSTS:
                _logger.warning("%s was not told: %d posts are on their way", shown(hook.url), _POSTS)
                continue
            task = asyncio.get_running_loop().create_task(self._deliver(hook, body))
            self._posts.add(task)
            task.add_done_callback(self._posts.discard)

    async def close(self) -> None:
        """Stop what is on its way."""
        tasks = [*self._posts, *(one.task for _, asked in self._questions.values() for one in asked.values())]
        self._questions.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _answer(self, asked: dict[str, _Asked], hook: Hook, body: bytes) -> Answer:
        now = self._clock.monotonic()
        known = asked.get(hook.url)
        if known is not None and known.task.done():
            known.last = known.task.result()
            is_due = known.last.word == "wait" and now - known.asked >= ASK_AGAIN_SECONDS
            if not is_due:
                return known.last
        if known is None or known.task.done():
            task = asyncio.get_running_loop().create_task(self._question(hook, body))
            known = asked[hook.url] = _Asked(now, task, known.last if known else None)
        return known.last or Answer(shown(hook.url), "wait", "is being asked")

    async def _question(self, hook: Hook, body: bytes) -> Answer:
        try:
            status, answer = await self._within(hook, body)
        except TimeoutError:
            return Answer(shown(hook.url), "wait", f"did not answer within {hook.timeout:g} s")
        except Exception as error:  # noqa: BLE001 - whatever the caller's client raises: it counts as wait
            return Answer(shown(hook.url), "wait", f"can not be reached ({type(error).__name__})")
        return read_answer(hook.url, status, answer)

    async def _deliver(self, hook: Hook, body: bytes) -> None:
        for attempt in range(1, _TRIES + 1):
            try:
                status, _ = await self._within(hook, body)
                if 200 <= status < 300:
                    return
                problem = f"status {status}"
            except Exception as error:  # noqa: BLE001 - whatever the caller's client raises: events are in the journal
                problem = type(error).__name__
            _logger.warning("posting to %s failed (%d of %d): %s", shown(hook.url), attempt, _TRIES, problem)
            await self._clock.sleep(float(attempt))

    async def _within(self, hook: Hook, body: bytes) -> tuple[int, bytes]:
        """The reply within the hook's time as a whole. Raises TimeoutError."""
        if self._ask is None:
            raise ConnectionError("there is no client to ask with")
        asking = asyncio.ensure_future(self._ask(hook.url, body))
        timer = asyncio.ensure_future(self._clock.sleep(hook.timeout))
        try:
            await asyncio.wait([asking, timer], return_when=asyncio.FIRST_COMPLETED)
            if not asking.done():
                raise TimeoutError
            return asking.result()
        finally:
            asking.cancel()
            timer.cancel()
            await asyncio.gather(asking, timer, return_exceptions=True)
