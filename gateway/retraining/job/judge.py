"""One candidate against the champion, the baselines and the golden rows, and the model card that says how it went.

Everybody is scored on the same holdout, which neither the candidate nor the champion was fitted on. What the scores
mean is the gate's business; this is where they come from.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
from msgspec import to_builtins
from msgspec.structs import replace
from numpy.typing import NDArray

from gateway.documents.policy import Gate
from gateway.execution.session import LoadedVersion
from gateway.registry.manifest import GateReport
from gateway.registry.reference import loss_scale
from gateway.retraining.job import gate as checks
from gateway.retraining.job.baseline import baselines, majority
from gateway.retraining.job.candidate import Candidate, Champion, answers, like, tensors_of
from gateway.retraining.job.evaluate import finite, is_better, losses, metric, slices
from gateway.retraining.job.examine import Finding
from gateway.retraining.job.figures import Figure, class_figures, value_figures
from gateway.retraining.job.gate import Scores
from gateway.retraining.recipe import CARD_KEYS, Recipe
from gateway.retraining.rows.dataset import Dataset, IntArray

FOLLOW_UP = "follow_up"
MOST_TRIED = 200
TIMED_ROWS = 64


@dataclass(frozen=True)
class Bench:
    """What a candidate is judged on and against. golden: rows that people trust, None when the recipe names none."""

    recipe: Recipe
    dataset: Dataset
    champion: Champion | None
    golden: Dataset | None = None


def judge(bench: Bench, candidate: Candidate, criteria: Gate) -> GateReport:
    """The gate's report on the holdout; error_rate comes from all rows that the answering fit had not seen."""
    recipe, dataset, holdout = bench.recipe, bench.dataset, candidate.holdout
    truth = dataset.labels[holdout]
    places, said, _ = candidate.unseen()
    scale = 1.0 if recipe.is_class else loss_scale(said.tolist())
    lineage = candidate.manifest.lineage

    def scores(predictions: NDArray[Any], beside: dict[str, float] | None = None, **more: Any) -> Scores:
        measured = finite({str(recipe.metric): metric(recipe, predictions, truth), **(beside or {})})
        return Scores(losses(recipe, predictions, truth, scale), metrics=measured, **more)

    versions = [candidate.version] if bench.champion is None else [candidate.version, bench.champion.version]
    times = run_times(versions, dataset, holdout)
    mine = scores(candidate.answers.said, run_us=times[0], parity=candidate.parity)
    theirs = None
    if bench.champion is not None:
        theirs_said = like(answers(bench.champion.version, dataset, holdout).said, truth)
        alike = {"agreement": float((like(candidate.answers.said, truth) == theirs_said).mean())}
        theirs = scores(theirs_said, alike if recipe.is_class else None, run_us=times[1])
    others = baselines(recipe, dataset, candidate.fitted.rows, holdout, lineage.seed)
    by_name = {name: scores(predictions) for name, predictions in others.items()}
    figures = _figures(recipe, candidate, truth)
    further = _further(bench, candidate, mine, theirs, criteria, scale)
    features = dataset.features[holdout]
    report = checks.gate(mine, theirs, by_name, criteria, slices(recipe, features), further)
    unseen = losses(recipe, said, dataset.labels[places], scale)
    return replace(
        report,
        metrics={name: figure.value for name, figure in figures.items()} | report.metrics,
        intervals={name: (figure.low, figure.high) for name, figure in figures.items()},
        baselines={name: one.metrics.get(recipe.metric, 0.0) for name, one in by_name.items()}
        | ({} if recipe.human is None else {"human": recipe.human}),
        error_rate=float(unseen.mean()),
        error_rows=len(unseen),
    )


def card(bench: Bench, candidate: Candidate, report: GateReport, findings: Sequence[Finding]) -> dict[str, Any]:
    """The model card: what the recipe states, what it was asked for and does not, and what the job found."""
    recipe = bench.recipe
    return {
        **{name: text if isinstance(text, str) else list(text) for name, text in recipe.card.items()},
        "not_stated": [name for name in CARD_KEYS if name not in recipe.card],
        "model": recipe.model,
        "label": recipe.label,
        "metric": recipe.metric,
        "holdout": report.metrics,
        "intervals": report.intervals,
        "baselines": report.baselines,
        "gap": gap(recipe, report),
        "champion": report.champion,
        "groups": _groups(bench, candidate),
        "data": [to_builtins(finding) for finding in findings],
        "candidate": candidate.fitted.candidate,
        "window": candidate.fitted.window,
        "tried": list(candidate.fitted.tried)[:MOST_TRIED],
    }


