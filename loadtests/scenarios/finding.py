"""One row of the table: a figure beside its bar. Pure: values in, text out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from loadtests.bench.sample import OTHER_CORES_ALLOWED, STOLEN_CORES_ALLOWED
from loadtests.bench.table import aligned, number


@dataclass(frozen=True)
class Finding:
    """What was measured of one bar. figure, bar: as people read them; note: what the figure is made of.

    is_time: a busy machine misses it without anybody's fault, so it proves something on a quiet one only.
    """

    what: str
    figure: str
    bar: str
    holds: bool
    note: str = ""
    is_time: bool = False


@dataclass(frozen=True)
class Measured:
    """The findings of one scenario, or why it could not be measured, and what else the cores did meanwhile.

    other_cores, stolen_cores: CPU seconds a second of programs that are none of ours, and of the hypervisor.
    """

    scenario: str
    findings: tuple[Finding, ...]
    seconds: float
    other_cores: float
    stolen_cores: float
    failure: str = ""

    @property
    def is_clean(self) -> bool:
        """True when nothing else used the cores meanwhile."""
        return self.other_cores <= OTHER_CORES_ALLOWED and self.stolen_cores <= STOLEN_CORES_ALLOWED

    @property
    def holds(self) -> bool:
        """True when it was measured and every bar holds."""
        return not self.failure and all(finding.holds for finding in self.findings)


def at_most(what: str, value: float, bound: float, unit: str, note: str = "", digits: int = 2) -> Finding:
    """A bar that must not be exceeded."""
    return Finding(what, f"{number(value, digits)}{unit}", f"<= {bound:g}{unit}", value <= bound, note, unit == " ms")


def at_least(what: str, value: float, bound: float, unit: str, note: str = "", digits: int = 2) -> Finding:
    """A bar that must be reached."""
    return Finding(what, f"{number(value, digits)}{unit}", f">= {bound:g}{unit}", value >= bound, note)


def none_failed(what: str, failed: int, asked: int, reasons: Mapping[str, int]) -> Finding:
    """No request may fail. reasons: how often each kind of failure came."""
    told = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
    return Finding(what, f"{failed:,} of {asked:,}", "0", failed == 0 and asked > 0, told)


def not_measured(what: str, bar: str, why: str) -> Finding:
    """A bar for which nothing came that could be measured: missed."""
    return Finding(what, "-", bar, False, why)


def render(facts: Mapping[str, str], measured: Sequence[Measured]) -> str:
    """The whole report as Markdown whose columns line up."""
    parts = ["# Scenarios", "", *(f"- {name}: {value}" for name, value in facts.items())]
    if any(not one.is_clean for one in measured):
        parts.append("- **Marked `disturbed`: something else used the cores meanwhile. Such times prove little.**")
    rows = [["scenario", "what", "figure", "bar", "verdict", "note"]]
    for one in measured:
        rows += [_row(one, finding) for finding in one.findings]
        if one.failure:
            rows.append([one.scenario, "not measured", "-", "-", "MISSED", one.failure])
    parts += ["", *aligned(rows, left=(0, 1, 4, 5))]
    lasted = ", ".join(f"{one.scenario} {one.seconds:.0f} s ({_cores(one)})" for one in measured)
    parts += ["", f"Seconds with all preparations: {lasted}."]
    return "\n".join(parts) + "\n"


def _row(measured: Measured, finding: Finding) -> list[str]:
    verdict = "holds" if finding.holds else "MISSED"
    verdict += "" if measured.is_clean else ", disturbed"
    return [measured.scenario, finding.what, finding.figure, finding.bar, verdict, finding.note]


def _cores(measured: Measured) -> str:
    return f"others used {measured.other_cores + measured.stolen_cores:.2f} cores"
