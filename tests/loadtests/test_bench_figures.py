"""Figures of the bench: which rounds count, what is compared with what, and how it is shown."""

from __future__ import annotations

import dataclasses
from xml.etree import ElementTree as ET

import pytest

from loadtests.bench import plot, subjects, table
from loadtests.bench.comparison import BARS, Bar, findings, measure_text
from loadtests.bench.sample import Sample, clean_rounds_short, middles
from tests.loadtests.bench_making import QUIET, material, sample

FASTER = Bar("a peer", ("gateway", "one"), ("peer", "one"), "requests_per_second", "ratio", "at least", 2.0)


def test_a_median_is_of_clean_rounds_only() -> None:
    """One round in which a compiler ran would pull a mean, and even a median of few."""
    samples = [
        sample("gateway", 1, 100),
        sample("gateway", 2, 10, other=0.8),
        sample("gateway", 3, 20, stolen=0.5),
        sample("gateway", 4, 120),
    ]
    (middle,) = middles(samples)
    assert middle.values["requests_per_second"] == 110
    assert (middle.clean, middle.rounds) == (2, 4)


def test_without_a_clean_round_all_count_and_the_row_says_so() -> None:
    """A busy machine still shows that the bench works; nobody may take the figures for more."""
    samples = [sample("gateway", number, rate, other=1.0) for number, rate in ((1, 10), (2, 30), (3, 20))]
    (middle,) = middles(samples)
    assert middle.values["requests_per_second"] == 20
    assert middle.clean == 0
    assert "prove nothing" in table.render({}, {}, [middle], [], [])


def test_more_rounds_are_run_only_for_those_that_lack_clean_ones() -> None:
    """The loop over rounds ends when this is empty."""
    samples = [sample("a", 1, 1), sample("a", 2, 1), sample("b", 1, 1), sample("b", 2, 1, other=0.5)]
    assert clean_rounds_short(samples, 2) == ["b"]
    assert clean_rounds_short(samples, 1) == []


def test_a_ratio_is_taken_inside_each_round() -> None:
    """The machine slows down from round to round, and takes both down with it."""
    samples = [
        *(sample("gateway", number, rate) for number, rate in ((1, 300), (2, 100), (3, 90))),
        *(sample("peer", number, rate) for number, rate in ((1, 100), (2, 25), (3, 30))),
    ]
    (found,) = findings(samples, [FASTER])
    assert found.value == pytest.approx(3)
    assert found.is_met


def test_a_pair_is_clean_when_both_of_its_rounds_are() -> None:
    """The second round's peer was disturbed: its ratio of 10 does not count."""
    samples = [
        sample("gateway", 1, 150),
        sample("peer", 1, 100),
        sample("gateway", 2, 100),
        sample("peer", 2, 10, other=0.9),
    ]
    (found,) = findings(samples, [FASTER])
    assert found.value == pytest.approx(1.5)
    assert (found.clean, found.rounds) == (1, 2)
    assert not found.is_met


def test_rounds_that_only_one_of_them_has_are_not_compared() -> None:
    """A peer that failed half-way has no partner in later rounds; one that never ran gives no line."""
    assert findings([sample("gateway", 1, 1)], [FASTER]) == []
    assert findings([sample("gateway", 1, 1), sample("peer", 2, 1)], [FASTER]) == []


def with_cpu(subject: str, cpu_us: float) -> Sample:
    return dataclasses.replace(QUIET, subject=subject, cpu_us=cpu_us)


@pytest.mark.parametrize(("cpu_us", "is_met"), [(24.0, True), (26.0, False)])
def test_a_difference_and_a_value_are_judged_as_such(cpu_us: float, is_met: bool) -> None:
    """100 models may add 5 us to the 20 us of one model."""
    added = Bar("more", ("many", "one"), ("gateway", "one"), "cpu_us", "difference", "at most", 5)
    alone = Bar("alone", ("many", "one"), None, "cpu_us", "value", "at most", 25)
    one, other = findings([with_cpu("gateway", 20.0), with_cpu("many", cpu_us)], [added, alone])
    assert one.value == pytest.approx(cpu_us - 20)
    assert other.value == cpu_us
    assert other.theirs is None
    assert one.is_met == other.is_met == is_met


@pytest.mark.parametrize("bar", BARS, ids=lambda bar: f"{bar.what}, {measure_text(bar)}")
def test_every_bar_is_about_something_that_is_measured(bar: Bar) -> None:
    """A key that is misspelt would leave its bar out of the table without a word."""
    made = material()
    every = [*subjects.gateways(made, True), *subjects.extras(made, True)]
    every += [*subjects.floors(made), *subjects.peers(made)]
    cases = {(one.key, case) for one in every for case in one.requests}
    assert bar.ours in cases
    assert bar.theirs is None or bar.theirs in cases


def test_the_table_shows_each_bar_with_its_verdict() -> None:
    """Met, missed, and disturbed: a bar without a clean pair is neither met nor missed."""
    samples = [sample("gateway", 1, 3000), sample("peer", 1, 1000), sample("busy", 1, 1, other=1.0)]
    stricter = dataclasses.replace(FASTER, what="stricter", bound=4.0)
    disturbed = dataclasses.replace(FASTER, what="disturbed", theirs=("busy", "one"))
    found = findings(samples, [FASTER, stricter, disturbed])
    text = table.render({"machine": "one"}, {"gateway": "ours"}, middles(samples), found, ["ray: not there"])
    lines = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("|")}
    assert [cell.strip() for cell in lines["ours"].split("|")[2:4]] == ["1 row", "3,000"]
    assert "3.00 | >= 2 |" in " ".join(lines["a peer"].split())
    assert " yes |" in lines["a peer"]
    assert " NO |" in lines["stricter"]
    assert "| disturbed |" in lines["disturbed"]
    assert "- machine: one" in text
    assert "- ray: not there" in text


def test_columns_line_up() -> None:
    """The table is read in a terminal as often as in a browser."""
    samples = [sample("gateway", 1, 123456), sample("a-much-longer-name", 1, 7)]
    rows = [line for line in table.render({}, {}, middles(samples), [], []).splitlines() if line.startswith("|")]
    assert len({len(row) for row in rows}) == 1


def test_a_load_tool_at_its_limit_is_told() -> None:
    """Else a server that is faster than the load tool looks as fast as the load tool."""
    (middle,) = middles([dataclasses.replace(QUIET, load_cores=0.99)])
    assert ">= 1,000" in table.render({}, {}, [middle], [], [])


def test_the_plot_is_well_formed_and_longer_bars_are_faster() -> None:
    """Titles are escaped; a subject without a clean round is paler."""
    samples = [sample("gateway", 1, 40000), sample("floor-asgi", 1, 400, other=1.0), sample("peer", 1, 4000)]
    drawn = ET.fromstring(plot.render({"peer": "A <peer> & more"}, middles(samples)))
    bars = [bar for bar in drawn.iter("{http://www.w3.org/2000/svg}rect") if "rx" in bar.attrib]
    widths = [float(bar.attrib["width"]) for bar in bars]
    assert widths == sorted(widths, reverse=True)
    assert [bar.attrib["opacity"] for bar in bars] == ["1", "1", "0.45"]
    texts = [text.text for text in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert "A <peer> & more" in texts
    assert "40,000" in texts


def test_a_plot_of_nothing_is_nothing() -> None:
    """Every subject may have failed."""
    assert plot.render({}, []) == ""