def gap(recipe: Recipe, report: GateReport) -> dict[str, Any]:
    """How much of the way from the simple model to the ceiling is gone; the ceiling is people, else the candidate."""
    mine, simple = report.metrics.get(recipe.metric), report.baselines.get("simple")
    if mine is None or simple is None:
        return {}
    ceiling = mine if recipe.human is None else recipe.human
    whose = "candidate" if recipe.human is None else "human"
    return {"simple": simple, "candidate": mine, "ceiling": ceiling, "ceiling_of": whose, "gap": abs(ceiling - simple)}


def run_times(
    versions: Sequence[LoadedVersion],
    dataset: Dataset,
    places: IntArray,
    nanoseconds: Callable[[], int] = time.thread_time_ns,
) -> list[float]:
    """The median run of one row of each version in microseconds, one after the other on the same rows.

    In processor time: by the wall, measured apart, equal models differed by six times on a busy machine.
    """
    tensors = [tensors_of(version, dataset, places[:TIMED_ROWS]) for version in versions]
    taken: list[list[int]] = [[] for _ in versions]
    for row in range(len(tensors[0])):
        for version, rows, times in zip(versions, tensors, taken, strict=True):
            before = nanoseconds()
            version.run(rows[row])
            times.append(nanoseconds() - before)
    return [median(times) / 1000 for times in taken]


def _figures(recipe: Recipe, candidate: Candidate, truth: NDArray[Any]) -> dict[str, Figure]:
    spec, said = candidate.manifest.prediction, candidate.answers
    seed = candidate.manifest.lineage.seed
    if not recipe.is_class:
        return value_figures(said.said, truth, seed)
    classes = recipe.classes if spec is None else spec.classes
    return class_figures(classes, like(said.said, truth), said.probabilities, truth, seed)


def _further(
    bench: Bench, candidate: Candidate, mine: Scores, theirs: Scores | None, criteria: Gate, scale: float
) -> list[dict[str, Any]]:
    """The checks beside the usual ones, those that apply."""
    recipe = bench.recipe
    found = [checks.size(candidate.manifest.size_bytes, criteria)]
    if "majority" in criteria.beats:
        found.append(_learned(bench, candidate, scale))
    if theirs is not None and candidate.manifest.lineage.trigger == FOLLOW_UP:
        found.append(checks.better(mine.losses, theirs.losses))
    reached = mine.metrics.get(recipe.metric)
    if "human" in criteria.beats and recipe.human is not None and reached is not None:
        found.append(checks.beats_human(is_better(recipe, reached, recipe.human), reached, recipe.human))
    features = bench.dataset.features[candidate.holdout]
    for name in recipe.fairness:
        found += checks.fairness(mine.losses, slices(recipe, features, [name]), criteria)
    if bench.golden is not None:
        found.append(_golden(bench, bench.golden, candidate, float(mine.losses.mean()), criteria, scale))
    return found


def _learned(bench: Bench, candidate: Candidate, scale: float) -> dict[str, Any]:
    recipe, dataset = bench.recipe, bench.dataset
    places, said, _ = candidate.unseen()
    truth = dataset.labels[places]
    constant = majority(recipe, dataset.labels[candidate.fitted.rows], len(places))
    return checks.learned(losses(recipe, said, truth, scale), losses(recipe, constant, truth, scale))


def _golden(
    bench: Bench, golden: Dataset, candidate: Candidate, own: float, criteria: Gate, scale: float
) -> dict[str, Any]:
    """Against the champion on the golden rows; a first version against itself on the holdout."""
    places = np.arange(golden.rows)

    def loss(version: Any) -> NDArray[np.float64]:
        return losses(bench.recipe, like(answers(version, golden, places).said, golden.labels), golden.labels, scale)

    mine = loss(candidate.version)
    if bench.champion is None:
        return checks.golden(mine, own, "on the newest rows", criteria)
    return checks.golden(mine, float(loss(bench.champion.version).mean()), "of the champion", criteria)


def _groups(bench: Bench, candidate: Candidate) -> Mapping[str, dict[str, float]]:
    """Each group of the recipe's `fairness`: rows and metric."""
    recipe, holdout = bench.recipe, candidate.holdout
    truth, said = bench.dataset.labels[holdout], candidate.answers.said
    return {
        name: {"rows": int(rows.sum())} | finite({recipe.metric: metric(recipe, like(said, truth)[rows], truth[rows])})
        for name, rows in slices(recipe, bench.dataset.features[holdout], recipe.fairness).items()
    }
