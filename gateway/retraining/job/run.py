"""A retraining job: a program from files to files. A dataset directory in, a package and a report out.

    out/progress.json   the step under way, rewritten as the job goes on
    out/package/        the version, only when the gate was passed
    out/result.json     how it ended; written last, whole or not at all

Knows neither journal nor gateway, and reads no clock: two jobs with the same dataset, recipe, seed and policy give the
same model. Runs in a process of its own (`gateway.retraining.job.child`) or in a command that a person started.
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from msgspec import json

from gateway.documents.job import JobState
from gateway.documents.policy import RetrainingPolicy
from gateway.errors import GatewayError, InvalidConfig
from gateway.registry.manifest import GateReport, Lineage
from gateway.retraining.job.candidate import Champion, assemble
from gateway.retraining.job.coding import coded, of_known_labels
from gateway.retraining.job.examine import examine, fatal
from gateway.retraining.job.judge import Bench, card, judge
from gateway.retraining.job.origin import lineage_of
from gateway.retraining.job.search import Progress as Tell
from gateway.retraining.job.search import search
from gateway.retraining.recipe import Recipe, load_recipe
from gateway.retraining.rows.archive import write_source
from gateway.retraining.rows.dataset import Dataset, head, read_csv, read_dataset, save
from gateway.retraining.rows.history import with_history
from gateway.retraining.rows.span import rows_wanted
from gateway.retraining.rows.split import LEAST_HOLDOUT_ROWS, Split, shortfall, split
from gateway.retraining.spec import (
    PACKAGE_DIRECTORY,
    PROGRESS_FILE,
    RESULT_FILE,
    TOO_FEW,
    JobResult,
    JobSpec,
    Progress,
    write_whole,
)

__all__ = ["JobResult", "JobSpec", "first_job", "make_version", "run_job"]

log = logging.getLogger("gateway.job")


class _TooFew(Exception):
    """Not enough labelled rows that the champion has not seen."""


class _BadData(Exception):
    """The rows are not worth fitting on."""


def run_job(spec: JobSpec) -> JobResult:
    """Run the whole job and write its files. Never raises for what data, recipe or conversion do wrong."""
    out = Path(spec.out)
    out.mkdir(parents=True, exist_ok=True)

    def progress(step: str, done: int = 0, total: int = 0) -> None:
        write_whole(out / PROGRESS_FILE, json.encode(Progress(step=step, done=done, total=total)))

    try:
        progress("recipe")
        path = Path(spec.recipe)
        recipe = load_recipe(path)
        policy = RetrainingPolicy.model_validate_json(spec.policy)
        progress("data")
        golden = _golden(recipe, path)
        write_source(recipe, path, out)
        recipe, dataset = coded(recipe, _rows(recipe, path, Path(spec.dataset), policy))
        lineage = lineage_of(spec, recipe, path, dataset, policy)
        champion = None
        if spec.champion:
            champion = Champion.load(Path(spec.champion), spec.champion_trained_until_ns)
        bench = Bench(recipe, of_known_labels(recipe, dataset), champion, _coded(recipe, golden))
        result = make_version(bench, policy, lineage, out, spec.champion_trained_until_ns, progress)
    except _TooFew as few:
        result = JobResult(state=JobState.FAILED, detail=f"{TOO_FEW}: {few}")
    except _BadData as bad:
        result = JobResult(state=JobState.FAILED, detail=str(bad))
    except (GatewayError, ValueError) as error:
        log.exception("job %s failed", spec.job)
        result = JobResult(state=JobState.FAILED, detail=str(error)[:2000])
    except SystemExit as left:
        result = JobResult(state=JobState.FAILED, detail=f"{spec.recipe}: the recipe left with {left.code}")
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
    progress: Tell | None = None,
) -> JobResult:
    """Make a model's first version from the first `rows` of a CSV file: the package is in `out/package`.

    Runs the recipe in this process, so only for a command that a person started. There is no champion to compare with;
    the rest of the gate applies. Raises InvalidConfig when recipe or file are wrong.
    """
    recipe = load_recipe(recipe_path)
    golden = _golden(recipe, recipe_path)
    recipe, dataset = coded(recipe, read_csv(csv_path, recipe, rows))
    policy = policy or RetrainingPolicy()
    spec = JobSpec(
        job="", model=recipe.model, dataset="", out=str(out), recipe=str(recipe_path), trigger="first", created=created
    )
    lineage = lineage_of(spec, recipe, recipe_path, dataset, policy, source="file")
    shutil.rmtree(out / PACKAGE_DIRECTORY, ignore_errors=True)
    bench = Bench(recipe, of_known_labels(recipe, dataset), None, _coded(recipe, golden))
    try:
        return make_version(bench, policy, lineage, out, 0, progress or (lambda step, done, total: None))
    except _TooFew as few:
        return JobResult(state=JobState.FAILED, detail=f"{TOO_FEW}: {few}", rows=dataset.rows)
    except _BadData as bad:
        return JobResult(state=JobState.FAILED, detail=str(bad), rows=dataset.rows)


def make_version(
    bench: Bench, policy: RetrainingPolicy, lineage: Lineage, out: Path, unseen_from_ns: int, progress: Tell
) -> JobResult:
    """Split, examine, search, convert, judge on the holdout, and write the package when the gate is passed.

    unseen_from_ns: the champion was fitted on labels known until then, so the holdout begins after it.
    """
    recipe, dataset = bench.recipe, bench.dataset
    parts = _checked_split(recipe, dataset, unseen_from_ns)
    progress("examine", 0, 0)
    findings = examine(recipe, dataset, parts.train)
    if bad := fatal(findings, policy.refuse_data):
        raise _BadData(f"{bad.check}: {bad.detail}")
    progress("search", 0, 0)
    fitted = search(recipe, dataset, parts.train, policy.windows or ("since_change",), lineage.seed, progress)
    progress("convert", 0, 0)
    candidate = assemble(recipe, dataset, fitted, parts.holdout, lineage, out / "draft")
    progress("gate", 0, 0)
    report = judge(bench, candidate, policy.gate)
    described = card(bench, candidate, report, findings)
    if report.passed:
        progress("package", 0, 0)
        candidate.publishable(recipe, dataset, report, described, out / PACKAGE_DIRECTORY)
    shutil.rmtree(out / "draft", ignore_errors=True)
    passed = JobState.HELD if report.hold else JobState.PUBLISHED
    kept = {name: described[name] for name in ("tried", "data", "gap", "groups")}
    return JobResult(
        state=passed if report.passed else JobState.REJECTED,
        detail=_why(report, candidate.chosen),
        rows=dataset.rows,
        data_digest=dataset.description.digest,
        model_digest=candidate.manifest.digest,
        report=json.decode(json.encode(report)) | kept | {"chosen": candidate.chosen},
    )


def _rows(recipe: Recipe, path: Path, directory: Path, policy: RetrainingPolicy) -> Dataset:
    """The rows of the journal behind those of the recipe's history; what is used is what the directory then holds."""
    frozen = read_dataset(directory)
    dataset, most = head(frozen, recipe.names), rows_wanted(policy)
    if not recipe.history or frozen.description.history or dataset.rows >= most:
        return dataset
    known = _beside(path, "history", recipe.history, recipe, recipe.history_rows or None)
    dataset = with_history(dataset, known, most)
    save(directory, dataset)
    return dataset


