"""Rows that wait together run together: requests read in one turn of the event loop share one run for each version.

There is no timer: what runs in the event loop waits no longer than the turn it came in, and what runs elsewhere (a
thread, a process) waits while as many runs of its version are under way as are of use. While the loop is busy with
others, what goes to a process of its own waits for company, a few turns at most. Only versions of which
admission has proved it are joined (`Manifest.joins`: the same bits joined and alone). Inputs are checked by the
version's contract here, together too. A joined run that fails is repeated request by request, so one caller's inputs
never fail another's. Knows nothing of routes and the journal. Only used from one event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Final

import numpy as np
from msgspec.structs import replace

from gateway.execution.contract import Prepared
from gateway.execution.executor import TOO_LATE, Executor, Run
from gateway.execution.session import LoadedVersion, classes_name
from gateway.execution.tensors import Tensors, to_json
from gateway.names import Outcome
from gateway.registry.manifest import MOST_JOINED_ROWS
from gateway.serving.arm import Arm
from gateway.serving.call import Attempt
from gateway.serving.request import rows_of

TURN_SECONDS: Final = 0.01
"""How long runs may keep the event loop in one turn; then it looks after its sockets again."""

GATHER_SECONDS: Final = 0.001
"""How long a busy loop may keep what goes to a version's own process: an exchange costs two switches of context and a
turn, whatever it carries, and whoever waits in the loop meanwhile pays for them."""

_BUSY: Final = 4
"""So many requests for other versions in one turn mean that the loop is busy."""

Ended = Callable[[Attempt, Run], None]
"""Told once how an attempt ended; its inputs were right."""

Refused = Callable[[Attempt, Exception], None]
"""Told instead that the inputs do not fit the version."""


class Batcher:
    """Gathers what is added during a turn and runs it at `flush`."""

    def __init__(
        self,
        executor: Executor,
        monotonic: Callable[[], float],
        ended: Ended,
        refused: Refused,
        wake: Callable[[], None],
    ) -> None:
        """wake: asks for a `flush` at the end of this turn."""
        self._executor = executor
        self._monotonic = monotonic
        self._ended = ended
        self._refused = refused
        self._wake = wake
        self._waiting: dict[Arm, list[Attempt]] = {}
        self._held: dict[Arm, list[Attempt]] = {}

    @property
    def has_waiting(self) -> bool:
        """True while there is something to `flush`."""
        return bool(self._waiting)

    def add(self, attempt: Attempt) -> None:
        """Run this at the end of the turn. It ends with the outcome DEADLINE when that takes too long."""
        arm = attempt.arm
        attempt.cost_us = arm.pace.weight(rows_of(attempt.call.request)) * arm.pace.row_us
        arm.pressure.waiting_us += attempt.cost_us
        self._queue(arm, [attempt])

    def flush(self) -> None:
        """Run what was added, and what the ends of these runs add, for at most TURN_SECONDS; the rest waits."""
        gathering: dict[Arm, list[Attempt]] = {}
        try:
            self._flush(gathering)
        finally:
            for arm, attempts in gathering.items():
                self._queue(arm, attempts)

    def _flush(self, gathering: dict[Arm, list[Attempt]]) -> None:
        """gathering: where those go that wait for company until the next turn."""
        now = self._monotonic()
        until = now + TURN_SECONDS
        came = sum(map(len, self._waiting.values()))
        while self._waiting:
            arm = next(iter(self._waiting))
            attempts = self._waiting.pop(arm)
            if arm.running and self._is_busy(arm):
                self._hold(arm, attempts)
                continue
            if arm.joins and self._executor.at_once(arm.loaded) == 1 and _gathers(attempts, came, now):
                gathering[arm] = attempts
                continue
            at_once = MOST_JOINED_ROWS if arm.joins else 1
            for start in range(0, len(attempts), at_once):
                if start and self._monotonic() > until:
                    self._queue(arm, attempts[start:])
                    return
                self._run_all(arm, attempts[start : start + at_once])
            if self._monotonic() > until:
                return

    def _queue(self, arm: Arm, attempts: list[Attempt]) -> None:
        waiting = self._waiting.get(arm)
        if waiting is None:
            self._waiting[arm] = attempts
            self._wake()
        else:
            waiting += attempts

    def _is_busy(self, arm: Arm) -> bool:
        """True while one more run would only wait elsewhere. A run that is late may never end: nobody waits for it."""
        most = self._executor.at_once(arm.loaded)
        return 0 < most <= arm.running and self._monotonic() <= arm.running_until

    def _hold(self, arm: Arm, attempts: list[Attempt]) -> None:
        self._held.setdefault(arm, []).extend(attempts)
        for attempt in attempts:
            self._watch(attempt)

    def _watch(self, attempt: Attempt) -> None:
        if not attempt.is_watched:
            attempt.is_watched = True
            now = self._monotonic()
            asyncio.get_running_loop().call_later(attempt.call.expires - now, self._end_late, attempt, now)

    def _run_all(self, arm: Arm, attempts: list[Attempt]) -> None:
        ready, table = self._checked(arm, attempts)
        if not arm.joins or len(ready) == 1:
            for attempt in ready:
                self._run(arm, [attempt], _tensors(attempt))
        elif table is not None and len(ready) == len(attempts):
            self._run(arm, ready, table)
        elif ready:
            for group in groups(ready):
                self._run(arm, group, joined(group))

    def _checked(self, arm: Arm, attempts: list[Attempt]) -> tuple[list[Attempt], Tensors | None]:
        """Those whose inputs are right and whose time is not over; the others have ended."""
        found, table = arm.prepare_all([attempt.call.request for attempt in attempts])
        now = self._monotonic()
        ready: list[Attempt] = []
        for attempt, prepared in zip(attempts, found, strict=True):
            if attempt.is_over:  # it was held until it was late
                continue
            if isinstance(prepared, Exception):
                self._settle(attempt)
                self._refused(attempt, prepared)
                continue
            attempt.prepared = prepared
            if attempt.call.expires <= now:
                self._end(attempt, Run(None, Outcome.DEADLINE, 0, TOO_LATE), now)
            else:
                ready.append(attempt)
        return ready, table

    def _run(self, arm: Arm, attempts: list[Attempt], tensors: Tensors) -> None:
        until = max([one.call.expires for one in attempts])
        now = self._monotonic()
        arm.running += 1
        arm.running_until = max(arm.running_until, until)
        self._executor.submit(arm.loaded, tensors, partial(self._done, arm, attempts, now), until - now)
        for attempt in attempts:
            if not attempt.is_over:  # it runs elsewhere
                self._watch(attempt)

    def _done(self, arm: Arm, attempts: list[Attempt], began: float, run: Run) -> None:
        arm.running -= 1
        now = self._monotonic()
        arm.pace.ran(sum([arm.pace.weight(_prepared(one).rows) for one in attempts]), (now - began) * 1e6)
        held = self._held.pop(arm, None)
        if held:
            self._queue(arm, held)
        if len(attempts) == 1:
            self._end(attempts[0], run, now)
        elif run.outcome is Outcome.ERROR and not run.is_lost:
            for attempt in attempts:
                self._run(arm, [attempt], _tensors(attempt))
        else:
            for attempt, part in zip(attempts, parts(arm.loaded, attempts, run), strict=True):
                self._end(attempt, part, now)

    def _end(self, attempt: Attempt, run: Run, now: float) -> None:
        if attempt.is_over:
            return
        self._settle(attempt)
        if now > attempt.call.expires and run.outcome is not Outcome.DEADLINE:
            run = Run(None, Outcome.DEADLINE, run.latency_us, TOO_LATE)
        self._ended(attempt, run)

    def _settle(self, attempt: Attempt) -> None:
        attempt.is_over = True
        attempt.arm.pressure.waiting_us -= attempt.cost_us

    def _end_late(self, attempt: Attempt, began: float) -> None:
        now = self._monotonic()
        self._end(attempt, Run(None, Outcome.DEADLINE, round((now - began) * 1e6), TOO_LATE), now)


def _gathers(attempts: Sequence[Attempt], came: int, now: float) -> bool:
    """True while these wait for company: the loop is busy with others (came: what waits in this turn, with these)."""
    return came - len(attempts) >= _BUSY and now - attempts[0].call.started < GATHER_SECONDS


def groups(attempts: Sequence[Attempt]) -> Iterator[list[Attempt]]:
    """In order, in groups of at most MOST_JOINED_ROWS rows; what is larger alone goes alone."""
    group: list[Attempt] = []
    rows = 0
    for attempt in attempts:
        own = _prepared(attempt).rows
        if group and rows + own > MOST_JOINED_ROWS:
            yield group
            group, rows = [], 0
        group.append(attempt)
        rows += own
    yield group


def joined(attempts: Sequence[Attempt]) -> Tensors:
    """The rows of all below one another."""
    if len(attempts) == 1:
        return _tensors(attempts[0])
    every = [_tensors(attempt) for attempt in attempts]
    return {name: np.concatenate([own[name] for own in every]) for name in every[0]}


def parts(version: LoadedVersion, attempts: Sequence[Attempt], run: Run) -> list[Run]:
    """Each one's own rows of a joined run, and its run time: what it would have taken alone.

    The time that was measured is scaled by the version's measured cost of a run and of each further row, so a version
    that is joined often (a champion) and one that seldom is (its canary) stay comparable.
    """
    heights = [_prepared(attempt).rows for attempt in attempts]
    scale = run.latency_us / (version.cost_us + (sum(heights) - 1) * version.row_us)
    if run.whole is None:
        return [replace(run, latency_us=_alone_us(version, scale, rows)) for rows in heights]
    lists, non_finite = to_json(run.whole)
    zipmap = version.manifest.zipmap
    shared = frozenset(classes_name(columns) for columns in zipmap.values()) if zipmap else frozenset()
    whole, outcome, one_row_us = run.whole, run.outcome, _alone_us(version, scale, 1)
    cut: list[Run] = []
    start = 0
    for rows in heights:
        behind = start + rows
        listed = None
        if not non_finite:
            listed = {name: found if name in shared else found[start:behind] for name, found in lists.items()}
        latency_us = one_row_us if rows == 1 else _alone_us(version, scale, rows)
        cut.append(Run(whole, outcome, latency_us, "", False, listed, start, behind, shared))
        start = behind
    return cut


def _alone_us(version: LoadedVersion, scale: float, rows: int) -> int:
    return max(1, round(scale * (version.cost_us + (rows - 1) * version.row_us)))


def _prepared(attempt: Attempt) -> Prepared:
    assert attempt.prepared is not None, "checked before it runs"
    return attempt.prepared


def _tensors(attempt: Attempt) -> Tensors:
    return _prepared(attempt).tensors
