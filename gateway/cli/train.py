"""`gateway train`: a job of the running gateway, a version from a file, or a version made once more."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.directory import opened
from gateway.cli.publish import publisher, read_parts, show_published
from gateway.cli.remote import DEFAULT_DATA, AsJson, Data, Token, Url, connected, show, usage

if TYPE_CHECKING:
    from gateway.registry.manifest import Manifest
    from gateway.retraining.spec import JobResult


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(train)


def train(
    model: Annotated[
        str | None, typer.Argument(help="name of the model, as its recipe says", show_default=False)
    ] = None,
    csv: Annotated[Path | None, typer.Option(help="train here on the rows of this file, and publish")] = None,
    rows: Annotated[int | None, typer.Option(help="only its first rows", min=1)] = None,
    models: Annotated[Path, typer.Option(envvar="GATEWAY_MODELS", help="folder of recipes")] = Path("models"),
    no_gate: Annotated[bool, typer.Option("--no-gate", help="publish even when the gate says no")] = False,
    reproduce: Annotated[
        str | None, typer.Option(metavar="MODEL@N", help="make this version once more and compare; publishes nothing")
    ] = None,
    export: Annotated[
        Path | None, typer.Option(metavar="FILE", help="with --reproduce: only write its rows, as Parquet")
    ] = None,
    reason: Annotated[str, typer.Option("--reason", help="why; it is kept in the audit trail")] = "",
    url: Url = None,
    token: Token = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Train a version: from a CSV file in this command, or without one as a job of the running gateway."""
    if reproduce is not None:
        manifest = _known(reproduce, data or DEFAULT_DATA)
        if export is not None:
            _export(manifest, data or DEFAULT_DATA, export, as_json)
        else:
            _reproduce(manifest, csv, models, data or DEFAULT_DATA, as_json)
        return
    if model is None:
        raise usage("name the model to train")
    if csv is None:
        from gateway.client import act_call

        with connected(url, token, data) as client:
            job = client.send(act_call(model, "retrain", reason))
        show(job, as_json, f"job {job['id']} is {job['state']}; follow it with: gateway jobs {job['id']} --follow")
        return
    recipe = models / f"{model}.py"
    for path in (recipe, csv):
        if not path.is_file():
            raise usage(f"there is no file {path}")
    _train_here(model, recipe, csv, rows, no_gate, url, token, data, as_json)


def _train_here(
    model: str,
    recipe: Path,
    csv: Path,
    rows: int | None,
    no_gate: bool,
    url: str | None,
    token: str | None,
    data: Path | None,
    as_json: bool,
) -> None:
    import tempfile
    import time

    from gateway.documents.job import JobState
    from gateway.documents.policy import Gate, RetrainingPolicy
    from gateway.errors import NotAllowed
    from gateway.retraining.job.run import first_job
    from gateway.retraining.spec import PACKAGE_DIRECTORY

    policy = RetrainingPolicy(gate=Gate(beats=())) if no_gate else RetrainingPolicy()
    with tempfile.TemporaryDirectory(prefix="gateway-train-") as directory:
        out = Path(directory)
        result = first_job(recipe, csv, rows, out, policy, time.time(), None if as_json else _say_step)
        if result.state not in (JobState.PUBLISHED, JobState.HELD):
            raise NotAllowed(f"{model}: {result.state}: {result.detail}")
        parts = read_parts(out / PACKAGE_DIRECTORY)
        if no_gate:
            parts["manifest"] = ("manifest.json", _without_gate(parts["manifest"][1]))
        with publisher(url, token, data) as send:
            show_published([send(model, parts)], as_json)


def _without_gate(manifest: bytes) -> bytes:
    """The manifest of a version that met no gate."""
    import json

    content = json.loads(manifest)
    content["gate"] = {**content.get("gate", {}), "passed": None, "checks": []}
    return json.dumps(content).encode()


def _say_step(step: str, done: int, total: int) -> None:
    """Beside the command's own output, which scripts read."""
    sys.stderr.write(f"{step} ({done} of {total} done)\n" if total else f"{step}\n")


def _known(version: str, data: Path) -> Manifest:
    """The manifest of a version in the data directory."""
    import asyncio

    from gateway.names import VersionId

    try:
        known = VersionId.parse(version)
    except ValueError as error:
        raise usage(f"--reproduce: {error}") from None
    with opened(data, make=False) as stores:
        manifests = {one.number: one for one in asyncio.run(stores.registry.versions(known.model))}
    if known.number not in manifests:
        raise usage(f"there is no version {version} in {data}")
    return manifests[known.number]


def _export(manifest: Manifest, data: Path, file: Path, as_json: bool) -> None:
    """Write the rows that a version was made from."""
    from gateway.retraining.rows.archive import kept_spec
    from gateway.retraining.rows.dataset import read_dataset
    from gateway.retraining.rows.parquet import write_parquet

    dataset = read_dataset(Path(kept_spec(data, manifest, file).dataset))
    write_parquet(dataset, file)
    content = {"version": str(manifest.version), "rows": dataset.rows, "digest": dataset.description.digest}
    show(content | {"file": str(file)}, as_json, f"{file}: {dataset.rows} rows of {manifest.version}")


def _reproduce(manifest: Manifest, csv: Path | None, models: Path, data: Path, as_json: bool) -> None:
    """Make a version again from the rows that were kept, or from its file, and say whether it is the same one."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="gateway-train-") as directory:
        result = _made_again(manifest, csv, models, data, Path(directory))
    is_same = result.model_digest == manifest.digest
    version = str(manifest.version)
    content = {"version": version, "same": is_same, "digest": result.model_digest, "expected": manifest.digest}
    differences = [] if is_same else _differences(manifest, result)
    said = (
        f"{version}: the same digest, {manifest.digest}"
        if is_same
        else f"{version}: another digest, {result.model_digest or 'none'}"
    )
    show(content | {"differences": differences}, as_json, said, *differences)
    if not is_same:
        raise typer.Exit(1)


def _made_again(manifest: Manifest, csv: Path | None, models: Path, data: Path, out: Path) -> JobResult:
    from gateway.retraining.job.run import first_job, run_job
    from gateway.retraining.rows.archive import kept_spec

    if csv is None:
        return run_job(kept_spec(data, manifest, out))
    recipe = models / f"{manifest.model}.py"
    for path in (recipe, csv):
        if not path.is_file():
            raise usage(f"there is no file {path}")
    return first_job(recipe, csv, manifest.lineage.rows, out)


def _differences(manifest: Manifest, result: JobResult) -> list[str]:
    """What is not as it was when the version was made, a line each."""
    from gateway.retraining.job.origin import environment

    before, now = manifest.lineage, environment()
    lines = [
        f"{name} is {now.get(name, 'gone')}, it was {known}"
        for name, known in before.environment.items()
        if now.get(name) != known
    ]
    if result.data_digest != before.data_digest:
        lines.append(f"the rows are others: digest {result.data_digest or 'unknown'}, it was {before.data_digest}")
    return [*lines, result.detail]
