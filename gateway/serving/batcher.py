"""Rows that wait together run together: requests read in one turn of the event loop share one run for each version.

There is no timer and nothing waits longer than the turn it came in. Only versions of which admission has proved it are
joined (`Manifest.joins`: the same bits joined and alone). A joined run that fails is repeated row by row, so one
caller's inputs never fail another's. Knows neither requests nor the journal. Only used from one event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from gateway.execution.executor import TOO_LATE, Done, Executor, Run
from gateway.execution.session import LoadedVersion, classes_name
from gateway.execution.tensors import Tensors, to_json
from gateway.names import Outcome
from gateway.registry.manifest import MOST_JOINED_ROWS


class _Waiting(Struct):
    """One request's part. deadline: seconds from now that the answer may take. ended: called once."""

    tensors: Tensors
    rows: int
    deadline_seconds: float
    ended: Done
    is_over: bool = False


class Batcher:
    """Gathers what is added during a turn, runs it when the turn ends. turn_over: called after each flush."""

    def __init__(self, executor: Executor, turn_over: Callable[[], None]) -> None:
        self._executor = executor
        self._turn_over = turn_over
        self._waiting: dict[LoadedVersion, list[_Waiting]] = {}

    def add(self, version: LoadedVersion, tensors: Tensors, rows: int, deadline_seconds: float, ended: Done) -> None:
        """Run this at the end of the turn; `ended` is called once, with the outcome DEADLINE when it takes too long.

        A run in a thread can not be interrupted: its late answer is dropped.
        """
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._flush)
        item = _Waiting(tensors, rows, deadline_seconds, ended)
        waiting = self._waiting.get(version)
        if waiting is None:
            self._waiting[version] = [item]
        else:
            waiting.append(item)

    def _flush(self) -> None:
        gathered, self._waiting = self._waiting, {}
        try:
            for version, items in gathered.items():
                if len(items) > 1 and version.manifest.joins:
                    for group in groups(items):
                        self._run(version, group)
                else:
                    for item in items:
                        self._run(version, [item])
        finally:
            self._turn_over()

    def _run(self, version: LoadedVersion, items: list[_Waiting]) -> None:
        tensors = items[0].tensors if len(items) == 1 else joined(items)

        def done(run: Run) -> None:
            if len(items) == 1:
                _end(items[0], run)
            elif run.outcome is Outcome.ERROR and not run.is_lost:
                for item in items:
                    self._run(version, [item])
            else:
                for item, part in zip(items, parts(version, items, run), strict=True):
                    _end(item, part)

        self._executor.submit(version, tensors, done, max(item.deadline_seconds for item in items))
        for item in items:
            if not item.is_over:  # it runs in a thread
                asyncio.get_running_loop().call_later(item.deadline_seconds, _end_late, item)


def groups(items: Sequence[_Waiting]) -> Iterator[list[_Waiting]]:
    """The items in order, in groups of at most MOST_JOINED_ROWS rows; what is larger alone goes alone."""
    group: list[_Waiting] = []
    rows = 0
    for item in items:
        if group and rows + item.rows > MOST_JOINED_ROWS:
            yield group
            group, rows = [], 0
        group.append(item)
        rows += item.rows
    yield group


def joined(items: Sequence[_Waiting]) -> Tensors:
    """The rows of all items below one another."""
    return {name: np.concatenate([item.tensors[name] for item in items]) for name in items[0].tensors}


def parts(version: LoadedVersion, items: Sequence[_Waiting], run: Run) -> list[Run]:
    """Each item's own rows of a joined run, and its run time: what it would have taken alone.

    The time that was measured is scaled by the version's measured cost of a run and of each further row, so a version
    that is joined often (a champion) and one that seldom is (its canary) stay comparable.
    """
    total = sum(item.rows for item in items)
    scale = run.latency_us / (version.cost_us + (total - 1) * version.row_us)
    alone_us = max(1, round(scale * version.cost_us))
    outputs = list((run.outputs or {}).items())
    lists, non_finite = to_json(run.outputs or {})
    shared = {classes_name(columns) for columns in version.manifest.zipmap.values()}
    cut: list[Run] = []
    start = 0
    for item in items:
        behind = start + item.rows
        latency_us = alone_us if item.rows == 1 else round(scale * (version.cost_us + (item.rows - 1) * version.row_us))
        if run.outputs is None:
            cut.append(replace(run, latency_us=latency_us))
            continue
        own = {name: array if name in shared else array[start:behind] for name, array in outputs}
        listed = None
        if not non_finite:
            listed = {name: found if name in shared else found[start:behind] for name, found in lists.items()}
        cut.append(Run(own, run.outcome, latency_us, run.error, False, listed))
        start = behind
    return cut


def _end(item: _Waiting, run: Run) -> None:
    if item.is_over:
        return
    item.is_over = True
    if run.latency_us > item.deadline_seconds * 1e6:
        run = Run(None, Outcome.DEADLINE, run.latency_us, TOO_LATE)
    item.ended(run)


def _end_late(item: _Waiting) -> None:
    _end(item, Run(None, Outcome.DEADLINE, round(item.deadline_seconds * 1e6), TOO_LATE))
