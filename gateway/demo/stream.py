"""A stream as a client sees it: rows in order, labels some rows late, and which answers were right.

Pure but for reading the file. Knows nothing of HTTP, of versions or of what the gateway does with a label.
"""

from __future__ import annotations

import csv
import gzip
import heapq
import random
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from gateway.errors import InvalidConfig


class Course(NamedTuple):
    """A stream that the demo can send: its model and data file have this name; label: the label's column.

    delay_rows: a row's label is known when so many further rows have been sent. first_rows: of the first version.
    """

    name: str
    title: str
    label: str
    delay_rows: int
    first_rows: int = 2_000


COURSES = {
    course.name: course
    for course in (
        Course("electricity", "Electricity", "class", 48),
        Course("sea", "SEA", "class", 100),
        Course("covertype", "Covertype", "cover", 100),
    )
}
"""Half-hours, whose labels are known a day later; points; patches of forest."""


class Row(NamedTuple):
    """One row: its place in the stream (1 is the first), its features by name, and its label."""

    number: int
    features: dict[str, float]
    label: int


class Due(NamedTuple):
    """A label that has become known: the id of the answered request and the truth."""

    id: str
    label: int


def read_stream(file: Path) -> list[Row]:
    """All rows of a gzip CSV with a header whose last column is the label. Raises InvalidConfig."""
    with gzip.open(file, "rt", newline="") as lines:
        records = csv.reader(lines)
        names = next(records, [])[:-1]
        try:
            return [
                Row(number, dict(zip(names, map(float, record[:-1]), strict=True)), int(record[-1]))
                for number, record in enumerate(records, start=1)
            ]
        except (ValueError, IndexError) as error:
            raise InvalidConfig(f"{file}: not a CSV of numbers with the label last: {error}") from error


def write_shuffled(file: Path, rows: Sequence[Row], label: str, seed: int) -> None:
    """Write the rows as a CSV, each with the label of some other row: nothing can be learnt from it."""
    labels = [row.label for row in rows]
    random.Random(seed).shuffle(labels)
    with file.open("w", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow([*rows[0].features, label])
        writer.writerows([*row.features.values(), label] for row, label in zip(rows, labels, strict=True))


class LateLabels:
    """Labels wait here until their row is `delay_rows` old, then go out in batches, oldest first.

    A label is due when row `number + delay` has been sent and its own request was answered. A batch is ready
    as soon as it holds `batch` labels, so no label waits longer than `batch` rows after it became due.
    """

    def __init__(self, delay_rows: int, batch: int = 8) -> None:
        self._delay_rows = delay_rows
        self._batch = batch
        self._waiting: list[tuple[int, Due]] = []
        self._due: list[Due] = []
        self._sent = 0

    def answered(self, row: Row, request_id: str) -> None:
        """The row was answered under this id."""
        heapq.heappush(self._waiting, (row.number, Due(request_id, row.label)))

    def sent(self, number: int) -> None:
        """Row `number` has been sent: the clock of the stream stands there."""
        self._sent = max(self._sent, number)

    def take(self) -> list[Due]:
        """The next batch of due labels; empty while there are fewer than a batch."""
        while self._waiting and self._waiting[0][0] <= self._sent - self._delay_rows:
            self._due.append(heapq.heappop(self._waiting)[1])
        if len(self._due) < self._batch:
            return []
        batch, self._due = self._due, []
        return batch

    def take_rest(self) -> list[Due]:
        """Everything that is left: after the last row time goes on without new rows."""
        rest = self._due + [due for _, due in sorted(self._waiting)]
        self._due, self._waiting = [], []
        return rest


class Score:
    """Prequential accuracy: every row was predicted before its label was known."""

    def __init__(self) -> None:
        self.rows = 0
        self.right = 0

    def add(self, row: Row, answer: int) -> None:
        """Count one answer."""
        self.rows += 1
        self.right += answer == row.label

    @property
    def accuracy(self) -> float:
        """Share of right answers; 0 before the first."""
        return self.right / self.rows if self.rows else 0.0
