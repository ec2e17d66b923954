"""A recipe that fits in milliseconds, rows it can learn from, and the electricity recipe."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.journal.join import LabelledRow
from gateway.retraining.recipe import Recipe, load_recipe

ROOT = Path(__file__).resolve().parents[2]
SECOND = 1_000_000_000
START_NS = 1_700_000_000 * SECOND

QUICK = """
from gateway.retraining.recipe import Feature, Recipe

def tree():
    from sklearn.tree import DecisionTreeClassifier
    return DecisionTreeClassifier(max_depth=3)

recipe = Recipe(model="quick", features=[Feature(name="a"), Feature(name="b")], label="y", classes=[0, 1],
                candidates={"tree": tree}, label_delay_rows=10, holdout_rows=100, validation_rows=100, least_rows=100)
"""


@pytest.fixture
def quick_path(tmp_path: Path) -> Path:
    """A recipe file of the model `quick`."""
    path = tmp_path / "models" / "quick.py"
    path.parent.mkdir()
    path.write_text(QUICK)
    return path


@pytest.fixture
def quick(quick_path: Path) -> Recipe:
    """The same, loaded."""
    return load_recipe(quick_path)


@pytest.fixture
def electricity_path() -> Path:
    """The recipe of the electricity stream."""
    return ROOT / "models" / "electricity.py"


@pytest.fixture
def electricity_csv() -> Path:
    """The electricity stream."""
    return ROOT / "models" / "data" / "electricity.csv.gz"


@pytest.fixture
def labelled() -> Callable[..., list[LabelledRow]]:
    """Rows of `quick`, one a second: y is 1 when a is above 0.5 (the other way round with `flipped`)."""

    def make(count: int, first: int = 0, delay: int = 10, version: int = 1, flipped: bool = False) -> list[LabelledRow]:
        rows = []
        for number in range(first, first + count):
            a, b = (number * 37 % 101) / 101, (number * 53 % 97) / 97
            rows.append(
                LabelledRow(
                    model="quick",
                    ordinal=number + 1,
                    id=f"r{number}",
                    row=0,
                    predicted_ns=START_NS + number * SECOND,
                    labelled_ns=START_NS + (number + delay) * SECOND,
                    contract=version,
                    inputs=[a, b],
                    label=int((a > 0.5) != flipped),
                    version=version,
                    prediction=0,
                )
            )
        return rows

    return make
