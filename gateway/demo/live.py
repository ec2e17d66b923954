"""How far the run is: a bar on a terminal, a line every 5,000 rows elsewhere. Always on standard error."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich import live
from rich.console import Console, Group
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

_LINE_EVERY_ROWS = 5_000


class Live:
    """Shows rows answered, accuracy so far, and what the watch sees."""

    def __init__(self, console: Console, rows: int) -> None:
        self._console = console
        self._rows = rows
        self._next_line = _LINE_EVERY_ROWS
        self._progress = Progress(
            TextColumn("rows {task.completed:>6,.0f} of {task.total:,.0f}"),
            BarColumn(bar_width=20),
            TextColumn("accuracy {task.fields[accuracy]:.4f}"),
            TimeElapsedColumn(),
        )
        self._task = self._progress.add_task("", total=rows, accuracy=0.0)
        self._seen = Text("", no_wrap=True, overflow="ellipsis")
        self._display = live.Live(Group(self._progress, self._seen), console=console, refresh_per_second=5)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._display.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._display.stop()

    def show(self, answered: int, accuracy: float, seen: str) -> None:
        """`answered` rows are done."""
        if self._console.is_terminal:
            self._progress.update(self._task, completed=answered, accuracy=accuracy)
            self._seen.plain = seen
        elif answered >= self._next_line:
            self._next_line += _LINE_EVERY_ROWS
            line = f"rows {answered:>6,} of {self._rows:,}  accuracy {accuracy:.4f}  {seen}"
            self._console.print(line, soft_wrap=True)