def _golden(recipe: Recipe, path: Path) -> Dataset | None:
    """The rows that people trust, None when the recipe names none. Raises InvalidConfig when they can not be read."""
    return _beside(path, "golden", recipe.golden, recipe) if recipe.golden else None


def _beside(path: Path, name: str, relative: str, recipe: Recipe, rows: int | None = None) -> Dataset:
    """A CSV file beside the recipe. Raises InvalidConfig that names the recipe's field."""
    file = path.parent / relative
    if not file.is_file():
        raise InvalidConfig(f"{path}: {name}: there is no file {file}")
    found = read_csv(file, recipe, rows)
    if not found.rows:
        raise InvalidConfig(f"{file}: {name}: holds no rows")
    return found


def _coded(recipe: Recipe, golden: Dataset | None) -> Dataset | None:
    """The golden rows with the texts' numbers of a recipe whose categories are known."""
    return None if golden is None else coded(recipe, golden)[1]


def _checked_split(recipe: Recipe, dataset: Dataset, unseen_from_ns: int) -> Split:
    """Raises _TooFew with the numbers."""
    parts = split(dataset, recipe.holdout_rows, unseen_from_ns)
    if missing := shortfall(parts, recipe.least_rows):
        raise _TooFew(
            f"the holdout has {len(parts.holdout)} rows that the champion has not seen and needs {LEAST_HOLDOUT_ROWS}; "
            f"{len(parts.train)} rows lie before it and the label delay, the recipe asks for {recipe.least_rows}; "
            f"about {missing} more labels are needed"
        )
    return parts


def _why(report: GateReport, chosen: str) -> str:
    wrong = [check for check in report.checks if not check["passed"]]
    if report.passed and report.hold:
        return f"held for a person: {report.hold}; {chosen}"
    if not wrong:
        return f"passed its gate: {chosen}"
    return "; ".join(f"{check['name']}: {check['detail']}" for check in wrong)
