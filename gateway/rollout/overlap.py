"""Rollouts and experiments of one model never overlap: each would read the other's moves as a person's."""

from __future__ import annotations

import msgspec

from gateway.documents.experiment import Experiment, Phase, experiment_name
from gateway.documents.store import ConfigStore
from gateway.errors import NotAllowed
from gateway.names import ModelName
from gateway.rollout.present import find


def read_experiment(body: bytes) -> Experiment:
    """The experiment in a document's body."""
    return msgspec.json.decode(body, type=Experiment)


async def refuse_during_experiment(config: ConfigStore, model: ModelName) -> None:
    """Raises NotAllowed while an experiment holds the model's weights."""
    experiment, _ = await find(config, experiment_name(model), read_experiment)
    if experiment is not None and (experiment.phase is Phase.RUNNING or experiment.pending):
        raise NotAllowed(under_way(experiment))


def under_way(experiment: Experiment) -> str:
    """Why nothing else may move the weights now, and the command that ends it."""
    versions = ", ".join(str(arm.version) for arm in experiment.arms)
    stop = f"gateway experiment stop {experiment.model}"
    return f"an experiment of {experiment.model} with versions {versions} is under way: stop it first with: {stop}"
