"""A retraining job: a program from files to files. A dataset directory in, a package and a report out.

    out/progress.json   the step under way, rewritten as the job goes on
    out/package/        the version, only when the gate was passed
    out/result.json     how it ended; written last, whole or not at all

Knows neither journal nor gateway, and reads no clock: two jobs with the same dataset, recipe, seed and policy give the
same model. Runs in a process of its own (`gateway.retraining.job_child`) or in a command that a person started.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from msgspec import json

from gateway.documents.job import JobState
from gateway.documents.policy import RetrainingPolicy
from gateway.errors import GatewayError
from gateway.registry.manifest import GateReport, Lineage
from gateway.retraining.candidate import Champion, assemble, judge
from gateway.retraining.dataset import Dataset, head, read_csv, read_dataset
from gateway.retraining.evaluate import LEAST_HOLDOUT_ROWS, Split, shortfall, split
from gateway.retraining.recipe import Recipe, code_digest, load_recipe
from gateway.retraining.search import search, window_name
from gateway.retraining.spec import (
    PACKAGE_DIRECTORY,
    PROGRESS_FILE,
    RESULT_FILE,
    TOO_FEW,
    JobResult,
    JobSpec,
    write_whole,
)

__all__ = ["JobResult", "JobSpec", "first_job", "make_version", "run_job"]

log = logging.getLogger("gateway.job")


class _TooFew(Exception):
    """Not enough labelled rows that the champion has not seen."""


def run_job(spec: JobSpec) -> JobResult:
    """Run the whole job and write its files. Never raises for what data, recipe or conversion do wrong."""
    out = Path(spec.out)
    out.mkdir(parents=True, exist_ok=True)

    def progress(step: str) -> None:
        write_whole(out / PROGRESS_FILE, json.encode({"job": spec.job, "step": step}))

    try:
        progress("recipe")
        path = Path(spec.recipe)
        recipe = load_recipe(path)
        policy = RetrainingPolicy.model_validate_json(spec.policy)
        progress("data")
        dataset = head(read_dataset(Path(spec.dataset)), recipe.names)
        lineage = _lineage(spec, recipe, path, dataset, policy)
        champion = None
        if spec.champion:
            champion = Champion.load(Path(spec.champion), spec.champion_trained_until_ns)
        result = make_version(recipe, dataset, policy, champion, lineage, out, progress)
    except _TooFew as few:
        result = JobResult(state=JobState.FAILED, detail=f"{TOO_FEW}: {few}")
    except (GatewayError, ValueError) as error:
        log.exception("job %s failed", spec.job)
        result = JobResult(state=JobState.FAILED, detail=str(error)[:2000])
    except Exception as error:
        log.exception("job %s failed", spec.job)
        result = JobResult(state=JobState.FAILED, detail=f"{type(error).__name__}: {error}"[:2000])
    write_whole(out / RESULT_FILE, json.encode(result))
    progress(result.state)
    return result


def first_job(
    recipe_path: Path,
    csv_path: Path,
    rows: int | None,
    out: Path,
    policy: RetrainingPolicy | None = None,
    created: float = 0.0,
) -> JobResult:
    """Make a model's first version from the first `rows` of a CSV file: the package is in `out/package`.

    Runs the recipe in this process, so only for a command that a person started. There is no champion to compare with;
    the rest of the gate applies. Raises InvalidConfig when recipe or file are wrong.
    """
    recipe = load_recipe(recipe_path)
    dataset = read_csv(csv_path, recipe, rows)
    policy = policy or RetrainingPolicy()
    spec = JobSpec(
        job="", model=recipe.model, dataset="", out=str(out), recipe=str(recipe_path), trigger="first", created=created
    )
    lineage = _lineage(spec, recipe, recipe_path, dataset, policy, source="file")
    shutil.rmtree(out / PACKAGE_DIRECTORY, ignore_errors=True)
    try:
        return make_version(recipe, dataset, policy, None, lineage, out, lambda step: log.info("%s", step))
    except _TooFew as few:
        return JobResult(state=JobState.FAILED, detail=f"{TOO_FEW}: {few}", rows=dataset.rows)


def make_version(
    recipe: Recipe,
    dataset: Dataset,
    policy: RetrainingPolicy,
    champion: Champion | None,
    lineage: Lineage,
    out: Path,
    progress: Callable[[str], None],
) -> JobResult:
    """Split, search, convert, judge on the holdout, and write the package when the gate is passed."""
    parts = _checked_split(recipe, dataset, champion)
    progress("search")
    fitted = search(recipe, dataset, parts.train, _windows(policy), lineage.seed)
    progress("convert")
    candidate = assemble(recipe, dataset, fitted, parts.holdout, lineage, out / "draft")
    progress("gate")
    report = judge(recipe, dataset, candidate, parts, champion, policy.gate)
    state = JobState.PUBLISHED if report.passed else JobState.REJECTED
    if report.passed:
        progress("package")
        candidate.publishable(recipe, dataset, report, out / PACKAGE_DIRECTORY)
    shutil.rmtree(out / "draft", ignore_errors=True)
    return JobResult(
        state=state,
        detail=_why(report, candidate.chosen),
        rows=dataset.rows,
        data_digest=dataset.description.digest,
        model_digest=candidate.manifest.digest,
        report=json.decode(json.encode(report)) | {"tried": list(fitted.tried), "chosen": candidate.chosen},
    )


def _checked_split(recipe: Recipe, dataset: Dataset, champion: Champion | None) -> Split:
    """Raises _TooFew with the numbers."""
    until = champion.trained_until_ns if champion is not None else 0
    parts = split(dataset, recipe.holdout_rows, until)
    if missing := shortfall(parts, recipe.least_rows):
        raise _TooFew(
            f"the holdout has {len(parts.holdout)} rows that the champion has not seen and needs {LEAST_HOLDOUT_ROWS}; "
            f"{len(parts.train)} rows lie before it and the label delay, the recipe asks for {recipe.least_rows}; "
            f"about {missing} more labels are needed"
        )
    return parts


def _windows(policy: RetrainingPolicy) -> Sequence[Any]:
    return policy.windows or ("since_change",)


def _lineage(
    spec: JobSpec, recipe: Recipe, path: Path, dataset: Dataset, policy: RetrainingPolicy, source: str = "job"
) -> Lineage:
    seed = recipe.seed if spec.seed is None else spec.seed
    return Lineage(
        source=source,
        trigger=spec.trigger,
        alert=spec.alert,
        job=spec.job,
        parent=spec.parent,
        data_digest=dataset.description.digest,
        code_digest=code_digest(path),
        parameters={
            "windows": [window_name(window) for window in _windows(policy)],
            "asked_holdout_rows": recipe.holdout_rows,
            "least_rows": recipe.least_rows,
            "change_ns": dataset.description.change_ns,
        },
        seed=seed,
        rows=dataset.rows,
        created=spec.created,
    )


def _why(report: GateReport, chosen: str) -> str:
    wrong = [check for check in report.checks if not check["passed"]]
    if not wrong:
        return f"passed its gate: {chosen}"
    return "; ".join(f"{check['name']}: {check['detail']}" for check in wrong)
