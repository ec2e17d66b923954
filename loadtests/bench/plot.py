"""Requests a second of every server as one SVG, on a logarithmic scale. Pure: text out of values, no library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil, floor, log10
from xml.sax.saxutils import escape

from loadtests.bench.sample import Case, Middle

_WIDTH, _LABEL, _RIGHT, _TOP = 900, 300, 90, 56
_ROW, _BAR = 26, 18
_OURS, _FLOOR, _PEER = "#1f6f5c", "#9aa5ad", "#c06a2b"


def render(titles: Mapping[str, str], medians: Sequence[Middle], case: Case = "one") -> str:
    """Horizontal bars, fastest first; a subject without a clean round is drawn pale. Empty text for no values."""
    shown = sorted(
        (middle for middle in medians if middle.case == case and middle.values["requests_per_second"] > 0),
        key=lambda middle: -middle.values["requests_per_second"],
    )
    if not shown:
        return ""
    rates = [middle.values["requests_per_second"] for middle in shown]
    low, high = floor(log10(min(rates) / 2)), ceil(log10(max(rates)))
    height = _TOP + len(shown) * _ROW + 34
    size = f'width="{_WIDTH}" height="{height}" viewBox="0 0 {_WIDTH} {height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        '<text x="12" y="22" font-size="15" font-weight="bold">Requests a second, one core for the server</text>',
        f'<text x="12" y="40" fill="#555555">{_legend(shown)}</text>',
        *_grid(low, high, height),
    ]
    for at, middle in enumerate(shown):
        parts += _row(at, titles.get(middle.subject, middle.subject), middle, low, high)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _legend(shown: Sequence[Middle]) -> str:
    words = "logarithmic scale; green: this gateway, grey: floors, orange: peers"
    return f"{words}; pale: no clean round" if any(middle.clean == 0 for middle in shown) else words


def _x(value: float, low: int, high: int) -> float:
    return _LABEL + (log10(value) - low) / (high - low) * (_WIDTH - _LABEL - _RIGHT)


def _grid(low: int, high: int, height: int) -> list[str]:
    lines: list[str] = []
    for power in range(low, high + 1):
        x = _x(10.0**power, low, high)
        lines.append(f'<line x1="{x:.1f}" y1="{_TOP - 6}" x2="{x:.1f}" y2="{height - 26}" stroke="#dddddd"/>')
        text = f"{10.0**power:,.0f}" if power >= 0 else f"{10.0**power:g}"
        lines.append(f'<text x="{x:.1f}" y="{height - 10}" text-anchor="middle" fill="#555555">{text}</text>')
    return lines


def _row(at: int, title: str, middle: Middle, low: int, high: int) -> list[str]:
    rate = middle.values["requests_per_second"]
    y, end = _TOP + at * _ROW, _x(rate, low, high)
    paint = f'fill="{_colour(middle.subject)}" opacity="{1 if middle.clean else 0.45}"'
    return [
        f'<text x="{_LABEL - 8}" y="{y + 13}" text-anchor="end">{escape(title)}</text>',
        f'<rect x="{_LABEL}" y="{y}" width="{end - _LABEL:.1f}" height="{_BAR}" rx="2" {paint}/>',
        f'<text x="{end + 6:.1f}" y="{y + 13}">{rate:,.0f}</text>',
    ]


def _colour(subject: str) -> str:
    if subject.startswith("gateway"):
        return _OURS
    return _FLOOR if subject.startswith("floor") else _PEER
