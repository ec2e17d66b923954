"""What jobs did, told to an MLflow tracking server, for teams that look there; and models fetched from its registry.

MLflow is an extra (`pip install 'gateway[mlflow]'`), loaded only where a policy or a command asks for it. The registry
of this gateway stays the truth: a tracking server that is away costs a line in the log, never a job.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from gateway.documents.job import Job, JobState
from gateway.documents.policy import Mlflow
from gateway.errors import InvalidConfig
from gateway.registry.manifest import Manifest

MOST_CHARACTERS = 500
"""MLflow refuses longer parameters."""

log = logging.getLogger("gateway.retraining")


def log_run(target: Mlflow, job: Job, manifest: Manifest | None) -> str:
    """One run for a job that has ended; its id there, "" when it could not be told. Blocks: call it in a thread.

    manifest: of the version it published, None when it published none.
    """
    try:
        client = _loaded().MlflowClient(tracking_uri=target.uri)
        experiment = client.get_experiment_by_name(target.experiment)
        found = experiment.experiment_id if experiment is not None else client.create_experiment(target.experiment)
        run = client.create_run(found, start_time=int(job.started * 1000), tags=_tags(job, manifest), run_name=job.id)
        identifier = str(run.info.run_id)
        for name, value in _parameters(job, manifest).items():
            client.log_param(identifier, name, value)
        for name, figure in _metrics(job).items():
            client.log_metric(identifier, name, figure)
        is_good = job.state in (JobState.PUBLISHED, JobState.HELD)
        client.set_terminated(identifier, "FINISHED" if is_good else "FAILED", int(job.ended * 1000))
    except Exception:
        log.exception("job %s was not told to MLflow at %s", job.id, target.uri)
        return ""
    return identifier


def fetch_model(uri: str, tracking: str | None, into: Path) -> Path:
    """The ONNX file of a registered version, such as `models:/fraud@champion`, below `into`.

    tracking: the server's address; None: what MLflow itself is set to. Raises InvalidConfig when MLflow is missing,
    can not give it, or what it gives holds not exactly one ONNX file.
    """
    try:
        mlflow = _loaded()
        if tracking is not None:  # an argument would not do: names of registered models are looked up where this says
            mlflow.set_tracking_uri(tracking)
            mlflow.set_registry_uri(tracking)
        place = Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(into)))
    except InvalidConfig:
        raise
    except Exception as error:
        raise InvalidConfig(f"{uri}: MLflow can not give it: {error}") from error
    files = [place] if place.suffix == ".onnx" else sorted(place.rglob("*.onnx"))
    if len(files) != 1:
        raise InvalidConfig(f"{uri}: holds {len(files)} ONNX files, not one; log the model with mlflow.onnx.log_model")
    return files[0]


def _loaded() -> Any:
    try:
        import mlflow
        import mlflow.artifacts
    except ImportError as error:
        raise InvalidConfig("MLflow is not installed: pip install 'gateway[mlflow]'") from error
    return mlflow


def _tags(job: Job, manifest: Manifest | None) -> dict[str, str]:
    tags = {"gateway.model": job.model, "gateway.trigger": job.trigger, "gateway.state": str(job.state)}
    tags |= {"gateway.data_digest": job.data_digest, "gateway.detail": job.detail[:MOST_CHARACTERS]}
    if manifest is not None:
        tags |= {"gateway.version": str(manifest.version), "gateway.digest": manifest.digest}
    return tags


def _parameters(job: Job, manifest: Manifest | None) -> dict[str, str]:
    known: dict[str, Any] = {"rows": job.rows, "alert": job.alert}
    if manifest is not None:
        lineage = manifest.lineage
        known |= {**lineage.parameters, "seed": lineage.seed, "parent": lineage.parent}
    return {name: str(value)[:MOST_CHARACTERS] for name, value in known.items()}


def _metrics(job: Job) -> dict[str, float]:
    """The gate's figures: of the candidate by their own names, of others under theirs."""
    found = dict(job.report.get("metrics", {}))
    for whose in ("champion", "baselines"):
        found |= {f"{whose}.{name}": value for name, value in job.report.get(whose, {}).items()}
    return {name: float(value) for name, value in found.items() if isinstance(value, (int, float))}
