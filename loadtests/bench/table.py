"""The tables as Markdown: what was measured, and the bars beside it. Pure; a person reads them in a terminal too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from loadtests.bench.comparison import Finding, measure_text
from loadtests.bench.sample import CASES, MEASURES, Measure, Middle

_DIGITS: dict[Measure, int] = {"cpu_us": 1, "start_seconds": 2}


def render(
    facts: Mapping[str, str],
    titles: Mapping[str, str],
    medians: Sequence[Middle],
    found: Sequence[Finding],
    notes: Sequence[str],
) -> str:
    """The whole report. facts: how and where it was measured; titles: a line for each subject's key."""
    parts = ["# Benchmark", "", *(f"- {name}: {value}" for name, value in facts.items())]
    if any(middle.clean == 0 for middle in medians):
        parts.append("- **Some rows have no clean round: something else used the cores. Their figures prove nothing.**")
    parts += ["", "## Measured", "", *aligned(_measured(titles, medians))]
    if any(middle.is_load_tool_full for middle in medians):
        parts += ["", "`>=`: the load tool used its whole core, so the server may be faster than this."]
    if found:
        parts += ["", "## Bars", "", *aligned(_against(found))]
    if notes:
        parts += ["", "## Left out", "", *(f"- {note}" for note in notes)]
    return "\n".join(parts) + "\n"


def _measured(titles: Mapping[str, str], medians: Sequence[Middle]) -> list[list[str]]:
    rows = [["server", "case", *MEASURES.values(), "clean rounds"]]
    for middle in medians:
        cells = [number(middle.values[measure], _DIGITS.get(measure, 0)) for measure in MEASURES]
        if middle.is_load_tool_full:
            cells[0] = f">= {cells[0]}"
        subject = titles.get(middle.subject, middle.subject)
        rows.append([subject, CASES[middle.case], *cells, f"{middle.clean} of {middle.rounds}"])
    return rows


def _against(found: Sequence[Finding]) -> list[list[str]]:
    rows = [["against", "measure", "ours", "theirs", "value", "bar", "met", "clean rounds"]]
    for one in found:
        sign = ">=" if one.bar.direction == "at least" else "<="
        digits = _DIGITS.get(one.bar.measure, 0)
        rows.append(
            [
                one.bar.what,
                measure_text(one.bar),
                number(one.ours, digits),
                "" if one.theirs is None else number(one.theirs, digits),
                number(one.value, 2),
                f"{sign} {one.bar.bound:g}",
                _verdict(one),
                f"{one.clean} of {one.rounds}",
            ]
        )
    return rows


def _verdict(finding: Finding) -> str:
    if finding.clean == 0:
        return "disturbed"
    return "yes" if finding.is_met else "NO"


def number(value: float, digits: int) -> str:
    """With commas between thousands."""
    return f"{value:,.{digits}f}"


def aligned(rows: Sequence[Sequence[str]], left: Sequence[int] = (0, 1)) -> list[str]:
    """Markdown whose columns also line up: those of `left` to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["| " + " | ".join(_cells(row, widths, left)) + " |" for row in rows]
    rule = "|" + "|".join(
        "-" * (width + 2) if at in left else "-" * (width + 1) + ":" for at, width in enumerate(widths)
    )
    return [lines[0], f"{rule}|", *lines[1:]]


def _cells(row: Sequence[str], widths: Sequence[int], left: Sequence[int]) -> list[str]:
    return [
        text.ljust(width) if at in left else text.rjust(width)
        for at, (text, width) in enumerate(zip(row, widths, strict=True))
    ]
