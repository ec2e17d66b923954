"""What a version says of itself: signature, contract, lineage, gate report. Immutable, written once at publish."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from gateway.names import ModelName, VersionId

MOST_JOINED_ROWS = 64
"""So many rows run together at most; admission has tried joined runs of up to this many."""


class Tensor(Struct, frozen=True, kw_only=True):
    """datatype: Open Inference Protocol name (FP32, INT64, BYTES ...); shape: -1 is free."""

    name: str
    datatype: str
    shape: tuple[int, ...]


class Example(Struct, frozen=True, kw_only=True):
    """One input that the model is known to run, as the Open Inference Protocol writes it; data: flat or nested."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: list[Any]


class Feature(Struct, frozen=True, kw_only=True):
    """One column of a record and its contract.

    low, high: closed range the training data had (numeric). categories: the values that were seen (categorical;
    numbers or strings). position: column of the two-dimensional input `input`; -1 when the feature is an input tensor
    of its own.
    """

    name: str
    kind: str = "numeric"  # numeric | categorical
    low: float | None = None
    high: float | None = None
    categories: tuple[str | int | float, ...] = ()
    may_be_missing: bool = False
    input: str = ""
    position: int = -1


class PredictionSpec(Struct, frozen=True, kw_only=True):
    """How to read the outputs. kind: class | score | value; output: the output that holds it.

    probabilities: the output with one column for each of `classes`, empty when there is none.
    """

    output: str
    kind: str
    classes: tuple[str | int, ...] = ()
    probabilities: str = ""


class Lineage(Struct, frozen=True, kw_only=True):
    """Where the version comes from. Empty `data_digest`: data unknown; such a version never starts a rollout itself.

    code_digest: of the recipe's text; parameters_digest: of policy, windows and everything else that was set;
    environment_digest: of `environment`, the versions of Python and the libraries that made the model.
    """

    source: str = "file"  # file | job
    trigger: str = ""
    alert: str = ""  # the latched error alert it answers
    job: str = ""
    parent: int = 0
    data_digest: str = ""
    code_digest: str = ""
    parameters: dict[str, Any] = {}
    seed: int = 0
    rows: int = 0
    created: float = 0.0
    parameters_digest: str = ""
    environment_digest: str = ""
    environment: dict[str, str] = {}


class GateReport(Struct, frozen=True, kw_only=True):
    """passed: None when the version never met a gate. checks: name, passed, value, limit, detail each.

    error_rate: on error_rows rows that the answering fit had not seen (holdout and, fitted without it, validation
    part): the baseline of the error detector (mean clipped loss for regression). 150 holdout rows alone were too noisy:
    a version with an unlucky holdout was never called drifting again.
    hold: why a person has to release the version before it may start a rollout by itself; "": nobody has to.
    intervals: metric -> low and high end of its 95 % interval, of those in `metrics` that have one.
    """

    passed: bool | None = None
    checks: list[dict[str, Any]] = []
    metrics: dict[str, float] = {}
    baselines: dict[str, float] = {}
    champion: dict[str, float] = {}
    error_rate: float | None = None
    error_rows: int = 0
    hold: str = ""
    intervals: dict[str, tuple[float, float]] = {}


class Manifest(Struct, frozen=True, kw_only=True):
    """One version. `digest` is the SHA-256 of model and contract: the same again is the same version.

    zipmap: output name -> name under which its columns are answered, for the sequence-of-maps output that
    `skl2onnx.to_onnx` writes by default. features: empty when records by name are not possible.
    files: file name -> SHA-256, for every file of the package besides the manifest.
    joins: rows of different callers may run together: admission found the same bits joined and alone.
    least_rows: how many rows a run has at least; a row alone is run so many times over. Of a matrix with one row the
        runtime makes a vector product, which rounds differently: with two rows, joined and alone are the same again.
    join_difference: the largest |joined - alone| / (1 + |alone|) that admission saw, for policies that accept one;
        None: not compared, or different in more than fractions.
    memory_bytes: by how much the process of the check grew when it loaded the model and ran it; 0: not measured.
    example: the publisher's inputs for a model that runs neither on zeros nor on ones and has no rows (a reference);
        used by admission and warm-up.
    """

    model: str
    number: int = 0
    digest: str = ""
    size_bytes: int = 0
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    features: tuple[Feature, ...] = ()
    prediction: PredictionSpec | None = None
    zipmap: dict[str, str] = {}
    lineage: Lineage = Lineage()
    gate: GateReport = GateReport()
    card: dict[str, Any] = {}
    files: dict[str, str] = {}
    created: float = 0.0
    format: int = 1
    joins: bool = False
    least_rows: int = 1
    join_difference: float | None = None
    memory_bytes: int = 0
    example: tuple[Example, ...] = ()

    @property
    def version(self) -> VersionId:
        """The version's name."""
        return VersionId(ModelName(self.model), self.number)
