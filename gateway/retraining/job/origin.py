"""Where a version comes from: digests of data, code, parameters and environment, so that it can be made once more.

The environment is what decides the model's bytes: Python, the libraries that fit and convert, and the kind of
processor. It names no machine.
"""

from __future__ import annotations

import hashlib
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from msgspec import json

from gateway.documents.policy import RetrainingPolicy
from gateway.registry.manifest import Lineage
from gateway.retraining.recipe import Recipe, code_digest
from gateway.retraining.rows.dataset import Dataset
from gateway.retraining.rows.span import window_name
from gateway.retraining.spec import JobSpec

LIBRARIES = ("gateway", "numpy", "scipy", "scikit-learn", "skl2onnx", "onnx", "onnxruntime")


def lineage_of(
    spec: JobSpec, recipe: Recipe, path: Path, dataset: Dataset, policy: RetrainingPolicy, source: str = "job"
) -> Lineage:
    """The lineage of what a job makes, as far as it is known before anything is fitted."""
    seed = recipe.seed if spec.seed is None else spec.seed
    around = environment()
    parameters: dict[str, Any] = {
        "windows": [window_name(window) for window in policy.windows or ("since_change",)],
        "asked_holdout_rows": recipe.holdout_rows,
        "least_rows": recipe.least_rows,
        "history_rows": recipe.history_rows if recipe.history else 0,
        "change_ns": dataset.description.change_ns,
        "unseen_from_ns": spec.champion_trained_until_ns,
    }
    return Lineage(
        source=source,
        trigger=spec.trigger,
        alert=spec.alert,
        job=spec.job,
        parent=spec.parent,
        data_digest=dataset.description.digest,
        code_digest=code_digest(path),
        parameters=parameters,
        parameters_digest=digest(parameters | {"seed": seed}),
        environment=around,
        environment_digest=digest(around),
        seed=seed,
        rows=dataset.rows,
        created=spec.created,
    )


def environment() -> dict[str, str]:
    """Names and versions of what fits and converts."""
    found = {"python": platform.python_version(), "processor": platform.machine()}
    return found | {name: version(name) for name in LIBRARIES}


def digest(values: dict[str, Any]) -> str:
    """SHA-256 of values as JSON with sorted keys."""
    return hashlib.sha256(json.encode(values, order="sorted")).hexdigest()
