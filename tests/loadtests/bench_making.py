"""Samples and material without training anything."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from loadtests.bench.material import BATCH, COLUMNS, Material
from loadtests.bench.sample import Sample

QUIET = Sample(
    round=1,
    subject="gateway",
    case="one",
    requests_per_second=1000.0,
    p50_us=100.0,
    p99_us=500.0,
    cpu_us=20.0,
    pss_mb=50.0,
    rss_mb=80.0,
    start_seconds=0.5,
    other_cores=0.0,
    stolen_cores=0.0,
    load_cores=0.5,
)


def sample(subject: str, round: int, rate: float, *, other: float = 0.0, stolen: float = 0.0) -> Sample:
    """A sample of one row: its rate, and what disturbed it in cores."""
    return dataclasses.replace(
        QUIET, subject=subject, round=round, requests_per_second=rate, other_cores=other, stolen_cores=stolen
    )


def material() -> Material:
    """Rows of ones; the files do not exist."""
    one = np.ones((1, COLUMNS), np.float32)
    batch = np.ones((BATCH, COLUMNS), np.float32)
    answers = np.array([[0.25, 0.75]], np.float32)
    rows = np.repeat(answers, BATCH, axis=0)
    nowhere = Path("nowhere")
    return Material(nowhere, nowhere, nowhere, one, batch, (answers, answers), (rows, rows))
