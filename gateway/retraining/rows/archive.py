"""What published versions were made from, kept so that they can be made again: `DIR/datasets/<model>/<job>/`.

    dataset/     the frozen rows
    source/      the recipe as it was, and its golden rows
    spec.json    everything else that the job was told

Kept before the version is published, so a version that a job made has its rows. The newest of each model stay.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from msgspec import json
from msgspec.structs import replace

from gateway.errors import NotAllowed
from gateway.registry.manifest import Manifest
from gateway.retraining.recipe import Recipe
from gateway.retraining.spec import JobSpec

FOLDER = "datasets"
SOURCE = "source"
RECIPE_FILE = "recipe.py"
SPEC_FILE = "spec.json"
KEPT = 20
"""Jobs of one model whose rows are kept."""


def write_source(recipe: Recipe, path: Path, out: Path) -> None:
    """In the job: the recipe's text and its golden rows, as they were read."""
    source = out / SOURCE
    source.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, source / RECIPE_FILE)
    if recipe.golden:
        kept = source / recipe.golden
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path.parent / recipe.golden, kept)


def keep(data: Path, model: str, job: str, directory: Path) -> Path:
    """Take a job's rows, source and spec out of its directory; the oldest beyond KEPT are forgotten."""
    place = data / FOLDER / model / job
    draft = place.with_name(f"{job}.draft")
    for old in (draft, place):
        shutil.rmtree(old, ignore_errors=True)
    draft.mkdir(parents=True)
    shutil.move(directory / "dataset", draft / "dataset")
    shutil.move(directory / "out" / SOURCE, draft / SOURCE)
    shutil.copyfile(directory / SPEC_FILE, draft / SPEC_FILE)
    draft.replace(place)
    for old in sorted(place.parent.iterdir(), key=lambda one: one.stat().st_mtime_ns)[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return place


def forget(data: Path, model: str, job: str) -> None:
    """The job published nothing, or was cut off while its rows were taken."""
    for name in (job, f"{job}.draft"):
        shutil.rmtree(data / FOLDER / model / name, ignore_errors=True)


def kept_spec(data: Path, manifest: Manifest, out: Path) -> JobSpec:
    """The job of a version once more, from what was kept, into `out`. Raises NotAllowed when nothing was.

    Without the champion: it decides what is published, not what is made; the rows it had seen stay out of the holdout.
    """
    place = data / FOLDER / manifest.model / manifest.lineage.job
    if not manifest.lineage.job or not (place / SPEC_FILE).is_file():
        raise NotAllowed(
            f"the rows of {manifest.version} are not kept here: {FOLDER} holds those of the newest {KEPT} jobs of a "
            "model; a version made from a file is made again with --csv FILE"
        )
    spec = json.decode((place / SPEC_FILE).read_bytes(), type=JobSpec)
    return replace(
        spec, dataset=str(place / "dataset"), recipe=str(place / SOURCE / RECIPE_FILE), champion="", out=str(out)
    )
