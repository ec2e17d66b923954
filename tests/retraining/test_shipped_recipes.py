"""The recipes that come with the project: trained from their files, past their gates, with their contracts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway.documents.job import JobState
from gateway.documents.parse import parse_policy
from gateway.documents.policy import Inputs
from gateway.errors import InvalidInput
from gateway.execution.contract import Contract
from gateway.execution.session import load
from gateway.registry.package import read_package
from gateway.retraining.job import first_job
from gateway.retraining.recipe import load_recipe

ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted(path.stem for path in (ROOT / "models").glob("*.py"))


def test_every_recipe_has_its_data_and_its_policy() -> None:
    for name in RECIPES:
        assert (ROOT / "models" / "data" / f"{name}.csv.gz").exists()
        assert f"## `{name}.csv.gz`" in (ROOT / "models" / "data" / "README.md").read_text()
        file = ROOT / "router_config" / f"{name}.yaml"
        assert parse_policy(file.read_text(), str(file)).retraining.recipe == f"models/{name}.py"
        assert {"purpose", "data", "limits"} <= set(load_recipe(ROOT / "models" / f"{name}.py").card)


@pytest.mark.parametrize(
    ("name", "metric", "limit", "rejected"),
    [
        ("covertype", "accuracy", 0.3, {"soil_1": "yes"}),
        ("diabetes", "mae", 55.0, {"sex": None}),
        ("breast_cancer", "balanced_accuracy", 0.9, {"mean_area": "large"}),
    ],
)
def test_a_recipe_makes_a_version_that_can_be_served(
    tmp_path: Path, name: str, metric: str, limit: float, rejected: dict[str, Any]
) -> None:
    """Its contract is the recipe's, its answers come from the door that serving uses."""
    recipe = ROOT / "models" / f"{name}.py"
    result = first_job(recipe, ROOT / "models" / "data" / f"{name}.csv.gz", 1500, tmp_path / "out")
    assert result.state is JobState.PUBLISHED, result.detail
    manifest = read_package(tmp_path / "out" / "package")
    value = manifest.gate.metrics[metric]
    assert value < limit if metric == "mae" else value > limit
    assert all(one.categories for one in manifest.features if one.kind == "categorical")
    assert all(one.low is not None and one.high is not None for one in manifest.features if one.kind == "numeric")
    contract = Contract(manifest, Inputs())
    record = {one.name: one.categories[0] if one.categories else one.high for one in manifest.features}
    outputs = load(manifest, tmp_path / "out" / "package", warm_up_rows=1).run(contract.records(record).tensors)
    assert set(outputs) == ({"value"} if metric == "mae" else {"label", "probabilities"})
    with pytest.raises(InvalidInput, match=next(iter(rejected))):
        contract.records(record | rejected)
