"""What a person sees meanwhile, on a terminal and in a log."""

from __future__ import annotations

import io

from rich.console import Console

from gateway.demo.live import Live


def shown(*, is_terminal: bool) -> str:
    """A run of 12,000 rows, shown every 50."""
    out = io.StringIO()
    console = Console(file=out, force_terminal=is_terminal, width=80, markup=False, highlight=False)
    with Live(console, 12_000) as live:
        for answered in range(0, 12_001, 50):
            live.show(answered, 0.75, f"alerts {answered}  jobs [3]")
    return out.getvalue()


def test_a_log_gets_a_line_every_5000_rows() -> None:
    """A bar in a CI log would be thousands of lines."""
    assert shown(is_terminal=False).splitlines() == [
        "rows  5,000 of 12,000  accuracy 0.7500  alerts 5000  jobs [3]",
        "rows 10,000 of 12,000  accuracy 0.7500  alerts 10000  jobs [3]",
    ]


def test_a_terminal_gets_a_bar_with_everything_on_80_columns() -> None:
    """The figures of the end stay on the screen."""
    end = shown(is_terminal=True)[-400:]
    for figure in ("rows 12,000 of 12,000", "accuracy 0.7500", "alerts 12000  jobs [3]"):
        assert figure in end
