"""What goes into a job and what comes out of it: values and file names, shared by the job and who starts it.

Light on purpose: the control process reads these without loading what a job needs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from msgspec import Struct, json

from gateway.documents.job import JobState

TOO_FEW = "too_few_new_labels"
PACKAGE_DIRECTORY = "package"
RESULT_FILE = "result.json"
PROGRESS_FILE = "progress.json"


class JobSpec(Struct, frozen=True, kw_only=True):
    """Everything a job needs to know; paths are absolute.

    policy: a RetrainingPolicy as JSON (windows and gate are used). champion: a package directory, empty when there is
    none. champion_trained_until_ns: when the last label that the champion was fitted on was known; the holdout is
    newer. seed: None takes the recipe's.
    """

    job: str
    model: str
    dataset: str
    out: str
    recipe: str
    policy: str = "{}"
    champion: str = ""
    champion_trained_until_ns: int = 0
    parent: int = 0
    trigger: str = "on_demand"
    alert: str = ""
    seed: int | None = None
    created: float = 0.0


class Progress(Struct, frozen=True, kw_only=True):
    """What a job is doing: the step, and where it has parts, how many of them are done."""

    step: str
    done: int = 0
    total: int = 0


class JobResult(Struct, frozen=True, kw_only=True):
    """How a job ended. state: published or held (the package is there and passed its gate), rejected or failed.

    held: a person has to release the version, `detail` says why. detail: one sentence; begins with
    `too_few_new_labels` when that is why. model_digest: the package's identity.
    """

    state: JobState
    detail: str = ""
    rows: int = 0
    data_digest: str = ""
    model_digest: str = ""
    report: dict[str, Any] = {}


def write_whole(path: Path, body: bytes) -> None:
    """Replace a file so that a reader sees the old or the new one, never a part."""
    draft = path.with_name(f"{path.name}.draft")
    draft.write_bytes(body)
    draft.replace(path)


def read_progress(out: Path) -> Progress | None:
    """What a job was doing when it wrote that down last; None when it has not begun."""
    try:
        return json.decode((out / PROGRESS_FILE).read_bytes(), type=Progress)
    except (OSError, ValueError):
        return None


def read_result(out: Path) -> JobResult | None:
    """What a job wrote last, or None when it ended before."""
    try:
        return json.decode((out / RESULT_FILE).read_bytes(), type=JobResult)
    except (OSError, ValueError):
        return None
