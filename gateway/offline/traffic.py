"""Traffic as the journal has it, for one model: the answers that callers got, and the labels that came later.

Read twice: first the labels, then the answers with their labels. What joins is what the monitor joins
(`gateway.journal.join`): the first label of an (id, row), within the policy's wait, unless the id had a second answer
before. Labels and ids are held in memory, records are not.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, NamedTuple

from gateway.journal.journal import Offset, TrafficJournal
from gateway.journal.record import Entry, Feedback, Prediction, TrafficRecord
from gateway.names import ModelName, Outcome, Role

_PAGE = 2000


class Answer(NamedTuple):
    """One answer and the label of each of its rows (None: not known)."""

    record: Prediction
    time_ns: int
    labels: list[Any]


class Traffic:
    """A stretch of one model's traffic from `start` on. `answers`: how many there are, known after `read_labels`."""

    def __init__(self, journal: TrafficJournal, model: ModelName, start: Offset, since_ns: int, wait_ns: int) -> None:
        """wait_ns: how long after its prediction a label still joins."""
        self.answers = 0
        self._journal = journal
        self._model = model
        self._start = start
        self._since_ns = since_ns
        self._wait_ns = wait_ns
        self._labels: dict[tuple[str, int], tuple[Any, int]] = {}
        self._answered: set[int] = set()
        self._ambiguous: dict[str, int] = {}

    async def read_labels(self) -> None:
        """Read the stretch for labels, for ids that have two answers, and for how many answers there are."""
        async for entries in self._pages():
            for entry in entries:
                record = entry.record
                if isinstance(record, Feedback):
                    if record.label is not None:
                        self._labels.setdefault((record.id, record.row), (record.label, entry.time_ns))
                elif self._is_answer(record, entry.time_ns):
                    self.answers += 1
                    self._count(record.id, entry.time_ns)

    async def read(self, skip: int = 0) -> AsyncIterator[list[Answer]]:
        """The answers with their labels, page by page, without the first `skip`."""
        seen = 0
        async for entries in self._pages():
            found: list[Answer] = []
            for entry in entries:
                record = entry.record
                if isinstance(record, Prediction) and self._is_answer(record, entry.time_ns):
                    seen += 1
                    if seen > skip:
                        labels = [self._label(record, entry.time_ns, row) for row in range(record.rows)]
                        found.append(Answer(record, entry.time_ns, labels))
            yield found

    async def _pages(self) -> AsyncIterator[list[Entry[TrafficRecord]]]:
        offset = self._start
        while (batch := await self._journal.read(offset, _PAGE)).entries:
            offset = batch.offset
            yield list(batch.entries)

    def _is_answer(self, record: Prediction, time_ns: int) -> bool:
        is_ours = record.model == self._model and record.role != Role.SHADOW and record.outcome == Outcome.OK
        return is_ours and time_ns >= self._since_ns

    def _count(self, id_: str, time_ns: int) -> None:
        """Ids by their hash: two of a million that look alike cost one label."""
        mark = hash(id_)
        if mark in self._answered:
            self._ambiguous.setdefault(id_, time_ns)
        self._answered.add(mark)

    def _label(self, record: Prediction, time_ns: int, row: int) -> Any:
        label, known_ns = self._labels.get((record.id, row), (None, 0))
        ambiguous_ns = self._ambiguous.get(record.id)
        is_second = "duplicate_id" in record.flags or (ambiguous_ns is not None and time_ns >= ambiguous_ns)
        is_unclear = ambiguous_ns is not None and known_ns > ambiguous_ns
        is_late = known_ns - time_ns > self._wait_ns
        return None if is_second or is_unclear or is_late else label
