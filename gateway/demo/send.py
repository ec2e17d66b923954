"""Sends rows as predictions and late labels as feedback, in stream order, a few requests in flight.

A connection that breaks (the gateway restarts) is a retry with a fresh id: the first id may or may not be
journaled, and only the answered one gets a label. Anything but 2xx, or no answer at all, is a failed request.
Knows nothing of jobs or rollouts: `Pause` and `Pace` say when the next row may go.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import msgspec

from gateway.clock import Clock
from gateway.demo.client import Client, Reply
from gateway.demo.stream import Due, LateLabels, Row

IN_FLIGHT = 8
_RETRY_SECONDS = 0.1


class _Answer(msgspec.Struct):
    id: str
    version: int
    outputs: dict[str, list[object]]


class _Answers(msgspec.Struct):
    outputs: dict[str, list[object]]


_read_answer = msgspec.json.Decoder(_Answer).decode
_read_answers = msgspec.json.Decoder(_Answers).decode
_encode = msgspec.json.Encoder().encode


@dataclass
class Tally:
    """Counts of one run. by_version: answers by version number."""

    requests: int = 0
    failed: int = 0
    retried: int = 0
    failures: list[str] = field(default_factory=list)
    by_version: dict[int, int] = field(default_factory=dict)

    def fail(self, what: str) -> None:
        """Count a failed request; the first ten are kept in words."""
        self.failed += 1
        if len(self.failures) < 10:
            self.failures.append(what)


class Pause:
    """The stream's clock stands while `hold` is in force; sums up for how long."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._may_run = asyncio.Event()
        self._may_run.set()
        self._held_since = 0.0
        self._seconds = 0.0

    def hold(self) -> None:
        """Stop the clock; nothing happens when it stands already."""
        if self._may_run.is_set():
            self._held_since = self._clock.monotonic()
            self._may_run.clear()

    def release(self) -> None:
        """Let the clock run again."""
        if not self._may_run.is_set():
            self._seconds += self._clock.monotonic() - self._held_since
            self._may_run.set()

    @property
    def is_held(self) -> bool:
        """True while the clock stands."""
        return not self._may_run.is_set()

    @property
    def seconds(self) -> float:
        """How long the clock has stood so far."""
        standing = self._clock.monotonic() - self._held_since if self.is_held else 0.0
        return self._seconds + standing

    async def wait(self) -> None:
        """Return when the clock runs."""
        await self._may_run.wait()


class Pace:
    """At most so many rows a second; 0: as fast as answers come. Time that was not used is not saved up."""

    def __init__(self, rows_per_second: float, clock: Clock) -> None:
        self._interval_seconds = 1 / rows_per_second if rows_per_second else 0.0
        self._clock = clock
        self._next = 0.0

    async def wait(self) -> None:
        """Return when the next row may go."""
        if not self._interval_seconds:
            return
        now = self._clock.monotonic()
        at = max(self._next, now)
        self._next = at + self._interval_seconds
        if at > now:
            await self._clock.sleep(at - now)


class Sender:
    """Speaks `POST /predict` and `POST /feedback` for one model.

    run: starts every request id, so that two runs against one gateway never share one. output: the output that
    holds the class. patience_seconds: how long a request is retried while connections fail. acknowledged: told the id
    of every answered row.
    """

    def __init__(
        self,
        client: Client,
        tally: Tally,
        clock: Clock,
        *,
        model: str,
        run: str,
        output: str = "label",
        patience_seconds: float = 60.0,
        acknowledged: Callable[[str], None] = lambda request_id: None,
    ) -> None:
        self._client = client
        self._tally = tally
        self._clock = clock
        self._model = model
        self._run = run
        self._output = output
        self._patience_seconds = patience_seconds
        self._acknowledged = acknowledged

    async def predict(self, row: Row) -> tuple[str, int] | None:
        """The id that was answered and the predicted class; None when the request failed."""

        def body(attempt: int) -> bytes:
            request_id = f"{self._run}-{row.number}" + (f"-{attempt}" if attempt else "")
            return _encode({"model": self._model, "inputs": row.features, "id": request_id})

        reply = await self._post("/predict", body)
        if reply is None:
            return None
        try:
            answer = _read_answer(reply.body)
            label = answer.outputs[self._output][0]
            assert isinstance(label, int)
        except (msgspec.DecodeError, LookupError, AssertionError):
            self._tally.fail(f"/predict answered {reply.body[:200]!r}")
            return None
        self._acknowledged(answer.id)
        self._tally.by_version[answer.version] = self._tally.by_version.get(answer.version, 0) + 1
        return answer.id, label

    async def predict_pinned(self, rows: Sequence[Row], version: int) -> list[int]:
        """What one version says to many rows at once, as pinned requests; empty when the request failed."""
        body = _encode({"model": self._model, "inputs": [row.features for row in rows]})
        reply = await self._post("/predict", lambda _: body, {"x-model-version": str(version)})
        if reply is None:
            return []
        labels = _read_answers(reply.body).outputs.get(self._output, [])
        return [label for label in labels if isinstance(label, int)]

    async def label(self, labels: Sequence[Due]) -> None:
        """Send the labels; a repeat after a broken connection does no harm, the first label of a row wins."""
        body = _encode({"feedback": [{"id": due.id, "row": 0, "label": due.label} for due in labels]})
        await self._post("/feedback", lambda _: body)

    async def _post(
        self, path: str, body: Callable[[int], bytes], headers: dict[str, str] | None = None
    ) -> Reply | None:
        self._tally.requests += 1
        give_up = self._clock.monotonic() + self._patience_seconds
        attempt = 0
        while True:
            try:
                reply = await self._client.post(path, body(attempt), headers)
            except ConnectionError as error:
                if self._clock.monotonic() >= give_up:
                    self._tally.fail(f"{path}: never answered: {error}")
                    return None
                attempt += 1
                self._tally.retried += 1
                await self._clock.sleep(_RETRY_SECONDS)
                continue
            if reply.is_success:
                return reply
            self._tally.fail(f"{path}: {reply.status} {reply.body[:300].decode(errors='replace')}")
            return None


async def replay(
    rows: Sequence[Row],
    sender: Sender,
    late: LateLabels | None,
    *,
    pause: Pause,
    pace: Pace,
    answered: Callable[[Row, int | None], None],
    until: Callable[[], bool] = lambda: False,
    in_flight: int = IN_FLIGHT,
) -> None:
    """Send rows in order and labels when they are due, until the rows or `until` end it; then the other labels.

    late: None sends no labels. answered: called with each row and the predicted class, None when the request failed.
    """
    left: Iterator[Row] = iter(rows)

    async def work() -> None:
        while not until():
            await pause.wait()
            await pace.wait()
            row = next(left, None)
            if row is None:
                return
            if late is not None:
                late.sent(row.number)
            answer = await sender.predict(row)
            answered(row, answer[1] if answer else None)
            if late is not None and answer is not None:
                late.answered(row, answer[0])
            if late is not None and (due := late.take()):
                await sender.label(due)

    async with asyncio.TaskGroup() as workers:
        for _ in range(in_flight):
            workers.create_task(work())
    if late is not None and (rest := late.take_rest()):
        await sender.label(rest)
