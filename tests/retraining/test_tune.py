"""Parameters are chosen forward in time, the same way every time."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gateway.errors import InvalidConfig
from gateway.journal.join import LabelledRow
from gateway.retraining.job.search import search
from gateway.retraining.job.tune import folds, tune
from gateway.retraining.recipe import Recipe
from gateway.retraining.rows.dataset import Dataset, read_dataset, write_dataset
from gateway.retraining.rows.split import split

Rows = Callable[..., list[LabelledRow]]


@pytest.fixture
def dataset(tmp_path: Path, labelled: Rows) -> Dataset:
    """A thousand easy rows, labels ten rows late."""
    write_dataset(tmp_path, labelled(1000), model="quick", features=["a", "b"])
    return read_dataset(tmp_path)


def test_folds_look_only_back(dataset: Dataset) -> None:
    """What is scored comes after everything that was known when it was fitted; the label delay lies between."""
    made = folds(dataset, np.arange(1000), 3, 100)
    assert [len(scored) for _, scored in made] == [250, 250, 250]
    for fitted, scored in made:
        assert dataset.labelled_ns[fitted].max() <= dataset.predicted_ns[scored].min()
        assert scored.min() - fitted.max() == 10
    assert [len(fitted) for fitted, _ in folds(dataset, np.arange(1000), 3, 600)] == [741]


@pytest.mark.parametrize("kind", ["grid", "random", "halving"])
def test_best_of_the_space_is_found(dataset: Dataset, quick: Recipe, kind: Any) -> None:
    """Ten parameters of which one is right; what was tried is written down, and a repeat is the same."""
    recipe = replace(quick, spaces={"tree": {"max_depth": list(range(1, 11))}}, search=kind, trials=10)

    def measure(parameters: Mapping[str, Any], fitted: np.ndarray, scored: np.ndarray) -> float:
        return float(-abs(parameters["max_depth"] - 7) + min(len(fitted), 1))

    found = tune(recipe, "tree", dataset, np.arange(1000), 3, measure)
    assert found.parameters == {"max_depth": 7}
    assert {entry["parameters"]["max_depth"] for entry in found.tried} == set(range(1, 11))
    assert tune(recipe, "tree", dataset, np.arange(1000), 3, measure) == found
    if kind == "halving":
        rows = [entry["rows"] for entry in found.tried]
        assert rows == sorted(rows)
        assert len(rows) > len(set(rows)) > 1


def test_chosen_parameters_are_those_of_the_fitted_model(dataset: Dataset, quick: Recipe) -> None:
    """And a parameter that does not exist is told by name."""
    train = split(dataset, 100).train
    recipe = replace(quick, spaces={"tree": {"max_depth": [1, 4]}})
    fitted = search(recipe, dataset, train, ["since_change"], seed=0)
    assert fitted.estimator.max_depth == fitted.parameters["max_depth"]
    assert [entry["parameters"] for entry in fitted.tried[:2]] == [{"max_depth": 1}, {"max_depth": 4}]
    with pytest.raises(ValueError, match="luck"):
        search(replace(quick, spaces={"tree": {"luck": [1]}}), dataset, train, ["since_change"], seed=0)


def test_bayesian_search_says_what_to_install(dataset: Dataset, quick: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """Optuna is an extra; without it the job's reason is a sentence, not an ImportError."""
    monkeypatch.setitem(sys.modules, "optuna", None)
    recipe = replace(quick, spaces={"tree": {"max_depth": [1, 4]}}, search="bayesian")
    with pytest.raises(InvalidConfig, match=r"gateway\[bayesian\]"):
        tune(recipe, "tree", dataset, np.arange(1000), 0, lambda *_: 1.0)


class Study:
    """Optuna's ask and tell, as far as it is used: proposes every place in turn."""

    def __init__(self) -> None:
        self.told: list[float | str] = []

    def ask(self) -> Any:
        """The next trial."""
        return SimpleNamespace(suggest_int=lambda name, low, high: low + len(self.told) % (high - low + 1))

    def tell(self, trial: Any, value: float | None = None, state: str = "") -> None:
        """How it went."""
        self.told.append(state or float(value or 0))


@pytest.mark.parametrize(("metric", "direction"), [("accuracy", "maximize"), ("rmse", "minimize")])
def test_bayesian_search_asks_optuna_and_tells_it_what_failed(
    dataset: Dataset, quick: Recipe, monkeypatch: pytest.MonkeyPatch, metric: Any, direction: str
) -> None:
    """The proposals are places in the list, so any value may stand there."""
    study, asked = Study(), dict[str, Any]()

    def create_study(**known: Any) -> Study:
        asked.update(known)
        return study

    module = ModuleType("optuna")
    vars(module).update(
        logging=SimpleNamespace(set_verbosity=lambda level: None, WARNING=30),
        samplers=SimpleNamespace(TPESampler=lambda seed: seed),
        trial=SimpleNamespace(TrialState=SimpleNamespace(FAIL="failed")),
        create_study=create_study,
    )
    monkeypatch.setitem(sys.modules, "optuna", module)
    classes = [] if metric == "rmse" else [0, 1]
    recipe = replace(
        quick, spaces={"tree": {"max_depth": [1, 5, None]}}, search="bayesian", trials=4, metric=metric, classes=classes
    )

    def measure(parameters: Mapping[str, Any], *_: Any) -> float:
        if parameters["max_depth"] is None:
            raise ValueError("too deep")
        return float(parameters["max_depth"])

    found = tune(recipe, "tree", dataset, np.arange(1000), 3, measure)
    assert asked == {"direction": direction, "sampler": 3}
    assert study.told == [1.0, 5.0, "failed", 1.0]
    assert found.parameters == {"max_depth": 5 if direction == "maximize" else 1}
    assert found.tried[2]["error"] == "too deep"


def test_dynamic_window_grows_from_the_newest_rows(dataset: Dataset, quick: Recipe) -> None:
    """Every size is tried and its figure kept."""
    fitted = search(quick, dataset, split(dataset, 100).train, ["dynamic"], seed=0)
    tried = {entry["window"]: entry["accuracy"] for entry in fitted.tried}
    assert set(tried) == {"rows:100", "rows:200", "rows:400", "rows:800", "rows:891"}
    assert fitted.window in tried
