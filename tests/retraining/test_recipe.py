"""What a recipe says wrong is told with file and line, before anything is trained."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gateway.errors import InvalidConfig
from gateway.retraining.recipe import Feature, Recipe, load_recipe


def test_electricity_recipe_loads_and_names_its_six_features(electricity_path: Path) -> None:
    """The demo's recipe is also the example that people copy."""
    recipe = load_recipe(electricity_path)
    assert recipe.model == "electricity"
    assert recipe.names == ("nswprice", "nswdemand", "vicprice", "vicdemand", "transfer", "period")
    assert recipe.label_delay_rows == 48


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        ("x = (", 1, "never closed"),
        ("import math\n\n1 / 0\n", 3, "division"),
        ("a = 1\n", 1, "recipe"),
        (
            "from gateway.retraining.recipe import Recipe\n\nrecipe = Recipe(model='m', features=[], label='y')\n",
            3,
            "candidates",
        ),
    ],
)
def test_wrong_recipe_names_file_and_line(tmp_path: Path, text: str, line: int, word: str) -> None:
    """A person looks at the line, not at a traceback."""
    path = tmp_path / "wrong.py"
    path.write_text(text)
    with pytest.raises(InvalidConfig, match=word) as caught:
        load_recipe(path)
    assert caught.value.faults[0].pointer.startswith(f"{path}:{line}")


def test_missing_recipe_file_is_told_by_name(tmp_path: Path) -> None:
    """The path in the policy may be wrong."""
    with pytest.raises(InvalidConfig, match=r"gone\.py"):
        load_recipe(tmp_path / "gone.py")


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"classes": [1, 1]}, "classes"),
        ({"classes": [1, "a"]}, "classes"),
        ({"metric": "mae"}, "metric"),
        ({"classes": [], "metric": "accuracy"}, "metric"),
        ({"slices": ["z"]}, "slices"),
        ({"holdout_rows": 99}, "holdout_rows"),
        ({"candidates": {}}, "candidates"),
        ({"label": "a"}, "features"),
        ({"features": [Feature(name="a", kind="text")]}, "kind"),
        ({"features": [Feature(name="a", kind="categorical", categories=("x", 1))]}, "categories"),
        ({"features": [Feature(name="a", low=1.0, high=0.0)]}, "low"),
        ({"features": [Feature(name="a", high=float("inf"))]}, "finite"),
        ({"model": "no name"}, "model name"),
        ({"spaces": {"two": {}}}, "spaces"),
        ({"spaces": {"one": {"depth": []}}}, "list of values"),
        ({"search": "luck"}, "search"),
        ({"golden": "../golden.csv"}, "golden"),
        ({"fairness": ["z"]}, "fairness"),
        ({"classes": [], "metric": "mae", "calibrate": True}, "calibrate"),
    ],
)
def test_field_that_does_not_fit_is_named(fields: dict[str, object], word: str) -> None:
    """Each rule of the recipe is checked where it is written."""
    good: dict[str, object] = {
        "model": "m",
        "features": [Feature(name="a")],
        "label": "y",
        "classes": [0, 1],
        "candidates": {"one": dict},
    }
    with pytest.raises(ValueError, match=word):
        Recipe(**{**good, **fields})  # type: ignore[arg-type]


def test_control_process_loads_no_training_library() -> None:
    """Seconds of imports and hundreds of megabytes belong to jobs alone."""
    code = (
        "import sys, gateway.retraining.supervisor, gateway.retraining.recipe, gateway.retraining.job.gate\n"
        "print([name for name in ('sklearn', 'skl2onnx', 'onnxruntime') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
