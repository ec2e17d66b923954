"""One candidate as a version: converted, loaded as it will be served, compared with its estimator, packed.

The model that is judged is the model that is published: nothing is fitted again afterwards. Versions are run as they
are served, through the ONNX runtime, which only `gateway.execution` touches.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from msgspec import json
from msgspec.structs import replace
from numpy.typing import NDArray

from gateway.errors import InvalidConfig
from gateway.execution.session import LoadedVersion, load
from gateway.execution.tensors import Tensors, from_rows
from gateway.registry.manifest import GateReport, Lineage, Manifest
from gateway.registry.package import MODEL_FILE, read_package, write_package
from gateway.registry.reference import build_reference, encode_reference
from gateway.retraining.job.convert import contract, convert, parity, prediction_spec, signature
from gateway.retraining.job.gate import Parity
from gateway.retraining.job.search import Fitted, scores_of, single
from gateway.retraining.recipe import Recipe
from gateway.retraining.rows.dataset import Dataset, FloatArray, IntArray, head

PARITY_ROWS = 2000
REFERENCE_ROWS = 4000


class Answers(NamedTuple):
    """What a version said: one label or number a row, and probability rows where it has them."""

    said: NDArray[Any]
    probabilities: FloatArray | None


@dataclass(frozen=True)
class Champion:
    """The version that is the reference. trained_until_ns: when the last label it was fitted on was known."""

    version: LoadedVersion
    trained_until_ns: int

    @classmethod
    def load(cls, directory: Path, trained_until_ns: int) -> Self:
        """The champion's package. Raises CorruptPackage, ExecutionError."""
        return cls(load(read_package(directory), directory), trained_until_ns)


@dataclass(frozen=True)
class Candidate:
    """The converted model as a loaded version, and what it was made from."""

    version: LoadedVersion
    fitted: Fitted
    holdout: IntArray
    answers: Answers
    parity: Parity
    draft: Path

    @property
    def manifest(self) -> Manifest:
        """The draft's manifest, without gate report."""
        return self.version.manifest

    @property
    def chosen(self) -> str:
        """Candidate and window, for reports."""
        return f"{self.fitted.candidate} on {self.fitted.window} ({len(self.fitted.rows)} rows)"

    def unseen(self) -> tuple[IntArray, NDArray[Any], list[Any] | None]:
        """Places, answers and scores on rows that the answering fit had not seen: validation part, then holdout."""
        places = np.concatenate([self.fitted.validation, self.holdout])
        said = _joined(self.fitted.foreseen, self.answers.said)
        if self.answers.probabilities is None:
            return places, said, None
        earlier = self.fitted.foreseen_scores
        parts = [] if earlier is None else earlier.tolist()
        return places, said, parts + self.answers.probabilities.tolist()

    def publishable(
        self, recipe: Recipe, dataset: Dataset, report: GateReport, card: dict[str, Any], directory: Path
    ) -> Manifest:
        """Write the package with report, card and reference into an empty directory."""
        places, said, scores = self.unseen()
        reference = build_reference(
            self.manifest.features,
            dataset.plain(_newest(dataset, REFERENCE_ROWS)),
            said.tolist(),
            scores,
            report.error_rate,
            len(places),
            prediction_kind="class" if recipe.is_class else "value",
            labels=dataset.labels[max(0, dataset.rows - REFERENCE_ROWS) :].tolist(),
        )
        manifest = replace(self.manifest, gate=report, card=card)
        model = (self.draft / MODEL_FILE).read_bytes()
        return write_package(directory, model, manifest, encode_reference(reference))


def assemble(
    recipe: Recipe, dataset: Dataset, fitted: Fitted, holdout: IntArray, lineage: Lineage, draft: Path
) -> Candidate:
    """Convert, load as it will be served, and compare with the estimator. Raises what the conversion raises."""
    classes = tuple(fitted.estimator.classes_.tolist()) if recipe.is_class else ()
    inputs, outputs = signature(recipe, classes)
    manifest = Manifest(
        model=recipe.model,
        inputs=inputs,
        outputs=outputs,
        features=contract(recipe, dataset.features[fitted.rows]),
        prediction=prediction_spec(recipe, classes),
        lineage=_traced(lineage, dataset, fitted, holdout),
    )
    version = load(write_package(draft, convert(fitted.estimator, recipe), manifest), draft)
    compared = _newest(dataset, PARITY_ROWS)
    features = single(dataset.features[compared])
    mine = Answers(fitted.estimator.predict(features), scores_of(fitted.estimator, features))
    theirs = answers(version, dataset, compared)
    return Candidate(
        version=version,
        fitted=fitted,
        holdout=holdout,
        answers=answers(version, dataset, holdout),
        parity=parity(mine.said, mine.probabilities, theirs.said, theirs.probabilities),
        draft=draft,
    )


def answers(version: LoadedVersion, dataset: Dataset, places: IntArray) -> Answers:
    """Run a version on rows, by the names of its features. Raises InvalidConfig when it needs one that is not there."""
    spec = version.manifest.prediction
    if spec is None:
        raise InvalidConfig(f"{version.manifest.version} does not say which output holds its prediction")
    outputs = version.run(from_rows(_rows(version, dataset, places), version.manifest))
    said = outputs[spec.output].reshape(len(places), -1)
    probabilities = outputs[spec.probabilities].astype(np.float64) if spec.probabilities else None
    if spec.kind == "score" and spec.classes:
        column = said[:, -1] if said.shape[1] > 1 else said[:, 0]
        picked = said.argmax(axis=1) if said.shape[1] > 1 else (column >= 0.5).astype(int)
        return Answers(np.array(spec.classes)[picked], probabilities)
    return Answers(said[:, 0], probabilities)


def tensors_of(version: LoadedVersion, dataset: Dataset, places: IntArray) -> list[Tensors]:
    """Each row alone, as the version takes it."""
    return [from_rows([row], version.manifest) for row in _rows(version, dataset, places)]


def _rows(version: LoadedVersion, dataset: Dataset, places: IntArray) -> list[list[Any]]:
    named = [feature.name for feature in version.manifest.features]
    return (head(dataset, named) if named else dataset).plain(places)


def like(values: NDArray[Any], model: NDArray[Any]) -> NDArray[Any]:
    """Answers in the kind of the labels: texts of the runtime are objects, classes may come as numbers or texts."""
    if values.dtype.kind == model.dtype.kind:
        return values
    return values.astype(model.dtype if model.dtype.kind != "U" else np.str_)


def _newest(dataset: Dataset, most: int) -> IntArray:
    return np.arange(max(0, dataset.rows - most), dataset.rows)


def _traced(lineage: Lineage, dataset: Dataset, fitted: Fitted, holdout: IntArray) -> Lineage:
    until = int(dataset.labelled_ns[fitted.rows].max()) if dataset.description.has_times else 0
    return replace(
        lineage,
        parameters={
            **lineage.parameters,
            "candidate": fitted.candidate,
            "window": fitted.window,
            "trained_until_ns": until,
            "trained_rows": len(fitted.rows),
            "holdout_rows": len(holdout),
            "estimator": " ".join(repr(fitted.estimator).split()),
            "set": json.decode(json.encode(dict(fitted.parameters), enc_hook=str)),
        },
    )


def _joined(earlier: NDArray[Any], later: NDArray[Any]) -> NDArray[Any]:
    return np.concatenate([earlier, like(later, earlier)]) if len(earlier) else later
