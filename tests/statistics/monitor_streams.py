"""Made-up streams for the monitor's detectors: quiet ones that look moved to a careless test, and changes in them.

30 numeric features and 1 of five categories. A stream makes its reference and what follows it in one go, so that
chains and seasons go on where the reference ends. Seeded; numpy only, and river's generator for SEA.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gateway.monitor.detectors.detector import FloatArray
from gateway.monitor.detectors.panel import Plan
from gateway.registry.manifest import Feature
from gateway.registry.reference import build_reference, encode_rows

Random = np.random.Generator
Codes = NDArray[np.intp]

NUMERIC = 30
CATEGORIES = ("a", "b", "c", "d", "e")
SHARES = (0.4, 0.3, 0.15, 0.1, 0.05)
UNKNOWN = len(CATEGORIES)
"""The code of a category that no reference holds."""

REFERENCE_ROWS = 5_000
ELECTRICITY = Path(__file__).parents[2] / "models" / "data" / "electricity.csv.gz"


@dataclass(frozen=True)
class Rows:
    """numbers: shape (rows, 30); codes: places in CATEGORIES, shape (rows,), -1 without a categorical feature."""

    numbers: FloatArray
    codes: Codes

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, part: slice) -> Rows:
        return Rows(self.numbers[part], self.codes[part])

    @property
    def records(self) -> list[list[object]]:
        """As a client sends them."""
        names = (*CATEGORIES, "z")
        if len(self) and self.codes[0] < 0:
            return [list(row) for row in self.numbers.tolist()]
        return [[*row, names[code]] for row, code in zip(self.numbers.tolist(), self.codes.tolist(), strict=True)]


@dataclass(frozen=True)
class Known:
    """What a detector knows before the stream: rows, and the plan that the product makes of them."""

    rows: Rows
    plan: Plan

    def encoded(self, rows: Rows) -> FloatArray:
        """Rows as the monitor encodes them."""
        return encode_rows(self.plan.columns, rows.records)


Make = Callable[[Random, int], Rows]


def known(rows: Rows) -> Known:
    """The reference as a retraining job makes it."""
    features = [Feature(name=f"f{place}") for place in range(rows.numbers.shape[1])]
    if rows.codes[0] >= 0:
        features.append(Feature(name="kind", kind="categorical"))
    return Known(rows, Plan(build_reference(features, rows.records)))


# Quiet streams.


def _codes(random: Random, rows: int) -> Codes:
    return random.choice(len(CATEGORIES), size=rows, p=SHARES)


def independent(random: Random, rows: int) -> Rows:
    """Normal deviates: the stream that every detector is shown on."""
    return Rows(random.normal(size=(rows, NUMERIC)), _codes(random, rows))


def mixed(random: Random, rows: int) -> Rows:
    """Tails without a variance, skew, ties, columns that are mostly 0, and a factor common to all of them."""
    common = random.normal(size=(rows, 1))
    base = 0.6 * common + 0.8 * random.normal(size=(rows, NUMERIC))
    heavy = random.standard_t(2, size=(rows, 6)) + base[:, :6]
    skewed = np.exp(base[:, 6:12])
    tied = np.round(base[:, 12:18])
    binary = (base[:, 18:22] > 1).astype(np.float64)
    mostly_zero = np.where(base[:, 22:26] > 1.2, np.exp(base[:, 22:26]), 0.0)
    codes = np.clip(np.digitize(common[:, 0], (-0.25, 0.5, 1.0, 1.6)), 0, UNKNOWN - 1)
    return Rows(np.column_stack([heavy, skewed, tied, binary, mostly_zero, base[:, 26:]]), codes)


def chain(coefficient: float) -> Make:
    """AR(1) in every feature, each with variance 1; the category keeps its value as often."""

    def make(random: Random, rows: int) -> Rows:
        from scipy.signal import lfilter

        scale = np.sqrt(1 - coefficient**2)
        first = coefficient * random.normal(size=NUMERIC)
        numbers, _ = lfilter([scale], [1, -coefficient], random.normal(size=(rows, NUMERIC)), axis=0, zi=first[None, :])
        fresh = _codes(random, rows)
        kept = random.random(rows) < coefficient
        kept[0] = False
        places = np.maximum.accumulate(np.where(kept, 0, np.arange(rows)))
        return Rows(numbers, fresh[places])

    return make


def seasonal(period: int) -> Make:
    """Every feature swings by one deviation, each at a phase of its own; so do the shares of the categories."""

    def make(random: Random, rows: int) -> Rows:
        phases = random.uniform(0, 2 * np.pi, size=NUMERIC + 1)
        swing = np.sqrt(2) * np.sin(2 * np.pi * np.arange(rows)[:, None] / period + phases)
        numbers = swing[:, :NUMERIC] + random.normal(size=(rows, NUMERIC))
        busy = random.random(rows) < 0.25 * (1 + swing[:, NUMERIC] / np.sqrt(2))
        return Rows(numbers, np.where(busy, 0, _codes(random, rows)))

    return make


# Changes, of a stream from row `at` on.

Change = Callable[[Random, Rows, int], str]
"""Changes rows in place; gives the name of the feature that moved."""


def shifted(by: float) -> Change:
    """The mean of one feature moves by so many deviations."""

    def change(random: Random, rows: Rows, at: int) -> str:
        place = int(random.integers(NUMERIC))
        rows.numbers[at:, place] += by
        return f"f{place}"

    return change


def scaled(by: float) -> Change:
    """One feature spreads wider, its mean stays."""

    def change(random: Random, rows: Rows, at: int) -> str:
        place = int(random.integers(NUMERIC))
        rows.numbers[at:, place] *= by
        return f"f{place}"

    return change


def missing(share: float) -> Change:
    """One feature is left out in a share of the rows."""

    def change(random: Random, rows: Rows, at: int) -> str:
        place = int(random.integers(NUMERIC))
        left_out = random.random(len(rows) - at) < share
        rows.numbers[at:, place][left_out] = np.nan
        return f"f{place}"

    return change


def unseen(share: float) -> Change:
    """A category that the reference does not hold."""

    def change(random: Random, rows: Rows, at: int) -> str:
        new = random.random(len(rows) - at) < share
        rows.codes[at:][new] = UNKNOWN
        return "kind"

    return change


# Two known data sets.

SEA_ROWS = 12_500
SEA_CHANGES = (SEA_ROWS, 2 * SEA_ROWS, 3 * SEA_ROWS)


def sea(seed: int) -> tuple[FloatArray, NDArray[np.intp]]:
    """50,000 rows of three features and their labels: theta moves at SEA_CHANGES, a tenth of the labels is noise."""
    from river.datasets import synth

    rows, labels = [], []
    for variant in range(4):
        for features, label in synth.SEA(variant=variant, noise=0.1, seed=seed * 4 + variant).take(SEA_ROWS):
            rows.append(list(features.values()))
            labels.append(int(label))
    return np.array(rows, dtype=np.float64), np.array(labels, dtype=np.intp)


@cache
def electricity() -> FloatArray:
    """45,312 half hours of six features in their real order."""
    with gzip.open(ELECTRICITY, "rt", encoding="utf-8", newline="") as file:
        lines = list(csv.reader(file))[1:]
    return np.array([line[:6] for line in lines], dtype=np.float64)
