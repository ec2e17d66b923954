"""The recipes that come with the project: trained by the command, past their gates, published, and served."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway.app.build import open_stores
from gateway.clock import ManualClock
from gateway.documents.parse import parse_policy
from gateway.documents.policy import Policy
from gateway.documents.route import Route
from gateway.documents.store import policy_name, route_name
from gateway.errors import InvalidInput
from gateway.execution.session import LoadedVersion, load
from gateway.names import ModelName
from gateway.registry.manifest import Manifest
from gateway.retraining.recipe import load_recipe
from gateway.serving.predict import PredictRequest
from gateway.settings import Settings
from tests.cli.conftest import Command
from tests.serving.serving_kit import Kit

ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted(path.stem for path in (ROOT / "models").glob("*.py"))


class RealKit(Kit):
    """A serving process that runs what it loads."""

    def _load(self, manifest: Manifest, directory: Path) -> LoadedVersion:
        return load(manifest, directory, warm_up_rows=1)


def policy_of(name: str) -> Policy:
    file = ROOT / "router_config" / f"{name}.yaml"
    return parse_policy(file.read_text(), str(file))


def test_every_recipe_has_its_data_and_its_policy() -> None:
    for name in RECIPES:
        assert (ROOT / "models" / "data" / f"{name}.csv.gz").exists()
        assert f"## `{name}.csv.gz`" in (ROOT / "models" / "data" / "README.md").read_text()
        assert policy_of(name).retraining.recipe == f"models/{name}.py"
        assert f"`models/{name}.py`" in (ROOT / "docs" / "recipe.md").read_text()
        assert {"purpose", "data", "limits"} <= set(load_recipe(ROOT / "models" / f"{name}.py").card)


@pytest.mark.parametrize(
    ("name", "metric", "limit", "refused"),
    [
        ("covertype", "accuracy", 0.3, {"soil_1": 7}),
        ("diabetes", "mae", 55.0, {"bmi": 8}),
        ("breast_cancer", "balanced_accuracy", 0.9, {"mean_area": "large"}),
    ],
)
def test_a_recipe_becomes_a_version_that_answers(
    command: Command, tmp_path: Path, name: str, metric: str, limit: float, refused: dict[str, Any]
) -> None:
    """Its contract and its policy are at the door; the metric that it promises is in its gate report."""
    csv = ROOT / "models" / "data" / f"{name}.csv.gz"
    words = ("--rows", "1500", "--models", str(ROOT / "models"), "--data", "d")
    done = command("train", name, "--csv", str(csv), *words)
    assert (done.code, done.out.split()[0]) == (0, f"{name}@1"), done.err
    manifest, answer, error = serve(tmp_path, name, refused)
    value = manifest.gate.metrics[metric]
    assert value < limit if metric == "mae" else value > limit
    assert set(answer) == ({"value"} if metric == "mae" else {"label", "probabilities"})
    assert next(iter(refused)) in str(error)


def serve(folder: Path, name: str, refused: dict[str, Any]) -> tuple[Manifest, dict[str, Any], InvalidInput]:
    """The version, its answer to a plain record, and what it says to one that its contract or policy refuses."""
    import asyncio

    async def work() -> tuple[Manifest, dict[str, Any], InvalidInput]:
        model = ModelName(name)
        published = open_stores(Settings(data=folder / "d"))
        [manifest] = await published.registry.versions(model)
        _, package = await published.registry.fetch(manifest.version, folder / "fetched")
        published.close()
        kit = RealKit(folder / "kit", ManualClock())
        await kit.stores.registry.publish(package)
        await kit.put(policy_name(model), policy_of(name).encode())
        await kit.put(route_name(model), Route(champion=1, salt="s").encode())
        await kit.pickup.pick_up(model)
        record = {one.name: one.categories[0] if one.categories else one.high for one in manifest.features}
        answer = await kit.serving.predict(PredictRequest(model=name, inputs=record))
        with pytest.raises(InvalidInput) as error:
            await kit.serving.predict(PredictRequest(model=name, inputs=record | refused))
        return manifest, dict(answer.record.outputs), error.value

    return asyncio.run(work())
